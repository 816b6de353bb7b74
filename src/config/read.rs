//! From a tree of values to typed settings. A section knows which keys it was asked for, so that whatever else stands in
//! it is refused, and everything that is wrong is gathered instead of ending at the first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::problem::Problem;
use super::tree::{Entry, Node, Place, Table, Value};
use super::{quantity, secret};

/// What the reading of one configuration gathers.
pub struct Context<'e> {
    pub problems: RefCell<Vec<Problem>>,
    /// Environment variables, for `${env:X}`.
    pub env: &'e dyn Fn(&str) -> Option<String>,
}

impl Context<'_> {
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A reason that quotes a value, with the value as it was written: what a reference stands for is never shown.
    fn as_written(&self, value: &Value, reason: String) -> String {
        let (Value::String(written) | Value::Untyped(written)) = value else { return reason };
        match secret::resolve(written, self.env) {
            Ok(resolved) if resolved != *written => {
                let reason = reason.replace(&format!("{resolved:?}"), &format!("{written:?}"));
                // Most reasons end with what was found, in one form or another.
                match reason.split_once(", found ") {
                    Some((expected, _)) => format!("{expected}, found {written:?}"),
                    None => reason,
                }
            }
            _ => reason,
        }
    }
}

static NOTHING: Table = Table::new();

/// A table that is being read.
pub struct Section<'a> {
    /// As in `[flow]`; empty for the root.
    pub name: String,
    pub at: Place,
    table: &'a Table,
    context: &'a Context<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The root of a tree, or a table in an array. What is not a table is reported and read as an empty one.
    pub fn of(name: impl Into<String>, node: &'a Node, context: &'a Context<'a>) -> Self {
        let name = name.into();
        let table = match &node.value {
            Value::Table(table) => table,
            other => {
                let message = format!("`{name}` is {}, expected a table", other.kind());
                context.report(Problem::at(node.at.clone(), message));
                &NOTHING
            }
        };
        Section { name, at: node.at.clone(), table, context, asked: RefCell::new(Vec::new()) }
    }

    /// The table under `key`; an empty one where there is none.
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let name = self.path(key);
        match self.entry(key) {
            Some(entry) => Section::of(name, &entry.node, self.context),
            None => Section {
                name,
                at: self.at.clone(),
                table: &NOTHING,
                context: self.context,
                asked: RefCell::new(Vec::new()),
            },
        }
    }

    /// The tables of the array under `key`.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        match &entry.node.value {
            Value::Array(items) => items.iter().map(|item| Section::of(self.path(key), item, self.context)).collect(),
            other => {
                let message = format!("`{}` is {}, expected an array of tables", self.path(key), other.kind());
                let next = format!("write [[{}]]", self.path(key));
                self.context.report(Problem::at(entry.node.at.clone(), message).next(next));
                Vec::new()
            }
        }
    }

    /// The table as it is, for the parts that other modules read.
    pub fn entry(&self, key: &'static str) -> Option<&'a Entry> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    /// The place of `key`'s value, or of the section where the key is not there.
    pub fn place(&self, key: &str) -> Place {
        self.table.get(key).map_or_else(|| self.at.clone(), |entry| entry.node.at.clone())
    }

    pub fn report(&self, problem: Problem) {
        self.context.report(problem);
    }

    /// All entries, whatever their keys.
    pub fn all(&self) -> &'a BTreeMap<String, Entry> {
        self.table
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The table that stands under a key of the user's choice; reported and empty when it is none.
    pub fn table(&self, key: &str, entry: &'a Entry, next: &str) -> &'a Table {
        match &entry.node.value {
            Value::Table(table) => table,
            other => {
                let message = format!("`{}` is {}, expected a table", self.path(key), other.kind());
                self.report(Problem::at(entry.node.at.clone(), message).next(next));
                &NOTHING
            }
        }
    }

    /// The text of a librdkafka property: numbers and booleans as they are written there.
    pub fn property(&self, entry: &Entry) -> Result<String, String> {
        match &entry.node.value {
            Value::Integer(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Float(number) => Ok(number.to_string()),
            Value::Table(_) => Err("expected a string, found a table; quote names with dots: \"a.b\" = …".to_owned()),
            other => text(other, self.context),
        }
    }

    /// Reads an optional key.
    pub fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value, &Context<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        match read(&entry.node.value, self.context) {
            Ok(value) => Some(value),
            Err(reason) => {
                let reason = self.context.as_written(&entry.node.value, reason);
                let message = format!("`{}`: {reason}", self.path(key));
                self.context.report(Problem::at(entry.node.at.clone(), message));
                None
            }
        }
    }

    /// Reads a key that must be there. After a problem the answer is `T::default()`, and the problem is on record.
    pub fn required<T: Default>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value, &Context<'a>) -> Result<T, String>,
    ) -> T {
        if !self.table.contains_key(key) {
            self.asked.borrow_mut().push(key);
            let message = format!("[{}] has no `{key}`", self.name);
            self.context.report(Problem::at(self.at.clone(), message).next(format!("add {key} = …")));
            return T::default();
        }
        self.optional(key, read).unwrap_or_default()
    }

    /// Reads one of several words.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.optional(key, |value, context| {
            let word = text(value, context)?;
            match choices.iter().find(|(name, _)| *name == word) {
                Some((_, choice)) => Ok(*choice),
                None => {
                    let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                    let hint = suggest(&word, choices.iter().map(|(name, _)| *name));
                    let hint = hint.map_or(String::new(), |hint| format!("; did you mean \"{hint}\"?"));
                    Err(format!("expected {}, found {word:?}{hint}", names.join(" or ")))
                }
            }
        })
    }

    /// Refuses every key that was not asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, entry) in self.table.iter().filter(|(key, _)| !asked.contains(&key.as_str())) {
            let at = if self.name.is_empty() { "at the top".to_owned() } else { format!("in [{}]", self.name) };
            let problem = Problem::of_key(entry.key_at.clone(), format!("unknown key `{key}` {at}"));
            let next = match suggest(key, asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let mut known: Vec<&str> = asked.clone();
                    known.sort_unstable();
                    format!("there are: {}", known.join(", "))
                }
            };
            self.context.report(problem.next(next));
        }
    }
}

/// The known word that `found` was most likely meant to be.
pub fn suggest<'w>(found: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let found = found.replace('_', "-").to_lowercase();
    known
        .map(|word| (strsim::jaro_winkler(&found, word), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

fn found(expected: &str, value: &Value) -> String {
    format!("expected {expected}, found {}", value.kind())
}

/// A string, with its references replaced.
pub fn text(value: &Value, context: &Context<'_>) -> Result<String, String> {
    match value {
        Value::String(text) | Value::Untyped(text) => secret::resolve(text, context.env),
        other => Err(found("a string", other)),
    }
}

/// A string as it stands: an expression, a name.
pub fn plain(value: &Value, _: &Context<'_>) -> Result<String, String> {
    match value {
        Value::String(text) | Value::Untyped(text) => Ok(text.clone()),
        other => Err(found("a string", other)),
    }
}

/// An integer of at least 1 (and at most `max`).
pub fn count(max: u64) -> impl Fn(&Value, &Context<'_>) -> Result<u64, String> {
    integer(1, max)
}

/// An integer from 0, which stands for none, to `max`.
pub fn none_or_count(max: u64) -> impl Fn(&Value, &Context<'_>) -> Result<u64, String> {
    integer(0, max)
}

fn integer(min: u64, max: u64) -> impl Fn(&Value, &Context<'_>) -> Result<u64, String> {
    move |value, context| {
        let number = match value {
            Value::Integer(number) => *number,
            Value::Untyped(_) => {
                let word = text(value, context)?;
                word.trim().parse().map_err(|_| format!("expected an integer, found {word:?}"))?
            }
            other => return Err(found("an integer", other)),
        };
        match u64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(format!("expected a number from {min} to {max}, found {number}")),
        }
    }
}

/// A finite number.
pub fn float(value: &Value, context: &Context<'_>) -> Result<f64, String> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::Integer(number) => Ok(*number as f64),
        Value::Untyped(_) => {
            let word = text(value, context)?;
            word.trim().parse().ok().filter(|n: &f64| n.is_finite()).ok_or(format!("expected a number, found {word:?}"))
        }
        other => Err(found("a number", other)),
    }
}

/// A duration longer than nothing.
pub fn duration(value: &Value, context: &Context<'_>) -> Result<Duration, String> {
    match value {
        Value::String(_) | Value::Untyped(_) => match quantity::duration(&text(value, context)?)? {
            Duration::ZERO => Err("expected a duration longer than 0".to_owned()),
            duration => Ok(duration),
        },
        other => Err(format!("{}; write it with its unit, such as \"10s\"", found("a duration", other))),
    }
}

/// A size greater than nothing. An integer counts bytes.
pub fn size(value: &Value, context: &Context<'_>) -> Result<u64, String> {
    let bytes = match value {
        Value::String(_) | Value::Untyped(_) => quantity::size(&text(value, context)?)?,
        Value::Integer(bytes) => u64::try_from(*bytes).map_err(|_| format!("expected a size, found {bytes}"))?,
        other => return Err(found("a size such as \"64MiB\"", other)),
    };
    if bytes == 0 { Err("expected a size greater than 0".to_owned()) } else { Ok(bytes) }
}

/// What `read` reads, or `None` for `"unlimited"`.
pub fn or_unlimited<T>(
    read: impl FnOnce(&Value, &Context<'_>) -> Result<T, String>,
) -> impl FnOnce(&Value, &Context<'_>) -> Result<Option<T>, String> {
    or_word("unlimited", read)
}

/// What `read` reads, or `None` for `"never"`.
pub fn or_never<T>(
    read: impl FnOnce(&Value, &Context<'_>) -> Result<T, String>,
) -> impl FnOnce(&Value, &Context<'_>) -> Result<Option<T>, String> {
    or_word("never", read)
}

fn or_word<T>(
    none: &'static str,
    read: impl FnOnce(&Value, &Context<'_>) -> Result<T, String>,
) -> impl FnOnce(&Value, &Context<'_>) -> Result<Option<T>, String> {
    move |value, context| match value {
        Value::String(word) | Value::Untyped(word) if word.trim() == none => Ok(None),
        value => match read(value, context) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(format!("{reason} (or \"{none}\")")),
        },
    }
}
