//! Random rows of a view.

use std::collections::BTreeMap;

use super::store_failed;
use crate::actors::replay::words::ReplayError;
use crate::position::{Offset, Position};
use crate::state::{Generation, ReadView, Reason, Row, Standing, ViewTag};

/// Looks for a row so many times as often as rows are wanted: several looks may find one row.
const TRIES: usize = 3;
/// Waiting and parked events of a key that are looked at.
const HELD: usize = 64;

/// Numbers that are random enough to pick rows: SplitMix64.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Bytes that lie, in the order of bytes, about anywhere from `low` to `high`.
    fn between(&mut self, low: &[u8], high: &[u8]) -> Vec<u8> {
        let common = low.iter().zip(high).take_while(|(a, b)| a == b).count();
        let eight = |bytes: &[u8]| {
            let mut eight = [0; 8];
            for (into, from) in eight.iter_mut().zip(bytes.iter().skip(common)) {
                *into = *from;
            }
            u64::from_be_bytes(eight)
        };
        let (from, to) = (eight(low), eight(high));
        let span = to.saturating_sub(from);
        let at = from + if span == u64::MAX { self.next() } else { self.next() % (span + 1) };
        let mut bytes = low[..common].to_vec();
        bytes.extend_from_slice(&at.to_be_bytes());
        bytes
    }
}

/// Some rows of one commit.
pub(super) struct Picked {
    pub position: Position,
    pub rows: BTreeMap<Box<[u8]>, Row>,
    /// Rows that were found and cannot be compared.
    pub set_aside: usize,
}

/// Picks up to `wanted` random rows. Rows beside a wide gap in the space of keys are found more often than others.
pub(super) fn pick(live: &Generation, tag: ViewTag, wanted: usize, random: &mut Random) -> Result<Picked, ReplayError> {
    let read = live.snapshot_read();
    let position = read.position().map_err(store_failed)?;
    let mut picked = Picked { position, rows: BTreeMap::new(), set_aside: 0 };
    let first = read.first_at_or_after(tag, &[]).map_err(store_failed)?;
    let last = read.last_row(tag).map_err(store_failed)?;
    let (Some((first, _)), Some((last, _))) = (first, last) else { return Ok(picked) };
    for _ in 0..wanted * TRIES {
        if picked.rows.len() >= wanted {
            break;
        }
        let near = random.between(&first, &last);
        let found = match read.first_at_or_after(tag, &near).map_err(store_failed)? {
            Some(found) => Some(found),
            // Behind the last: its own bytes are longer than the eight that were drawn, or shorter.
            None => read.last_row(tag).map_err(store_failed)?,
        };
        let Some((key, row)) = found else { break };
        if picked.rows.contains_key(&*key) {
            continue;
        }
        if settled(&read, tag, &key)? {
            picked.rows.insert(key.into(), row);
        } else {
            picked.set_aside += 1;
        }
    }
    Ok(picked)
}

/// Whether what became of the key's events is a function of them: none waits, and none was set aside for a reason that
/// may pass.
fn settled(read: &ReadView<'_>, tag: ViewTag, key: &[u8]) -> Result<bool, ReplayError> {
    let held = read.held_of(tag, key, Offset(0), HELD).map_err(store_failed)?;
    let passing = [Reason::Transient, Reason::Panicked, Reason::Overran, Reason::RowUnreadable];
    Ok(held.iter().all(|held| held.standing != Standing::Waiting && !passing.contains(&held.reason)))
}
