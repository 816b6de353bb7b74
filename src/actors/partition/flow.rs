//! What a partition owns, and the pump that keeps it going.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};

use super::PartitionMessage;
use super::apart::Apart;
use super::homes::{Homes, Nursery};
use super::published::Published;
use super::recover::Recovery;
use crate::actors::credit::Credits;
use crate::actors::interleave;
use crate::actors::plan::{Fatal, FlowOptions};
use crate::actors::shard::activate::store_failed;
use crate::actors::shard::held::held_cells;
use crate::actors::shard::{Setting, Suspect};
use crate::actors::writer::{Committed, Writer, WriterMessage, WriterStart};
use crate::position::{Position, Timestamp, TopicPartition};
use crate::record::RecordBatch;
use crate::state::Fingerprint;
use crate::streams::{self, Limit, Reader};

/// Batches drained in one turn: between turns the actor hears its supervision events.
const DRAINS: usize = 4;
/// Collects under way at once: shards encode the next while the writer writes the last.
const COLLECTS: u64 = 2;
/// The next collect begins beside another only when it covers this share of the credits. What is less gathers until the
/// other is committed, which is no later than its own commit would be, and a row that changes twice is written once.
const WORTH_COLLECTING: usize = 4;
/// How long to wait before a reader that failed for a while is asked again.
const READ_AGAIN: Duration = Duration::from_millis(250);

/// A batch that is dealt and not yet committed.
pub(super) struct InFlight {
    pub batch: Arc<RecordBatch>,
}

/// What a turn of the pump leaves.
pub enum Pumped {
    /// There may be more to drain at once.
    More,
    Idle,
}

/// Everything that a partition owns.
pub struct Flow {
    pub(super) nursery: Nursery,
    pub(super) options: FlowOptions,
    /// In a mutex only because the actor's state must be `Sync`; it is never locked. Gone once it was handed over.
    reader: Mutex<Option<Box<dyn Reader>>>,
    pub(super) published: Arc<Published>,
    credits: Credits,
    committed: watch::Receiver<Committed>,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) homes: Homes,
    pub(super) apart: Apart,
    pub(super) recovery: Recovery,
    /// The last epoch that was begun.
    pub(super) epoch: u64,
    /// Epochs up to this one were given up with the shards that were to answer them.
    pub(super) void_to: u64,
    /// Where the dealt batches end.
    pub(super) dealt_to: Position,
    /// Where the collected batches end.
    pub(super) collected_to: Position,
    /// What lies between the two.
    pub(super) uncollected: Limit,
    last: Option<Fingerprint>,
    reading: bool,
    read_again: Option<Instant>,
    /// Nothing more may be dealt or committed: the shards are given up for good.
    over: bool,
}

impl Flow {
    pub async fn start(
        partition: ActorRef<PartitionMessage>,
        setting: Arc<Setting>,
        options: FlowOptions,
        reader: Box<dyn Reader>,
        published: Arc<Published>,
    ) -> Result<Self, ActorProcessingErr> {
        // From here on nobody else commits, so the position stands still until this partition's writer moves it.
        let token = tokio::task::block_in_place(|| setting.generation.take_writer());
        let position = setting.generation.applied();
        if reader.position() != position {
            return Err(format!("the reader stands at {}, and the generation at {position}", reader.position()).into());
        }
        setting.count_residents_anew();
        let (committed, watching) = watch::channel(Committed { incarnation: 0, epoch: 0, position });
        let writer_start = WriterStart { setting: setting.clone(), token, committed, published: published.clone() };
        let (writer, _) = Writer::spawn_linked(None, Writer, writer_start, partition.get_cell()).await?;
        let nursery = Nursery { partition, writer, setting: setting.clone(), incarnation: 0 };
        let (held, waiting) = tokio::task::block_in_place(|| held_cells(&setting))?;
        let homes = Homes::start(&nursery, &options, held, Vec::new()).await?;
        let mut apart = Apart::new(options.own_shard_limit);
        for cell in waiting {
            apart.admit(&nursery, cell).await?;
        }
        Ok(Flow {
            nursery,
            credits: Credits::new(Limit { records: options.credit_records, bytes: options.credit_bytes }),
            options,
            reader: Mutex::new(Some(reader)),
            published,
            committed: watching,
            in_flight: VecDeque::new(),
            homes,
            apart,
            recovery: Recovery::default(),
            epoch: 0,
            void_to: 0,
            dealt_to: position,
            collected_to: position,
            uncollected: Limit { records: 0, bytes: 0 },
            last: None,
            reading: true,
            read_again: None,
            over: false,
        })
    }

    pub fn at(&self) -> &TopicPartition {
        &self.nursery.setting.at
    }

    pub fn committed(&self) -> watch::Receiver<Committed> {
        self.committed.clone()
    }

    /// One turn: take in what has come back, then drain, deal and collect as far as the credits allow.
    pub async fn pump(&mut self) -> Result<Pumped, Fatal> {
        if self.over {
            return Ok(Pumped::Idle);
        }
        interleave::step_async().await;
        let committed = self.settle();
        self.read_board().await?;
        self.apart.settled(committed.epoch.max(self.void_to));
        if !self.recovery.done(&committed) {
            return Ok(Pumped::Idle);
        }
        if self.recovery.restart_due() {
            self.restart(&committed).await?;
        }
        let mut drained = 0;
        while drained < DRAINS && self.drain_one().await? {
            drained += 1;
            self.collect();
        }
        self.collect();
        self.publish();
        Ok(if drained == DRAINS { Pumped::More } else { Pumped::Idle })
    }

    /// Lets go of what is committed.
    fn settle(&mut self) -> Committed {
        let committed = *self.committed.borrow_and_update();
        while let Some(first) = self.in_flight.front()
            && first.batch.end() <= committed.position
        {
            self.credits.give_back(first.batch.len(), first.batch.bytes());
            self.in_flight.pop_front();
        }
        self.homes.passivate(committed.epoch, |key| self.apart.serves(key));
        committed
    }

    /// Drains one batch and deals it; answers whether there was anything.
    async fn drain_one(&mut self) -> Result<bool, Fatal> {
        if !self.reading || self.read_again.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        let Some(limit) = self.credits.available(self.options.batch) else { return Ok(false) };
        self.read_again = None;
        let Some(reader) = self.reader() else { return Ok(false) };
        let batch = match reader.drain(limit) {
            Ok(batch) => batch,
            Err(error) if error.retryable() => {
                tracing::warn!(at = %self.at(), %error, "cannot read; trying again");
                self.read_again = Some(Instant::now() + READ_AGAIN);
                self.nursery.partition.send_after(READ_AGAIN, || PartitionMessage::Pump);
                return Ok(false);
            }
            Err(error) => return Err(log_failed(self.at(), &error)),
        };
        if batch.end() == self.dealt_to {
            return Ok(false);
        }
        debug_assert!(batch.end() > self.dealt_to, "Forward: {} after {}", batch.end(), self.dealt_to);
        self.credits.take(batch.len(), batch.bytes());
        self.published.saw_in_flight(self.credits.used().records);
        self.published.saw_batch(batch.len());
        self.nursery.setting.meter.batch(batch.len(), batch.bytes());
        let batch = Arc::new(batch);
        self.in_flight.push_back(InFlight { batch: batch.clone() });
        self.deal(&batch).await?;
        Ok(true)
    }

    /// Deals a batch to the shards; it stays in `in_flight` until it is committed.
    pub(super) async fn deal(&mut self, batch: &Arc<RecordBatch>) -> Result<(), Fatal> {
        let dealt = self.homes.deal(&self.nursery, batch).await;
        dealt.map_err(|error| actors_failed(self.at(), &error.to_string()))?;
        self.dealt_to = batch.end();
        self.uncollected.records += batch.len();
        self.uncollected.bytes += batch.bytes();
        if let Some(index) = batch.len().checked_sub(1) {
            self.last = Some(Fingerprint::of(&batch.get(index)));
        }
        Ok(())
    }

    /// Begins a commit of everything that is dealt, unless enough are under way: then the next one covers more.
    pub(super) fn collect(&mut self) {
        debug_assert!(!self.over, "Atomic: a position is committed without its rows");
        let committed = self.committed.borrow().epoch;
        let under_way = self.epoch - committed.max(self.void_to);
        if self.dealt_to == self.collected_to || under_way >= COLLECTS {
            return;
        }
        let Limit { records, bytes } = self.uncollected;
        let worthwhile = records * WORTH_COLLECTING >= self.options.credit_records
            || bytes * WORTH_COLLECTING >= self.options.credit_bytes;
        if under_way > 0 && !worthwhile {
            return;
        }
        self.uncollected = Limit { records: 0, bytes: 0 };
        self.epoch += 1;
        let expect = WriterMessage::Expect {
            incarnation: self.nursery.incarnation,
            epoch: self.epoch,
            deltas: self.homes.touched(),
            position: self.dealt_to,
            last: self.last.take(),
        };
        // A writer that is gone is noticed as its supervisor.
        let _ = self.nursery.writer.cast(expect);
        self.homes.collect(self.epoch);
        self.collected_to = self.dealt_to;
    }

    fn reader(&mut self) -> Option<&mut Box<dyn Reader>> {
        self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()
    }

    /// The reader, for whoever reads on.
    pub fn take_reader(&mut self) -> Option<Box<dyn Reader>> {
        self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn publish(&mut self) {
        let end = self.reader().map_or(Position::ZERO, |reader| reader.end());
        self.published.saw_end(end.max(self.dealt_to));
        self.published.saw_in_flight(self.credits.used().records);
        let oldest: Option<Timestamp> =
            self.in_flight.iter().find(|b| !b.batch.is_empty()).map(|b| b.batch.get(0).timestamp);
        self.published.oldest_unapplied(oldest);
    }

    /// Starts again what a hanging fold blocks.
    pub async fn look_for_overruns(&mut self, now: Instant) {
        let limit = self.options.fold_time_limit;
        let hanging = self.homes.members_mut().find_map(|member| member.observed.overrun(&member.progress, now, limit));
        if let Some((offset, view)) = hanging {
            tracing::error!(at = %self.at(), %offset, view, ?limit, "a fold runs over its time limit; the shards start anew without it");
            self.recovery.suspect(Suspect::Fold { view, offset });
            self.begin_recovery();
        }
        self.apart.give_up_overrun(&self.nursery, now, limit).await;
    }

    /// A supervised actor ended by itself.
    pub fn child_failed(&mut self, id: ActorId) -> Result<(), Fatal> {
        if id == self.nursery.writer.get_id() {
            return Err(actors_failed(self.at(), "the writer failed"));
        }
        if self.homes.owns(id) {
            if !self.recovery.count() {
                return Err(actors_failed(self.at(), "its shards fail again and again"));
            }
            self.begin_recovery();
            return Ok(());
        }
        self.apart.give_up_failed(&self.nursery, id);
        Ok(())
    }

    pub fn stop_reading(&mut self) {
        self.reading = false;
    }

    pub fn all_committed(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub fn durable(&self) -> Position {
        self.nursery.setting.generation.durable()
    }

    /// Makes everything that is committed durable.
    pub async fn flush(&self) -> Result<Position, Fatal> {
        let generation = self.nursery.setting.generation.clone();
        let flushed = tokio::task::spawn_blocking(move || generation.flush()).await;
        match flushed {
            Ok(flushed) => flushed.map_err(|error| store_failed(self.at(), &error)),
            Err(error) => Err(actors_failed(self.at(), &error.to_string())),
        }
    }

    /// Nothing more is written, and what was being written is when this returns.
    pub async fn stand_still(&mut self) {
        let closed = self.fence();
        // A writer that is gone drops the reply, and writes nothing either.
        let _ = closed.await;
    }

    /// Nothing more of any shard is written. Answered when nothing is being written any more.
    pub fn fence(&mut self) -> oneshot::Receiver<()> {
        self.over = true;
        self.reading = false;
        self.homes.give_up();
        self.apart.give_up();
        self.nursery.incarnation += 1;
        let (done, closed) = oneshot::channel();
        let _ = self.nursery.writer.cast(WriterMessage::Close { done });
        closed
    }
}

/// The log cannot be read on.
fn log_failed(at: &TopicPartition, error: &streams::Error) -> Fatal {
    let next = match error {
        streams::Error::OutOfRange { .. } => {
            "the log no longer holds what this partition has to read next: restore it, or start from an empty data directory"
        }
        _ => "the views stay as they were committed: correct the cause and start again",
    };
    Fatal { at: Some(at.clone()), fault: error.fault(), reason: error.to_string(), next: next.to_owned() }
}

/// An actor could not be started, or ended by a fault of the program.
pub(super) fn actors_failed(at: &TopicPartition, reason: &str) -> Fatal {
    Fatal {
        at: Some(at.clone()),
        fault: streams::Fault::Internal,
        reason: reason.to_owned(),
        next: "this is a fault of the program: nothing that was committed is lost; start again and report it"
            .to_owned(),
    }
}
