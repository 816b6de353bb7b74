//! Names with dots as they stand in an expression.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

/// `root.step.step`, with `root["step"]` meaning the same.
pub(super) struct Chain<'e> {
    pub root: &'e str,
    /// The names, and the nodes that select them.
    pub steps: Vec<(&'e str, u64)>,
    /// It stands in `has(…)`.
    pub test: bool,
}

/// Reads a node as a name with dots; nothing when it is something else.
pub(super) fn chain(node: &IdedExpr) -> Option<Chain<'_>> {
    let test = matches!(&node.expr, Expr::Select(select) if select.test);
    let mut steps = Vec::new();
    let mut at = node;
    loop {
        match &at.expr {
            Expr::Ident(root) => {
                steps.reverse();
                return Some(Chain { root, steps, test });
            }
            Expr::Select(select) if !select.test || std::ptr::eq(at, node) => {
                steps.push((select.field.as_str(), at.id));
                at = &select.operand;
            }
            Expr::Call(call) if call.func_name == operators::INDEX => {
                let [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] = call.args.as_slice()
                else {
                    return None;
                };
                steps.push((name.inner(), at.id));
                at = of;
            }
            _ => return None,
        }
    }
}
