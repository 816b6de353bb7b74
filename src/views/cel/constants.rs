//! What does not depend on an event is tried when a view is compiled: what fails then would reject every event.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, MapEntryExpr, MapExpr};
use cel::common::types::CelDouble;

use super::datum::{Datum, FieldType};
use super::evaluate::{evaluate, explain};
use super::functions::ROOT;
use super::payload::Paths;

/// Evaluates a constant.
pub(super) fn tried(constant: &IdedExpr) -> Result<(), String> {
    let value = evaluate(constant, &ROOT)
        .map_err(|error| format!("this can never be evaluated: {}", explain(&error, &Paths::default())))?;
    // Infinity has a name, `double('inf')`; a number that is too large is a mistake.
    match written_number(constant) {
        Some(number) if value.downcast_ref::<CelDouble>().is_some_and(|float| !float.inner().is_finite()) => {
            Err(format!("the number {number} is beyond what a float can hold"))
        }
        _ => Ok(()),
    }
}

/// The digits of `double('…')`.
fn written_number(constant: &IdedExpr) -> Option<&str> {
    let Expr::Call(CallExpr { func_name, target: None, args }) = &constant.expr else { return None };
    match args.as_slice() {
        [IdedExpr { expr: Expr::Literal(LiteralValue::String(text)), .. }] if func_name == "double" => {
            Some(text.inner()).filter(|text| text.bytes().any(|byte| byte.is_ascii_digit()))
        }
        _ => None,
    }
}

/// Whether a field of that type can hold the constant; else what it is.
pub(super) fn storable(constant: &IdedExpr, of: FieldType) -> Result<(), String> {
    let value = evaluate(constant, &ROOT).map_err(|error| explain(&error, &Paths::default()))?;
    Datum::result(&value).and_then(|value| of.fit(value)).map(|_| ())
}

/// The keys of a map that are constants, as a map: it can be evaluated when no two are the same, and all may be keys.
pub(super) fn known_keys(id: u64, keys: impl Iterator<Item = IdedExpr>) -> IdedExpr {
    let entry = |key: IdedExpr| {
        let value = IdedExpr { id: key.id, expr: Expr::Literal(LiteralValue::Null) };
        IdedEntryExpr { id: key.id, expr: EntryExpr::MapEntry(MapEntryExpr { key, value, optional: false }) }
    };
    IdedExpr { id, expr: Expr::Map(MapExpr { entries: keys.map(entry).collect() }) }
}

/// A pattern that is written out is tried even where the text to match is not known. The error is the pattern and why.
pub(super) fn pattern<'a>(name: &str, is_method: bool, args: &'a [IdedExpr]) -> Result<(), (&'a IdedExpr, String)> {
    let pattern = if is_method { args.first() } else { args.get(1) };
    let Some(pattern @ IdedExpr { expr: Expr::Literal(LiteralValue::String(_)), .. }) = pattern else { return Ok(()) };
    if name != "matches" {
        return Ok(());
    }
    let text = IdedExpr { id: pattern.id, expr: Expr::Literal(LiteralValue::String("".into())) };
    let call = CallExpr { func_name: name.to_owned(), target: None, args: vec![text, pattern.clone()] };
    match evaluate(&IdedExpr { id: pattern.id, expr: Expr::Call(call) }, &ROOT) {
        Ok(_) => Ok(()),
        Err(error) => Err((pattern, explain(&error, &Paths::default()))),
    }
}
