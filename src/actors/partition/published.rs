//! A partition's numbers for status, probes and metrics, written by its actor and read by anyone.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::actors::handle::{PartitionState, PartitionStatus};
use crate::actors::plan::Fatal;
use crate::actors::shard::Setting;
use crate::position::{Position, Timestamp};

const UNKNOWN: u64 = u64::MAX;
const NO_TIME: i64 = i64::MIN;

/// What a partition shows of itself.
pub struct Published {
    setting: Arc<Setting>,
    /// Readers who wait for a position listen here; the writer raises it.
    pub applied: watch::Sender<Position>,
    log_end: AtomicU64,
    batch_records: AtomicU64,
    in_flight: AtomicU64,
    /// Timestamp of the oldest record that is not applied.
    oldest: AtomicI64,
    state: Mutex<(PartitionState, Option<String>)>,
}

impl Published {
    pub fn new(setting: Arc<Setting>) -> Self {
        let applied = watch::Sender::new(setting.generation.applied());
        Published {
            setting,
            applied,
            log_end: AtomicU64::new(UNKNOWN),
            batch_records: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            oldest: AtomicI64::new(NO_TIME),
            state: Mutex::new((PartitionState::Starting, None)),
        }
    }

    pub fn setting(&self) -> &Arc<Setting> {
        &self.setting
    }

    pub(super) fn running(&self) {
        self.set(PartitionState::Running, None);
    }

    pub(super) fn stopped(&self) {
        self.set(PartitionState::Stopped, None);
    }

    pub(super) fn failed(&self, fatal: &Fatal) {
        self.set(PartitionState::Failed, Some(fatal.reason.clone()));
    }

    pub(in crate::actors) fn set(&self, state: PartitionState, reason: Option<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (state, reason);
    }

    /// Where the partition is in its life, and why.
    pub fn state(&self) -> (PartitionState, Option<String>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn saw_end(&self, end: Position) {
        self.log_end.store(end.0, Ordering::Relaxed);
    }

    pub(super) fn saw_batch(&self, records: usize) {
        self.batch_records.store(records as u64, Ordering::Relaxed);
    }

    pub(super) fn saw_in_flight(&self, records: usize) {
        self.in_flight.store(records as u64, Ordering::Relaxed);
    }

    /// `None`: everything that was read is applied.
    pub(super) fn oldest_unapplied(&self, timestamp: Option<Timestamp>) {
        self.oldest.store(timestamp.map_or(NO_TIME, |t| t.0), Ordering::Relaxed);
    }

    /// The end of the log as last heard of.
    pub fn log_end(&self) -> Option<Position> {
        match self.log_end.load(Ordering::Relaxed) {
            UNKNOWN => None,
            end => Some(Position(end)),
        }
    }

    /// The numbers of this moment; `now` in milliseconds since the epoch.
    pub fn status(&self, now: i64) -> PartitionStatus {
        let generation = &self.setting.generation;
        let (applied, log_end) = (generation.applied(), self.log_end());
        let lag_records = log_end.map(|end| applied.lag_to(end));
        let lag_seconds = match (lag_records, self.oldest.load(Ordering::Relaxed)) {
            (Some(0), _) => Some(0.0),
            (_, NO_TIME) => None,
            (_, oldest) => Some(((now - oldest) as f64 / 1000.0).max(0.0)),
        };
        let (state, reason) = self.state();
        let totals = generation.view_totals();
        let sum = |column: fn(&crate::state::Books) -> i64| -> u64 {
            totals.iter().map(|view| column(&view.books).max(0) as u64).sum()
        };
        PartitionStatus {
            partition: self.setting.at.partition,
            state,
            reason,
            applied,
            durable: generation.durable(),
            log_end,
            lag_records,
            lag_seconds,
            resident: self.setting.residents().load(Ordering::Relaxed).max(0) as u64,
            batch_records: self.batch_records.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            waiting: sum(|books| books.waiting),
            parked: sum(|books| books.parked),
            dead: sum(|books| books.dead),
            generation: generation.number(),
        }
    }
}
