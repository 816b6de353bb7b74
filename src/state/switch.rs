//! Which generation is live: asked, switched for many partitions at once, and the way back kept or given up. And the
//! jobs, whose end is part of a switch.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::position::{Position, Timestamp, TopicPartition};
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::meta::StoredView;
use crate::state::paths;
use crate::state::record::{Built, Live, Previous};
use crate::state::slots::{Entered, Shown};
use crate::state::store::Store;

/// The live generation of a partition, as anybody may ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveInfo {
    pub number: u64,
    /// The way back, as long as it is kept.
    pub previous: Option<Previous>,
    pub position: Position,
    /// Those in use.
    pub views: Vec<StoredView>,
}

/// A partition that gets another live generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    pub at: TopicPartition,
    /// A complete shadow, or the previous generation.
    pub to: u64,
}

impl Store {
    /// The live generation of a partition, whether it is open in this process or not; waits while it is being opened or
    /// closed. `None` when the partition has none yet.
    pub fn live(&self, at: &TopicPartition) -> Result<Option<LiveInfo>, Error> {
        let Some(live) = self.control.live(at)?.filter(|live| live.ready) else { return Ok(None) };
        let path = paths::generation(&paths::partition(&self.root.path, at)?, live.number);
        let info = |views: &[StoredView], position| {
            let Live { number, previous, .. } = live;
            LiveInfo { number, previous, position, views: views.to_vec() }
        };
        match self.root.slots.enter(&path) {
            Entered::Open(shown) => {
                let Shown { views, applied } = &*shown;
                Ok(Some(info(views, Position(applied.load(Ordering::Acquire)))))
            }
            // Kept until everything is read, so that nobody opens it for writing meanwhile.
            Entered::Slot(_slot) => {
                if !paths::holds_database(&path) {
                    return Err(Error::GenerationMissing { at: at.clone(), number: live.number, path });
                }
                let generation = Generation::read_only(&self.root, path, live.number)?;
                Ok(Some(info(generation.views(), generation.applied())))
            }
        }
    }

    /// Makes other generations live, all of them and the job's record in one durable write, or none. What was live is
    /// previous from `now` on; what was previous before that, and is not live now, is for [`Store::sweep`].
    ///
    /// What the new generations have not flushed a crash takes back, as it does from any live one. After
    /// [`Error::Undecided`] only the next start can tell what is live: a write that failed may be on the disk all the same.
    pub fn cut_over(&self, switches: &[Switch], now: Timestamp, job: (u64, &[u8])) -> Result<(), Error> {
        let mut change = self.control.change();
        for (index, Switch { at, to }) in switches.iter().enumerate() {
            let refused = |why| Err(Error::NotSwitched { at: at.clone(), number: *to, why });
            if switches[..index].iter().any(|earlier| earlier.at == *at) {
                return refused("the partition is named twice");
            }
            let Some(live) = self.control.live(at)?.filter(|live| live.ready) else {
                return Err(Error::NoGeneration { at: at.clone() });
            };
            if live.number == *to {
                return refused("it is live already");
            }
            let back = live.previous.is_some_and(|previous| previous.number == *to);
            if !back && self.control.built(at, *to)? != Some(Built::Complete) {
                return refused("it was not finished, or it is gone");
            }
            let path = paths::generation(&paths::partition(&self.root.path, at)?, *to);
            if !paths::holds_database(&path) {
                return Err(Error::GenerationMissing { at: at.clone(), number: *to, path });
            }
            if !back {
                change.set_built(at, *to, None);
                if let Some(replaced) = live.previous {
                    change.set_built(at, replaced.number, Some(Built::Condemned));
                }
            }
            let previous = Some(Previous { number: live.number, since: now });
            change.set_live(at, Live { number: *to, previous, ..live });
        }
        let (id, record) = job;
        change.put_job(id, record);
        change.write().map_err(|error| Error::Undecided { path: self.control.path.clone(), reason: error.to_string() })
    }

    /// Gives up the way back: durably first, then the directory goes. Nothing happens when there is none.
    /// [`Error::GenerationOpen`] while somebody reads it.
    pub fn forget_previous(&self, at: &TopicPartition) -> Result<(), Error> {
        let partition = paths::partition(&self.root.path, at)?;
        let Some(number) = self.previous(at)? else { return Ok(()) };
        let Entered::Slot(slot) = self.root.slots.enter(&paths::generation(&partition, number)) else {
            return Err(Error::GenerationOpen { at: at.clone(), number });
        };
        let mut change = self.control.change();
        let Some(live) = self.control.live(at)? else { return Ok(()) };
        if live.previous.is_none_or(|previous| previous.number != number) {
            // Switched meanwhile.
            return Ok(());
        }
        change.set_live(at, Live { previous: None, ..live });
        change.set_built(at, number, Some(Built::Condemned));
        change.write()?;
        self.remove(slot, at, number)
    }

    fn previous(&self, at: &TopicPartition) -> Result<Option<u64>, Error> {
        let live = self.control.live(at)?;
        Ok(live.and_then(|live| live.previous).map(|previous| previous.number))
    }

    /// Stores the record of a job in place of what it had; durable when it returns.
    pub fn put_job(&self, id: u64, record: &[u8]) -> Result<(), Error> {
        let mut change = self.control.change();
        change.put_job(id, record);
        change.write()
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        self.control.jobs()
    }

    /// A number for a new job: from 1 on, and each only once.
    pub fn new_job_id(&self) -> Result<u64, Error> {
        let mut change = self.control.change();
        let id = self.control.next_job()?;
        change.set_next_job(id + 1);
        change.write()?;
        Ok(id)
    }

    /// Bytes that this process may still write on the disk where the data directory lies.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let found = disk(&self.root.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Bytes of that disk, whether they are free or not.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        let found = disk(&self.root.path)?;
        Ok(found.f_blocks.saturating_mul(found.f_frsize))
    }
}

fn disk(path: &Path) -> Result<rustix::fs::StatVfs, Error> {
    rustix::fs::statvfs(path).map_err(|error| Error::io(path, error.into()))
}
