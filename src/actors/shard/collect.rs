//! Hands over what has changed, once per commit: each changed row is encoded once, however many batches changed it.

use std::sync::atomic::Ordering;

use super::core::{Shard, Tail};
use super::{Handover, Unwritable};
use crate::actors::aggregate::Slot;
use crate::actors::board::Cell;
use crate::position::Offset;
use crate::state::ViewTag;
use crate::state::{Delta, HeldChange, Standing, ViewChange, digest, keys};
use crate::views::guard;

impl Shard {
    /// Everything since the last collect, sorted, and room made for what comes. The aggregates count as not in the store
    /// until `epoch` is committed. After an error the shard is of no use any more: a part of its changes is lost.
    pub fn collect(&mut self, epoch: u64) -> Result<Handover, Unwritable> {
        let handover = self.hand_all_over(epoch)?;
        self.make_room(self.setting.residency, self.setting.committed.load(Ordering::Acquire));
        Ok(handover)
    }

    /// Everything since the last collect, sorted. After an error the shard is of no use any more.
    pub fn hand_all_over(&mut self, epoch: u64) -> Result<Handover, Unwritable> {
        if let Some(row) = self.torn.take() {
            return Err(row);
        }
        let views = self.setting.definitions.len();
        let fresh = Handover { delta: Delta::new(views), waiting: Vec::new() };
        let mut handover = std::mem::replace(&mut self.handover, fresh);
        self.held_measured = (0, 0);
        handover.delta.rows.reserve(self.dirty.len() * views, self.row_bytes);
        for seat in std::mem::take(&mut self.dirty) {
            let aggregate = self.residents.get_mut(seat);
            aggregate.dirty = false;
            aggregate.epoch = epoch;
            for (view, slot) in aggregate.slots.iter_mut().enumerate() {
                let (rows, change) = handover.delta.split(view);
                let written = hand_over(&aggregate.key, slot, self.setting.tags[view], rows, change);
                written.map_err(|why| Unwritable { cell: Cell { view, key: (&*aggregate.key).into() }, why })?;
            }
            // Only now is it known how long the rows are.
            self.residents.remeasure(seat);
        }
        handover.delta.sort();
        if let Some(mean) = handover.delta.bytes().checked_div(handover.delta.len()) {
            self.row_bytes = mean + mean / 8;
        }
        Ok(handover)
    }

    /// Lets aggregates go until their estimated bytes are within `budget`; `committed` is the newest committed epoch.
    /// Answers how many went.
    pub fn make_room(&mut self, budget: usize, committed: u64) -> usize {
        let gone = self.residents.make_room(budget, committed);
        self.complete &= gone == 0;
        gone
    }

    /// Estimated bytes of the resident aggregates.
    pub fn resident_bytes(&self) -> usize {
        self.residents.bytes()
    }

    /// Estimated bytes of everything that is in memory on behalf of this shard: the aggregates, what the rows that have
    /// changed will take once they are encoded, in the hand-over and in the batch that RocksDB gets, and the events that
    /// are set aside.
    pub fn footprint(&mut self) -> usize {
        let held = &self.handover.delta.held;
        for change in &held[self.held_measured.0.min(held.len())..] {
            if let HeldChange::Put(held) = change {
                let parts = [held.key.as_deref(), held.value.as_deref()];
                let bytes = parts.into_iter().flatten().map(<[u8]>::len).sum::<usize>() + held.headers.len();
                self.held_measured.1 += 2 * bytes + held.detail.len() + size_of::<HeldChange>();
            }
        }
        self.held_measured.0 = held.len();
        let changed = self.dirty.len() * self.setting.definitions.len() * self.row_bytes;
        self.residents.bytes() + 3 * changed + self.held_measured.1
    }

    /// The cell's own shard has applied and committed its events up to `through`: let the cell back in, unless more
    /// have been queued since. Answers whether it is back.
    ///
    /// A cell that is not held here is at home already, and what is resident of it is newer than the store: a shard that
    /// began after the own shard's last commit has read the row as that commit left it.
    pub fn release(&mut self, cell: &Cell, through: Option<Offset>) -> Result<bool, crate::state::Error> {
        match self.held.get(cell) {
            None => return Ok(true),
            Some(tail) if through.is_none_or(|through| tail.last > through) => return Ok(false),
            Some(_) => {}
        }
        self.held.remove(cell);
        self.unreadable.remove(cell);
        // What is resident is older than what the own shard has committed.
        let hash = crate::actors::residents::key_hash(&cell.key);
        match self.residents.find(hash, &cell.key) {
            Some(seat) => {
                let slot = &mut self.residents.get_mut(seat).slots[cell.view];
                debug_assert!(!slot.changed, "Once: what is folded and not committed would be lost");
                *slot = Slot::default();
                self.load_one(seat, cell.view)?;
            }
            // The store may have a row of it now.
            None => self.complete = false,
        }
        Ok(true)
    }

    /// The cell's own shard gave up: what comes is parked, not waiting.
    pub fn park(&mut self, cell: &Cell) {
        if let Some(tail) = self.held.get_mut(cell) {
            *tail = Tail { last: tail.last, standing: Standing::Parked };
        }
        let hash = crate::actors::residents::key_hash(&cell.key);
        if let Some(seat) = self.residents.find(hash, &cell.key) {
            let slot = &mut self.residents.get_mut(seat).slots[cell.view];
            slot.held = slot.held.map(|_| Standing::Parked);
        }
    }
}

/// Encodes a row that has changed, with its part of the digest. The error says why the view could not write it.
pub(super) fn hand_over(
    key: &[u8],
    slot: &mut Slot,
    tag: ViewTag,
    rows: &mut crate::state::Rows,
    change: &mut ViewChange,
) -> Result<(), String> {
    if !std::mem::take(&mut slot.changed) {
        return Ok(());
    }
    let stored_before = slot.digest != 0;
    match (&slot.row, slot.last()) {
        (Some(row), Some((offset, timestamp))) => {
            let written = rows.try_put(
                |into| keys::row_key(tag, key, into),
                |into| {
                    keys::row_value_header(offset, timestamp, into);
                    guard::encode(&**row, into)
                },
            );
            let (stored_key, stored_value) = written.map_err(|why| format!("the row cannot be written: {why}"))?;
            let digest = digest::row(stored_key, stored_value);
            change.digest = change.digest.wrapping_add(digest).wrapping_sub(slot.digest);
            change.rows += i64::from(!stored_before);
            slot.digest = digest;
        }
        _ if stored_before => {
            rows.remove(|into| keys::row_key(tag, key, into));
            change.digest = change.digest.wrapping_sub(slot.digest);
            change.rows -= 1;
            slot.digest = 0;
        }
        _ => {}
    }
    Ok(())
}
