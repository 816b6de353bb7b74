//! Reads of the `parked` family: what waits, what is parked, what is dead.

use crate::position::Offset;
use crate::state::delta::{Held, Standing, ViewTag};
use crate::state::error::{Error, show_key};
use crate::state::generation::Generation;
use crate::state::held;
use crate::state::keys::{self, ParkedKey};
use crate::state::read::ReadView;

/// An aggregate of one view that has records set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey {
    pub view: ViewTag,
    pub key: Vec<u8>,
    pub first: Offset,
    pub last: Offset,
    /// Of the first record: the others queue behind it.
    pub standing: Standing,
    pub count: u64,
    /// Some of them wait, also when the first does not: whoever was to mark them as parked was interrupted.
    pub waits: bool,
}

impl Generation {
    /// The aggregates with waiting or parked records, by view and key. Those of views that are not in use are left out.
    pub fn held_keys(&self) -> Result<Vec<HeldKey>, Error> {
        let read = self.snapshot_read();
        let mut found: Vec<HeldKey> = Vec::new();
        let range = (keys::HELD_RANGE.0.to_vec(), Some(keys::HELD_RANGE.1.to_vec()));
        read.scan(keys::PARKED, range, false, |stored_key, stored| {
            let ParkedKey::Held { view, key, offset } = read.parked_key(stored_key)? else { return Ok(false) };
            if !self.tags().contains(&view) {
                return Ok(true);
            }
            let standing = held::decode_standing(stored)
                .map_err(|error| read.malformed(&format!("key {}, offset {offset}", show_key(key)), &error))?;
            let waits = standing == Standing::Waiting;
            match found.last_mut().filter(|last| last.view == view && last.key == key) {
                Some(same) => (same.last, same.count, same.waits) = (offset, same.count + 1, same.waits || waits),
                None => {
                    let (key, first, last) = (key.to_vec(), offset, offset);
                    found.push(HeldKey { view, key, first, last, standing, count: 1, waits });
                }
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Up to `limit` waiting and parked records of one aggregate from offset `from` on, in the order of offsets.
    pub fn held_of(&self, view: ViewTag, key: &[u8], from: Offset, limit: usize) -> Result<Vec<Held>, Error> {
        self.snapshot_read().held_of(view, key, from, limit)
    }

    /// The offset of the last record that one aggregate holds, and the standing of its first; `None`: it holds none. Two
    /// look-ups, however many records there are.
    pub fn held_tail(&self, view: ViewTag, key: &[u8]) -> Result<Option<(Offset, Standing)>, Error> {
        let read = self.snapshot_read();
        let mut start = Vec::new();
        keys::held_prefix(view, key, &mut start);
        let range = (start.clone(), keys::after_prefix(&start));
        let mut standing = None;
        read.scan(keys::PARKED, range.clone(), true, |stored_key, stored| {
            let offset = read.parked_key(stored_key)?.offset();
            let found = held::decode_standing(stored);
            standing = Some(found.map_err(|error| read.malformed(&format!("offset {offset}"), &error))?);
            Ok(false)
        })?;
        let Some(standing) = standing else { return Ok(None) };
        let last = read.last_key(keys::PARKED, range)?;
        last.map(|stored_key| read.parked_key(&stored_key).map(|key| (key.offset(), standing))).transpose()
    }

    /// Up to `limit` dead records from offset `from` on, in the order of offsets.
    pub fn dead(&self, from: Offset, limit: usize) -> Result<Vec<Held>, Error> {
        let mut start = Vec::new();
        keys::dead_key(from, ViewTag(0), &mut start);
        self.snapshot_read().records((start, Some(keys::DEAD_RANGE.1.to_vec())), limit)
    }
}

impl ReadView<'_> {
    /// [`Generation::held_of`], as of this commit.
    pub fn held_of(&self, view: ViewTag, key: &[u8], from: Offset, limit: usize) -> Result<Vec<Held>, Error> {
        let mut start = Vec::new();
        keys::held_prefix(view, key, &mut start);
        let end = keys::after_prefix(&start);
        start.extend_from_slice(&from.0.to_be_bytes());
        self.records((start, end), limit)
    }

    fn records(&self, range: (Vec<u8>, Option<Vec<u8>>), limit: usize) -> Result<Vec<Held>, Error> {
        let mut found = Vec::new();
        self.scan(keys::PARKED, range, false, |stored_key, stored| {
            if found.len() == limit {
                return Ok(false);
            }
            let (ParkedKey::Held { offset, .. } | ParkedKey::Dead { offset, .. }) = self.parked_key(stored_key)?;
            found.push(held::decode(stored).map_err(|error| self.malformed(&format!("offset {offset}"), &error))?);
            Ok(true)
        })?;
        Ok(found)
    }

    fn parked_key<'k>(&self, stored: &'k [u8]) -> Result<ParkedKey<'k>, Error> {
        ParkedKey::parse(stored).map_err(|error| self.malformed("family `parked`", &error))
    }

    /// How many records of the view wait, are parked, are dead.
    pub(super) fn count_held(&self, of: ViewTag) -> Result<(i64, i64, i64), Error> {
        let (mut waiting, mut parked, mut dead) = (0, 0, 0);
        self.scan(keys::PARKED, (Vec::new(), None), false, |stored_key, stored| {
            let (ParkedKey::Held { view, offset, .. } | ParkedKey::Dead { view, offset }) =
                self.parked_key(stored_key)?;
            if view == of || view == ViewTag::ALL {
                let standing = held::decode_standing(stored)
                    .map_err(|error| self.malformed(&format!("offset {offset}"), &error))?;
                match standing {
                    Standing::Waiting => waiting += 1,
                    Standing::Parked => parked += 1,
                    Standing::Dead => dead += 1,
                }
            }
            Ok(true)
        })?;
        Ok((waiting, parked, dead))
    }
}
