//! The own shards of cells whose events wait: one shard a cell, until the cell is well or parked.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{ActorId, ActorProcessingErr};

use super::homes::{Member, Nursery};
use crate::actors::board::Cell;
use crate::actors::progress::Progress;
use crate::actors::shard::actor::{Role, ShardMessage};
use crate::actors::shard::redrive::Redrive;
use crate::position::Offset;

/// How long a cell rests before its own shard looks for more: what was queued behind it is about to be committed.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

struct Own {
    member: Member,
    /// Parking is decided. The home shard may have queued more as *waiting* until it heard of that; once this epoch is
    /// committed they are all in the store, and a last step marks them as parked.
    parking: Option<Parking>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parking {
    Until(u64),
    LastStep,
}

/// The own shards of a partition, and the cells that queue for one.
pub struct Apart {
    cells: HashMap<Cell, Own>,
    /// Cells that wait for a shard, because the limit is reached.
    queue: VecDeque<Cell>,
    queued: HashSet<Cell>,
    limit: usize,
}

impl Apart {
    pub fn new(limit: usize) -> Self {
        Apart { cells: HashMap::new(), queue: VecDeque::new(), queued: HashSet::new(), limit }
    }

    /// Gives a cell its own shard, now or when there is room.
    pub async fn admit(&mut self, nursery: &Nursery, cell: Cell) -> Result<(), ActorProcessingErr> {
        if self.cells.contains_key(&cell) {
            self.again(&cell);
        } else if self.cells.len() < self.limit {
            self.start(nursery, cell, None).await?;
        } else if self.queued.insert(cell.clone()) {
            self.queue.push_back(cell);
        }
        Ok(())
    }

    async fn start(
        &mut self,
        nursery: &Nursery,
        cell: Cell,
        overran: Option<Offset>,
    ) -> Result<(), ActorProcessingErr> {
        let progress = Arc::new(Progress::default());
        let redrive = Redrive::new(nursery.setting.clone(), progress.clone(), cell.clone(), overran);
        let member = nursery.start(Role::Apart(redrive), progress, true).await?;
        let _ = member.actor.cast(ShardMessage::Redrive);
        self.cells.insert(cell, Own { member, parking: None });
        Ok(())
    }

    /// Whether a cell of the aggregate is served here or queues for it.
    pub fn serves(&self, key: &[u8]) -> bool {
        self.cells.keys().chain(&self.queue).any(|cell| *cell.key == *key)
    }

    /// There is, or will be in a moment, more for the cell's shard.
    pub fn again(&self, cell: &Cell) {
        if let Some(own) = self.cells.get(cell) {
            own.member.actor.send_after(LOOK_AGAIN, || ShardMessage::Redrive);
        }
    }

    /// The cell's shard has parked everything that it found. Answers whether that was the last step; otherwise the
    /// home must be told, and what it queues until `epoch` is committed will be parked too.
    pub fn parked(&mut self, cell: &Cell, epoch: u64) -> bool {
        let Some(own) = self.cells.get_mut(cell) else { return true };
        match own.parking {
            Some(Parking::LastStep) => true,
            Some(Parking::Until(_)) => false,
            None => {
                own.parking = Some(Parking::Until(epoch));
                false
            }
        }
    }

    /// An epoch is committed.
    pub fn settled(&mut self, committed: u64) {
        for own in self.cells.values_mut() {
            if let Some(Parking::Until(epoch)) = own.parking
                && epoch <= committed
            {
                own.parking = Some(Parking::LastStep);
                let _ = own.member.actor.cast(ShardMessage::Redrive);
            }
        }
    }

    /// The cell needs no shard any more; the next in the queue gets one.
    pub async fn let_go(&mut self, nursery: &Nursery, cell: &Cell) -> Result<(), ActorProcessingErr> {
        if let Some(own) = self.cells.remove(cell) {
            own.member.actor.stop(None);
        }
        if self.cells.len() < self.limit
            && let Some(next) = self.queue.pop_front()
        {
            self.queued.remove(&next);
            self.start(nursery, next, None).await?;
        }
        Ok(())
    }

    /// Starts the shards anew whose fold hangs; that counts as an attempt.
    pub async fn restart_overrun(
        &mut self,
        nursery: &Nursery,
        now: Instant,
        limit: Duration,
    ) -> Result<(), ActorProcessingErr> {
        let mut hanging = Vec::new();
        for (cell, own) in &mut self.cells {
            if let Some((offset, _)) = own.member.observed.overrun(&own.member.progress, now, limit) {
                hanging.push((cell.clone(), offset));
            }
        }
        for (cell, offset) in hanging {
            tracing::error!(at = %nursery.setting.at, %offset, view = cell.view, "a fold runs over its time limit, alone");
            self.restart(nursery, cell, Some(offset)).await?;
        }
        Ok(())
    }

    /// A shard ended by itself: its cell gets a new one.
    pub async fn restart_failed(&mut self, nursery: &Nursery, id: ActorId) -> Result<(), ActorProcessingErr> {
        let failed = self.cells.iter().find(|(_, own)| own.member.actor.get_id() == id).map(|(cell, _)| cell.clone());
        match failed {
            Some(cell) => self.restart(nursery, cell, None).await,
            None => Ok(()),
        }
    }

    async fn restart(
        &mut self,
        nursery: &Nursery,
        cell: Cell,
        overran: Option<Offset>,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(own) = self.cells.remove(&cell) {
            own.member.give_up();
        }
        nursery.setting.meter.restart();
        self.start(nursery, cell, overran).await
    }

    /// The home shards were started anew: what the cells' shards told the old ones is told again.
    pub fn look_again(&self) {
        for own in self.cells.values() {
            let _ = own.member.actor.cast(ShardMessage::Redrive);
        }
    }

    pub fn give_up(&mut self) {
        for (_, own) in self.cells.drain() {
            own.member.give_up();
        }
        self.queue.clear();
        self.queued.clear();
    }
}
