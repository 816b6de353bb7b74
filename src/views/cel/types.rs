//! What can be known of an expression's type before any event is there. `Any` is all that comes from a payload.

use cel::common::ast::operators;

use super::datum::FieldType;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    Null,
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Time,
    Span,
    List,
    Map,
    /// The type of types: `int`, `type(x)`.
    Kind,
}

impl Type {
    /// As messages name it, with its article.
    pub fn a(self) -> &'static str {
        match self {
            Type::Any => "anything",
            Type::Null => "null",
            Type::Bool => "a bool",
            Type::Int => "an int",
            Type::Float => "a float",
            Type::Text => "a string",
            Type::Bytes => "bytes",
            Type::Time => "a timestamp",
            Type::Span => "a duration",
            Type::List => "a list",
            Type::Map => "a map",
            Type::Kind => "a type",
        }
    }

    /// Whether a value of this type may be one of `other`.
    pub fn may_be(self, other: Type) -> bool {
        self == other || self == Type::Any || other == Type::Any
    }

    fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Float)
    }

    /// Whether a field of that type can take it.
    pub fn fits(self, field: FieldType) -> bool {
        match field {
            FieldType::Any => !matches!(self, Type::Bytes | Type::Span | Type::Kind),
            FieldType::Float => self.may_be(Type::Float) || self == Type::Int,
            _ => self.may_be(field.into()),
        }
    }
}

impl From<FieldType> for Type {
    fn from(field: FieldType) -> Type {
        match field {
            FieldType::Any => Type::Any,
            FieldType::Bool => Type::Bool,
            FieldType::Int => Type::Int,
            FieldType::Float => Type::Float,
            FieldType::Text => Type::Text,
            FieldType::Time => Type::Time,
            FieldType::List => Type::List,
            FieldType::Map => Type::Map,
        }
    }
}

/// The symbol of a binary operator, as it is written.
pub(super) fn symbol(operator: &str) -> &str {
    match operator {
        operators::IN => "in",
        other => other.trim_matches('_'),
    }
}

/// The type of `left operator right`, or why there is none.
pub(super) fn binary(operator: &str, left: Type, right: Type) -> Option<Result<Type, String>> {
    use Type::*;
    let result = match operator {
        operators::LOGICAL_AND | operators::LOGICAL_OR => (left.may_be(Bool) && right.may_be(Bool)).then_some(Bool),
        operators::EQUALS | operators::NOT_EQUALS => {
            let comparable =
                left.may_be(right) || (left.is_number() && right.is_number()) || left == Null || right == Null;
            comparable.then_some(Bool)
        }
        operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
            let ordered = |side| matches!(side, Any | Bool | Int | Float | Text | Bytes | Time | Span);
            let alike = left.may_be(right) || (left.is_number() && right.is_number());
            (ordered(left) && ordered(right) && alike).then_some(Bool)
        }
        operators::IN => (right.may_be(List) || right.may_be(Map)).then_some(Bool),
        operators::INDEX => index(left, right),
        operators::ADD => match (left, right) {
            (Time, Span) | (Span, Time) => Some(Time),
            (Time, Any) | (Any, Time) => Some(Time),
            (Span, Any) | (Any, Span) => Some(Any),
            _ => same(left, right, &[Int, Float, Text, Bytes, List, Span]),
        },
        operators::SUBSTRACT => match (left, right) {
            (Time, Time) => Some(Span),
            (Time, Span) => Some(Time),
            (Time, Any) | (Any, Span) => Some(Any),
            (Any, Time) => Some(Span),
            _ => same(left, right, &[Int, Float, Span]),
        },
        operators::MULTIPLY | operators::DIVIDE => same(left, right, &[Int, Float]),
        operators::MODULO => same(left, right, &[Int]),
        _ => return None,
    };
    Some(result.ok_or_else(|| {
        let hint = if left.is_number() && right.is_number() { ": convert one with double() or int()" } else { "" };
        format!("`{}` does not work on {} and {}{hint}", symbol(operator), left.a(), right.a())
    }))
}

/// Both sides are of one of these types, and so is the result.
fn same(left: Type, right: Type, of: &[Type]) -> Option<Type> {
    match (left, right) {
        (Type::Any, Type::Any) => Some(Type::Any),
        (Type::Any, known) | (known, Type::Any) => of.contains(&known).then_some(known),
        _ => (left == right && of.contains(&left)).then_some(left),
    }
}

fn index(of: Type, by: Type) -> Option<Type> {
    let fits = match of {
        Type::Any => matches!(by, Type::Any | Type::Int | Type::Text | Type::Bool | Type::Float),
        Type::List => by.may_be(Type::Int) || by == Type::Float,
        Type::Map => matches!(by, Type::Any | Type::Int | Type::Text | Type::Bool),
        _ => false,
    };
    fits.then_some(Type::Any)
}

/// The type of an operator with one operand.
pub(super) fn unary(operator: &str, operand: Type) -> Option<Result<Type, String>> {
    let (symbol, fits, result) = match operator {
        operators::LOGICAL_NOT => ("!", operand.may_be(Type::Bool), Type::Bool),
        operators::NEGATE => ("-", operand == Type::Any || operand.is_number(), operand),
        operators::NOT_STRICTLY_FALSE => ("&&", true, Type::Bool),
        _ => return None,
    };
    Some(if fits { Ok(result) } else { Err(format!("`{symbol}` does not work on {}", operand.a())) })
}

/// The best known name for what was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}
