//! An aggregate: what is an actor in all that counts, as one plain type that knows no ractor.
//!
//! It has its own rows (one a view), applies its events one at a time in offset order, is put back when a fold fails
//! or panics, and remembers which of its views hold events back. Shards run it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::event::Event;
use crate::position::{Offset, Timestamp};
use crate::state::Standing;
use crate::views::{Applied, Definition, Failure, Row};

/// What came of one event in one view.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Folded,
    Ignored,
    Failed(Failure),
    /// The fold panicked; the text is the panic's.
    Panicked(String),
}

/// One row of an aggregate.
#[derive(Default)]
pub struct Slot {
    /// `None` until the first event, and after a tombstone.
    pub row: Option<Box<dyn Row>>,
    /// Digest of the row as last handed to the writer (or loaded); 0 where there is none.
    pub digest: u128,
    /// Offset and timestamp of the last event that was folded.
    pub last: Option<(Offset, Timestamp)>,
    /// Changed since the last collect.
    pub changed: bool,
    /// Set while events of this cell are stored as waiting or parked: whatever comes queues behind them.
    pub held: Option<Standing>,
    /// Where among the copies a failed fold finds its way back, and of which batch that copy is; 0 is of none.
    copy: u32,
    copied_in: u64,
}

struct Copy {
    row: Option<Box<dyn Row>>,
    last: Option<(Offset, Timestamp)>,
    /// Index (in the slice of the batch) of the first event that is not in `row`.
    from: usize,
}

/// What the rows that a batch changes were before it. Beside the slots and not in them: so a batch's end lets go of all
/// copies in a row, instead of visiting every aggregate once more.
pub struct Copies {
    copies: Vec<Option<Copy>>,
    /// Counts batches, from 1.
    batch: u64,
}

impl Default for Copies {
    fn default() -> Self {
        Copies { copies: Vec::new(), batch: 1 }
    }
}

impl Copies {
    /// Ends the batch: there is no way back any more.
    pub fn forget(&mut self) {
        self.copies.clear();
        self.batch += 1;
    }
}

impl Slot {
    /// As it is in the store.
    pub fn stored(row: Box<dyn Row>, digest: u128, offset: Offset, timestamp: Timestamp) -> Self {
        Slot { row: Some(row), digest, last: Some((offset, timestamp)), ..Slot::default() }
    }

    /// Takes the batch's first copy to go back to, if the row needs one.
    pub fn remember(&mut self, index: usize, copies: &mut Copies) {
        if self.copied_in == copies.batch {
            return;
        }
        let row = match &self.row {
            None => None,
            Some(row) => match row.checkpoint() {
                None => return,
                copy => copy,
            },
        };
        (self.copy, self.copied_in) = (copies.copies.len() as u32, copies.batch);
        copies.copies.push(Some(Copy { row, last: self.last, from: index }));
    }

    /// Folds one event. After a failure the row may be torn: call [`Slot::go_back`].
    pub fn fold(&mut self, definition: &dyn Definition, event: &Event<'_>) -> Outcome {
        let row = self.row.get_or_insert_with(|| definition.initial());
        match catch_unwind(AssertUnwindSafe(|| row.apply(event))) {
            Ok(Ok(Applied::Folded)) => {
                self.last = Some((event.meta.offset, event.meta.record_timestamp));
                self.changed = true;
                Outcome::Folded
            }
            Ok(Ok(Applied::Ignored)) => {
                self.drop_untouched();
                Outcome::Ignored
            }
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(panic) => Outcome::Panicked(panic_text(&*panic)),
        }
    }

    /// A row that no event has been folded into is not a row.
    fn drop_untouched(&mut self) {
        if self.last.is_none() && self.digest == 0 {
            self.row = None;
        }
    }

    /// Puts the row back to what it was when [`Slot::remember`] was called and answers the index from which the
    /// batch's events must be applied again; `None` when nothing is to be done.
    pub fn go_back(&mut self, copies: &mut Copies) -> Option<usize> {
        let copied = self.copied_in == copies.batch;
        let copy = copies.copies.get_mut(self.copy as usize).filter(|_| copied).and_then(Option::take);
        self.forget();
        match copy {
            Some(copy) => {
                self.row = copy.row;
                self.last = copy.last;
                Some(copy.from)
            }
            None => {
                self.drop_untouched();
                None
            }
        }
    }

    /// There is no way back any more.
    pub fn forget(&mut self) {
        self.copied_in = 0;
    }
}

/// All events with one key in one topic, and their rows.
pub struct Aggregate {
    pub key: Box<[u8]>,
    /// One a view, in the order of the definitions.
    pub slots: Box<[Slot]>,
    /// In the shard's list of aggregates to hand over.
    pub dirty: bool,
    /// The epoch in which its changes were last handed over: until that is committed the store is behind.
    pub epoch: u64,
    /// Used since the eviction hand last passed.
    pub used: bool,
    /// The footprint as the table of residents last counted it.
    pub measured: usize,
}

impl Aggregate {
    pub fn new(key: &[u8], views: usize) -> Self {
        Aggregate {
            key: key.into(),
            slots: std::iter::repeat_with(Slot::default).take(views).collect(),
            dirty: false,
            epoch: 0,
            used: true,
            measured: 0,
        }
    }

    /// Estimated bytes in memory.
    pub fn footprint(&self) -> usize {
        let rows: usize = self.slots.iter().map(|slot| slot.row.as_ref().map_or(0, |row| row.footprint())).sum();
        size_of::<Aggregate>() + self.key.len() + self.slots.len() * size_of::<Slot>() + rows
    }
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
