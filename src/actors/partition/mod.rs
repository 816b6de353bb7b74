//! A partition: drains its reader within its credits, deals records to shards, and sees them committed.
//!
//! It keeps every batch until the batch is committed, for a mailbox dies with its actor: when a shard is lost or hangs,
//! the partition starts all its shards anew from the committed state and deals the kept batches again.
//!
//! * [`flow`]: what it owns, and the pump: settle, read the board, drain, deal, collect.
//! * `homes`: the shards that fold as records come; how records are dealt to them.
//! * `apart`: the shards that serve a single cell whose events wait.
//! * `notices`: what is done about what its shards and its writer tell it.
//! * `recover`: starting the shards anew.
//! * [`published`]: its numbers for status and probes.

mod apart;
pub mod flow;
mod homes;
mod notices;
pub mod published;
mod recover;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::flow::{Flow, Pumped};
use self::published::Published;
use super::board::Board;
use super::plan::{Fatal, FlowOptions};
use super::shard::Setting;
use super::writer::Committed;
use crate::position::Position;
use crate::streams::Reader;

/// What a partition is told.
pub enum PartitionMessage {
    /// Something may be ready: records, a commit, a notice.
    Pump,
    /// Look whether a fold hangs.
    Tick,
    /// Take in nothing more, see what is in flight committed, and answer how that ended.
    Stop { ending: Ending, reply: oneshot::Sender<Result<Ended, Fatal>> },
    /// Stop at once: drop what is in flight, and answer when nothing is being written any more.
    Abandon { reply: oneshot::Sender<()> },
}

/// What is done when everything in flight is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is made durable.
    Durable,
    /// Nothing is flushed: in a moment the partition goes on, in this generation or another one, and what is not durable
    /// the log has. Not even the shards of single cells write anything more, and the reader is given back.
    HandOver,
}

/// What a partition leaves that has stopped.
pub struct Ended {
    pub durable: Position,
    /// After [`Ending::HandOver`]: it stands where the generation does.
    pub reader: Option<Box<dyn Reader>>,
}

/// The actor; what it owns is in [`PartitionState`].
pub struct Partition;

/// What a partition starts with.
pub struct PartitionStart {
    pub setting: Arc<Setting>,
    pub flow: FlowOptions,
    pub reader: Box<dyn Reader>,
    pub published: Arc<Published>,
    /// Where the end of the partition is told.
    pub failed: Arc<watch::Sender<Option<Fatal>>>,
}

/// The running partition.
pub struct PartitionState {
    flow: Flow,
    published: Arc<Published>,
    failed: Arc<watch::Sender<Option<Fatal>>>,
    /// A `Pump` is in the mailbox.
    pumping: Arc<AtomicBool>,
    waker: JoinHandle<()>,
    stopping: Option<(Ending, oneshot::Sender<Result<Ended, Fatal>>)>,
    ended: bool,
}

impl Drop for PartitionState {
    fn drop(&mut self) {
        self.waker.abort();
    }
}

impl Actor for Partition {
    type Msg = PartitionMessage;
    type State = PartitionState;
    type Arguments = PartitionStart;

    async fn pre_start(
        &self,
        myself: ActorRef<PartitionMessage>,
        start: PartitionStart,
    ) -> Result<PartitionState, ActorProcessingErr> {
        let pumping = Arc::new(AtomicBool::new(false));
        let ready = start.reader.ready();
        let board = start.setting.board.clone();
        let tick = (start.flow.fold_time_limit / 4).max(Duration::from_millis(5));
        let flow =
            Flow::start(myself.clone(), start.setting, start.flow, start.reader, start.published.clone()).await?;
        let waker = tokio::spawn(wake(myself.clone(), pumping.clone(), ready, board, flow.committed(), tick));
        start.published.running();
        Ok(PartitionState {
            flow,
            published: start.published,
            failed: start.failed,
            pumping,
            waker,
            stopping: None,
            ended: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<PartitionMessage>,
        message: PartitionMessage,
        state: &mut PartitionState,
    ) -> Result<(), ActorProcessingErr> {
        if state.ended {
            match message {
                PartitionMessage::Stop { reply, .. } => {
                    let _ = reply.send(Ok(Ended { durable: state.flow.durable(), reader: None }));
                }
                PartitionMessage::Abandon { reply } => state.abandon(reply).await,
                PartitionMessage::Pump | PartitionMessage::Tick => {}
            }
            return Ok(());
        }
        match message {
            PartitionMessage::Abandon { reply } => state.abandon(reply).await,
            PartitionMessage::Pump => {
                state.pumping.store(false, Ordering::Release);
                state.pump(&myself).await;
            }
            PartitionMessage::Tick => {
                state.flow.look_for_overruns(Instant::now()).await;
            }
            PartitionMessage::Stop { ending, reply } => {
                state.stopping = Some((ending, reply));
                state.flow.stop_reading();
                state.pump(&myself).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PartitionMessage>,
        event: SupervisionEvent,
        state: &mut PartitionState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            // Of a partition that has ended nothing more may be begun.
            SupervisionEvent::ActorFailed(cell, error) if !state.ended => {
                tracing::error!(at = %state.flow.at(), %error, "a child of the partition failed");
                match state.flow.child_failed(cell.get_id()) {
                    Ok(()) => state.pump(&myself).await,
                    Err(fatal) => state.end(fatal),
                }
            }
            // With it comes what the shard had in memory, and perhaps views' rows whose `Drop` takes its time or panics.
            SupervisionEvent::ActorTerminated(_, state, _) => drop(tokio::task::spawn_blocking(move || drop(state))),
            SupervisionEvent::ActorFailed(..)
            | SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl PartitionState {
    async fn pump(&mut self, myself: &ActorRef<PartitionMessage>) {
        match self.flow.pump().await {
            Ok(Pumped::More) => ask(myself, &self.pumping),
            Ok(Pumped::Idle) => {}
            Err(fatal) => return self.end(fatal),
        }
        if self.flow.all_committed()
            && let Some((ending, reply)) = self.stopping.take()
        {
            self.ended = true;
            self.flow.stand_still().await;
            let ended = match ending {
                Ending::Durable => self.flow.flush().await.map(|durable| Ended { durable, reader: None }),
                Ending::HandOver => Ok(self.hand_over().await),
            };
            self.published.stopped();
            let _ = reply.send(ended);
        }
    }

    /// Leaves the generation and the reader to whoever goes on with them.
    async fn hand_over(&mut self) -> Ended {
        // A notification that this one took would be missing there.
        self.waker.abort();
        let _ = (&mut self.waker).await;
        Ended { durable: self.flow.durable(), reader: self.flow.take_reader() }
    }

    /// Nobody waits for what is in flight any more: it is dropped, and the log has it. Answers when nothing is being
    /// written, so that whoever goes on with the generation reads what this one leaves.
    async fn abandon(&mut self, reply: oneshot::Sender<()>) {
        self.flow.stand_still().await;
        if !std::mem::replace(&mut self.ended, true) {
            self.published.stopped();
        }
        self.stopping = None;
        let _ = reply.send(());
    }

    /// The partition cannot go on: nothing more is written, and the node is told once.
    fn end(&mut self, fatal: Fatal) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        tracing::error!(at = %self.flow.at(), reason = fatal.reason, next = fatal.next, "the partition ends");
        // Whoever goes on with the generation takes the writer's right, which waits for a commit that is under way.
        drop(self.flow.fence());
        self.published.failed(&fatal);
        if let Some((_, reply)) = self.stopping.take() {
            let _ = reply.send(Err(fatal.clone()));
        }
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(fatal);
            first
        });
    }
}

/// Puts one `Pump` into the mailbox unless one is there.
fn ask(partition: &ActorRef<PartitionMessage>, pumping: &AtomicBool) {
    if !pumping.swap(true, Ordering::AcqRel) {
        // A partition that is gone needs no pump.
        let _ = partition.cast(PartitionMessage::Pump);
    }
}

/// Turns whatever may concern the partition into a `Pump`.
async fn wake(
    partition: ActorRef<PartitionMessage>,
    pumping: Arc<AtomicBool>,
    ready: Arc<tokio::sync::Notify>,
    board: Arc<Board>,
    mut committed: watch::Receiver<Committed>,
    tick: Duration,
) {
    let notices = board.wake();
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Every arm only waits for a wake-up and loses nothing when another is first.
        tokio::select! {
            () = ready.notified() => ask(&partition, &pumping),
            () = notices.notified() => ask(&partition, &pumping),
            changed = committed.changed() => match changed {
                Ok(()) => ask(&partition, &pumping),
                // The writer is gone: the partition learns of it as its supervisor.
                Err(_) => return,
            },
            _ = ticks.tick() => {
                if partition.cast(PartitionMessage::Tick).is_err() {
                    return;
                }
                // A reader may have heard of a new end without any record.
                ask(&partition, &pumping);
            }
        }
    }
}
