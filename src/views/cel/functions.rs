//! The functions that expressions may call: CEL's own, its extensions for text, lists and numbers, and the calendar
//! units of a timestamp. All are pure. What is not listed here is refused when a view is compiled.

use std::sync::{Arc, LazyLock};

use cel::common::types::{
    CelBool, CelList, CelMap, CelMapKey, CelString, CelTimestamp, DYN_TYPE, STRING_TYPE, TIMESTAMP_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{Context, DeclarationError, Env, ExecutionError, extensions};

use super::types::{Type, nearest};

/// One way to call a function.
pub(super) struct Function {
    pub name: &'static str,
    /// The receiver of `receiver.name(…)`; without one it is called as `name(…)`.
    pub on: Option<Type>,
    pub takes: &'static [Type],
    pub gives: Type,
}

/// Puts the keys of a map in order before a macro iterates over them; the parser cannot produce the name.
pub(super) const ORDERED: &str = "@ordered";

/// What `has(…)` becomes: a value and the names behind it, with [`PATH_GAP`] in between. Not CEL's own test, which is
/// an error where something on the way is missing: like that of a payload's path, which is never turned into values, the
/// answer is no. The parser cannot produce the name.
pub(super) const HAS: &str = "@has";

/// Stands between the names of a path.
pub(super) const PATH_GAP: &str = "\0";

/// Everything that compiling and evaluating share: the root of all evaluation contexts.
pub(super) static ROOT: LazyLock<Context<'static, 'static>> =
    LazyLock::new(|| Context::with_env(Arc::clone(&LANGUAGE)));

/// The language: no optional syntax, no struct literals, no names but those of [`FUNCTIONS`].
pub(super) static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| {
    // Proven: a declaration fails only when it repeats another, and the declarations are always the same.
    Arc::new(language().expect("CEL's environment is consistent"))
});

fn language() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib().with_optional_support(false);
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::lists)?;
    env.add_extension(extensions::math)?;
    env.add_overload(ORDERED, "ordered", vec![DYN_TYPE], ordered)?;
    env.add_overload(HAS, "has_path", vec![DYN_TYPE, STRING_TYPE], has)?;
    env.add_overload("date", "date_of", vec![TIMESTAMP_TYPE], date)?;
    env.add_overload("month", "month_of", vec![TIMESTAMP_TYPE], month)?;
    env.add_overload("hour", "hour_of", vec![TIMESTAMP_TYPE], hour)?;
    env.add_member_overload("date", "timestamp_date", TIMESTAMP_TYPE, vec![], date)?;
    env.add_member_overload("month", "timestamp_month", TIMESTAMP_TYPE, vec![], month)?;
    env.add_member_overload("hour", "timestamp_hour", TIMESTAMP_TYPE, vec![], hour)?;
    Ok(env)
}

type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// A map's keys in order, where CEL itself would give them in an order that changes from run to run.
fn ordered<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let Some(value) = args.pop() else { return Err(ExecutionError::invalid_argument_count(1, 0)) };
    let Some(map) = value.downcast_ref::<CelMap<'v>>() else { return Ok(value) };
    let mut keys: Vec<_> = map.inner().keys().collect();
    keys.sort_unstable();
    let keys: Vec<Box<dyn Val + 'v>> = keys.into_iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}

/// Whether there is anything at a path of a value.
fn has<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let [value, path] = args.as_slice() else { return Err(ExecutionError::invalid_argument_count(2, args.len())) };
    let path = path.downcast_ref::<CelString<'_>>().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let mut at: Option<&dyn Val> = Some(value.as_ref());
    for name in path.inner().split(PATH_GAP) {
        let map = at.and_then(|value| value.downcast_ref::<CelMap<'_>>());
        at = map.and_then(|map| map.inner().get(&CelMapKey::from(name))).map(AsRef::as_ref);
    }
    Ok(CowVal::owned(CelBool::from(at.is_some())))
}

/// `2024-05-01`, the day in UTC.
fn date<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    formatted(&args, "%Y-%m-%d")
}

/// `2024-05`, the month in UTC.
fn month<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    formatted(&args, "%Y-%m")
}

/// `2024-05-01T10`, the hour in UTC.
fn hour<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    formatted(&args, "%Y-%m-%dT%H")
}

fn formatted<'b, 'v>(args: &[CowVal<'_, '_>], format: &str) -> Outcome<'b, 'v> {
    let time = args.first().and_then(|arg| arg.downcast_ref::<CelTimestamp>());
    let time = time.ok_or_else(ExecutionError::missing_argument_or_target)?;
    Ok(CowVal::owned(CelString::from(time.inner().to_utc().format(format).to_string())))
}

macro_rules! functions {
    ($($name:literal ($($takes:ident),*) $gives:ident;)* @members $($on:ident . $member:literal ($($args:ident),*) $result:ident;)*) => {
        pub(super) const FUNCTIONS: &[Function] = &[
            $(Function { name: $name, on: None, takes: &[$(Type::$takes),*], gives: Type::$gives },)*
            $(Function { name: $member, on: Some(Type::$on), takes: &[$(Type::$args),*], gives: Type::$result },)*
        ];
    };
}

functions! {
    "size"(Text) Int; "size"(List) Int; "size"(Map) Int;
    "string"(Text) Text; "string"(Int) Text; "string"(Float) Text; "string"(Bool) Text; "string"(Time) Text;
    "string"(Span) Text;
    "int"(Int) Int; "int"(Float) Int; "int"(Text) Int; "int"(Time) Int;
    "double"(Float) Float; "double"(Int) Float; "double"(Text) Float;
    "bool"(Bool) Bool; "bool"(Text) Bool;
    "timestamp"(Text) Time; "timestamp"(Time) Time; "timestamp"(Int) Time;
    "duration"(Text) Span; "duration"(Span) Span;
    "type"(Any) Kind; "dyn"(Any) Any;
    "matches"(Text, Text) Bool;
    "date"(Time) Text; "month"(Time) Text; "hour"(Time) Text;
    "math.@max"(List) Any; "math.@max"(Int, Int) Int; "math.@max"(Float, Float) Float;
    "math.@max"(Int) Int; "math.@max"(Float) Float; "math.@max"(Int, Float) Any; "math.@max"(Float, Int) Any;
    "math.@min"(List) Any; "math.@min"(Int, Int) Int; "math.@min"(Float, Float) Float;
    "math.@min"(Int) Int; "math.@min"(Float) Float; "math.@min"(Int, Float) Any; "math.@min"(Float, Int) Any;
    "math.abs"(Int) Int; "math.abs"(Float) Float; "math.sign"(Int) Int; "math.sign"(Float) Float;
    "math.ceil"(Float) Float; "math.floor"(Float) Float; "math.round"(Float) Float; "math.trunc"(Float) Float;
    "math.sqrt"(Float) Float; "math.sqrt"(Int) Float;
    @members
    Text."size"() Int; List."size"() Int; Map."size"() Int;
    Text."contains"(Text) Bool; Text."startsWith"(Text) Bool; Text."endsWith"(Text) Bool; Text."matches"(Text) Bool;
    Text."charAt"(Int) Text; Text."indexOf"(Text) Int; Text."indexOf"(Text, Int) Int; Text."lastIndexOf"(Text) Int;
    Text."lastIndexOf"(Text, Int) Int; Text."lowerAscii"() Text; Text."upperAscii"() Text; Text."trim"() Text;
    Text."replace"(Text, Text) Text; Text."replace"(Text, Text, Int) Text; Text."split"(Text) List;
    Text."split"(Text, Int) List; Text."substring"(Int) Text; Text."substring"(Int, Int) Text; Text."reverse"() Text;
    Text."format"(List) Text; List."join"() Text; List."join"(Text) Text;
    List."distinct"() List; List."sort"() List; List."reverse"() List; List."slice"(Int, Int) List;
    List."@sortByAssociatedKeys"(List) List; List."flatten"() List; List."flatten"(Int) List;
    Time."date"() Text; Time."month"() Text; Time."hour"() Text;
    Time."getFullYear"() Int; Time."getMonth"() Int; Time."getDate"() Int; Time."getDayOfMonth"() Int;
    Time."getDayOfWeek"() Int; Time."getDayOfYear"() Int; Time."getHours"() Int; Time."getMinutes"() Int;
    Time."getSeconds"() Int; Time."getMilliseconds"() Int;
    Time."getFullYear"(Text) Int; Time."getMonth"(Text) Int; Time."getDate"(Text) Int; Time."getDayOfMonth"(Text) Int;
    Time."getDayOfWeek"(Text) Int; Time."getDayOfYear"(Text) Int; Time."getHours"(Text) Int;
    Time."getMinutes"(Text) Int; Time."getSeconds"(Text) Int; Time."getMilliseconds"(Text) Int;
    Span."getHours"() Int; Span."getMinutes"() Int; Span."getSeconds"() Int; Span."getMilliseconds"() Int;
}

/// A function's name as users write it: behind some macros stands a function with another.
fn spelled(name: &str) -> &str {
    match name {
        "math.@max" => "math.greatest",
        "math.@min" => "math.least",
        "@sortByAssociatedKeys" => "sortBy",
        name => name,
    }
}

/// Finds what a call gives; the error is a message and what may help.
pub(super) fn call(name: &str, on: Option<Type>, takes: &[Type]) -> Result<Type, (String, Option<String>)> {
    let shown = format!("{} `{}`", if on.is_some() { "method" } else { "function" }, spelled(name));
    let named: Vec<_> = FUNCTIONS.iter().filter(|f| f.name == name && f.on.is_some() == on.is_some()).collect();
    if named.is_empty() {
        let other = FUNCTIONS.iter().find(|f| f.name == name).map(|f| match f.on {
            Some(_) => format!("it is called on a value: `value.{name}(…)`"),
            None => format!("it takes its value as an argument: `{name}(value)`"),
        });
        let near =
            || nearest(name, FUNCTIONS.iter().filter(|f| f.on.is_some() == on.is_some()).map(|f| spelled(f.name)));
        return Err((format!("there is no {shown}"), other.or_else(near)));
    }
    let counted: Vec<_> = named.iter().filter(|f| f.takes.len() == takes.len()).collect();
    if counted.is_empty() {
        let mut counts: Vec<_> = named.iter().map(|f| f.takes.len().to_string()).collect();
        counts.dedup();
        return Err((format!("{shown} takes {} arguments, not {}", counts.join(" or "), takes.len()), None));
    }
    let fits = |f: &Function| {
        f.on.zip(on).is_none_or(|(want, have)| have.may_be(want))
            && f.takes.iter().zip(takes).all(|(want, have)| have.may_be(*want))
    };
    let mut results = counted.into_iter().filter(|f| fits(f)).map(|f| f.gives);
    let Some(first) = results.next() else {
        let list: Vec<_> = on.iter().chain(takes).map(|t| t.a()).collect();
        return Err((format!("{shown} does not work on {}", list.join(" and ")), None));
    };
    Ok(if results.all(|other| other == first) { first } else { Type::Any })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(t: &Type) -> &'static str {
        match t {
            Type::Any | Type::Int => "1",
            Type::Null => "null",
            Type::Bool => "true",
            Type::Float => "1.5",
            Type::Text => "'1'",
            Type::Bytes => "b'1'",
            Type::Time => "timestamp('2024-05-01T10:00:00Z')",
            Type::Span => "duration('1s')",
            Type::List => "[1, 2]",
            Type::Map => "{'a': 1}",
            Type::Kind => "int",
        }
    }

    #[test]
    fn every_listed_function_exists_in_the_language() {
        for f in FUNCTIONS {
            let args: Vec<_> = f.takes.iter().map(sample).collect();
            let receiver = f.on.as_ref().map_or(String::new(), |on| format!("{}.", sample(on)));
            let text = match spelled(f.name) {
                "sortBy" => format!("{receiver}sortBy(x, -x)"),
                name => format!("{receiver}{name}({})", args.join(", ")),
            };
            let result = LANGUAGE.compile(&text).unwrap().execute(&ROOT);
            let missing =
                matches!(result, Err(ExecutionError::UndeclaredReference(_) | ExecutionError::NoSuchOverload(_)));
            assert!(!missing, "{text}: {result:?}");
        }
    }

    #[test]
    fn calendar_units_are_those_of_utc() {
        let eval = |text: &str| LANGUAGE.compile(text).unwrap().execute(&ROOT).unwrap();
        assert_eq!(eval("timestamp('2024-05-01T00:30:00+02:00').date()"), "2024-04-30".into());
        assert_eq!(eval("date(timestamp('0099-05-01T00:30:00Z'))"), "0099-05-01".into());
        assert_eq!(eval("timestamp('2024-05-01T00:30:00Z').month()"), "2024-05".into());
        assert_eq!(eval("timestamp('2024-05-01T07:30:00Z').hour()"), "2024-05-01T07".into());
    }
}
