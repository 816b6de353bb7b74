//! A row as of a cut.

use super::fold::{Fold, one};
use super::{Served, Travel, store_failed};
use crate::actors::admin::{AsOf, Cost};
use crate::actors::reads::to_row;
use crate::actors::replay::words::ReplayError;
use crate::position::{Offset, Position, PositionVector};
use crate::state::{self, Generation, Standing};

/// A row of one partition as of a position, and what it took.
pub(super) struct RowAt {
    pub row: Option<state::Row>,
    pub cost: Cost,
    /// Records of the key between the base and the position.
    pub events: u64,
}

impl Travel<'_> {
    /// The row of `key` as of `cut`: the fold of what lies below the cut.
    ///
    /// Costs nothing but a look at live when no event has changed the row since the cut. Otherwise reads the key's
    /// partition from the nearest snapshot (or the beginning) to the cut, and keeps one batch and this row in memory. For
    /// a key that live does not have, all partitions are read, one after the other, until one has events of the key.
    pub fn get_at(&self, view: &str, key: &[u8], cut: &PositionVector) -> Result<AsOf, ReplayError> {
        self.own_cut(cut)?;
        let served = self.served(view)?;
        let places = self.places(&served, key)?;
        let mut cost: Option<Cost> = None;
        for live in places.partitions {
            let partition = live.at().partition;
            let position = self.position_in(cut, partition)?;
            let found = match self.unchanged_since(&served, live, key, position)? {
                Some(found) => found,
                None => self.row_at(&served, live, key, position)?,
            };
            let read = cost.as_ref().map_or(0, |cost| cost.records);
            let spent = Cost { records: found.cost.records + read, ..found.cost };
            if found.row.is_some() || (found.events > 0 && !places.known) {
                let row = found.row.map(|row| to_row(key.to_vec(), partition, row)).transpose();
                let row = row.map_err(|error| ReplayError::Failed(error.to_string()))?;
                return Ok(AsOf { row, position: cut.clone(), cost: spent });
            }
            // Of what has no row, the base of the first place is told.
            cost = Some(match cost {
                Some(first) => Cost { records: spent.records, ..first },
                None => spent,
            });
        }
        Ok(AsOf { row: None, position: cut.clone(), cost: cost.unwrap_or_default() })
    }

    /// Live's row, when it is the one of the cut too: live has passed the cut, and the last event that changed the row
    /// lies below it.
    fn unchanged_since(
        &self,
        served: &Served,
        live: &Generation,
        key: &[u8],
        cut: Position,
    ) -> Result<Option<RowAt>, ReplayError> {
        let (read, tag) = (live.snapshot_read(), served.tag(live)?);
        let Some(row) = read.get(tag, key).map_err(store_failed)? else { return Ok(None) };
        // What waits will be applied, and then belongs to the row.
        let held = read.held_of(tag, key, Offset(0), 1).map_err(store_failed)?;
        let waits = held.first().is_some_and(|held| held.standing == Standing::Waiting);
        if waits || read.position().map_err(store_failed)? < cut || !cut.is_past(row.offset) {
            return Ok(None);
        }
        let cost = Cost { base: "live".to_owned(), records: 0 };
        Ok(Some(RowAt { row: Some(row), cost, events: 0 }))
    }

    /// The row as the log gives it.
    pub(super) fn row_at(
        &self,
        served: &Served,
        live: &Generation,
        key: &[u8],
        cut: Position,
    ) -> Result<RowAt, ReplayError> {
        let base = self.base(served, live.at(), cut)?;
        let mut fold = Fold::begin(self, served, live, &base, one(key))?;
        let mut scan = self.scan(live.at(), base.position(), cut)?;
        while let Some((batch, below)) = scan.next()? {
            fold.take(batch, below)?;
        }
        let cost = Cost { base: base.name(), records: scan.records };
        Ok(RowAt { row: fold.row(key)?, cost, events: fold.records })
    }
}
