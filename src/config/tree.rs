//! A configuration before it has types: tables and values, each with the place it was written at, and the laying of one
//! set over another.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// A text that settings come from.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// A file's path, or `environment variable X`, or `flag --x`.
    pub name: String,
    pub text: String,
    pub kind: SourceKind,
}

/// Where a text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The compiled-in default set.
    Default,
    File,
    /// One value, from the environment or a flag: any text, whose type is what the key wants.
    Single,
}

/// A stretch of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub source: Arc<Source>,
    pub span: Range<usize>,
}

impl Place {
    /// Line and column, both from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        let before = self.source.text.get(..self.span.start).unwrap_or(&self.source.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The text of the line that the place starts on.
    pub fn line_text(&self) -> &str {
        let (line, _) = self.line_column();
        self.source.text.lines().nth(line - 1).unwrap_or_default()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.kind {
            SourceKind::Single => f.write_str(&self.source.name),
            _ => {
                let (line, column) = self.line_column();
                write!(f, "{}:{line}:{column}", self.source.name)
            }
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub at: Place,
}

/// What a key has.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Table(Table),
    Array(Vec<Node>),
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A TOML date or time, as it was written.
    Datetime(String),
    /// From the environment or a flag: its type is what the key wants.
    Untyped(String),
}

impl Value {
    /// What it is, for "expected …, found …".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Table(_) => "a table",
            Value::Array(_) => "an array",
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a boolean",
            Value::Datetime(_) => "a date or time",
            Value::Untyped(_) => "a text",
        }
    }
}

/// A table's entry: where its key was written, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key_at: Place,
    pub node: Node,
}

/// Keys and what they have.
pub type Table = BTreeMap<String, Entry>;

/// Reads a TOML text. Of its syntax errors the first of each line is reported: the others usually follow from it.
pub fn parse(source: Arc<Source>) -> Result<Node, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or(0..0);
            Problem::broken(Place { source: source.clone(), span }, format!("not valid TOML: {}", error.message()))
        })
        .collect();
    problems.sort_by_key(|problem| problem.at.as_ref().map(|at| at.span.start));
    problems.dedup_by_key(|problem| problem.at.as_ref().map(|at| at.line_column().0));
    let at = Place { source: source.clone(), span: 0..0 };
    let root = Node { value: Value::Table(convert_table(table.get_ref(), &source, &mut problems)), at };
    if problems.is_empty() { Ok(root) } else { Err(problems) }
}

fn convert_table(table: &DeTable<'_>, source: &Arc<Source>, problems: &mut Vec<Problem>) -> Table {
    let mut into = Table::new();
    for (key, value) in table {
        let key_at = Place { source: source.clone(), span: key.span() };
        let node = convert(value.get_ref(), Place { source: source.clone(), span: value.span() }, problems);
        into.insert(key.get_ref().to_string(), Entry { key_at, node });
    }
    into
}

fn convert(value: &DeValue<'_>, at: Place, problems: &mut Vec<Problem>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::Datetime(time.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                problems.push(Problem::at(at.clone(), "the integer does not fit 64 bits"));
                Value::Integer(0)
            }
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => {
                problems.push(Problem::at(at.clone(), "the number is not finite"));
                Value::Float(0.0)
            }
        },
        DeValue::Array(items) => {
            let place = |span| Place { source: at.source.clone(), span };
            Value::Array(items.iter().map(|item| convert(item.get_ref(), place(item.span()), problems)).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, &at.source, problems)),
    };
    Node { value, at }
}

/// Lays `over` upon `base`: tables are joined key by key, anything else is replaced.
pub fn overlay(base: &mut Node, over: Node) {
    match (&mut base.value, over.value) {
        (Value::Table(base_table), Value::Table(over_table)) => {
            base.at = over.at;
            for (key, entry) in over_table {
                match base_table.get_mut(&key) {
                    Some(existing) => {
                        existing.key_at = entry.key_at;
                        overlay(&mut existing.node, entry.node);
                    }
                    None => {
                        base_table.insert(key, entry);
                    }
                }
            }
        }
        (_, value) => *base = Node { value, at: over.at },
    }
}

/// A tree with one value in it, at `path`.
pub fn single(path: &[String], source: Source) -> Node {
    let span = 0..source.text.len();
    let at = Place { source: Arc::new(source), span };
    let leaf = Node { value: Value::Untyped(at.source.text.clone()), at: at.clone() };
    path.iter().rev().fold(leaf, |node, key| {
        let entry = Entry { key_at: at.clone(), node };
        Node { value: Value::Table(Table::from([(key.clone(), entry)])), at: at.clone() }
    })
}
