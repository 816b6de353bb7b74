//! The one guard behind which the code of a view is called.
//!
//! A view in Rust is its user's code in more places than `apply`: `Default` makes a row, `Clone` copies it, `Serialize` and
//! `Deserialize` write and read it. Any of them may panic. Here a panic becomes an answer, so that it costs one event its
//! attempt and never a shard, whose other aggregates have nothing to do with it.
//!
//! Without a panic a guard costs nothing that can be measured.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Applied, Definition, Failure, Row};
use crate::event::Event;

/// The code of a view panicked; the text is the panic's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// [`Definition::initial`].
pub fn initial(definition: &dyn Definition) -> Result<Box<dyn Row>, Panicked> {
    guard(|| definition.initial())
}

/// [`Definition::decode`]. A panic is one more reason why the row cannot be read.
pub fn decode(definition: &dyn Definition, json: &[u8]) -> Result<Box<dyn Row>, String> {
    guard(|| definition.decode(json)).unwrap_or_else(|panicked| Err(format!("reading it {panicked}")))
}

/// [`Row::apply`]. After a panic the row may be torn, as after an error.
pub fn apply(row: &mut dyn Row, event: &Event<'_>) -> Result<Result<Applied, Failure>, Panicked> {
    guard(|| row.apply(event))
}

/// [`Row::checkpoint`].
pub fn checkpoint(row: &dyn Row) -> Result<Option<Box<dyn Row>>, Panicked> {
    guard(|| row.checkpoint())
}

/// [`Row::encode`]. After a panic half of the row may be in `into`.
pub fn encode(row: &dyn Row, into: &mut Vec<u8>) -> Result<(), Panicked> {
    guard(|| row.encode(into))
}

/// Whoever gets the panic throws away what the call has worked on, or puts it back.
fn guard<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| Panicked(panic_text(&*panic)))
}

/// The text of a panic, if it has one.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "the panic carries no text".to_owned()
    }
}
