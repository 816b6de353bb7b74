//! Names with dots as they stand in an expression.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

/// A name, and the node that selects it.
pub(super) type Step<'e> = (&'e str, u64);

/// `root.step.step`, with `root["step"]` meaning the same.
pub(super) struct Chain<'e> {
    pub root: &'e str,
    pub steps: Vec<Step<'e>>,
    /// It stands in `has(…)`.
    pub test: bool,
}

/// Reads a node as a name with dots; nothing when it is something else.
pub(super) fn chain(node: &IdedExpr) -> Option<Chain<'_>> {
    let (first, steps) = split(node);
    let Expr::Ident(root) = &first.expr else { return None };
    Some(Chain { root, steps, test: is_test(node) })
}

/// Whether it is what `has(…)` asks for.
pub(super) fn is_test(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Select(select) if select.test)
}

/// Takes the names from the end of a node: what is left, which is no name behind a dot, and they.
pub(super) fn split(node: &IdedExpr) -> (&IdedExpr, Vec<Step<'_>>) {
    let mut steps = Vec::new();
    let mut at = node;
    loop {
        match &at.expr {
            Expr::Select(select) if !select.test || std::ptr::eq(at, node) => {
                steps.push((select.field.as_str(), at.id));
                at = &select.operand;
            }
            Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
                [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] => {
                    steps.push((name.inner(), at.id));
                    at = of;
                }
                _ => break,
            },
            _ => break,
        }
    }
    steps.reverse();
    (at, steps)
}
