//! What is in force, written as TOML, each key with where it comes from when that is not the default set.

use std::fmt;

use super::secret;
use super::tree::{Node, Place, SourceKind, Table, Value};

/// A configuration that can be printed: secrets are masked, references are shown as they were written.
pub struct Printed<'a> {
    sections: Vec<(&'a str, &'a Table)>,
    topics: Option<&'a Node>,
}

impl<'a> Printed<'a> {
    pub(super) fn of(tree: &'a Node) -> Self {
        let mut sections = Vec::new();
        let mut topics = None;
        if let Value::Table(root) = &tree.value {
            for (name, entry) in root {
                match &entry.node.value {
                    Value::Table(table) => sections.push((name.as_str(), table)),
                    _ if name == "topics" => topics = Some(&entry.node),
                    _ => {}
                }
            }
        }
        Printed { sections, topics }
    }

    /// The same as a JSON value, under `sections` and keys as in the file.
    pub fn json(&self) -> serde_json::Value {
        let mut root = serde_json::Map::new();
        for (name, table) in &self.sections {
            root.insert((*name).to_owned(), json(name, &Value::Table((*table).clone())));
        }
        if let Some(topics) = self.topics {
            root.insert("topics".to_owned(), json("topics", &topics.value));
        }
        serde_json::Value::Object(root)
    }
}

fn json(key: &str, value: &Value) -> serde_json::Value {
    match value {
        Value::Table(table) => table.iter().map(|(key, entry)| (key.clone(), json(key, &entry.node.value))).collect(),
        Value::Array(items) => items.iter().map(|item| json(key, &item.value)).collect(),
        Value::String(text) | Value::Untyped(text) | Value::Datetime(text) => secret::shown(key, text).into(),
        // A password of digits need not stand in quotes.
        _ if secret::is_secret_key(key) => secret::MASK.into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Bool(flag) => (*flag).into(),
    }
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, table) in &self.sections {
            writeln!(f, "[{name}]")?;
            let mut nested = Vec::new();
            for (key, entry) in *table {
                match &entry.node.value {
                    Value::Table(table) => nested.push((key, table)),
                    value => line(f, key, value, &entry.node.at)?,
                }
            }
            for (key, table) in nested.into_iter().filter(|(_, table)| !table.is_empty()) {
                writeln!(f, "\n[{name}.{key}]")?;
                for (key, entry) in table {
                    line(f, key, &entry.node.value, &entry.node.at)?;
                }
            }
            writeln!(f)?;
        }
        let Some(topics) = self.topics else { return Ok(()) };
        let document = toml::Table::from_iter([("topics".to_owned(), toml_value("topics", &topics.value))]);
        f.write_str(&toml::to_string(&document).map_err(|_| fmt::Error)?)
    }
}

fn line(f: &mut fmt::Formatter<'_>, key: &str, value: &Value, at: &Place) -> fmt::Result {
    let document = toml::Table::from_iter([(key.to_owned(), toml_value(key, value))]);
    let text = toml::to_string(&document).map_err(|_| fmt::Error)?;
    match at.source.kind {
        SourceKind::Default => writeln!(f, "{}", text.trim_end()),
        SourceKind::File | SourceKind::Single => writeln!(f, "{:<40} # {at}", text.trim_end()),
    }
}

fn toml_value(key: &str, value: &Value) -> toml::Value {
    match value {
        Value::Table(table) => {
            let entries = table.iter().map(|(key, entry)| (key.clone(), toml_value(key, &entry.node.value)));
            toml::Value::Table(entries.collect())
        }
        Value::Array(items) => toml::Value::Array(items.iter().map(|item| toml_value(key, &item.value)).collect()),
        Value::String(text) | Value::Untyped(text) | Value::Datetime(text) => {
            toml::Value::String(secret::shown(key, text).to_owned())
        }
        _ if secret::is_secret_key(key) => toml::Value::String(secret::MASK.to_owned()),
        Value::Integer(number) => toml::Value::Integer(*number),
        Value::Float(number) => toml::Value::Float(*number),
        Value::Bool(flag) => toml::Value::Boolean(*flag),
    }
}
