//! Standard output, for answers only. A reader that goes away (`segno list … | head`) ends the command in peace.

use std::io::{self, Write};

use super::exit::{Code, Failure};

/// Writes one line.
pub fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes a value as one line of JSON.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
    line(text)
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(Code::Ok, "")),
        Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
    }
}
