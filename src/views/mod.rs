//! Folds: how events become rows. Pure: no clock, no randomness, no input or output, no actors.
//!
//! A user writes a [`View`] in Rust or declares one in `config.toml` (`cel`). Both become a [`Definition`], which makes
//! [`Row`]s, and a `Row` is all that the rest of the program knows of a fold.

use std::sync::Arc;

pub mod cel;
pub mod guard;
mod rust;
mod stored;

pub use rust::RustView;
pub use stored::{Registered, from_text, from_texts, is_rust};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::{Event, EventMeta};

/// One row per aggregate, the fold of its events, written in Rust.
///
/// The state must be a function of the events alone: no clock, no random numbers, no I/O, and no container whose
/// iteration order differs between runs (`BTreeMap`, not `HashMap`), for its serialized bytes are compared.
/// `Clone` lets an event that is rejected halfway, or that panics, leave the row as it was. A panic in `apply`, `Default`,
/// `Clone`, `Serialize` or `Deserialize` counts as a failed attempt at the event (see [`guard`]).
pub trait View: Default + Clone + Serialize + DeserializeOwned + Send + 'static {
    /// `^[a-z0-9][a-z0-9_-]{0,63}$`.
    const NAME: &'static str;
    /// Raise it when the fold changes.
    const VERSION: u32;
    /// Events with a newer `event_version` are set aside by the policy `version-too-new`.
    const MAX_EVENT_VERSION: u32 = u32::MAX;
    /// Usually an enum tagged with `event_type`, whose content is the `payload`.
    type Event: DeserializeOwned;

    /// Applies one event, or says why not. After an error the row is put back as it was before the event.
    fn apply(&mut self, event: &Self::Event, meta: &EventMeta<'_>) -> Result<(), Reject>;
}

/// A fold's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// This event can never be applied to this state.
    Permanent(String),
    /// Try again later: the same event may be accepted then.
    Transient(String),
}

impl Reject {
    /// The event can never be applied, because of `reason`.
    pub fn because(reason: impl Into<String>) -> Self {
        Reject::Permanent(reason.into())
    }

    /// The event may be accepted later; now it is not, because of `reason`.
    pub fn try_again(reason: impl Into<String>) -> Self {
        Reject::Transient(reason.into())
    }
}

/// What one event did to one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The fold ran.
    Folded,
    /// The view's definition says that it does not care for events of this type; the row is untouched.
    Ignored,
}

/// Why an event was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("rejected: {0}")]
    Rejected(String),
    #[error("try again: {0}")]
    Transient(String),
    /// The payload does not fit what the view expects of events of this type.
    #[error("the payload does not fit: {0}")]
    Undecodable(String),
    #[error("event type `{0}` is unknown to the view")]
    UnknownType(String),
    #[error("event version {found} is newer than {known}, the newest that the view knows")]
    TooNew { found: u32, known: u32 },
}

/// A view as the flow sees it: a maker of rows.
pub trait Definition: Send + Sync + 'static {
    fn name(&self) -> &str;
    fn version(&self) -> u32;
    /// What the fold is made of, as text: the declaration in canonical form, or `rust:<type name>` for a view in Rust,
    /// whose code cannot be read. Stored with the generation; its hash is the fingerprint.
    fn text(&self) -> String;
    /// The row of an aggregate that has had no event.
    fn initial(&self) -> Box<dyn Row>;
    /// A row from what [`Row::encode`] wrote. The error says what does not fit.
    fn decode(&self, json: &[u8]) -> Result<Box<dyn Row>, String>;
}

/// One aggregate's state in one view.
pub trait Row: Send {
    /// Applies an event. After an error the row may be torn unless [`Row::checkpoint`] answers `None`; the caller puts
    /// back the checkpoint that it took.
    fn apply(&mut self, event: &Event<'_>) -> Result<Applied, Failure>;
    /// A copy to go back to, or `None` when an `apply` that fails or panics never changes anything.
    fn checkpoint(&self) -> Option<Box<dyn Row>>;
    /// A copy.
    fn copy(&self) -> Box<dyn Row>;
    /// Appends the row as JSON: the same state gives the same bytes, always.
    fn encode(&self, into: &mut Vec<u8>);
    /// Estimated bytes in memory, for the residency budget.
    fn footprint(&self) -> usize;
    /// Reads something of the row, no matter what, so that it is in the processor's cache when it is folded.
    fn fetch(&self) {}
}

/// The views of one topic, in the order of their declaration.
pub type Definitions = Arc<[Arc<dyn Definition>]>;

/// Whether a text may name a view: `^[a-z0-9][a-z0-9_-]{0,63}$`.
pub fn is_view_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 64
        && bytes.first().is_some_and(|&first| fits(first))
        && bytes.iter().all(|&byte| fits(byte) || matches!(byte, b'_' | b'-'))
}
