//! A declaration as text that changes when its meaning may have changed, and not when it was only laid out anew. And
//! back: generations store the text, and go on under it when the configuration has another.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spec::{GuardSpec, Literal, Located, ViewSpec};

#[derive(Serialize)]
struct Text<'s> {
    name: &'s str,
    version: u32,
    initial: &'s BTreeMap<String, Literal>,
    /// JSON alone does not tell a timestamp from a string.
    types: BTreeMap<&'s str, &'static str>,
    on: BTreeMap<&'s str, BTreeMap<&'s str, String>>,
    ignore: BTreeSet<&'s str>,
    reject_when: Vec<Guard<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_event_version: Option<u32>,
}

#[derive(Serialize)]
struct Guard<'s> {
    on: &'s str,
    when: String,
    reason: &'s str,
}

/// The declaration as JSON: keys sorted, expressions without comments and spare white space, no places.
pub(super) fn canonical(spec: &ViewSpec) -> String {
    let text = Text {
        name: &spec.name,
        version: spec.version,
        initial: &spec.initial,
        types: spec.initial.iter().map(|(name, literal)| (name.as_str(), literal.type_name())).collect(),
        on: spec
            .on
            .iter()
            .map(|(on, sets)| (on.as_str(), sets.iter().map(|(name, to)| (name.as_str(), squeeze(&to.text))).collect()))
            .collect(),
        ignore: spec.ignore.iter().map(String::as_str).collect(),
        reject_when: spec
            .reject_when
            .iter()
            .map(|guard| Guard { on: &guard.on, when: squeeze(&guard.when.text), reason: &guard.reason })
            .collect(),
        max_event_version: spec.max_event_version,
    };
    // Proven: every key is text, and text, numbers and lists of them have no other way to fail.
    serde_json::to_string(&text).expect("a declaration becomes JSON")
}

/// A [`Text`] that was stored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    version: u32,
    initial: BTreeMap<String, Value>,
    types: BTreeMap<String, String>,
    on: BTreeMap<String, BTreeMap<String, String>>,
    ignore: Vec<String>,
    reject_when: Vec<StoredGuard>,
    max_event_version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredGuard {
    on: String,
    when: String,
    reason: String,
}

/// The declaration that a canonical text is of. Its places are none, its layout is gone.
pub(super) fn read(text: &str) -> Result<ViewSpec, String> {
    let stored: Stored = serde_json::from_str(text).map_err(|error| format!("this is no declaration: {error}"))?;
    let located = |text: String| Located { text, line: 1, column: 1 };
    let types = stored.types;
    let initial = stored.initial.into_iter().map(|(name, value)| {
        let of = types.get(&name).ok_or_else(|| format!("`{name}` has a first value and no type"))?;
        let literal =
            first_value(value, of).ok_or_else(|| format!("the first value of `{name}` is not of type {of}"))?;
        Ok::<_, String>((name, literal))
    });
    let sets = |sets: BTreeMap<String, String>| sets.into_iter().map(|(name, to)| (name, located(to))).collect();
    let guard = |guard: StoredGuard| GuardSpec { on: guard.on, when: located(guard.when), reason: guard.reason };
    Ok(ViewSpec {
        file: "stored definition".to_owned(),
        source: "".into(),
        line: 1,
        column: 1,
        name: stored.name,
        version: stored.version,
        initial: initial.collect::<Result<_, _>>()?,
        on: stored.on.into_iter().map(|(on, of)| (on, sets(of))).collect(),
        ignore: stored.ignore,
        reject_when: stored.reject_when.into_iter().map(guard).collect(),
        max_event_version: stored.max_event_version,
    })
}

/// A first value of the type that is named; nothing when it is of another.
fn first_value(value: Value, of: &str) -> Option<Literal> {
    let literal = match value {
        Value::String(time) if of == "timestamp" => Literal::Time(time.parse().ok()?),
        value => literal(value)?,
    };
    (literal.type_name() == of).then_some(literal)
}

/// A timestamp within a list or a map is the text that it is in a row, too.
fn literal(value: Value) -> Option<Literal> {
    Some(match value {
        Value::Null => Literal::Null,
        Value::Bool(value) => Literal::Bool(value),
        Value::String(value) => Literal::Text(value),
        Value::Number(value) => match value.as_i64() {
            Some(int) => Literal::Int(int),
            None if value.is_f64() => Literal::Float(value.as_f64()?),
            None => return None,
        },
        Value::Array(items) => Literal::List(items.into_iter().map(literal).collect::<Option<_>>()?),
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| Some((key, literal(value)?)));
            Literal::Map(entries.collect::<Option<_>>()?)
        }
    })
}

/// An expression without comments, and without white space except where it keeps two words apart.
fn squeeze(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len());
    let mut rest = expression;
    let mut gap = false;
    while let Some(next) = rest.chars().next() {
        if next.is_whitespace() || rest.starts_with("//") {
            let comment = rest.find('\n').unwrap_or(rest.len());
            rest = &rest[if next.is_whitespace() { next.len_utf8() } else { comment }..];
            gap = true;
            continue;
        }
        let last = out.chars().next_back();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if gap && last.is_some_and(word) && (word(next) || matches!(next, '\'' | '"' | '.')) {
            out.push(' ');
        }
        gap = false;
        let len = if matches!(next, '\'' | '"') { quoted(rest, is_raw(&out)) } else { next.len_utf8() };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    out
}

/// Whether the text about to be quoted has the prefix of a raw string.
fn is_raw(before: &str) -> bool {
    let prefix = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
    matches!(prefix, "r" | "R" | "br" | "bR" | "Br" | "BR" | "rb" | "rB" | "Rb" | "RB")
}

/// Bytes of the quoted text that begins here.
fn quoted(text: &str, raw: bool) -> usize {
    let quote = &text[..1];
    let quotes = if text.starts_with(&quote.repeat(3)) { 3 } else { 1 };
    let end = &text[..quotes];
    let mut at = quotes;
    while at < text.len() {
        if text[at..].starts_with(end) {
            return at + quotes;
        }
        let escaped = !raw && text[at..].starts_with('\\');
        let chars = text[at..].chars().take(if escaped { 2 } else { 1 });
        at += chars.map(char::len_utf8).sum::<usize>();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::squeeze;

    #[test]
    fn layout_goes_and_meaning_stays() {
        for (text, squeezed) in [
            (" a  +\n b // and so on\n * c", "a+b*c"),
            ("a in ['x y', \"p // q\"]", "a in['x y',\"p // q\"]"),
            ("a in 'x'", "a in 'x'"),
            (r"r'a\' + '''it's  \''''", r"r'a\'+'''it's  \''''"),
            ("a ? b : - 1", "a?b:-1"),
            ("'é  é' + ü", "'é  é'+ü"),
            ("'open  end", "'open  end"),
        ] {
            assert_eq!(squeeze(text), squeezed);
            assert_eq!(squeeze(squeezed), squeezed);
        }
    }
}
