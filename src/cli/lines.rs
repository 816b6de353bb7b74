//! JSON Lines as they come, in batches of records; each with the number of its line.

use std::io::BufRead;

use crate::intake::{self, Shape};
use crate::record::NewRecord;

/// Reads records from lines.
pub struct Lines<R> {
    input: R,
    shape: Shape,
    /// Of the line that was read last, from 1.
    pub number: u64,
    /// Bytes that were read.
    pub bytes: u64,
    buffer: Vec<u8>,
}

/// A line that is no record.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    pub number: u64,
    pub reason: String,
}

/// What a line held.
#[derive(Debug)]
pub enum Line {
    Record(NewRecord),
    Bad(BadLine),
    End,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R, shape: Shape) -> Self {
        Lines { input, shape, number: 0, bytes: 0, buffer: Vec::new() }
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> std::io::Result<Line> {
        loop {
            self.buffer.clear();
            let read = self.input.read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(Line::End);
            }
            self.number += 1;
            self.bytes += read as u64;
            let number = self.number;
            let bad = |reason: String| Ok(Line::Bad(BadLine { number, reason }));
            let text = match std::str::from_utf8(&self.buffer) {
                Ok(text) => text.trim(),
                Err(error) => return bad(format!("not UTF-8, from byte {}", error.valid_up_to())),
            };
            // Some programs begin a file with a byte order mark.
            let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if text.is_empty() {
                continue;
            }
            return match intake::record(text, &self.shape) {
                Ok(record) => Ok(Line::Record(record)),
                Err(reason) => bad(reason),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_have_their_number_and_the_others_go_on() {
        let text = b"\xef\xbb\xbf{\"key\":\"a\",\"value\":1}\n\n{\"key\":\"b\"\n\xff\n{\"key\":\"c\",\"value\":null}";
        let mut lines = Lines::new(&text[..], Shape::default());
        assert!(matches!(lines.next().unwrap(), Line::Record(record) if record.key.as_deref() == Some(b"a")));
        assert!(matches!(lines.next().unwrap(), Line::Bad(BadLine { number: 3, .. })));
        assert!(matches!(lines.next().unwrap(), Line::Bad(BadLine { number: 4, .. })));
        assert!(matches!(lines.next().unwrap(), Line::Record(record) if record.value.is_none()));
        assert!(matches!(lines.next().unwrap(), Line::End));
        assert_eq!(lines.bytes, text.len() as u64);
    }
}
