//! What is wrong with a configuration, shown where it is wrong.

use std::fmt;

use super::secret;
use super::tree::{Place, SourceKind};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub at: Option<Place>,
    pub message: String,
    /// What to do about it.
    pub next: Option<String>,
    line: Line,
}

/// How much is shown of the line that a problem is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// What is known to be no secret.
    Known,
    /// Only up to here (a byte of the source), for what follows may be a secret.
    UpTo(usize),
    /// What cannot be a secret, in a text that could not be read.
    Broken,
}

impl Problem {
    pub fn at(at: Place, message: impl Into<String>) -> Self {
        Problem { at: Some(at), message: message.into(), next: None, line: Line::Known }
    }

    /// Of a text that could not be read.
    pub(super) fn broken(at: Place, message: impl Into<String>) -> Self {
        Problem { line: Line::Broken, ..Problem::at(at, message) }
    }

    /// Of the configuration as a whole.
    pub fn general(message: impl Into<String>) -> Self {
        Problem { at: None, message: message.into(), next: None, line: Line::Known }
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// A problem of a key: its value is nobody's business, it may be a misspelt secret.
    pub(super) fn of_key(key_at: Place, message: impl Into<String>) -> Self {
        Problem { line: Line::UpTo(key_at.span.end), ..Problem::at(key_at, message) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(next) = &self.next {
            write!(f, "; {next}")?;
        }
        match &self.at {
            Some(at) if at.source.kind != SourceKind::Single => excerpt(f, at, self.line),
            _ => Ok(()),
        }
    }
}

/// The source line with a caret below the place.
fn excerpt(f: &mut fmt::Formatter<'_>, at: &Place, how: Line) -> fmt::Result {
    let (line, column) = at.line_column();
    let text = at.line_text();
    let shown = match how {
        Line::Known => secret::mask_line(text),
        Line::Broken => secret::mask_broken(&at.source.text, line - 1),
        Line::UpTo(end) => {
            let kept = (column - 1) + at.source.text.get(at.span.start..end).map_or(0, |key| key.chars().count());
            let kept_text: String = text.chars().take(kept).collect();
            if kept_text.len() < text.trim_end().len() && text.contains('=') {
                secret::mask_line(&format!("{kept_text} = …"))
            } else {
                text.to_owned()
            }
        }
    };
    let room = shown.chars().count().saturating_sub(column - 1);
    let inside = at.source.text.get(at.span.clone()).and_then(|span| span.lines().next()).unwrap_or_default();
    let width = inside.chars().count().clamp(1, room.max(1));
    let gutter = line.to_string().len();
    // Tabs keep their width, so that the caret stands where the eye expects it.
    let lead: String = shown.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let lead = format!("{lead:<before$}", before = column - 1);
    write!(f, "\n{:gutter$} |\n{line} | {shown}\n{:gutter$} | {lead}{}", "", "", "^".repeat(width))
}

/// Everything that is wrong with a configuration, in the order of its files and lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn one(problem: Problem) -> Self {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        if self.0.len() > 1 {
            write!(f, "\n{} problems in the configuration", self.0.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
