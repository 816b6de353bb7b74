//! The writer: one a partition, the only one that writes its generation. It gathers the deltas of an epoch from all
//! shards, commits them in one `WriteBatch` with the position, and publishes the position as a watch value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};

use super::board::{Notice, OwnShard, Speaker};
use super::interleave;
use super::partition::published::Published;
use super::shard::activate::store_failed;
use super::shard::{Handover, Setting};
use crate::position::Position;
use crate::state::{Commit, Delta, Fingerprint, WriterToken};

/// What the writer is told.
pub enum WriterMessage {
    /// By the partition, before it asks the shards: so many deltas make this epoch.
    Expect { incarnation: u64, epoch: u64, deltas: usize, position: Position, last: Option<Fingerprint> },
    /// By a home shard, in answer to a collect.
    Delta { incarnation: u64, epoch: u64, handover: Handover },
    /// By the own shard of a cell: committed at once, without moving the position. `done` is dropped unanswered when
    /// the partition has given that shard up.
    Apart { delta: Delta, fence: Arc<AtomicBool>, done: oneshot::Sender<()> },
    /// By the partition, which has given that own shard up and raised its fence before: answered by [`Notice::Fenced`].
    /// What the shard had sent before is committed by then, and what it sends later is refused.
    Fenced(OwnShard),
    /// By the partition: forget the epochs of earlier incarnations.
    Reset { incarnation: u64 },
    /// By the partition that ends: write nothing more, whatever comes. Answered when nothing is being written.
    Close { done: oneshot::Sender<()> },
}

/// How far the writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub incarnation: u64,
    pub epoch: u64,
    pub position: Position,
}

/// The actor; what it gathers is in [`WriterState`].
pub struct Writer;

/// What a writer starts with.
pub struct WriterStart {
    pub setting: Arc<Setting>,
    /// The right to write the generation, which ends when another partition or a rebuild takes it.
    pub token: WriterToken,
    pub committed: watch::Sender<Committed>,
    /// Readers who wait hear of the position here.
    pub published: Arc<Published>,
}

/// The epochs that are being gathered.
pub struct WriterState {
    start: WriterStart,
    incarnation: u64,
    gathering: BTreeMap<u64, Epoch>,
    /// A commit failed, or the partition has ended: nothing more is written.
    closed: bool,
}

struct Epoch {
    expected: usize,
    position: Position,
    last: Option<Fingerprint>,
    handovers: Vec<Handover>,
}

impl Actor for Writer {
    type Msg = WriterMessage;
    type State = WriterState;
    type Arguments = WriterStart;

    async fn pre_start(
        &self,
        _: ActorRef<WriterMessage>,
        start: WriterStart,
    ) -> Result<WriterState, ActorProcessingErr> {
        Ok(WriterState { start, incarnation: 0, gathering: BTreeMap::new(), closed: false })
    }

    async fn handle(
        &self,
        _: ActorRef<WriterMessage>,
        message: WriterMessage,
        state: &mut WriterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WriterMessage::Expect { incarnation, epoch, deltas, position, last } => {
                if incarnation == state.incarnation {
                    let handovers = Vec::with_capacity(deltas);
                    state.gathering.insert(epoch, Epoch { expected: deltas, position, last, handovers });
                    state.commit_complete();
                }
            }
            WriterMessage::Delta { incarnation, epoch, handover } => {
                if incarnation == state.incarnation
                    && let Some(gathering) = state.gathering.get_mut(&epoch)
                {
                    gathering.handovers.push(handover);
                    state.commit_complete();
                }
            }
            WriterMessage::Apart { delta, fence, done } => {
                if !fence.load(Ordering::Acquire) && state.commit_apart(delta) {
                    let _ = done.send(());
                }
            }
            WriterMessage::Fenced(own) => state.start.setting.board.post(Notice::Fenced(own)),
            WriterMessage::Reset { incarnation } => {
                state.incarnation = incarnation;
                state.gathering.clear();
                state.start.committed.send_modify(|committed| committed.incarnation = incarnation);
            }
            WriterMessage::Close { done } => {
                state.closed = true;
                state.gathering.clear();
                let _ = done.send(());
            }
        }
        Ok(())
    }
}

impl WriterState {
    /// Commits every epoch that is complete, in their order.
    fn commit_complete(&mut self) {
        while let Some(entry) = self.gathering.first_entry()
            && entry.get().handovers.len() == entry.get().expected
        {
            let (epoch, gathered) = entry.remove_entry();
            let mut waiting = Vec::new();
            let mut deltas = Vec::with_capacity(gathered.handovers.len());
            for handover in gathered.handovers {
                waiting.extend(handover.waiting);
                if !handover.delta.is_empty() {
                    deltas.push(handover.delta);
                }
            }
            let position = gathered.position;
            if !self.commit(Commit { deltas, position, last: gathered.last }) {
                return;
            }
            self.start.setting.committed.store(epoch, Ordering::Release);
            self.start.published.applied.send_replace(position);
            self.start.committed.send_modify(|committed| {
                committed.epoch = epoch;
                committed.position = position;
            });
            for cell in waiting {
                self.start.setting.board.post(Notice::Waiting(cell));
            }
        }
    }

    fn commit_apart(&mut self, mut delta: Delta) -> bool {
        delta.sort();
        let position = self.start.setting.generation.applied();
        self.commit(Commit { deltas: vec![delta], position, last: None })
    }

    /// Writes, away from the runtime's threads. A failure is the end of the partition, and is told once.
    fn commit(&mut self, commit: Commit) -> bool {
        if self.closed {
            return false;
        }
        let (setting, token) = (&self.start.setting, &self.start.token);
        let begun = Instant::now();
        let committed = tokio::task::block_in_place(|| {
            interleave::step();
            let committed = setting.generation.commit(token, &commit);
            interleave::step();
            committed
        });
        match committed {
            Ok(()) => {
                setting.meter.commit(&commit, begun.elapsed());
                true
            }
            Err(error) => {
                self.closed = true;
                let fatal = store_failed(&setting.at, &error);
                setting.board.post(Notice::Fatal { by: Speaker::Other, fatal });
                false
            }
        }
    }
}
