//! The home shards of a partition: where records are dealt, by key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};

use super::PartitionMessage;
use crate::actors::board::Cell;
use crate::actors::interleave;
use crate::actors::plan::{FlowOptions, Placement};
use crate::actors::progress::{Observed, Progress};
use crate::actors::residents::key_hash;
use crate::actors::shard::actor::{Role, ShardActor, ShardMessage, ShardStart};
use crate::actors::shard::core::{Shard, Tail};
use crate::actors::shard::{Setting, Slice, Suspect};
use crate::actors::writer::WriterMessage;
use crate::record::RecordBatch;

/// Estimated bytes of a shard that serves one aggregate in `own` placement, beside the aggregate: ractor's actor (6–8
/// KiB measured) and the shard's own tables.
const OWN_SHARD_BYTES: usize = 9 * 1024;

/// What it takes to start a shard.
#[derive(Clone)]
pub struct Nursery {
    pub partition: ActorRef<PartitionMessage>,
    pub writer: ActorRef<WriterMessage>,
    pub setting: Arc<Setting>,
    pub incarnation: u64,
}

impl Nursery {
    /// Starts a shard under the partition's supervision.
    pub async fn start(
        &self,
        role: Role,
        progress: Arc<Progress>,
        replace_thread: bool,
    ) -> Result<Member, ActorProcessingErr> {
        let fence = Arc::new(AtomicBool::new(false));
        let start = ShardStart {
            role,
            setting: self.setting.clone(),
            writer: self.writer.clone(),
            incarnation: self.incarnation,
            fence: fence.clone(),
            replace_thread,
            resident: self.setting.residents(),
        };
        let (actor, _) = ShardActor::spawn_linked(None, ShardActor, start, self.partition.get_cell()).await?;
        Ok(Member { actor, progress, observed: Observed::default(), fence })
    }
}

/// A shard as its partition sees it.
pub struct Member {
    pub actor: ActorRef<ShardMessage>,
    pub progress: Arc<Progress>,
    pub observed: Observed,
    pub fence: Arc<AtomicBool>,
}

impl Member {
    /// Gives the shard up: the writer takes nothing more from it. If its fold hangs, its thread is left behind.
    pub fn give_up(&self) {
        self.fence.store(true, Ordering::Release);
        self.actor.kill();
    }
}

struct Home {
    member: Member,
    /// `own` placement: the key of its aggregate.
    key: Box<[u8]>,
    /// The records of the batch in hand.
    indexes: Vec<u32>,
    hashes: Vec<u64>,
    /// Has applied something since the last collect.
    touched: bool,
    /// The epoch of its last collect.
    epoch: u64,
}

/// All home shards.
pub struct Homes {
    placement: Placement,
    homes: Vec<Option<Home>>,
    /// `own` placement: the shard of each active aggregate. Records without a key go to that of the empty key.
    by_key: HashMap<Box<[u8]>, usize>,
    free: Vec<usize>,
    /// Shards that have records of the batch in hand.
    dealt: Vec<usize>,
    touched: Vec<usize>,
    /// `own` placement: how many shards may stay after a commit.
    own_budget: usize,
    hand: usize,
    suspects: Vec<Suspect>,
}

impl Homes {
    /// Starts the shards; `held` are the cells with waiting or parked events.
    pub async fn start(
        nursery: &Nursery,
        flow: &FlowOptions,
        mut held: HashMap<Cell, Tail>,
        suspects: Vec<Suspect>,
    ) -> Result<Self, ActorProcessingErr> {
        let mut homes = Homes {
            placement: flow.placement,
            homes: Vec::new(),
            by_key: HashMap::new(),
            free: Vec::new(),
            dealt: Vec::new(),
            touched: Vec::new(),
            own_budget: (flow.residency / OWN_SHARD_BYTES).max(16),
            hand: 0,
            suspects,
        };
        if flow.placement == Placement::Shared {
            let count = flow.shards_per_partition;
            for index in 0..count {
                let mine = held.extract_if(|cell, _| shard_of(key_hash(&cell.key), count) == index).collect();
                homes.add(nursery, Box::default(), mine).await?;
            }
        }
        Ok(homes)
    }

    async fn add(
        &mut self,
        nursery: &Nursery,
        key: Box<[u8]>,
        held: HashMap<Cell, Tail>,
    ) -> Result<usize, ActorProcessingErr> {
        let progress = Arc::new(Progress::default());
        let shard = Shard::new(nursery.setting.clone(), progress.clone(), held, self.suspects.clone());
        let member = nursery.start(Role::Home(Box::new(shard)), progress, self.placement == Placement::Shared).await?;
        let home = Home { member, key, indexes: Vec::new(), hashes: Vec::new(), touched: false, epoch: 0 };
        Ok(match self.free.pop() {
            Some(index) => {
                self.homes[index] = Some(home);
                index
            }
            None => {
                self.homes.push(Some(home));
                self.homes.len() - 1
            }
        })
    }

    /// Deals a batch: one `Apply` a shard that has records in it.
    pub async fn deal(&mut self, nursery: &Nursery, batch: &Arc<RecordBatch>) -> Result<(), ActorProcessingErr> {
        for (i, record) in batch.iter().enumerate() {
            let key = record.key.unwrap_or_default();
            let hash = key_hash(key);
            let index = match self.placement {
                Placement::Shared => shard_of(hash, self.homes.len()),
                Placement::Own => self.own(nursery, key).await?,
            };
            let Some(home) = self.homes[index].as_mut() else { continue };
            if home.indexes.is_empty() {
                self.dealt.push(index);
            }
            home.indexes.push(i as u32);
            home.hashes.push(hash);
        }
        for index in self.dealt.drain(..) {
            let Some(home) = self.homes[index].as_mut() else { continue };
            let capacity = home.indexes.len();
            let slice = Slice {
                batch: batch.clone(),
                indexes: std::mem::replace(&mut home.indexes, Vec::with_capacity(capacity)),
                hashes: std::mem::replace(&mut home.hashes, Vec::with_capacity(capacity)),
            };
            if !std::mem::replace(&mut home.touched, true) {
                self.touched.push(index);
            }
            // A shard that is gone is noticed as its supervisor, and the batch is kept until it is committed.
            let _ = home.member.actor.cast(ShardMessage::Apply(slice));
        }
        Ok(())
    }

    /// The shard of one aggregate, started when there is none.
    async fn own(&mut self, nursery: &Nursery, key: &[u8]) -> Result<usize, ActorProcessingErr> {
        if let Some(&index) = self.by_key.get(key) {
            return Ok(index);
        }
        let held = held_of(&nursery.setting, key)?;
        interleave::step_async().await;
        let index = self.add(nursery, key.into(), held).await?;
        self.by_key.insert(key.into(), index);
        Ok(index)
    }

    /// How many shards have something to hand over.
    pub fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Asks those that have applied something since the last collect.
    pub fn collect(&mut self, epoch: u64) {
        for index in self.touched.drain(..) {
            if let Some(home) = self.homes[index].as_mut() {
                home.touched = false;
                home.epoch = epoch;
                let _ = home.member.actor.cast(ShardMessage::Collect { epoch });
            }
        }
    }

    /// The shard in which a cell is at home; `None` when it is not active, and then will read the store when it is.
    pub fn tell(&self, cell: &Cell, message: ShardMessage) -> bool {
        let index = match self.placement {
            Placement::Shared => Some(shard_of(key_hash(&cell.key), self.homes.len())),
            Placement::Own => self.by_key.get(&cell.key).copied(),
        };
        let home = index.and_then(|index| self.homes.get(index)).and_then(Option::as_ref);
        home.is_some_and(|home| home.member.actor.cast(message).is_ok())
    }

    /// `own` placement: lets idle shards go, above the budget. `committed` is the newest committed epoch. A shard stays
    /// while a cell of its aggregate is served apart: only the home knows what it has queued behind that cell.
    pub fn passivate(&mut self, committed: u64, apart: impl Fn(&[u8]) -> bool) {
        let mut steps = self.homes.len();
        if self.placement == Placement::Shared {
            return;
        }
        while self.by_key.len() > self.own_budget && steps > 0 {
            steps -= 1;
            self.hand = (self.hand + 1) % self.homes.len();
            let idle = self.homes[self.hand]
                .as_ref()
                .is_some_and(|home| !home.touched && home.epoch <= committed && !apart(&home.key));
            if idle && let Some(home) = self.homes[self.hand].take() {
                home.member.actor.stop(None);
                self.free.push(self.hand);
                self.by_key.remove(&home.key);
            }
        }
    }

    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.homes.iter_mut().flatten().map(|home| &mut home.member)
    }

    pub fn owns(&self, id: ActorId) -> bool {
        self.homes.iter().flatten().any(|home| home.member.actor.get_id() == id)
    }

    /// Gives all shards up.
    pub fn give_up(&mut self) {
        for home in self.homes.drain(..).flatten() {
            home.member.give_up();
        }
        self.by_key.clear();
        self.free.clear();
        self.dealt.clear();
        self.touched.clear();
    }
}

/// The shared shard of a key. The low bits find a key within a shard, so the high ones choose the shard.
fn shard_of(hash: u64, shards: usize) -> usize {
    ((hash >> 32) as usize) % shards.max(1)
}

/// The tails of one aggregate's cells, read from the store where it holds anything at all.
fn held_of(setting: &Setting, key: &[u8]) -> Result<HashMap<Cell, Tail>, ActorProcessingErr> {
    let totals = setting.generation.view_totals();
    let holds = |view: &usize| totals[*view].books.waiting + totals[*view].books.parked != 0;
    let mut views = (0..totals.len()).filter(holds).peekable();
    if views.peek().is_none() {
        return Ok(HashMap::new());
    }
    let tail = |view: usize| {
        let tail = setting.generation.held_tail(setting.tags[view], key)?;
        Ok(tail.map(|(last, standing)| (Cell { view, key: key.into() }, Tail { last, standing })))
    };
    tokio::task::block_in_place(|| views.filter_map(|view| tail(view).transpose()).collect())
}
