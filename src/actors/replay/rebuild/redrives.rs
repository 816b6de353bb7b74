//! The cells of a rebuild whose events wait: when each is to be tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::Watched;
use crate::actors::board::Cell;
use crate::actors::shard::Setting;
use crate::actors::shard::redrive::{Redrive, Setback};
use crate::position::Offset;

struct Waiting {
    redrive: Redrive,
    /// Not to be tried before.
    due: Instant,
}

/// All cells that wait.
#[derive(Default)]
pub struct Redrives {
    cells: BTreeMap<Cell, Waiting>,
    by_due: BTreeSet<(Instant, Cell)>,
}

impl Redrives {
    /// The first event of the cell is stored as waiting.
    pub fn admit(&mut self, setting: &Arc<Setting>, watched: &Watched, cell: Cell, overran: Option<Offset>) {
        if self.cells.contains_key(&cell) {
            return;
        }
        let redrive =
            Redrive::new(setting.clone(), watched.progress.clone(), cell.clone(), overran.map(Setback::Overran));
        let due = Instant::now();
        self.by_due.insert((due, cell.clone()));
        self.cells.insert(cell, Waiting { redrive, due });
    }

    /// The cell that is to be tried first, and when.
    pub fn next(&self) -> Option<(Cell, Instant)> {
        self.by_due.first().map(|(due, cell)| (cell.clone(), *due))
    }

    pub fn get(&mut self, cell: &Cell) -> Option<&mut Redrive> {
        self.cells.get_mut(cell).map(|waiting| &mut waiting.redrive)
    }

    /// Puts the next try off.
    pub fn put_off(&mut self, cell: &Cell, due: Instant) {
        if let Some(waiting) = self.cells.get_mut(cell) {
            self.by_due.remove(&(waiting.due, cell.clone()));
            waiting.due = due;
            self.by_due.insert((due, cell.clone()));
        }
    }

    pub fn remove(&mut self, cell: &Cell) {
        if let Some(waiting) = self.cells.remove(cell) {
            self.by_due.remove(&(waiting.due, cell.clone()));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}
