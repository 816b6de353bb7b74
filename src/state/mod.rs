//! The store side: RocksDB. Knows neither logs nor actors.
//!
//! A [`Store`] is the data directory of one daemon; a [`Generation`] is the state of one partition in it, one database
//! with a family each for rows, rollups, parked records, outbox and meta. A [`Commit`] changes all of them at once and
//! says up to which position of the log they now go; that pair is never torn, whatever crashes.

mod check;
mod checkpoint;
mod codec;
mod commit;
mod compare;
mod control;
mod definitions;
mod delta;
pub mod digest;
mod error;
mod generation;
mod held;
pub mod keys;
mod link;
mod load;
mod lock;
mod manifest;
mod meta;
mod metrics;
mod options;
mod parked;
mod paths;
mod prune;
mod read;
mod record;
mod registry;
mod rows;
mod scratch;
mod shadow;
mod slots;
mod snapshot;
mod store;
mod switch;
mod take_over;

pub use check::LogFacts;
pub use codec::Malformed;
pub use commit::WriterToken;
pub use compare::{Compared, OnDifference, compare};
pub use definitions::ViewIdent;
pub use delta::{Books, Commit, Delta, Fingerprint, Held, HeldChange, Reason, Standing, ViewChange, ViewTag};
pub use error::Error;
pub use generation::Generation;
pub use keys::StoredRow;
pub use meta::{Identity, Lineage, StoredView, ViewTotals};
pub use metrics::StoreMetrics;
pub use options::{Compression, Durability, StoreOptions};
pub use parked::HeldKey;
pub use prune::{Keep, prune};
pub use read::{Page, ReadView, Row};
pub use record::Previous;
pub use rows::Rows;
pub use shadow::{Source, TakeOver};
pub use snapshot::{Snapshot, SnapshotPart};
pub use store::{ReadOnlyStore, Store};
pub use switch::{LiveInfo, Switch};
