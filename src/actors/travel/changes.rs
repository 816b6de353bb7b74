//! What changed in a view between two cuts.

use super::difference::difference;
use super::fold::{Fold, Keys};
use super::{Served, Travel, store_failed};
use crate::actors::admin::{Changes, Cost};
use crate::actors::replay::words::{Difference, ReplayError};
use crate::position::{Position, PositionVector};
use crate::state::{Generation, Row};

/// Rows that are answered.
const ROWS: usize = 1000;
/// Bytes of the keys that have events between the cuts, of one partition.
const KEYS: usize = 64 << 20;
/// What a key takes beside its bytes.
const KEY: usize = 48;

impl Travel<'_> {
    /// The rows of a view that differ between `from` and `to`.
    ///
    /// Only a key with events between the two can differ. So each partition is read twice: from `from` to `to`, to see
    /// which keys have events, and then from the nearest snapshot at or before `from` to `to`, to fold those keys and no
    /// others. In memory are these keys (64 MiB of them at most) and their rows (256 MiB); a range that needs more is
    /// refused. The counts are exact; rows beyond the first thousand are only counted. `unchanged` counts keys that have
    /// events and the same row as before.
    pub fn changes(&self, view: &str, from: &PositionVector, to: &PositionVector) -> Result<Changes, ReplayError> {
        self.own_cut(from)?;
        self.own_cut(to)?;
        let served = self.served(view)?;
        let mut changes = Changes {
            view: view.to_owned(),
            from: from.clone(),
            to: to.clone(),
            added: 0,
            removed: 0,
            changed: 0,
            unchanged: 0,
            rows: Vec::new(),
            cost: Cost::default(),
        };
        for live in &self.live {
            let partition = live.at().partition;
            if !from.positions.contains_key(&partition) && !to.positions.contains_key(&partition) {
                continue;
            }
            let range = (self.position_in(from, partition)?, self.position_in(to, partition)?);
            if range.0 > range.1 {
                let (at, from, to) = (live.at(), range.0, range.1);
                return Err(ReplayError::Bad(format!("{at}: the range from {from} to {to} ends before it begins")));
            }
            let base = self.changes_in(&served, live, range, &mut changes)?;
            let told = &mut changes.cost.base;
            if told.is_empty() {
                *told = base;
            } else if !told.split(", ").any(|one| one == base) {
                *told = format!("{told}, {base}");
            }
        }
        Ok(changes)
    }

    /// The changes in one partition; answers the base.
    fn changes_in(
        &self,
        served: &Served,
        live: &Generation,
        (from, to): (Position, Position),
        changes: &mut Changes,
    ) -> Result<String, ReplayError> {
        let base = self.base(served, live.at(), from)?;
        self.watermarks(live.at(), to)?;
        let keys = self.keys_between(live, (from, to), &mut changes.cost.records)?;
        if keys.is_empty() {
            return Ok(base.name());
        }
        let mut sorted: Vec<Box<[u8]>> = keys.keys().cloned().collect();
        sorted.sort_unstable();
        let mut fold = Fold::begin(self, served, live, &base, keys)?;
        let mut scan = self.scan(live.at(), base.position(), from)?;
        while let Some((batch, below)) = scan.next()? {
            fold.take(batch, below)?;
        }
        changes.cost.records += scan.records;

        let setting = fold.shared();
        // What the rows were stays readable here, while the fold goes on.
        let before = setting.generation.snapshot_read();
        let mut scan = self.scan(live.at(), from, to)?;
        while let Some((batch, below)) = scan.next()? {
            fold.take(batch, below)?;
        }
        changes.cost.records += scan.records;

        let after = setting.generation.snapshot_read();
        for key in &sorted {
            let was = before.get(fold.tag(), key).map_err(store_failed)?;
            let is = after.get(fold.tag(), key).map_err(store_failed)?;
            if changes.count(was.as_ref(), is.as_ref()) && changes.rows.len() < ROWS {
                let row: Difference = difference(live.at().partition, key, was.as_ref(), is.as_ref());
                changes.rows.push(row);
            }
        }
        Ok(base.name())
    }

    /// The keys that have records in the range.
    fn keys_between(
        &self,
        live: &Generation,
        (from, to): (Position, Position),
        records: &mut u64,
    ) -> Result<Keys, ReplayError> {
        let longest = self.topic.decoder.max_key_bytes;
        let (mut keys, mut bytes) = (Keys::default(), 0);
        let mut scan = self.scan(live.at(), from, to)?;
        while let Some((batch, below)) = scan.next()? {
            for record in batch.iter().take(below) {
                let Some(key) = record.key.filter(|key| key.len() <= longest) else { continue };
                if !keys.contains_key(key) {
                    bytes += key.len() + KEY;
                    keys.insert(key.into(), 0);
                }
            }
            if bytes > KEYS {
                return Err(ReplayError::Refused(format!(
                    "{}: between {from} and {to} more than {} keys have records, too many to compare at once: ask for a \
                     shorter range",
                    live.at(),
                    keys.len()
                )));
            }
        }
        *records += scan.records;
        Ok(keys)
    }
}

impl Changes {
    /// Counts a key with events; answers whether its row differs.
    fn count(&mut self, was: Option<&Row>, is: Option<&Row>) -> bool {
        let count = match (was, is) {
            (None, Some(_)) => &mut self.added,
            (Some(_), None) => &mut self.removed,
            (Some(was), Some(is)) if was.json != is.json => &mut self.changed,
            // Neither before nor after: no row of the view.
            (None, None) => return false,
            _ => &mut self.unchanged,
        };
        *count += 1;
        let same = matches!((was, is), (Some(was), Some(is)) if was.json == is.json);
        !same
    }
}
