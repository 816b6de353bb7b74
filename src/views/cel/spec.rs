//! A view's declaration as the configuration hands it over, and what a wrong one is answered with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::moment::{Moment, NotAMoment};

/// The text of an expression and where it begins in its file, counted from 1; columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub text: String,
    /// Line of the text's first character (after the opening quotes).
    pub line: usize,
    pub column: usize,
}

/// A view declared in a configuration file.
#[derive(Clone, Debug)]
pub struct ViewSpec {
    /// The file's name, for messages.
    pub file: String,
    /// The file's whole text, to quote lines from; may be empty when it is not at hand.
    pub source: Arc<str>,
    /// Where the declaration begins, for what is wrong with no expression in particular.
    pub line: usize,
    pub column: usize,
    pub name: String,
    pub version: u32,
    /// The row's fields: their names, types and first values.
    pub initial: BTreeMap<String, Literal>,
    /// By event type (`*`: any that is not named), what each assigned field becomes.
    pub on: BTreeMap<String, BTreeMap<String, Located>>,
    /// Event types that the view does not care for; `*` is all that `on` does not name.
    pub ignore: Vec<String>,
    pub reject_when: Vec<GuardSpec>,
    /// Events with a newer `event_version` are set aside.
    pub max_event_version: Option<u32>,
}

/// When an event is rejected, and with which reason. Guards run in the order of their declaration.
#[derive(Clone, Debug)]
pub struct GuardSpec {
    /// The event type, or `*` for all that the view applies.
    pub on: String,
    pub when: Located,
    pub reason: String,
}

/// A first value of a field; it fixes the field's type, except `Null`, which allows any.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Time(Moment),
    List(Vec<Literal>),
    Map(BTreeMap<String, Literal>),
}

impl Literal {
    /// As messages name it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Literal::Null => "any",
            Literal::Bool(_) => "bool",
            Literal::Int(_) => "int",
            Literal::Float(_) => "float",
            Literal::Text(_) => "string",
            Literal::Time(_) => "timestamp",
            Literal::List(_) => "list",
            Literal::Map(_) => "map",
        }
    }
}

/// Reads a TOML value. A date and time needs an offset, for without one it is no instant.
impl TryFrom<&toml::Value> for Literal {
    type Error = String;

    fn try_from(value: &toml::Value) -> Result<Self, String> {
        Ok(match value {
            toml::Value::String(text) => Literal::Text(text.clone()),
            toml::Value::Integer(int) => Literal::Int(*int),
            toml::Value::Float(float) => Literal::Float(*float),
            toml::Value::Boolean(bool) => Literal::Bool(*bool),
            toml::Value::Datetime(time) => {
                Literal::Time(time.to_string().parse().map_err(|why: NotAMoment| format!("`{time}` is {why}"))?)
            }
            toml::Value::Array(items) => Literal::List(items.iter().map(Literal::try_from).collect::<Result<_, _>>()?),
            toml::Value::Table(table) => Literal::Map(
                table.iter().map(|(key, value)| Ok((key.clone(), value.try_into()?))).collect::<Result<_, String>>()?,
            ),
        })
    }
}

/// Why a declaration is refused, with the place in its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SpecError {
    pub view: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The place, quoted.
    pub quoted: Option<Box<Quoted>>,
}

/// A line with a caret under one of its characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The line of the file, or of the expression where the file is not at hand.
    pub line: String,
    /// Characters before the caret.
    pub indent: usize,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: view `{}`: {}", self.file, self.line, self.column, self.view, self.message)?;
        if let Some(Quoted { line, indent }) = self.quoted.as_deref() {
            let number = self.line.to_string();
            let indent: String = line.chars().take(*indent).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n {number} | {line}\n {:width$} | {indent}^", "", width = number.len())?;
        }
        match &self.help {
            Some(help) => write!(f, "\n help: {help}"),
            None => Ok(()),
        }
    }
}

/// Something wrong in an expression, before its file is known.
#[derive(Debug)]
pub(super) struct Fault {
    /// Byte offset in the expression's text.
    pub at: usize,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        Fault { at, message: message.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl ViewSpec {
    /// An error about the declaration as a whole.
    pub(super) fn error(&self, message: impl Into<String>, help: Option<String>) -> SpecError {
        let indent = self.column.saturating_sub(1);
        let line = self.source.lines().nth(self.line.saturating_sub(1));
        SpecError {
            view: self.name.clone(),
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
            help,
            quoted: line.map(|line| Box::new(Quoted { line: line.to_owned(), indent })),
        }
    }

    /// An error within an expression.
    pub(super) fn fault(&self, expression: &Located, fault: Fault) -> SpecError {
        let (line, column) = place(&self.source, expression, fault.at);
        let from_file = self.source.lines().nth(line.saturating_sub(1));
        let (quoted, indent) = match from_file {
            Some(text) => (text, column.saturating_sub(1)),
            None => {
                let before = prefix(&expression.text, fault.at);
                let row = before.matches('\n').count();
                let in_row = before.rsplit('\n').next().unwrap_or(before).chars().count();
                (expression.text.lines().nth(row).unwrap_or(""), in_row)
            }
        };
        SpecError {
            view: self.name.clone(),
            file: self.file.clone(),
            line,
            column,
            message: fault.message,
            help: fault.help,
            quoted: Some(Box::new(Quoted { line: quoted.to_owned(), indent })),
        }
    }
}

/// The text before a byte offset; a wrong offset is moved back to where a character begins.
fn prefix(text: &str, at: usize) -> &str {
    let end = (0..=at.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// Line and column in the file of a byte offset in an expression. Where the file writes characters of the expression
/// as TOML escapes, those are counted as they are written.
fn place(source: &str, expression: &Located, at: usize) -> (usize, usize) {
    let before = prefix(&expression.text, at);
    if let Some(place) = place_in_source(source, expression, before) {
        return place;
    }
    match before.rsplit_once('\n') {
        None => (expression.line, expression.column + before.chars().count()),
        Some((_, last)) => (expression.line + before.matches('\n').count(), 1 + last.chars().count()),
    }
}

/// Walks the expression's text and its writing in the file side by side.
fn place_in_source(source: &str, expression: &Located, before: &str) -> Option<(usize, usize)> {
    let (mut line, mut column) = (expression.line, expression.column);
    let first = source.split_inclusive('\n').nth(line.checked_sub(1)?)?;
    let from = first.as_ptr() as usize - source.as_ptr() as usize;
    let mut written = source[from..].chars().skip(column.checked_sub(1)?).peekable();
    for want in before.chars() {
        let mut got = written.next()?;
        column += 1;
        if got == '\r' && want == '\n' && written.peek() == Some(&'\n') {
            got = written.next()?;
        }
        if got == want {
            if got == '\n' {
                (line, column) = (line + 1, 1);
            }
            continue;
        }
        if got != '\\' {
            return None;
        }
        let escape = written.next()?;
        column += 1;
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            'b' | 't' | 'n' | 'f' | 'r' | 'e' | '"' | '\\' => 0,
            // A line that ends in a backslash goes on at the next text: give up on being exact.
            _ => return None,
        };
        for _ in 0..digits {
            written.next()?;
            column += 1;
        }
    }
    Some((line, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(source: &str, text: &str, line: usize, column: usize, offset: usize) -> (usize, usize) {
        place(source, &Located { text: text.to_owned(), line, column }, offset)
    }

    #[test]
    fn a_place_is_found_behind_escapes_and_line_ends() {
        assert_eq!(at("x = \"a + b\"", "a + b", 1, 6, 4), (1, 10));
        assert_eq!(at(r#"x = "a == \"q\" + b""#, r#"a == "q" + b"#, 1, 6, 11), (1, 19));
        assert_eq!(at(r#"x = "\u00e9 + b""#, "é + b", 1, 6, 5), (1, 15));
        assert_eq!(at("x = '''a +\r\n  b'''", "a +\n  b", 1, 8, 6), (2, 3));
        assert_eq!(at("", "a +\n  b", 7, 8, 6), (9 - 1, 3), "without the file");
        assert_eq!(at("", "é + b", 7, 8, 5), (7, 12));
    }
}
