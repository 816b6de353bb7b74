//! Where in an expression's text a node is, for messages.

use cel::common::ast::{Expr, IdedExpr, SourceInfo};

/// An expression's text, and where the parser found its nodes in it.
pub(super) struct Places<'c> {
    pub text: &'c str,
    pub source: &'c SourceInfo,
}

impl Places<'_> {
    /// Where a node's own token is.
    pub fn at(&self, node: &IdedExpr) -> usize {
        self.source.offset_for(node.id).map_or(0, |(start, _)| start as usize)
    }

    /// Where a node's text begins: at the leftmost of its parts.
    pub fn start(&self, node: &IdedExpr) -> usize {
        let at = self.at(node);
        let inner = match &node.expr {
            Expr::Select(select) => Some(self.start(&select.operand)),
            Expr::Call(call) if call.target.is_none() && is_word(&call.func_name) => {
                Some(self.name_at(node, &call.func_name))
            }
            Expr::Call(call) => {
                call.target.iter().map(AsRef::as_ref).chain(&call.args).map(|part| self.start(part)).min()
            }
            Expr::Comprehension(c) => Some(self.start(&c.iter_range)),
            Expr::Struct(new) => Some(self.name_at(node, &new.type_name)),
            _ => None,
        };
        inner.map_or(at, |inner| inner.min(at))
    }

    /// Where a field's name is: its node points at the dot or the bracket before it.
    pub fn step_at(&self, id: u64) -> usize {
        let at = self.source.offset_for(id).map_or(0, |(start, _)| start as usize);
        let after = self.text.get(at..).and_then(|rest| rest.strip_prefix(['.', '[', '(']));
        match after {
            Some(rest) => self.text.len() - rest.trim_start().len(),
            None => at,
        }
    }

    /// Where a called function's name is: its node points at the parenthesis behind it.
    pub fn name_at(&self, node: &IdedExpr, name: &str) -> usize {
        let before = self.text.get(..self.at(node)).unwrap_or("").trim_end();
        let name = if name.contains('@') { before.rsplit(['.', ' ', '(']).next().unwrap_or("") } else { name };
        before.strip_suffix(name).map_or(before.len(), str::len)
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
}
