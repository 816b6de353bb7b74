//! An aggregate: what is an actor in all that counts, as one plain type that knows no ractor.
//!
//! It has its own rows (one a view), applies its events one at a time in offset order, is put back when a fold fails
//! or panics, and remembers which of its views hold events back. Shards run it.
//!
//! A shard's cost is the way to its aggregates: each record wants another one, and each place in memory on the way is a
//! cache miss. So a short key and the slot of a single view are part of the aggregate: two cache lines and the row.

mod key;
mod slot;

pub use key::Key;
pub use slot::{Copies, Slot, Slots};

use crate::views::Failure;

/// What came of one event in one view.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Folded,
    Ignored,
    Failed(Failure),
    /// The fold panicked; the text is the panic's.
    Panicked(String),
}

impl Outcome {
    /// Why the event did not go in, if it did not.
    pub fn failed(self) -> Option<String> {
        match self {
            Outcome::Folded | Outcome::Ignored => None,
            Outcome::Failed(failure) => Some(failure.to_string()),
            Outcome::Panicked(text) => Some(text),
        }
    }
}

/// All events with one key in one topic, and their rows.
#[repr(align(64))]
pub struct Aggregate {
    /// One a view, in the order of the definitions.
    pub slots: Slots,
    pub key: Key,
    /// The key's hash, by which the table of residents finds it.
    pub hash: u64,
    /// The epoch in which its changes were last handed over: until that is committed the store is behind.
    pub epoch: u64,
    /// The footprint as the table of residents last counted it.
    pub measured: u32,
    /// In the shard's list of aggregates to hand over.
    pub dirty: bool,
    /// Used since the eviction hand last passed.
    pub used: bool,
}

impl Aggregate {
    /// `hash` is `residents::key_hash` of the key.
    pub fn new(hash: u64, key: &[u8], views: usize) -> Self {
        Aggregate { slots: Slots::new(views), key: key.into(), hash, epoch: 0, measured: 0, dirty: false, used: true }
    }

    /// Estimated bytes in memory, 4 GiB at most.
    pub fn footprint(&self) -> u32 {
        let rows: usize = self.slots.iter().map(|slot| slot.row.as_ref().map_or(0, |row| row.footprint())).sum();
        let bytes = size_of::<Aggregate>() + self.key.heap() + self.slots.heap() + rows;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_of_one_view_is_two_cache_lines_and_a_slot_is_one() {
        assert_eq!((size_of::<Slot>(), size_of::<Slots>()), (64, 64));
        assert_eq!((size_of::<Aggregate>(), size_of::<Option<Aggregate>>()), (128, 128));
    }
}
