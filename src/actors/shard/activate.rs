//! Brings the aggregates of a slice into memory: those that are not resident are read in one sorted `multi_get` a view.

use super::core::{NOBODY, Shard};
use super::{Setting, Slice};
use crate::actors::aggregate::{Aggregate, Slot};
use crate::actors::board::Cell;
use crate::actors::plan::Fatal;
use crate::position::TopicPartition;
use crate::state::{self, StoredRow, ViewTag, digest};
use crate::views::Definition;

impl Shard {
    /// Fills `seats` with the seat of each record's aggregate.
    pub(super) fn activate(&mut self, slice: &Slice) -> Result<(), Fatal> {
        let setting = self.setting.clone();
        let views = setting.definitions.len();
        let mut fresh = Vec::new();
        self.seats.clear();
        for (&index, &hash) in slice.indexes.iter().zip(&slice.hashes) {
            let key = slice.batch.get(index as usize).key;
            let Some(key) = key.filter(|key| key.len() <= setting.decoder.max_key_bytes()) else {
                self.seats.push(NOBODY);
                continue;
            };
            let seat = match self.residents.find(hash, key) {
                Some(seat) => {
                    self.residents.get_mut(seat).used = true;
                    seat
                }
                None => {
                    let seat = self.residents.insert(hash, Aggregate::new(key, views));
                    fresh.push(seat);
                    seat
                }
            };
            self.seats.push(seat);
        }
        self.load(fresh).map_err(|error| store_failed(&setting.at, &error))
    }

    /// Reads the rows of newly seated aggregates.
    pub(super) fn load(&mut self, mut fresh: Vec<u32>) -> Result<(), state::Error> {
        if fresh.is_empty() {
            return Ok(());
        }
        let setting = self.setting.clone();
        let mut keys: Vec<(Box<[u8]>, u32)> =
            fresh.drain(..).map(|seat| (self.residents.get_mut(seat).key.clone(), seat)).collect();
        keys.sort_unstable();
        let sorted: Vec<&[u8]> = keys.iter().map(|(key, _)| &**key).collect();
        for (view, definition) in setting.definitions.iter().enumerate() {
            let (residents, unreadable, held) = (&mut self.residents, &mut self.unreadable, &self.held);
            setting.generation.load(setting.tags[view], &sorted, |i, stored| {
                let aggregate = residents.get_mut(keys[i].1);
                let before = aggregate.footprint();
                if let Some(stored) = stored {
                    match read_slot(&**definition, setting.tags[view], &keys[i].0, &stored) {
                        Ok(slot) => aggregate.slots[view] = slot,
                        Err(why) => {
                            unreadable.insert(Cell { view, key: keys[i].0.clone() }, why);
                        }
                    }
                }
                if !held.is_empty() {
                    let cell = Cell { view, key: keys[i].0.clone() };
                    aggregate.slots[view].held = held.get(&cell).map(|tail| tail.standing);
                }
                let after = aggregate.footprint();
                residents.remeasure(before, after);
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
        let key = self.residents.get_mut(seat).key.clone();
        match load_slot(&self.setting, view, &key)? {
            Ok(slot) => self.residents.get_mut(seat).slots[view] = slot,
            Err(why) => {
                self.unreadable.insert(Cell { view, key }, why);
            }
        }
        Ok(())
    }
}

/// Reads one row; the inner error says why the view cannot read what is stored.
pub(super) fn load_slot(setting: &Setting, view: usize, key: &[u8]) -> Result<Result<Slot, String>, state::Error> {
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
fn read_slot(definition: &dyn Definition, tag: ViewTag, key: &[u8], stored: &StoredRow<'_>) -> Result<Slot, String> {
    let row = definition.decode(stored.json).map_err(|why| format!("the stored row does not fit the view: {why}"))?;
    let digest = digest::stored(tag, key, stored);
    Ok(Slot::stored(row, digest, stored.offset, stored.timestamp))
}
