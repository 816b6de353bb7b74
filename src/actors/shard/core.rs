//! The shard without its actor: folds slices of batches into resident aggregates, in offset order.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Handover, Records, Setting, Slice, Suspect, Unwritable};
use crate::actors::aggregate::{Copies, Outcome};
use crate::actors::board::Cell;
use crate::actors::plan::{Decision, Fatal};
use crate::actors::progress::Progress;
use crate::actors::residents::Residents;
use crate::event::{Event, Undecodable};
use crate::position::Offset;
use crate::record::{RecordBatch, RecordRef};
use crate::state::{Delta, Reason, Standing};
use crate::views::Failure;
use crate::views::guard::Panicked;

/// Stands in the list of seats for a record that has no aggregate: no key, or one that is too long.
pub(super) const NOBODY: u32 = u32::MAX;

/// Records whose aggregates are looked for in a row, and then folded: few enough for what was read to be still near.
const PIECE: usize = 128;

/// The end of a cell's queue of held events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    pub last: Offset,
    pub standing: Standing,
}

/// Aggregates of one partition and what has changed since the last collect.
pub struct Shard {
    pub(super) setting: Arc<Setting>,
    pub(super) progress: Arc<Progress>,
    pub(super) residents: Residents,
    /// Cells that hold events; the aggregate need not be resident.
    pub(super) held: HashMap<Cell, Tail>,
    /// Rows in the store that the view cannot read, and why.
    pub(super) unreadable: HashMap<Cell, String>,
    suspects: Vec<Suspect>,
    /// The store has no row but those of residents: whoever is not resident need not be looked up.
    pub(super) complete: bool,
    pub(super) handover: Handover,
    /// Seats of the changed aggregates.
    pub(super) dirty: Vec<u32>,
    /// The seat of each record of the slice in hand.
    pub(super) seats: Vec<u32>,
    copies: Copies,
    /// A row that could not be put back: nothing of this shard may be handed over.
    pub(super) torn: Option<Unwritable>,
    /// Bytes of a stored row with its key, as the last collect had them: how much room the next one needs.
    pub(super) row_bytes: usize,
    /// How many of the events set aside have been measured, and their bytes.
    pub(super) held_measured: (usize, usize),
}

impl Shard {
    pub fn new(
        setting: Arc<Setting>,
        progress: Arc<Progress>,
        held: HashMap<Cell, Tail>,
        suspects: Vec<Suspect>,
    ) -> Self {
        let views = setting.definitions.len();
        Shard {
            setting,
            progress,
            residents: Residents::default(),
            held,
            unreadable: HashMap::new(),
            suspects,
            complete: false,
            handover: Handover { delta: Delta::new(views), waiting: Vec::new() },
            dirty: Vec::new(),
            seats: Vec::new(),
            copies: Copies::default(),
            torn: None,
            row_bytes: 64,
            held_measured: (0, 0),
        }
    }

    /// Applies every record of the slice. An error is the end of the partition: nothing of the slice may be collected.
    pub fn apply(&mut self, slice: &Slice) -> Result<(), Fatal> {
        self.apply_records(Records::of_slice(slice))
    }

    /// Applies the records of the batch in that range; for a shard that has the partition to itself.
    pub fn apply_range(&mut self, batch: &RecordBatch, range: Range<usize>) -> Result<(), Fatal> {
        self.apply_records(Records::of_range(batch, range))
    }

    fn apply_records(&mut self, records: Records<'_>) -> Result<(), Fatal> {
        let setting = self.setting.clone();
        let all = 0..records.len();
        self.seats.clear();
        if !self.complete {
            self.activate(records, all.clone())?;
        }
        for view in &mut self.handover.delta.views {
            view.books.consumed += records.len() as i64;
        }
        for from in all.clone().step_by(PIECE) {
            let piece = from..all.end.min(from + PIECE);
            if self.complete {
                self.activate(records, piece.clone())?;
            }
            self.fetch(piece.clone());
            for i in piece {
                let record = records.get(i);
                match setting.decoder.decode((&setting.at.topic, setting.at.partition), record) {
                    Ok(event) => {
                        for view in 0..setting.definitions.len() {
                            self.apply_event(records, i, view, &event, record)?;
                        }
                    }
                    Err(undecodable) => self.apply_undecodable(i, record, &undecodable)?,
                }
            }
        }
        self.progress.idle();
        self.copies.forget();
        Ok(())
    }

    /// Reads what the folds of these records will need from memory. Here the processor waits for many of them at a time,
    /// in a fold it would wait for one.
    fn fetch(&mut self, piece: Range<usize>) {
        for &seat in self.seats[piece].iter().filter(|seat| **seat != NOBODY) {
            self.residents.fetch(seat);
        }
    }

    /// Applies one event to one view of its aggregate, which is resident.
    fn apply_event(
        &mut self,
        records: Records<'_>,
        i: usize,
        view: usize,
        event: &Event<'_>,
        record: RecordRef<'_>,
    ) -> Result<(), Fatal> {
        let seat = self.seats[i];
        let aggregate = self.residents.get_mut(seat);
        let slot = &mut aggregate.slots[view];
        if let Some(standing) = slot.held {
            self.queue_behind(view, record, standing);
            return Ok(());
        }
        if let Some((reason, detail)) = self.distrusted(view, record) {
            return self.set_aside(i, view, record, reason, detail);
        }
        // Looked up again, for the borrow: the seat is warm.
        let aggregate = self.residents.get_mut(seat);
        let slot = &mut aggregate.slots[view];
        self.progress.at(record.offset, view);
        if let Err(Panicked(text)) = slot.remember(i, &mut self.copies) {
            return self.set_panicked_aside(i, view, record, text);
        }
        let changed = slot.changed;
        match slot.fold(&*self.setting.definitions[view], event) {
            Outcome::Folded => {
                self.handover.delta.views[view].books.applied += 1;
                // Asked only where the slot had no change yet: the mark is in another cache line.
                if !changed && !aggregate.dirty {
                    aggregate.dirty = true;
                    self.dirty.push(seat);
                }
                Ok(())
            }
            Outcome::Ignored => {
                self.handover.delta.views[view].books.skipped += 1;
                Ok(())
            }
            Outcome::Failed(failure) => {
                self.go_back(records, i, view);
                self.set_aside(i, view, record, reason_of(&failure), failure.to_string())
            }
            Outcome::Panicked(text) => {
                self.go_back(records, i, view);
                self.set_panicked_aside(i, view, record, text)
            }
        }
    }

    fn set_panicked_aside(&mut self, i: usize, view: usize, record: RecordRef<'_>, panic: String) -> Result<(), Fatal> {
        let name = self.setting.definitions[view].name();
        tracing::error!(at = %self.setting.at, offset = record.offset.0, view = name, panic, "a fold panicked; its aggregate is set apart");
        self.set_aside(i, view, record, Reason::Panicked, panic)
    }

    /// Puts a row back to the state before the event at `i`: the copy from the batch's beginning, and on it the
    /// events in between, which went in the first time and do so again, for folds are pure. If one does not, the row is
    /// lost here, but not in the store.
    fn go_back(&mut self, records: Records<'_>, i: usize, view: usize) {
        let (seat, setting) = (self.seats[i], self.setting.clone());
        let slot = &mut self.residents.get_mut(seat).slots[view];
        let Some(from) = slot.go_back(&mut self.copies) else { return };
        for j in from..i {
            if self.seats[j] != seat {
                continue;
            }
            let record = records.get(j);
            let Ok(event) = setting.decoder.decode((&setting.at.topic, setting.at.partition), record) else { continue };
            let again = self.residents.get_mut(seat).slots[view].fold(&*setting.definitions[view], &event);
            if let Some(why) = again.failed() {
                let cell = Cell { view, key: record.key.unwrap_or_default().into() };
                let why = format!("offset {} had gone in, and did not go in again: {why}", record.offset);
                self.torn.get_or_insert(Unwritable { cell, why });
                return;
            }
        }
    }

    /// Why this event is not even tried here: its fold overran before, or its row cannot be read.
    fn distrusted(&self, view: usize, record: RecordRef<'_>) -> Option<(Reason, String)> {
        if let Some(suspected) = self.suspects.iter().find_map(|suspect| suspect.of(view, record)) {
            return Some(suspected);
        }
        if self.unreadable.is_empty() {
            return None;
        }
        let cell = Cell { view, key: record.key.unwrap_or_default().into() };
        self.unreadable.get(&cell).map(|why| (Reason::RowUnreadable, why.clone()))
    }

    /// Decides on a record of which no event can be made.
    fn apply_undecodable(&mut self, i: usize, record: RecordRef<'_>, why: &Undecodable) -> Result<(), Fatal> {
        let reason = match why {
            Undecodable::NullKey => Reason::NullKey,
            Undecodable::NullValue => Reason::NullValue,
            Undecodable::KeyTooLarge { .. } => Reason::KeyTooLarge,
            Undecodable::Malformed { .. } => Reason::Undecodable,
        };
        if reason == Reason::NullValue && self.setting.policy.null_value == Decision::Delete {
            for view in 0..self.setting.definitions.len() {
                self.apply_tombstone(i, view, record);
            }
            return Ok(());
        }
        self.set_record_aside(record, reason, why.to_string())
    }

    /// Removes a row, in its turn. One that cannot be read can be removed all the same.
    fn apply_tombstone(&mut self, i: usize, view: usize, record: RecordRef<'_>) {
        let seat = self.seats[i];
        let aggregate = self.residents.get_mut(seat);
        let slot = &mut aggregate.slots[view];
        if let Some(standing) = slot.held {
            self.queue_behind(view, record, standing);
            return;
        }
        slot.remove();
        if !self.unreadable.is_empty() {
            self.unreadable.remove(&Cell { view, key: (&*aggregate.key).into() });
        }
        self.handover.delta.views[view].books.applied += 1;
        if !aggregate.dirty {
            aggregate.dirty = true;
            self.dirty.push(seat);
        }
    }

    /// From now on a key that is not resident is taken to have no row, until the first aggregate is let go. Only for a
    /// shard that has the partition to itself, on a generation without rows.
    pub fn begin_complete(&mut self) {
        self.complete = true;
    }

    pub fn setting(&self) -> &Arc<Setting> {
        &self.setting
    }

    /// Aggregates in memory.
    pub fn resident(&self) -> usize {
        self.residents.len()
    }
}

/// The class of a failure.
pub(super) fn reason_of(failure: &Failure) -> Reason {
    match failure {
        Failure::Rejected(_) => Reason::Rejected,
        Failure::Transient(_) => Reason::Transient,
        Failure::Undecodable(_) => Reason::Undecodable,
        Failure::UnknownType(_) => Reason::UnknownType,
        Failure::TooNew { .. } => Reason::VersionTooNew,
    }
}
