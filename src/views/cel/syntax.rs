//! The parser's errors in plain words.

use cel::{ParseError, ParseErrors};

use super::spec::Fault;

/// The first error, with its place as a byte offset.
pub(super) fn fault(text: &str, errors: ParseErrors) -> Fault {
    let Some(first) = errors.errors.into_iter().next() else { return Fault::new(0, "this is not an expression") };
    let at = offset(text, &first);
    let rest = text.get(at..).unwrap_or("").trim();
    let message = plain(&first.msg, rest.is_empty());
    Fault::new(at, message)
}

fn plain(message: &str, at_end: bool) -> String {
    if message.contains("Recursion limit") {
        return "the expression is nested too deeply".to_owned();
    }
    let Some(syntax) = message.strip_prefix("Syntax error: ") else { return message.to_owned() };
    if at_end || syntax.contains("<EOF>") && !syntax.contains("expecting <EOF>") {
        return "the expression ends too early".to_owned();
    }
    // "extraneous input 'b' expecting …", "no viable alternative at input '.'", "token recognition error at: ''abc'"
    let quoted = syntax.split(" expecting ").next().unwrap_or(syntax);
    match quoted.split_once('\'').map(|(_, rest)| rest.strip_suffix('\'').unwrap_or(rest)) {
        Some(token) if syntax.starts_with("token recognition") => format!("`{token}` cannot be read (an open quote?)"),
        Some(token) => format!("`{token}` is unexpected here"),
        None => syntax.to_owned(),
    }
}

/// The parser counts lines from 1, and columns from 1: in characters for errors of syntax, else in bytes.
fn offset(text: &str, error: &ParseError) -> usize {
    let (line, column) = (error.pos.0.max(1) as usize, error.pos.1.max(1) as usize - 1);
    let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    if before >= text.len() {
        return text.len();
    }
    let row = text[before..].split_inclusive('\n').next().unwrap_or("");
    let within = if error.msg.starts_with("Syntax error") {
        row.char_indices().nth(column).map_or(row.len(), |(at, _)| at)
    } else {
        column.min(row.len())
    };
    before + within
}
