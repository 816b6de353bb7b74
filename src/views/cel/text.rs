//! A declaration as text that changes when its meaning may have changed, and not when it was only laid out anew.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::spec::{Literal, ViewSpec};

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
