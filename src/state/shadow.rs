//! Generations beside the live one: made from a base, opened by number, and removed again.

use std::path::PathBuf;

use crate::position::Position;

/// What a new generation starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing: no rows, and the next record to read is the one at `position`.
    Nothing { position: Position },
    /// A checkpoint of a generation of the same partition. Nothing is ever written into it; its table files are shared.
    Checkpoint { path: PathBuf },
}

/// Takes a row of the base over into a view whose definition is another one: is given the index of the wanted view, the
/// record key and the row's JSON. `Ok(None)` leaves the row as it is, `Ok(Some(json))` stores `json` in its place, and
/// an error says why the row does not fit, which ends the making of the generation.
pub type TakeOver<'a> = &'a mut dyn FnMut(usize, &[u8], &[u8]) -> Result<Option<Vec<u8>>, String>;
