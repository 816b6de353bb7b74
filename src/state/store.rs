//! The store of one process: the lock on the data directory, the memory that all generations share, and the control
//! store that says which generation is live.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::position::TopicPartition;
use crate::state::control::Control;
use crate::state::definitions::ViewIdent;
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::lock::DataLock;
use crate::state::meta::Identity;
use crate::state::options::{Shared, StoreOptions};
use crate::state::paths;
use crate::state::record::Live;
use crate::state::slots::{Entered, Slots};
use crate::state::snapshot::SnapshotDesk;

/// What outlives every generation: they hold it, so that the lock stays until the last one is closed.
pub(crate) struct Root {
    pub shared: Shared,
    pub slots: Arc<Slots>,
    pub path: PathBuf,
    _lock: DataLock,
}

impl Root {
    fn new(options: StoreOptions, path: &Path, lock: DataLock) -> Root {
        Root { shared: Shared::new(options), slots: Arc::default(), path: path.to_owned(), _lock: lock }
    }
}

/// The store, opened by the daemon. One per process and data directory.
pub struct Store {
    pub(super) control: Control,
    pub(super) root: Arc<Root>,
    pub(super) desk: SnapshotDesk,
}

impl Store {
    /// Opens the data directory, creating it when it is not there. [`Error::InUse`] while another process has it.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Arc<Store>, Error> {
        paths::create_dirs(root)?;
        let lock = DataLock::exclusive(root)?;
        let control = Control::open(root)?;
        let root = Root::new(options, root, lock);
        Ok(Arc::new(Store { control, root: Arc::new(root), desk: SnapshotDesk::default() }))
    }

    /// Opens what is there for reading, while no daemon runs: nothing is created or changed. No daemon can start as long
    /// as the answer lives.
    pub fn read_only(root: &Path) -> Result<ReadOnlyStore, Error> {
        let lock = DataLock::shared(root)?;
        let control = Control::read_only(root)?;
        let options = StoreOptions { block_cache: 32 << 20, memtables: 16 << 20, ..StoreOptions::default() };
        let root = Root::new(options, root, lock);
        Ok(ReadOnlyStore { control, root: Arc::new(root) })
    }

    /// Opens the live generation of a partition, or creates its first one.
    ///
    /// `views` are those of the configuration, in its order; each is compared with what the generation was made by. A
    /// view that the generation has and `views` does not is kept and left alone.
    pub fn open_generation(&self, identity: &Identity, views: &[ViewIdent]) -> Result<Arc<Generation>, Error> {
        let at = &identity.at;
        let partition = paths::partition(&self.root.path, at)?;
        let number = self.live_or_first(at, &partition)?.number;
        let path = paths::generation(&partition, number);
        let slot = match self.root.slots.enter(&path) {
            Entered::Slot(slot) => slot,
            Entered::Open(_) => {
                let holder = "another part of this process".to_owned();
                return Err(Error::InUse { path, holder });
            }
        };
        // Asked again: somebody else may have created it while this waited.
        let ready = self.control.live(at)?.is_some_and(|live| live.number == number && live.ready);
        if ready && !paths::holds_database(&path) {
            return Err(Error::GenerationMissing { at: at.clone(), number, path });
        }
        if !ready {
            // Left by a crash during creation: no commit was ever made in it.
            paths::remove_dir(&path)?;
        }
        paths::create_dirs(&path)?;
        let generation = Generation::open(&self.root, slot, number, identity, views)?;
        if !ready {
            let mut change = self.control.change();
            change.set_live(at, Live { ready: true, ..Live::first() });
            change.write()?;
        }
        Ok(generation)
    }

    /// The entry of the live generation; a partition without one gets that of its first.
    fn live_or_first(&self, at: &TopicPartition, partition: &Path) -> Result<Live, Error> {
        let mut change = self.control.change();
        if let Some(live) = self.control.live(at)? {
            return Ok(live);
        }
        if let Some(path) = paths::any_generation(partition)? {
            return Err(Error::Unregistered { at: at.clone(), path });
        }
        let first = Live::first();
        change.set_live(at, first);
        change.write()?;
        Ok(first)
    }

    /// The partitions that the store has a generation of.
    pub fn partitions(&self) -> Result<Vec<TopicPartition>, Error> {
        self.control.partitions()
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.root.path
    }
}

/// A store that nobody writes: what `get`, `list` and `status` use while no daemon runs.
pub struct ReadOnlyStore {
    control: Control,
    root: Arc<Root>,
}

impl ReadOnlyStore {
    /// The partitions that the store has a generation of.
    pub fn partitions(&self) -> Result<Vec<TopicPartition>, Error> {
        self.control.partitions()
    }

    /// Opens the live generation with all its views that were in use when it was last written.
    pub fn generation(&self, at: &TopicPartition) -> Result<Arc<Generation>, Error> {
        let partition = paths::partition(&self.root.path, at)?;
        let Some(live) = self.control.live(at)?.filter(|live| live.ready) else {
            return Err(Error::NoGeneration { at: at.clone() });
        };
        let path = paths::generation(&partition, live.number);
        if !paths::holds_database(&path) {
            return Err(Error::GenerationMissing { at: at.clone(), number: live.number, path });
        }
        Generation::read_only(&self.root, path, live.number).map(Arc::new)
    }
}
