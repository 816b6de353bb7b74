//! `[[topics.views]]`: declarative views, whose expressions keep the place where they were written.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::read::{Section, count, plain};
use super::tree::{Node, Place, Value};
use crate::moment::NotAMoment;
use crate::views::cel::{GuardSpec, Literal, Located, ViewSpec};
use crate::views::is_view_name;

/// Reads one view. `names` has the views of all topics, for a name stands for one view.
pub(super) fn read(s: Section<'_>, names: &mut BTreeMap<String, Place>) -> Option<ViewSpec> {
    let name = s.required("name", |value, context| {
        let name = plain(value, context)?;
        if is_view_name(&name) {
            Ok(name)
        } else {
            Err(format!(
                "expected 1 to 64 of the characters a-z, 0-9, `_` and `-`, not `_` or `-` first, found {name:?}"
            ))
        }
    });
    let at = s.place("name");
    let initial = initial(&s, &at, &name);
    let version = s.optional("version", count(u64::from(u32::MAX))).map_or(1, |version| version as u32);
    let (line, column) = at.line_column();
    let view = ViewSpec {
        file: at.source.name.clone(),
        source: at.source.text.as_str().into(),
        line,
        column,
        name: name.clone(),
        version,
        initial,
        on: on(&s),
        ignore: ignore(&s),
        reject_when: s.sections("reject-when").into_iter().filter_map(guard).collect(),
        max_event_version: s.optional("max-event-version", count(u64::from(u32::MAX))).map(|version| version as u32),
    };
    let duplicate = names.get(&name).map(|first| format!("view `{name}` is declared twice, first at {first}"));
    if let Some(message) = &duplicate {
        let next = "a name stands for one view; choose another";
        s.report(Problem::at(at.clone(), message.clone()).next(next));
    }
    s.finish();
    if name.is_empty() || duplicate.is_some() {
        return None;
    }
    names.insert(name, at);
    Some(view)
}

/// The first values of the row's fields.
fn initial(s: &Section<'_>, view_at: &Place, view: &str) -> BTreeMap<String, Literal> {
    let next = "write initial = { field = value, … }: the row of a key that has had no event";
    let Some(entry) = s.entry("initial") else {
        s.report(Problem::at(view_at.clone(), format!("view `{view}` has no `initial`")).next(next));
        return BTreeMap::new();
    };
    let mut fields = BTreeMap::new();
    for (field, entry) in s.table("initial", entry, next) {
        match literal(&entry.node) {
            Ok(value) => {
                fields.insert(field.clone(), value);
            }
            Err((at, reason)) => s.report(Problem::at(at, format!("`initial.{field}`: {reason}"))),
        }
    }
    fields
}

/// The expressions under `on`, by event type and field.
fn on(s: &Section<'_>) -> BTreeMap<String, BTreeMap<String, Located>> {
    let types = s.section("on");
    let mut on = BTreeMap::new();
    for (event_type, entry) in types.all() {
        let fields = types.table(event_type, entry, "write Type = { field = \"expression\", … }");
        let mut assignments = BTreeMap::new();
        for (field, entry) in fields {
            match &entry.node.value {
                Value::String(text) => {
                    assignments.insert(field.clone(), located(text.clone(), &entry.node.at));
                }
                other => {
                    let message = format!("`{event_type}.{field}` is {}, expected an expression", other.kind());
                    s.report(Problem::at(entry.node.at.clone(), message).next("write the expression as a string"));
                }
            }
        }
        on.insert(event_type.clone(), assignments);
    }
    on
}

fn ignore(s: &Section<'_>) -> Vec<String> {
    let types = s.optional("ignore", |value, context| match value {
        Value::Array(items) => items.iter().map(|item| plain(&item.value, context)).collect(),
        other => Err(format!("expected an array of event types, or [\"*\"], found {}", other.kind())),
    });
    types.unwrap_or_default()
}

fn guard(s: Section<'_>) -> Option<GuardSpec> {
    let on = s.required("on", plain);
    let when = s.required("when", plain);
    let reason = s.required("reason", plain);
    let at = s.place("when");
    s.finish();
    let complete = ![&on, &when, &reason].into_iter().any(String::is_empty);
    complete.then(|| GuardSpec { on, when: located(when, &at), reason })
}

fn located(text: String, at: &Place) -> Located {
    let (line, column) = at.line_column();
    let written = at.source.text.get(at.span.clone()).unwrap_or_default();
    // A span begins at the quote; the text begins behind it.
    let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") {
        3
    } else {
        usize::from(written.starts_with(['"', '\'']))
    };
    Located { text, line, column: column + quotes }
}

fn literal(node: &Node) -> Result<Literal, (Place, String)> {
    Ok(match &node.value {
        Value::Table(table) => {
            let entries = table.iter().map(|(key, entry)| Ok((key.clone(), literal(&entry.node)?)));
            Literal::Map(entries.collect::<Result<_, _>>()?)
        }
        Value::Array(items) => Literal::List(items.iter().map(literal).collect::<Result<_, _>>()?),
        Value::String(text) | Value::Untyped(text) => Literal::Text(text.clone()),
        Value::Integer(number) => Literal::Int(*number),
        Value::Float(number) => Literal::Float(*number),
        Value::Bool(flag) => Literal::Bool(*flag),
        Value::Datetime(time) => {
            let no_moment = |why: NotAMoment| (node.at.clone(), format!("`{time}` is {why}"));
            Literal::Time(time.parse().map_err(no_moment)?)
        }
    })
}
