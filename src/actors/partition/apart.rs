//! The own shards of cells whose events wait: one shard a cell, until the cell is well or parked.
//!
//! For each cell there is one thing under way at a time: the shard works, or it rests and the partition has its report,
//! or the home shard decides, or a shard that was given up is being fenced off. Whatever is said by a shard that is not
//! the cell's any more is not heard.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{ActorId, ActorProcessingErr};

use super::homes::{Member, Nursery};
use crate::actors::board::{Cell, OwnShard};
use crate::actors::interleave;
use crate::actors::progress::Progress;
use crate::actors::shard::actor::{Own as OwnRole, Role, ShardMessage};
use crate::actors::shard::redrive::{Redrive, Setback};
use crate::actors::writer::WriterMessage;

/// How long a cell rests before its own shard looks for more: what was queued behind it is about to be committed.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

struct Own {
    member: Member,
    number: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It takes steps, and wakes itself.
    Works,
    /// Nothing waits any more, and the home has been asked to let the cell back in.
    Drained {
        turn: u64,
    },
    /// Parking is decided. The home shard may have queued more as *waiting* until it heard of that; once this epoch is
    /// committed they are all in the store, and a last step marks them as parked.
    Parking {
        turn: u64,
        epoch: u64,
    },
    LastStep,
    /// Given up; the next one starts when the writer has nothing more of it.
    Leaves {
        setback: Setback,
    },
}

/// The own shards of a partition, and the cells that queue for one.
pub struct Apart {
    cells: HashMap<Cell, Own>,
    /// Cells that wait for a shard, because the limit is reached.
    queue: VecDeque<Cell>,
    queued: HashSet<Cell>,
    /// How many cells of each key are served or queue.
    keys: HashMap<Box<[u8]>, usize>,
    limit: usize,
    next_number: u64,
}

impl Apart {
    pub fn new(limit: usize) -> Self {
        Apart {
            cells: HashMap::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            keys: HashMap::new(),
            limit,
            next_number: 0,
        }
    }

    /// Gives a cell its own shard, now or when there is room. A cell that has one is served already.
    pub async fn admit(&mut self, nursery: &Nursery, cell: Cell) -> Result<(), ActorProcessingErr> {
        if self.cells.contains_key(&cell) || self.queued.contains(&cell) {
            return Ok(());
        }
        *self.keys.entry(cell.key.clone()).or_default() += 1;
        if self.cells.len() < self.limit {
            return self.start(nursery, cell, None).await;
        }
        self.queued.insert(cell.clone());
        self.queue.push_back(cell);
        Ok(())
    }

    async fn start(
        &mut self,
        nursery: &Nursery,
        cell: Cell,
        setback: Option<Setback>,
    ) -> Result<(), ActorProcessingErr> {
        let progress = Arc::new(Progress::default());
        let number = self.next_number;
        self.next_number += 1;
        tracing::trace!(at = %nursery.setting.at, ?cell, number, ?setback, "a shard of its own");
        let redrive = Redrive::new(nursery.setting.clone(), progress.clone(), cell.clone(), setback);
        let role = Role::Own(Box::new(OwnRole { redrive, number, turn: 0 }));
        let member = nursery.start(role, progress, true).await?;
        let own = Own { member, number, state: State::Works };
        own.wake(0);
        self.cells.insert(cell, own);
        Ok(())
    }

    /// Whether a cell of the aggregate is served here or queues for it.
    pub fn serves(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// The shard, if it is still the cell's.
    fn own(&mut self, id: &OwnShard) -> Option<&mut Own> {
        self.cells.get_mut(&id.cell).filter(|own| own.number == id.number)
    }

    /// Whether it is still the cell's shard, and not given up.
    pub fn speaks(&self, id: &OwnShard) -> bool {
        let own = self.cells.get(&id.cell).filter(|own| own.number == id.number);
        own.is_some_and(|own| !matches!(own.state, State::Leaves { .. }))
    }

    /// The shard says that nothing waits any more. Answers whether the home is to be asked.
    pub fn drained(&mut self, id: &OwnShard, turn: u64) -> bool {
        let Some(own) = self.own(id).filter(|own| own.state == State::Works) else { return false };
        own.state = State::Drained { turn };
        true
    }

    /// The home has queued more behind the cell, which is in the store in a moment.
    pub fn again(&mut self, id: &OwnShard) {
        if let Some(own) = self.own(id)
            && let State::Drained { turn } = own.state
        {
            own.state = State::Works;
            own.member.actor.send_after(LOOK_AGAIN, move || ShardMessage::Redrive { turn });
        }
    }

    /// The shard has parked everything that it found.
    pub fn parked(&mut self, id: &OwnShard, turn: u64, epoch: u64) -> Parked {
        let Some(own) = self.own(id) else { return Parked::Stale };
        match own.state {
            State::Works => {
                own.state = State::Parking { turn, epoch };
                Parked::TellHome
            }
            State::LastStep => Parked::Over,
            State::Drained { .. } | State::Parking { .. } | State::Leaves { .. } => Parked::Stale,
        }
    }

    /// An epoch is committed.
    pub fn settled(&mut self, committed: u64) {
        for own in self.cells.values_mut() {
            if let State::Parking { turn, epoch } = own.state
                && epoch <= committed
            {
                own.state = State::LastStep;
                own.wake(turn);
            }
        }
    }

    /// The cell needs no shard any more; the next in the queue gets one.
    pub async fn let_go(&mut self, nursery: &Nursery, id: &OwnShard) -> Result<(), ActorProcessingErr> {
        if !self.speaks(id) {
            return Ok(());
        }
        if let Some(own) = self.cells.remove(&id.cell) {
            own.member.actor.stop(None);
        }
        if let Some(count) = self.keys.get_mut(&id.cell.key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&id.cell.key);
            }
        }
        if let Some(next) = self.queue.pop_front() {
            self.queued.remove(&next);
            self.start(nursery, next, None).await?;
        }
        Ok(())
    }

    /// Gives the shards up whose fold hangs; that counts as an attempt.
    pub async fn give_up_overrun(&mut self, nursery: &Nursery, now: Instant, limit: Duration) {
        let mut hanging = Vec::new();
        for (cell, own) in &mut self.cells {
            if !matches!(own.state, State::Leaves { .. })
                && let Some((offset, _)) = own.member.observed.overrun(&own.member.progress, now, limit)
            {
                hanging.push((cell.clone(), offset));
            }
        }
        for (cell, offset) in hanging {
            tracing::error!(at = %nursery.setting.at, %offset, view = cell.view, "a fold runs over its time limit, alone");
            interleave::step_async().await;
            self.leave(nursery, cell, Setback::Overran(offset));
        }
    }

    /// A shard ended by itself: that counts as an attempt at whatever event was first.
    pub fn give_up_failed(&mut self, nursery: &Nursery, id: ActorId) {
        let failed = self.cells.iter().find(|(_, own)| own.member.actor.get_id() == id).map(|(cell, _)| cell.clone());
        if let Some(cell) = failed {
            self.leave(nursery, cell, Setback::Lost);
        }
    }

    /// Gives a shard up. It may be in the middle of a commit: the next one reads what that leaves, so it starts when the
    /// writer has heard that nothing more of the first is to be committed. The writer's mailbox is the order.
    fn leave(&mut self, nursery: &Nursery, cell: Cell, setback: Setback) {
        let Some(own) = self.cells.get_mut(&cell) else { return };
        if matches!(own.state, State::Leaves { .. }) {
            return;
        }
        own.member.give_up();
        own.state = State::Leaves { setback };
        nursery.setting.meter.restart();
        // A writer that is gone takes the partition with it.
        let _ = nursery.writer.cast(WriterMessage::Fenced(OwnShard { cell, number: own.number }));
    }

    /// Nothing of the shard that was given up can be committed any more: the cell gets the next one.
    pub async fn fenced(&mut self, nursery: &Nursery, id: &OwnShard) -> Result<(), ActorProcessingErr> {
        match self.own(id).map(|own| own.state) {
            Some(State::Leaves { setback }) => self.start(nursery, id.cell.clone(), Some(setback)).await,
            _ => Ok(()),
        }
    }

    /// The home shards were started anew. A home that was asked is gone with its answer, so the shards that wait for one
    /// look once more and report to the new one.
    pub fn look_again(&mut self) {
        for own in self.cells.values_mut() {
            if let State::Drained { turn } = own.state {
                own.state = State::Works;
                own.wake(turn);
            }
        }
    }

    pub fn give_up(&mut self) {
        for (_, own) in self.cells.drain() {
            own.member.give_up();
        }
        self.queue.clear();
        self.queued.clear();
        self.keys.clear();
    }
}

impl Own {
    fn wake(&self, turn: u64) {
        let _ = self.member.actor.cast(ShardMessage::Redrive { turn });
    }
}

/// What follows a shard's report that its cell is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// The home must be told; what it queues until then will be parked too.
    TellHome,
    /// That was the last step.
    Over,
    /// Not the report that is waited for.
    Stale,
}
