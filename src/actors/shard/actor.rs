//! The ractor shell around a shard: one actor type for all placements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::activate::store_failed;
use super::core::Shard;
use super::redrive::{Next, Redrive};
use super::{Setting, Slice};
use crate::actors::board::{Cell, Notice, OwnShard, Speaker};
use crate::actors::interleave::{self, Lost};
use crate::actors::plan::Fatal;
use crate::actors::writer::WriterMessage;
use crate::position::Offset;

/// What a partition tells its shards. Per-sender order is the order of the log.
pub enum ShardMessage {
    /// Fold these records.
    Apply(Slice),
    /// Hand everything since the last collect to the writer, as part of this epoch.
    Collect { epoch: u64 },
    /// The cell's own shard is done up to `through`: let the cell back in.
    Release { own: OwnShard, through: Option<Offset> },
    /// The cell's own shard gave up.
    Park(Cell),
    /// To the own shard of a cell: apply what waits. Wake-ups are numbered, and one that is not the next is none: so
    /// there is one chain of attempts, however often and by whomever the shard is woken.
    Redrive { turn: u64 },
}

/// The actor. Its configuration and its state are made by [`ShardStart`].
pub struct ShardActor;

/// What a shard starts with.
pub struct ShardStart {
    pub role: Role,
    pub setting: Arc<Setting>,
    pub writer: ActorRef<WriterMessage>,
    /// Which life of the partition's shards this is: a delta of an earlier one is dropped by the writer.
    pub incarnation: u64,
    /// Set when the partition has given this shard up; the writer then takes nothing from it.
    pub fence: Arc<AtomicBool>,
    /// A fold may hang, and must then not hold a thread of the runtime: the shard folds on a thread that the runtime
    /// replaces. Costs some microseconds a message, which a shard of a single aggregate in `own` placement is spared.
    pub replace_thread: bool,
    /// Where its resident aggregates are counted.
    pub resident: Arc<AtomicI64>,
}

/// What a shard is for.
pub enum Role {
    /// Aggregates that fold as the records come.
    Home(Box<Shard>),
    /// One cell whose events wait.
    Own(Box<Own>),
}

/// The shard of a single cell.
pub struct Own {
    pub redrive: Redrive,
    pub number: u64,
    /// The number of the next wake-up.
    pub turn: u64,
}

impl Own {
    fn id(&self) -> OwnShard {
        OwnShard { cell: self.redrive.cell().clone(), number: self.number }
    }
}

impl ShardStart {
    fn speaker(&self) -> Speaker {
        match &self.role {
            Role::Home(_) => Speaker::Home { incarnation: self.incarnation },
            Role::Own(own) => Speaker::Own(own.id()),
        }
    }

    fn post(&self, notice: Notice) {
        self.setting.board.post(notice);
    }
}

impl Drop for ShardStart {
    fn drop(&mut self) {
        if let Role::Home(shard) = &self.role {
            self.resident.fetch_sub(shard.resident() as i64, Ordering::Relaxed);
        }
    }
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardStart;
    type Arguments = ShardStart;

    async fn pre_start(&self, _: ActorRef<ShardMessage>, start: ShardStart) -> Result<ShardStart, ActorProcessingErr> {
        Ok(start)
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardStart,
    ) -> Result<(), ActorProcessingErr> {
        if state.fence.load(Ordering::Acquire) {
            return Ok(());
        }
        let next = match &state.role {
            Role::Home(_) => None,
            Role::Own(own) => Some(own.turn),
        };
        let outcome = match (next, message) {
            (None, message) => {
                // What may read the store, or takes its time, does not hold a thread of the runtime either.
                let replace = state.replace_thread || matches!(message, ShardMessage::Release { .. });
                if replace { tokio::task::block_in_place(|| home(state, message)) } else { home(state, message) }
            }
            (Some(next), ShardMessage::Redrive { turn }) if turn == next => apart(&myself, state).await,
            (Some(_), _) => Ok(()),
        };
        if let Err(fatal) = outcome {
            // The partition ends; nothing of this shard may be committed any more.
            state.fence.store(true, Ordering::Release);
            state.post(Notice::Fatal { by: state.speaker(), fatal });
        }
        Ok(())
    }
}

/// Serves a home shard's message.
fn home(state: &mut ShardStart, message: ShardMessage) -> Result<(), Fatal> {
    let Role::Home(shard) = &mut state.role else { return Ok(()) };
    let before = shard.resident() as i64;
    let (setting, incarnation) = (&state.setting, state.incarnation);
    match message {
        ShardMessage::Apply(slice) => {
            shard.apply(&slice)?;
            interleave::fault(setting.generation.path(), Lost::Home);
        }
        ShardMessage::Collect { epoch } => match shard.collect(epoch) {
            Ok(handover) => {
                interleave::step();
                // A writer that is gone takes the partition with it; there is nobody to tell.
                let _ = state.writer.cast(WriterMessage::Delta { incarnation, epoch, handover });
            }
            Err(row) => {
                // What it has folded cannot be handed over: the partition starts its shards anew, without that row.
                state.fence.store(true, Ordering::Release);
                setting.board.post(Notice::Unwritable { incarnation, row });
            }
        },
        ShardMessage::Release { own, through } => {
            interleave::step();
            let back = shard.release(&own.cell, through).map_err(|error| store_failed(&setting.at, &error))?;
            setting.board.post(Notice::Released { own, incarnation, back });
        }
        ShardMessage::Park(cell) => shard.park(&cell),
        ShardMessage::Redrive { .. } => {}
    }
    state.resident.fetch_add(shard.resident() as i64 - before, Ordering::Relaxed);
    Ok(())
}

/// Takes one step of a redrive, and sees it committed before the next.
async fn apart(myself: &ActorRef<ShardMessage>, state: &mut ShardStart) -> Result<(), Fatal> {
    let Role::Own(own) = &mut state.role else { return Ok(()) };
    own.turn += 1;
    let turn = own.turn;
    let (delta, next) = tokio::task::block_in_place(|| own.redrive.step())?;
    let own = own.id();
    interleave::step_async().await;
    if !delta.is_empty() {
        let (done, committed) = oneshot::channel();
        let message = WriterMessage::Apart { delta, fence: state.fence.clone(), done };
        if state.writer.cast(message).is_err() || committed.await.is_err() {
            // Given up by the partition, or the partition is ending.
            return Ok(());
        }
    }
    interleave::step_async().await;
    interleave::fault(state.setting.generation.path(), Lost::Own);
    match next {
        Next::More => {
            let _ = myself.cast(ShardMessage::Redrive { turn });
        }
        Next::After(wait) => {
            myself.send_after(wait, move || ShardMessage::Redrive { turn });
        }
        Next::Drained(through) => state.post(Notice::Drained { own, turn, through }),
        Next::Parked => state.post(Notice::Parked { own, turn }),
    }
    Ok(())
}
