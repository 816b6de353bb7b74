//! One row of an aggregate, and the way back from a fold that failed.
//!
//! A [`Slot`] is a cache line: for each record one is read, of an aggregate that was last read long ago.

use std::ops::{Deref, DerefMut};

use super::Outcome;
use crate::event::Event;
use crate::position::{Offset, Timestamp};
use crate::state::Standing;
use crate::views::guard::{self, Panicked};
use crate::views::{Applied, Definition, Row};

/// One row of an aggregate.
#[derive(Default)]
pub struct Slot {
    /// `None` until the first event, after a tombstone, and where the stored row cannot be read.
    pub row: Option<Box<dyn Row>>,
    /// Digest of the row as last handed to the writer (or loaded); 0 where there is none.
    pub digest: u128,
    last: Last,
    /// Changed since the last collect.
    pub changed: bool,
    /// Set while events of this cell are stored as waiting or parked: whatever comes queues behind them.
    pub held: Option<Standing>,
    /// Where among the copies a failed fold finds its way back, and of which batch that copy is; 0 is of none.
    copy: u32,
    copied_in: u64,
}

/// Offset and timestamp of the last event that was folded. [`Last::NONE`] instead of an `Option`, which would make a
/// slot longer than a cache line.
#[derive(Clone, Copy)]
struct Last {
    offset: Offset,
    timestamp: Timestamp,
}

impl Last {
    /// No log counts so far.
    const NONE: Last = Last { offset: Offset(u64::MAX), timestamp: Timestamp::NONE };
}

impl Default for Last {
    fn default() -> Self {
        Last::NONE
    }
}

struct Copy {
    row: Option<Box<dyn Row>>,
    last: Last,
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
        Slot { row: Some(row), digest, last: Last { offset, timestamp }, ..Slot::default() }
    }

    /// Offset and timestamp of the last event that was folded into the row.
    pub fn last(&self) -> Option<(Offset, Timestamp)> {
        (!self.is_untouched()).then_some((self.last.offset, self.last.timestamp))
    }

    fn is_untouched(&self) -> bool {
        self.last.offset == Last::NONE.offset
    }

    /// Removes the row, and with it the way back.
    pub fn remove(&mut self) {
        self.forget();
        (self.row, self.last, self.changed) = (None, Last::NONE, true);
    }

    /// There is a row in the store that the view cannot read: it can be removed and nothing else.
    pub fn unreadable(digest: u128) -> Self {
        Slot { digest, ..Slot::default() }
    }

    /// Takes the batch's first copy to go back to, if the row needs one. After a panic nothing is changed.
    pub fn remember(&mut self, index: usize, copies: &mut Copies) -> Result<(), Panicked> {
        if self.copied_in == copies.batch {
            return Ok(());
        }
        let row = match &self.row {
            None => None,
            Some(row) => match guard::checkpoint(&**row)? {
                None => return Ok(()),
                copy => copy,
            },
        };
        (self.copy, self.copied_in) = (copies.copies.len() as u32, copies.batch);
        copies.copies.push(Some(Copy { row, last: self.last, from: index }));
        Ok(())
    }

    /// Folds one event. After a failure the row may be torn: call [`Slot::go_back`].
    pub fn fold(&mut self, definition: &dyn Definition, event: &Event<'_>) -> Outcome {
        let row = match &mut self.row {
            Some(row) => row,
            none => match guard::initial(definition) {
                Ok(row) => none.insert(row),
                Err(Panicked(text)) => return Outcome::Panicked(text),
            },
        };
        match guard::apply(&mut **row, event) {
            Ok(Ok(Applied::Folded)) => {
                self.last = Last { offset: event.meta.offset, timestamp: event.meta.record_timestamp };
                self.changed = true;
                Outcome::Folded
            }
            Ok(Ok(Applied::Ignored)) => {
                self.drop_untouched();
                Outcome::Ignored
            }
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(Panicked(text)) => Outcome::Panicked(text),
        }
    }

    /// A row that no event has been folded into is not a row.
    fn drop_untouched(&mut self) {
        if self.is_untouched() && self.digest == 0 {
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

/// The slots of an aggregate, one a view. That of a topic with one view is where the aggregate is.
pub enum Slots {
    One(Slot),
    More(Box<[Slot]>),
}

impl Slots {
    pub fn new(views: usize) -> Self {
        match views {
            1 => Slots::One(Slot::default()),
            _ => Slots::More(std::iter::repeat_with(Slot::default).take(views).collect()),
        }
    }

    /// Bytes of memory beside the slots themselves, rows left out.
    pub fn heap(&self) -> usize {
        match self {
            Slots::One(_) => 0,
            Slots::More(slots) => size_of_val(&**slots),
        }
    }
}

impl Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        match self {
            Slots::One(slot) => std::slice::from_ref(slot),
            Slots::More(slots) => slots,
        }
    }
}

impl DerefMut for Slots {
    fn deref_mut(&mut self) -> &mut [Slot] {
        match self {
            Slots::One(slot) => std::slice::from_mut(slot),
            Slots::More(slots) => slots,
        }
    }
}
