//! Brings the aggregates of a slice into memory: those that are not resident are read in one sorted `multi_get` a view.

use std::ops::Range;

use super::core::{NOBODY, Shard};
use super::{Records, Setting};
use crate::actors::aggregate::{Aggregate, Slot};
use crate::actors::board::Cell;
use crate::actors::plan::Fatal;
use crate::position::TopicPartition;
use crate::state::{self, StoredRow, ViewTag, digest};
use crate::views::{Definition, guard};

impl Shard {
    /// Adds the seat of each of these records' aggregates to `seats`.
    pub(super) fn activate(&mut self, records: Records<'_>, which: Range<usize>) -> Result<(), Fatal> {
        let setting = self.setting.clone();
        let views = setting.definitions.len();
        let mut fresh = Vec::new();
        for i in which {
            let key = records.get(i).key;
            let Some(key) = key.filter(|key| key.len() <= setting.decoder.max_key_bytes()) else {
                self.seats.push(NOBODY);
                continue;
            };
            let hash = records.hash(i, key);
            let seat = match self.residents.find(hash, key) {
                Some(seat) => seat,
                None => {
                    let seat = self.residents.insert(Aggregate::new(hash, key, views));
                    fresh.push(seat);
                    seat
                }
            };
            self.seats.push(seat);
        }
        if self.complete {
            self.mark_held(&fresh);
            return Ok(());
        }
        self.load(fresh).map_err(|error| store_failed(&setting.at, &error))
    }

    /// Lets newly seated aggregates know which of their cells hold events.
    fn mark_held(&mut self, fresh: &[u32]) {
        if self.held.is_empty() {
            return;
        }
        for &seat in fresh {
            let aggregate = self.residents.get_mut(seat);
            for view in 0..aggregate.slots.len() {
                let cell = Cell { view, key: (&*aggregate.key).into() };
                aggregate.slots[view].held = self.held.get(&cell).map(|tail| tail.standing);
            }
        }
    }

    /// Reads the rows of newly seated aggregates.
    pub(super) fn load(&mut self, mut fresh: Vec<u32>) -> Result<(), state::Error> {
        if fresh.is_empty() {
            return Ok(());
        }
        let setting = self.setting.clone();
        let mut keys: Vec<(Box<[u8]>, u32)> =
            fresh.drain(..).map(|seat| ((&*self.residents.get_mut(seat).key).into(), seat)).collect();
        keys.sort_unstable();
        let sorted: Vec<&[u8]> = keys.iter().map(|(key, _)| &**key).collect();
        for (view, definition) in setting.definitions.iter().enumerate() {
            let (residents, unreadable, held) = (&mut self.residents, &mut self.unreadable, &self.held);
            setting.generation.load(setting.tags[view], &sorted, |i, stored| {
                let aggregate = residents.get_mut(keys[i].1);
                if let Some(stored) = stored {
                    match read_slot(&**definition, setting.tags[view], &keys[i].0, &stored) {
                        Ok(slot) => aggregate.slots[view] = slot,
                        Err((slot, why)) => {
                            aggregate.slots[view] = slot;
                            unreadable.insert(Cell { view, key: keys[i].0.clone() }, why);
                        }
                    }
                }
                if !held.is_empty() {
                    let cell = Cell { view, key: keys[i].0.clone() };
                    aggregate.slots[view].held = held.get(&cell).map(|tail| tail.standing);
                }
                residents.remeasure(keys[i].1);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The store cannot be read or written: the partition ends.
pub fn store_failed(at: &TopicPartition, error: &state::Error) -> Fatal {
    Fatal {
        at: Some(at.clone()),
        fault: error.fault(),
        reason: error.to_string(),
        next: "nothing that was committed is lost: correct the cause and start again".to_owned(),
    }
}

impl Shard {
    /// Reads one row again that another shard has committed.
    pub(super) fn load_one(&mut self, seat: u32, view: usize) -> Result<(), state::Error> {
        let key: Box<[u8]> = (&*self.residents.get_mut(seat).key).into();
        let slot = match load_slot(&self.setting, view, &key)? {
            Ok(slot) => slot,
            Err((slot, why)) => {
                self.unreadable.insert(Cell { view, key }, why);
                slot
            }
        };
        self.residents.get_mut(seat).slots[view] = slot;
        self.residents.remeasure(seat);
        Ok(())
    }
}

/// What is stored cannot be read by its view: a slot in which it can only be removed, and why.
type Unreadable = (Slot, String);

/// Reads one row; the inner error says why the view cannot read what is stored.
pub(super) fn load_slot(setting: &Setting, view: usize, key: &[u8]) -> Result<Result<Slot, Unreadable>, state::Error> {
    let mut loaded = Ok(Slot::default());
    setting.generation.load(setting.tags[view], &[key], |_, stored| {
        if let Some(stored) = stored {
            loaded = read_slot(&*setting.definitions[view], setting.tags[view], key, &stored);
        }
        Ok(())
    })?;
    Ok(loaded)
}

/// A slot from a stored row.
fn read_slot(
    definition: &dyn Definition,
    tag: ViewTag,
    key: &[u8],
    stored: &StoredRow<'_>,
) -> Result<Slot, Unreadable> {
    let digest = digest::stored(tag, key, stored);
    match guard::decode(definition, stored.json) {
        Ok(row) => Ok(Slot::stored(row, digest, stored.offset, stored.timestamp)),
        Err(why) => Err((Slot::unreadable(digest), format!("the stored row does not fit the view: {why}"))),
    }
}
