//! Evaluating a compiled expression, and saying why it could not be.

use cel::common::ast::IdedExpr;
use cel::common::value::CowVal;
use cel::{Context, ExecutionError, Value};

use super::frame::{Slot, nothing_at};
use super::payload::Paths;

/// A reason is stored beside the event; a longer one is cut.
const MAX_REASON: usize = 400;

pub(super) fn evaluate<'e, 'p, 'v>(
    expression: &'e IdedExpr,
    context: &'e Context<'p, 'v>,
) -> Result<CowVal<'e, 'v>, ExecutionError> {
    Value::resolve_val(expression, context)
}

/// The error in words. Of values it shows types and numbers only: the order of a map's keys differs from run to run,
/// and a reason must not.
pub(super) fn explain(error: &ExecutionError, paths: &Paths) -> String {
    let mut text = match error {
        ExecutionError::UndeclaredReference(name) => match Slot::of(name) {
            Some(slot) => nothing_at(slot, paths),
            None => format!("there is no `{name}`"),
        },
        ExecutionError::NoSuchKey(key) => format!("no such field `{key}`"),
        ExecutionError::Overflow(operator, a, b) => match (a, b) {
            (Value::Int(a), Value::Int(b)) => {
                format!("{a} {} {b} is beyond what an int of 64 bits can hold", symbol(operator))
            }
            _ => format!("the result of `{}` is out of range", symbol(operator)),
        },
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::UnsupportedBinaryOperator(operator, a, b) => unsupported(symbol(operator), &name(a), &name(b)),
        ExecutionError::ValuesNotComparable(a, b) => format!("{} cannot be compared with {}", name(a), name(b)),
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<_> = overload.argument_types().iter().map(|of| plain(of).to_owned()).collect();
            match (super::types::symbol(overload.function()), types.as_slice()) {
                (operator, [a, b]) if operator != overload.function() => unsupported(operator, a, b),
                (operator, _) => format!("`{operator}` does not work on {}", types.join(" and ")),
            }
        }
        ExecutionError::UnsupportedIndex(index, of) => format!("{} cannot be indexed by {}", name(of), name(index)),
        ExecutionError::UnsupportedKeyType(key) => format!("{} cannot be a map's key", name(key)),
        ExecutionError::IndexOutOfBounds(Value::Int(index)) => format!("there is no element {index}"),
        ExecutionError::IndexOutOfBounds(_) => "there is no such element".to_owned(),
        ExecutionError::DuplicateKey(_) => "a map's key is given twice".to_owned(),
        ExecutionError::UnexpectedType { got, want } => format!("{} where {} is needed", plain(got), plain(want)),
        ExecutionError::FunctionError { function, message } => {
            let last = message.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(message);
            format!("{function}(): {}", last.trim_start_matches("error: "))
        }
        ExecutionError::InvalidArgumentCount { .. } => error.to_string(),
        _ => "the expression cannot be evaluated".to_owned(),
    };
    if text.len() > MAX_REASON {
        let cut = (0..=MAX_REASON).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

fn unsupported(operator: &str, a: &str, b: &str) -> String {
    let numbers = matches!((a, b), ("int", "float") | ("float", "int"));
    let hint = if numbers { ": convert one with double() or int()" } else { "" };
    format!("`{operator}` does not work on {a} and {b}{hint}")
}

fn symbol(operator: &str) -> &str {
    match operator {
        "add" => "+",
        "sub" | "negate" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        other => other,
    }
}

fn name(value: &Value) -> String {
    plain(&value.type_of().to_string()).to_owned()
}

/// CEL's type names in the words of this program.
fn plain(name: &str) -> &str {
    match name {
        "double" => "float",
        "null_type" => "null",
        "google.protobuf.Timestamp" => "timestamp",
        "google.protobuf.Duration" => "duration",
        "list(dyn)" => "list",
        "map(dyn, dyn)" => "map",
        other => other,
    }
}
