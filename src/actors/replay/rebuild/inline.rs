//! One run of a rebuild on its thread: reads, folds and commits up to an exact position.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::redrives::Redrives;
use super::{Arrival, RebuildOptions, RunEnd, Watched, log_failed, read_again};
use crate::actors::board::Cell;
use crate::actors::plan::Fatal;
use crate::actors::replay::gate::{Gate, Gauge, wait_ready};
use crate::actors::retry::Retry;
use crate::actors::shard::activate::store_failed;
use crate::actors::shard::core::Shard;
use crate::actors::shard::held::held_cells;
use crate::actors::shard::redrive::Next;
use crate::actors::shard::{Setting, Suspect, Unwritable};
use crate::position::{Offset, Position};
use crate::record::RecordBatch;
use crate::state::{self, Commit, Delta, Fingerprint, WriterToken};
use crate::streams::{Limit, Reader};

/// What a fold of one batch leads to.
enum Folded {
    Records(usize),
    /// The reader has nothing ready.
    Nothing,
}

/// Everything that a run owns.
pub struct Inline {
    setting: Arc<Setting>,
    options: RebuildOptions,
    gate: Arc<Gate>,
    gauge: Arc<Gauge>,
    pub watched: Watched,
    /// What the run ended for and is not to be folded in company by the next.
    pub suspect: Option<Suspect>,
    token: WriterToken,
    shard: Shard,
    redrives: Redrives,
    reader: Option<Box<dyn Reader>>,
    again: Retry,
    /// The batch in hand and how many of its records are folded; kept when a target cuts through it.
    batch: RecordBatch,
    folded: usize,
    /// Everything below it is folded.
    pub position: Position,
    /// The last record that was folded since the last commit.
    last: Option<Fingerprint>,
    epoch: u64,
    /// Records folded since the last flush.
    unflushed: usize,
    flushed: Instant,
}

impl Inline {
    pub fn new(
        setting: Arc<Setting>,
        token: WriterToken,
        options: RebuildOptions,
        gate: Arc<Gate>,
        gauge: Arc<Gauge>,
        suspects: Vec<Suspect>,
        overran: Option<(Cell, Offset)>,
    ) -> Result<Inline, Fatal> {
        let (held, waiting) = held_cells(&setting).map_err(|error| store_failed(&setting.at, &error))?;
        let watched = Watched::default();
        let mut redrives = Redrives::default();
        if let Some((cell, offset)) = overran {
            redrives.admit(&setting, &watched, cell, Some(offset));
        }
        for cell in waiting {
            redrives.admit(&setting, &watched, cell, None);
        }
        let mut shard = Shard::new(setting.clone(), watched.progress.clone(), held, suspects);
        if setting.generation.view_totals().iter().all(|view| view.rows == 0) {
            shard.begin_complete();
        }
        let position = setting.generation.applied();
        gauge.position.store(position.0, Ordering::Relaxed);
        gauge.durable.store(setting.generation.durable().0, Ordering::Relaxed);
        Ok(Inline {
            setting,
            options,
            gate,
            gauge,
            watched,
            suspect: None,
            token,
            shard,
            redrives,
            reader: None,
            again: read_again(),
            batch: RecordBatch::new(position),
            folded: 0,
            position,
            last: None,
            epoch: 0,
            unflushed: 0,
            flushed: Instant::now(),
        })
    }

    /// Whether records have to be read to get to `target`, and there is no reader yet.
    pub fn needs_reader(&self, target: Position) -> bool {
        self.reader.is_none() && self.position < target
    }

    pub fn set_reader(&mut self, reader: Box<dyn Reader>) {
        self.reader = Some(reader);
    }

    pub fn into_reader(self) -> Option<Box<dyn Reader>> {
        let position = self.position;
        self.reader.filter(|reader| self.folded == self.batch.len() && reader.position() == position)
    }

    /// See [`super::Rebuild::run_to`].
    pub fn run_to(&mut self, target: Position, arrival: Arrival) -> Result<RunEnd, Fatal> {
        while self.position < target {
            if self.gate.stopped() {
                return self.stop();
            }
            let began = Instant::now();
            match self.fold(target)? {
                Folded::Records(records) => {
                    self.after(false, arrival)?;
                    self.gate.pace(records, began);
                }
                Folded::Nothing => {
                    self.after(true, arrival)?;
                    if let Some(reader) = &self.reader {
                        wait_ready(&reader.ready());
                    }
                }
            }
        }
        self.commit()?;
        while !self.redrives.is_empty() {
            if self.gate.stopped() {
                return self.stop();
            }
            self.redrive()?;
            if let Some((_, due)) = self.redrives.next() {
                self.gate.sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        if arrival == Arrival::Durable {
            self.flush()?;
        }
        Ok(RunEnd::Reached)
    }

    fn stop(&mut self) -> Result<RunEnd, Fatal> {
        self.commit()?;
        self.flush()?;
        Ok(RunEnd::Stopped)
    }

    /// Folds what is below the target of the batch in hand, or of the next one.
    fn fold(&mut self, target: Position) -> Result<Folded, Fatal> {
        if self.folded == self.batch.len() && self.batch.end() <= self.position && !self.drain(target)? {
            return Ok(Folded::Nothing);
        }
        let from = self.folded;
        let to = from + below(&self.batch, from, target);
        if from < to {
            self.shard.apply_range(&self.batch, from..to)?;
            if self.watched.given_up.load(Ordering::Acquire) {
                return Err(given_up(&self.setting));
            }
            self.last = Some(Fingerprint::of(&self.batch.get(to - 1)));
            self.folded = to;
        }
        // Where a record is left it is at the target or beyond; where none is, what follows up to the end is a gap.
        self.position = if to < self.batch.len() { target } else { self.batch.end().min(target) };
        self.unflushed += to - from;
        self.gauge.position.store(self.position.0, Ordering::Relaxed);
        self.gauge.records.fetch_add((to - from) as u64, Ordering::Relaxed);
        Ok(Folded::Records(to - from))
    }

    /// Takes the next batch from the reader; false when nothing is ready.
    fn drain(&mut self, target: Position) -> Result<bool, Fatal> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        // Offsets rise by one at least: so many records and no more can lie below the target.
        let left = usize::try_from(self.position.lag_to(target)).unwrap_or(usize::MAX);
        let records = self.gate.portion(self.options.batch.records.min(left).max(1));
        match reader.drain(Limit { records, ..self.options.batch }) {
            Ok(batch) => {
                self.again.succeeded();
                let moved = batch.end() > self.batch.end();
                (self.batch, self.folded) = (batch, 0);
                Ok(moved)
            }
            Err(error) if error.retryable() => {
                tracing::warn!(at = %self.setting.at, position = %self.position, %error, "the rebuild cannot read; trying again");
                self.gate.sleep(self.again.next(1).unwrap_or_default());
                Ok(false)
            }
            Err(error) => Err(log_failed(&self.setting, &error)),
        }
    }

    /// Commits and makes durable when it is time. Where the reader has nothing ready there is time for what waits.
    fn after(&mut self, idle: bool, arrival: Arrival) -> Result<(), Fatal> {
        let grown = self.unflushed >= self.options.epoch_records
            || self.unflushed > 0 && self.flushed.elapsed() >= self.options.epoch_time;
        let due = grown && arrival != Arrival::AtOnce;
        let full = self.shard.footprint() >= self.options.memory;
        if due || full {
            self.commit()?;
            self.redrive()?;
        } else if idle && self.redrives.next().is_some_and(|(_, due)| due <= Instant::now()) {
            // Between a commit and the next, a cell's home may have queued more behind it: those must be stored first.
            self.commit()?;
            self.redrive()?;
        }
        if due {
            self.flush()?;
        }
        Ok(())
    }

    /// Commits everything that is folded, and lets aggregates go when they take too much.
    fn commit(&mut self) -> Result<(), Fatal> {
        self.epoch += 1;
        let handover = match self.shard.hand_all_over(self.epoch) {
            Ok(handover) => handover,
            Err(Unwritable { cell, why }) => {
                self.suspect = Some(Suspect::Row { cell, below: self.position, why });
                return Err(given_up(&self.setting));
            }
        };
        if handover.delta.is_empty() && self.position == self.setting.generation.applied() {
            return Ok(());
        }
        self.write(handover.delta, self.position)?;
        for cell in handover.waiting {
            self.redrives.admit(&self.setting, &self.watched, cell, None);
        }
        // Half of the memory is for what changes until the next commit.
        if self.shard.resident_bytes() > self.options.memory / 2 {
            self.shard.make_room(self.options.memory / 2, self.epoch);
        }
        Ok(())
    }

    fn write(&mut self, delta: Delta, position: Position) -> Result<(), Fatal> {
        let setting = &self.setting;
        let commit = Commit { deltas: vec![delta], position, last: self.last.take() };
        setting.generation.commit(&self.token, &commit).map_err(|error| match error {
            state::Error::Fenced { .. } => given_up(setting),
            error => store_failed(&setting.at, &error),
        })
    }

    /// Tries what waits and is due. Only between a commit and the next batch: everything that queues behind is stored.
    fn redrive(&mut self) -> Result<(), Fatal> {
        while let Some((cell, due)) = self.redrives.next() {
            if due > Instant::now() || self.gate.stopped() {
                break;
            }
            let Some(redrive) = self.redrives.get(&cell) else { break };
            self.watched.set_redriven(Some(cell.clone()));
            let stepped = redrive.step();
            self.watched.set_redriven(None);
            let (mut delta, next) = stepped?;
            if !delta.is_empty() {
                delta.sort();
                self.write(delta, self.position)?;
            }
            match next {
                Next::More => {}
                Next::After(wait) => self.redrives.put_off(&cell, Instant::now() + wait),
                Next::Drained(_) => {
                    // Everything that the cell has ever held was stored, and is seen off.
                    let back = self.shard.release(&cell, Some(Offset(u64::MAX)));
                    back.map_err(|error| store_failed(&self.setting.at, &error))?;
                    self.redrives.remove(&cell);
                }
                Next::Parked => {
                    self.shard.park(&cell);
                    self.redrives.remove(&cell);
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fatal> {
        let durable = self.setting.generation.flush().map_err(|error| store_failed(&self.setting.at, &error))?;
        self.gauge.durable.store(durable.0, Ordering::Relaxed);
        (self.unflushed, self.flushed) = (0, Instant::now());
        Ok(())
    }
}

/// How many records of the batch from index `from` on lie below `target`.
fn below(batch: &RecordBatch, from: usize, target: Position) -> usize {
    if batch.end() <= target {
        return batch.len() - from;
    }
    (from..batch.len()).take_while(|&index| target.is_past(batch.get(index).offset)).count()
}

/// The owner of the run has gone on without it; nobody reads this.
fn given_up(setting: &Setting) -> Fatal {
    Fatal {
        at: Some(setting.at.clone()),
        fault: crate::streams::Fault::Internal,
        reason: "the run was given up".to_owned(),
        next: "another goes on".to_owned(),
    }
}
