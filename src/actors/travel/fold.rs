//! Folds some keys of one partition into a generation in memory, with the shard that live folds with.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::base::Base;
use super::seed::Seed;
use super::watched::Watch;
use super::{MEMORY, Served, Travel, fold_failed, store_failed};
use crate::actors::board::Cell;
use crate::actors::progress::Progress;
use crate::actors::replay::words::ReplayError;
use crate::actors::residents::key_hash;
use crate::actors::shard::core::{Shard, Tail};
use crate::actors::shard::held::held_cells;
use crate::actors::shard::redrive::{Next, Redrive};
use crate::actors::shard::{Handover, Setting, Slice, Suspect, Unwritable};
use crate::position::{Offset, Position, TopicPartition};
use crate::record::RecordBatch;
use crate::state::{
    Books, Commit, Delta, Generation, Held, HeldChange, Reason, Row, Standing, ViewTag, WriterToken, keys,
};
use crate::views::Definitions;

/// Keys that are taken from a base at once.
const SEED: usize = 512;
/// Waiting events that are copied or looked at in one go.
pub(super) const PAGE: usize = 256;
/// Waits between attempts are this short here: nobody's outage is waited for.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(4));

/// The keys of a fold, each with the bytes that its row takes.
pub(super) type Keys = HashMap<Box<[u8]>, usize, BuildHasherDefault<KeyHasher>>;

/// [`key_hash`] for a table: every record of a scan is looked up once.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= key_hash(bytes);
    }

    /// The length, which the hash of the bytes knows already.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A set of one key.
pub(super) fn one(key: &[u8]) -> Keys {
    std::iter::once((key.into(), 0)).collect()
}

/// One view of some keys, folded up to a position.
pub(super) struct Fold {
    setting: Arc<Setting>,
    token: WriterToken,
    shard: Shard,
    watch: Arc<Watch>,
    progress: Arc<Progress>,
    pub keys: Keys,
    /// Bytes of all rows with their keys.
    bytes: usize,
    epoch: u64,
    /// Offsets whose fold never came back in live: they are not tried here.
    suspects: Vec<Offset>,
    /// Cells that were parked at the base: the mark is all that is here of them.
    parked: HashMap<Cell, Tail>,
    /// What is not to be folded in company.
    marked: Vec<Suspect>,
    /// What was done since it was last asked, and why the last record was set aside.
    account: Account,
    /// Keys with an event that was tried until the attempts were used up: another time it may go in.
    pub fickle: Vec<Box<[u8]>>,
    /// Records of these keys that were folded or set aside.
    pub records: u64,
}

/// What became of some records.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub books: Books,
    pub why: Option<(Reason, String)>,
}

impl Fold {
    /// Takes the rows of `keys` from the base, and what they hold back.
    pub fn begin(
        travel: &Travel<'_>,
        served: &Served,
        live: &Generation,
        base: &Base,
        keys: Keys,
    ) -> Result<Fold, ReplayError> {
        let scratch = travel.store.scratch(live.identity(), std::slice::from_ref(&served.ident), base.position());
        let scratch = scratch.map_err(store_failed)?;
        let definitions: Definitions = Arc::from([served.definition.clone()]);
        let mut setting = travel.topic.setting(&definitions, scratch);
        (setting.retry.initial, setting.retry.max) = RETRY;
        let setting = Arc::new(setting);
        let mut sorted: Vec<&[u8]> = keys.keys().map(|key| &**key).collect();
        sorted.sort_unstable();
        let suspects = suspects(live, served.tag(live)?, &sorted)?;
        let watch = travel.watch.clone();
        watch.folds(live.at(), &served.ident.name, travel.topic.flow.fold_time_limit);
        let progress = watch.progress.clone();
        let token = setting.generation.take_writer();
        let mut seed = Seed::new(&setting, &token);
        if let Some(generation) = &base.generation {
            let tag = served.tag(generation)?;
            for some in sorted.chunks(SEED) {
                seed.take(generation, tag, some)?;
            }
        }
        let Seed { held, waiting, rows, .. } = seed;
        let mut parked = held.clone();
        parked.retain(|_, tail| tail.standing == Standing::Parked);
        let marked: Vec<_> = suspects.iter().map(|&offset| Suspect::Fold { view: 0, offset }).collect();
        let shard = Shard::new(setting.clone(), progress.clone(), held, marked.clone());
        let mut fold = Fold {
            setting,
            token,
            shard,
            watch,
            progress,
            keys,
            bytes: 0,
            epoch: 0,
            suspects,
            parked,
            marked,
            account: Account::default(),
            fickle: Vec::new(),
            records: 0,
        };
        for (key, bytes) in rows {
            fold.measure(&key, bytes)?;
        }
        for cell in waiting {
            fold.redrive(&cell)?;
        }
        fold.account = Account::default();
        Ok(fold)
    }

    pub fn at(&self) -> &TopicPartition {
        &self.setting.at
    }

    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// The same, to be kept while the fold goes on.
    pub fn shared(&self) -> Arc<Setting> {
        self.setting.clone()
    }

    /// The rows as they are now.
    pub fn generation(&self) -> &Generation {
        &self.setting.generation
    }

    pub fn tag(&self) -> ViewTag {
        self.setting.tags[0]
    }

    /// Where it is to be seen from outside which event is being folded.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// One row as it is now.
    pub fn row(&self, key: &[u8]) -> Result<Option<Row>, ReplayError> {
        self.generation().snapshot_read().get(self.tag(), key).map_err(store_failed)
    }

    /// What has been done since the last call.
    pub fn account(&mut self) -> Account {
        std::mem::take(&mut self.account)
    }

    /// Which of the first `below` records of the batch are of these keys.
    pub fn mine(&self, batch: &RecordBatch, below: usize) -> Vec<u32> {
        let mine = |index: &u32| batch.get(*index as usize).key.is_some_and(|key| self.keys.contains_key(key));
        (0..below as u32).filter(mine).collect()
    }

    /// Folds those of the first `below` records of the batch that are of these keys.
    pub fn take(&mut self, batch: RecordBatch, below: usize) -> Result<(), ReplayError> {
        let indexes = self.mine(&batch, below);
        self.fold(&Arc::new(batch), indexes)
    }

    /// Folds the records at these indexes of the batch, and tries what waits until it is applied or parked.
    pub fn fold(&mut self, batch: &Arc<RecordBatch>, indexes: Vec<u32>) -> Result<(), ReplayError> {
        self.watch.check()?;
        let Some(&last) = indexes.last() else { return Ok(()) };
        self.records += indexes.len() as u64;
        let hashes = indexes.iter().map(|&i| key_hash(batch.get(i as usize).key.unwrap_or_default())).collect();
        let position = batch.get(last as usize).offset.next();
        let slice = Slice { batch: batch.clone(), indexes, hashes };
        self.epoch += 1;
        let mut handover = self.hand_over(&slice, position)?;
        for change in &handover.delta.held {
            if let HeldChange::Put(held) = change {
                self.account.why = Some((held.reason, held.detail.clone()));
            }
        }
        // What queues behind a parked event stays where it is, and nobody looks for it here.
        handover.delta.held.retain(|change| !matches!(change, HeldChange::Put(held) if stays(held)));
        self.commit(handover.delta, position)?;
        for cell in handover.waiting {
            self.redrive(&cell)?;
        }
        Ok(())
    }

    /// Tries the waiting events of a cell until none waits.
    fn redrive(&mut self, cell: &Cell) -> Result<(), ReplayError> {
        let mut redrive = Redrive::new(self.setting.clone(), self.progress.clone(), cell.clone(), None);
        loop {
            if self.hangs(cell)? {
                return self.park(cell);
            }
            let (mut delta, next) = quietly(|| redrive.step()).map_err(fold_failed)?;
            for change in &delta.held {
                if let HeldChange::Put(held) = change
                    && held.reason != Reason::Behind
                {
                    self.account.why = Some((held.reason, held.detail.clone()));
                }
            }
            if !delta.is_empty() {
                delta.sort();
                let position = self.generation().applied();
                self.commit(delta, position)?;
            }
            match next {
                Next::More => {}
                Next::After(wait) => std::thread::sleep(wait.min(2 * RETRY.1)),
                Next::Drained(_) => {
                    let back = self.shard.release(cell, Some(Offset(u64::MAX)));
                    return back.map(|_| ()).map_err(store_failed);
                }
                Next::Parked => {
                    self.fickle.push(cell.key.clone());
                    self.shard.park(cell);
                    return Ok(());
                }
            }
        }
    }

    /// The next event of the cell is one whose fold did not come back in live.
    fn hangs(&self, cell: &Cell) -> Result<bool, ReplayError> {
        if self.suspects.is_empty() {
            return Ok(false);
        }
        // Within a step many are tried: one further back counts too.
        let waiting = self.generation().held_of(self.tag(), &cell.key, Offset(0), PAGE).map_err(store_failed)?;
        Ok(waiting.iter().any(|held| held.standing == Standing::Waiting && self.suspects.contains(&held.offset)))
    }

    /// Parks what waits without trying it.
    fn park(&mut self, cell: &Cell) -> Result<(), ReplayError> {
        let mut from = Offset(0);
        loop {
            let held = self.generation().held_of(self.tag(), &cell.key, from, PAGE).map_err(store_failed)?;
            let Some(last) = held.last() else { break };
            from = Offset(last.offset.0 + 1);
            let mut delta = Delta::new(1);
            for held in held.into_iter().filter(|held| held.standing == Standing::Waiting) {
                delta.views[0].books.waiting -= 1;
                delta.views[0].books.parked += 1;
                delta.held.push(HeldChange::Put(Held { standing: Standing::Parked, ..held }));
            }
            let position = self.generation().applied();
            self.commit(delta, position)?;
        }
        self.fickle.push(cell.key.clone());
        self.shard.park(cell);
        Ok(())
    }

    fn commit(&mut self, delta: Delta, position: Position) -> Result<(), ReplayError> {
        self.account.books += delta.views[0].books;
        let mut sizes = Vec::with_capacity(delta.len());
        for (stored_key, value) in delta.rows() {
            let key = keys::split_row_key(stored_key).map_or(&[] as &[u8], |(_, key)| key);
            sizes.push((key.into(), value.map_or(0, |value| stored_key.len() + value.len())));
        }
        let commit = Commit { deltas: vec![delta], position, last: None };
        self.generation().commit(&self.token, &commit).map_err(store_failed)?;
        self.setting.committed.store(self.epoch, Ordering::Release);
        sizes.into_iter().try_for_each(|(key, bytes): (Box<[u8]>, usize)| self.measure(&key, bytes))
    }

    /// Folds the slice. A row that cannot be handed over is lost to the shard and not to the store: another shard begins
    /// there, and the events of that row are tried one by one, as in live.
    fn hand_over(&mut self, slice: &Slice, below: Position) -> Result<Handover, ReplayError> {
        loop {
            quietly(|| self.shard.apply(slice)).map_err(fold_failed)?;
            let Unwritable { cell, why } = match quietly(|| self.shard.collect(self.epoch)) {
                Ok(handover) => return Ok(handover),
                Err(row) => row,
            };
            let suspect = Suspect::Row { cell, below, why };
            if self.marked.contains(&suspect) {
                let why = format!("a row cannot be handed over, nor its events be left out: {suspect:?}");
                return Err(ReplayError::Failed(why));
            }
            self.marked.push(suspect);
            let (mut held, _) = held_cells(&self.setting).map_err(store_failed)?;
            held.extend(self.parked.clone());
            self.shard = Shard::new(self.setting.clone(), self.progress.clone(), held, self.marked.clone());
        }
    }

    /// Counts the row's bytes; too many are the end of the question.
    fn measure(&mut self, key: &[u8], bytes: usize) -> Result<(), ReplayError> {
        if let Some(before) = self.keys.get_mut(key) {
            self.bytes = self.bytes + bytes - std::mem::replace(before, bytes);
        }
        if self.bytes <= MEMORY {
            return Ok(());
        }
        Err(ReplayError::Refused(format!(
            "{}: the rows of {} keys that have to be folded take more than {} MiB: ask for a shorter range",
            self.at(),
            self.keys.len(),
            MEMORY >> 20
        )))
    }
}

/// The events of these keys whose fold did not come back in live, where they are parked for it.
fn suspects(live: &Generation, tag: ViewTag, keys: &[&[u8]]) -> Result<Vec<Offset>, ReplayError> {
    let mut found = Vec::new();
    if live.view_totals().iter().any(|view| view.view == tag && view.books.parked == 0) {
        return Ok(found);
    }
    for key in keys {
        // Only the first can have been tried: the others queue behind it.
        let first = live.held_of(tag, key, Offset(0), 1).map_err(store_failed)?;
        found.extend(first.iter().filter(|held| held.reason == Reason::Overran).map(|held| held.offset));
    }
    Ok(found)
}

/// Whether a record that was set aside needs no place in memory: nothing will ever be done with it here.
fn stays(held: &Held) -> bool {
    held.standing == Standing::Dead || (held.standing == Standing::Parked && held.reason == Reason::Behind)
}

/// What live has said of an event need not be said again by whoever looks at it.
fn quietly<T>(act: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), act)
}
