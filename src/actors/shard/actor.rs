//! The ractor shell around a shard: one actor type for all placements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::activate::store_failed;
use super::core::Shard;
use super::redrive::{Next, Redrive};
use super::{Setting, Slice};
use crate::actors::board::{Cell, Notice};
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
    Release { cell: Cell, through: Option<Offset> },
    /// The cell's own shard gave up.
    Park(Cell),
    /// To the own shard of a cell: apply what waits.
    Redrive,
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
}

/// What a shard is for.
pub enum Role {
    /// Aggregates that fold as the records come.
    Home(Box<Shard>),
    /// One cell whose events wait.
    Apart(Redrive),
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
        let outcome = match (&mut state.role, message) {
            (Role::Home(shard), message) => {
                if state.replace_thread && matches!(message, ShardMessage::Apply(_)) {
                    tokio::task::block_in_place(|| home(shard, message, &state.writer, state.incarnation))
                } else {
                    home(shard, message, &state.writer, state.incarnation)
                }
            }
            (Role::Apart(redrive), ShardMessage::Redrive) => {
                apart(&myself, redrive, &state.writer, &state.fence, &state.setting).await
            }
            (Role::Apart(_), _) => Ok(()),
        };
        if let Err(fatal) = outcome {
            // The partition ends; nothing of this shard may be committed any more.
            state.fence.store(true, Ordering::Release);
            state.setting.board.post(Notice::Fatal(fatal));
        }
        Ok(())
    }
}

/// Serves a home shard's message.
fn home(
    shard: &mut Shard,
    message: ShardMessage,
    writer: &ActorRef<WriterMessage>,
    incarnation: u64,
) -> Result<(), Fatal> {
    let setting = shard.setting().clone();
    match message {
        ShardMessage::Apply(slice) => {
            let before = shard.resident() as i64;
            shard.apply(&slice)?;
            setting.resident.fetch_add(shard.resident() as i64 - before, Ordering::Relaxed);
        }
        ShardMessage::Collect { epoch } => {
            let handover = shard.collect(epoch);
            // A writer that is gone takes the partition with it; there is nobody to tell.
            let _ = writer.cast(WriterMessage::Delta { incarnation, epoch, handover });
        }
        ShardMessage::Release { cell, through } => {
            let back = shard.release(&cell, through).map_err(|error| store_failed(&setting.at, &error))?;
            setting.board.post(if back { Notice::Released(cell) } else { Notice::StillHeld(cell) });
        }
        ShardMessage::Park(cell) => shard.park(&cell),
        ShardMessage::Redrive => {}
    }
    Ok(())
}

/// Takes one step of a redrive, and sees it committed before the next.
async fn apart(
    myself: &ActorRef<ShardMessage>,
    redrive: &mut Redrive,
    writer: &ActorRef<WriterMessage>,
    fence: &Arc<AtomicBool>,
    setting: &Setting,
) -> Result<(), Fatal> {
    let (delta, next) = tokio::task::block_in_place(|| redrive.step())?;
    if !delta.is_empty() {
        let (done, committed) = oneshot::channel();
        let message = WriterMessage::Apart { delta, fence: fence.clone(), done };
        if writer.cast(message).is_err() || committed.await.is_err() {
            // Given up by the partition, or the partition is ending.
            return Ok(());
        }
    }
    let cell = redrive.cell().clone();
    match next {
        Next::More => {
            let _ = myself.cast(ShardMessage::Redrive);
        }
        Next::After(wait) => {
            myself.send_after(wait, || ShardMessage::Redrive);
        }
        Next::Drained(through) => setting.board.post(Notice::Drained { cell, through }),
        Next::Parked => setting.board.post(Notice::Parked(cell)),
    }
    Ok(())
}
