//! One complete build of a partition's views, in its own database.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::{ColumnFamily, DB, FlushOptions, Options, WriteBatch};

use crate::position::{Position, TopicPartition};
use crate::state::codec::{Bytes, Malformed};
use crate::state::commit::Written;
use crate::state::definitions::{self, ViewIdent};
use crate::state::delta::{Fingerprint, ViewTag};
use crate::state::error::Error;
use crate::state::meta::{self, Identity, Lineage, Progress, StoredView, ViewTotals};
use crate::state::options::{self, Durability};
use crate::state::slots::{Shown, Slot};
use crate::state::store::Root;
use crate::state::{keys, paths};

/// The state of one partition. Reads may come from any thread; commits come from one writer at a time.
pub struct Generation {
    // The database is closed before the lock on the data directory goes.
    pub(super) db: DB,
    pub(super) path: PathBuf,
    number: u64,
    identity: Identity,
    tags: Vec<ViewTag>,
    pub(super) durability: Durability,
    pub(super) read_only: bool,
    written: Mutex<Written>,
    /// As committed, for whoever asks while a commit holds `written`: a write may wait for the disk.
    totals: Mutex<Vec<ViewTotals>>,
    shown: Arc<Shown>,
    durable: AtomicU64,
    began: AtomicU64,
    lineage: Lineage,
    /// Whoever may write the directory has it alone in this process, until the database is closed.
    slot: Option<Slot>,
    pub(super) root: Arc<Root>,
}

/// The entries of the `meta` family as they are read on opening.
pub(super) struct Opened {
    pub(super) db: DB,
    pub(super) path: PathBuf,
}

impl Generation {
    pub(super) fn open(
        root: &Arc<Root>,
        slot: Slot,
        number: u64,
        identity: &Identity,
        views: &[ViewIdent],
    ) -> Result<Arc<Generation>, Error> {
        let opened = Opened::open(root, slot.path(), true)?;
        let mut generation = opened.for_writing(root, number, identity, views, Position::ZERO)?;
        generation.slot = Some(slot);
        let generation = Arc::new(generation);
        if let Some(slot) = &generation.slot {
            slot.open(&generation, &generation.shown);
        }
        Ok(generation)
    }

    pub(super) fn read_only(root: &Arc<Root>, path: PathBuf, number: u64) -> Result<Generation, Error> {
        let db = DB::open_cf_descriptors_read_only(&root.shared.database(), &path, root.shared.families(), false);
        let opened = Opened { db: db.map_err(|error| newer_or(&path, error))?, path };
        opened.format()?;
        let identity = opened.identity()?.ok_or_else(|| opened.damaged("its identity is missing"))?;
        let views = opened.views()?.into_iter().filter(|view| view.left_at.is_none()).collect();
        let durability = opened.durability()?.unwrap_or_default();
        opened.generation(root, number, identity, views, durability, true)
    }

    /// The partition that this is the state of.
    pub fn at(&self) -> &TopicPartition {
        &self.identity.at
    }

    /// What the generation was made from.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The generation's number among those of its partition.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The directory of the database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tags of the views, in the order in which they were given on opening.
    pub fn tags(&self) -> &[ViewTag] {
        &self.tags
    }

    /// The views as stored, in the same order.
    pub fn views(&self) -> &[StoredView] {
        &self.shown.views
    }

    /// Everything below it is applied and visible to readers.
    pub fn applied(&self) -> Position {
        Position(self.shown.applied.load(Ordering::Acquire))
    }

    /// Everything below it survives a crash of this machine.
    pub fn durable(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    /// The generation has seen nothing below it: 0, unless it was made to begin later, or the log did.
    pub fn began(&self) -> Position {
        Position(self.began.load(Ordering::Acquire))
    }

    /// Where its rows were last taken over from other definitions. Generations of one partition with the same
    /// definitions, lineage and beginning hold the same rows at the same position.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// The last record that was applied.
    pub fn last(&self) -> Option<Fingerprint> {
        self.written().progress.last
    }

    /// What each view holds, as committed, in the order of [`Generation::tags`].
    pub fn view_totals(&self) -> Vec<ViewTotals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A thread that panicked while it held the lock left no half of a change behind: the numbers change only after
    /// RocksDB has taken the whole batch.
    pub(super) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By whoever has committed it, and by whoever has read it before that: a commit can be read a moment before it is
    /// published, and what one reader has seen the next must not be told to be still to come.
    pub(super) fn publish_applied(&self, position: Position) {
        self.shown.applied.fetch_max(position.0, Ordering::AcqRel);
    }

    pub(super) fn publish_totals(&self, totals: &[ViewTotals]) {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).copy_from_slice(totals);
    }

    pub(super) fn publish_began(&self, position: Position) {
        self.began.store(position.0, Ordering::Release);
    }

    pub(super) fn publish_durable(&self, position: Position) {
        self.durable.fetch_max(position.0, Ordering::AcqRel);
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&ColumnFamily, Error> {
        family(&self.db, &self.path, name)
    }

    pub(super) fn rocks(&self, error: rocksdb::Error) -> Error {
        Error::rocks(&self.path, error)
    }

    /// Writes everything that is in memory to files, all families at one point.
    pub(super) fn flush_files(&self) -> Result<(), Error> {
        flush(&self.db, &self.path)
    }
}

impl Opened {
    /// Opens the database for writing.
    pub(super) fn open(root: &Root, path: &Path, create: bool) -> Result<Opened, Error> {
        Opened::open_with(root, root.shared.database(), path, create)
    }

    /// The same with options of one's own.
    pub(super) fn open_with(root: &Root, mut database: Options, path: &Path, create: bool) -> Result<Opened, Error> {
        database.create_if_missing(create);
        database.create_missing_column_families(create);
        let db = DB::open_cf_descriptors(&database, path, root.shared.families());
        Ok(Opened { db: db.map_err(|error| newer_or(path, error))?, path: path.to_owned() })
    }

    /// The generation for `views`, whose descriptions are written where they are new; one that is created begins at
    /// `start`.
    pub(super) fn for_writing(
        self,
        root: &Arc<Root>,
        number: u64,
        identity: &Identity,
        views: &[ViewIdent],
        start: Position,
    ) -> Result<Generation, Error> {
        let found = self.check(identity)?;
        let progress = self.progress()?;
        let matched = definitions::compare(&identity.at, &self.views()?, views, progress.position)?;
        let durability = root.shared.options.durability;

        let mut batch = WriteBatch::default();
        let family = self.family(keys::META)?;
        if found.is_none() {
            batch.put_cf(family, keys::meta_format(), meta::FORMAT.to_be_bytes());
            batch.put_cf(family, keys::meta_identity(), identity.encode());
            if start > Position::ZERO {
                let mut progress = Vec::new();
                Progress { position: start, last: None }.encode(&mut progress);
                batch.put_cf(family, keys::meta_position(), progress);
                batch.put_cf(family, keys::meta_began(), start.0.to_be_bytes());
            }
        }
        for view in &matched.changed {
            batch.put_cf(family, keys::meta_view(view.tag), view.encode());
        }
        if self.durability()? != Some(durability) {
            // Writes with and without the write-ahead log must not lie in memory together: what the old mode left
            // there is in files before the new mode writes.
            self.flush()?;
            batch.put_cf(family, keys::meta_durability(), [durability as u8]);
        }
        if !batch.is_empty() {
            self.db.write_opt(batch, &root.shared.writing()).map_err(|error| Error::rocks(&self.path, error))?;
            self.flush()?;
        }
        self.generation(root, number, identity.clone(), matched.active, durability, false)
    }

    /// The format, if there is one yet. What is stored must be of this program's formats, and must be of `identity`.
    pub(super) fn check(&self, identity: &Identity) -> Result<Option<u32>, Error> {
        let found = self.format()?;
        if let Some(stored) = self.identity()? {
            same_identity(&self.path, &stored, identity)?;
        } else if found.is_some() {
            return Err(self.damaged("its identity is missing"));
        }
        Ok(found)
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&ColumnFamily, Error> {
        family(&self.db, &self.path, name)
    }

    pub(super) fn damaged(&self, why: &str) -> Error {
        Error::Corrupt { path: self.path.clone(), reason: why.to_owned() }
    }

    fn malformed(&self, error: &Malformed) -> Error {
        Error::malformed(&self.path, "meta", error)
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        flush(&self.db, &self.path)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let stored = self.db.get_cf_opt(self.family(keys::META)?, key, &options::reading(true));
        stored.map_err(|error| Error::rocks(&self.path, error))
    }

    fn read<T>(&self, key: &[u8], decode: impl FnOnce(&[u8]) -> Result<T, Malformed>) -> Result<Option<T>, Error> {
        match self.get(key)? {
            Some(stored) => decode(&stored).map(Some).map_err(|error| self.malformed(&error)),
            None => Ok(None),
        }
    }

    fn format(&self) -> Result<Option<u32>, Error> {
        match self.read(&keys::meta_format(), |stored| Bytes::new("format", stored).u32())? {
            Some(found) if found > meta::FORMAT => {
                Err(Error::Newer { found, known: meta::FORMAT, path: self.path.clone() })
            }
            found => Ok(found),
        }
    }

    fn identity(&self) -> Result<Option<Identity>, Error> {
        self.read(&keys::meta_identity(), Identity::decode)
    }

    pub(super) fn progress(&self) -> Result<Progress, Error> {
        Ok(self.read(&keys::meta_position(), Progress::decode)?.unwrap_or_default())
    }

    fn durability(&self) -> Result<Option<Durability>, Error> {
        self.read(&keys::meta_durability(), |stored| {
            let mut bytes = Bytes::new("durability", stored);
            let number = bytes.u8()?;
            Durability::from_number(number).ok_or_else(|| bytes.bad(format!("{number} is unknown")))
        })
    }

    /// All views, in the order of their tags.
    pub(super) fn views(&self) -> Result<Vec<StoredView>, Error> {
        let mut reading = options::reading(true);
        reading.set_iterate_lower_bound(keys::META_VIEWS.0);
        reading.set_iterate_upper_bound(keys::META_VIEWS.1);
        let mut views = Vec::new();
        for item in self.db.iterator_cf_opt(self.family(keys::META)?, reading, rocksdb::IteratorMode::Start) {
            let (key, stored) = item.map_err(|error| Error::rocks(&self.path, error))?;
            let tag = keys::meta_tag(&key).ok_or_else(|| self.damaged("a view's key is too short"))?;
            views.push(StoredView::decode(tag, &stored).map_err(|error| self.malformed(&error))?);
        }
        Ok(views)
    }

    pub(super) fn totals(&self, view: ViewTag) -> Result<ViewTotals, Error> {
        let stored = self.read(&keys::meta_totals(view), |stored| ViewTotals::decode(view, stored))?;
        Ok(stored.unwrap_or_else(|| ViewTotals::zero(view)))
    }

    fn generation(
        self,
        root: &Arc<Root>,
        number: u64,
        identity: Identity,
        views: Vec<StoredView>,
        durability: Durability,
        read_only: bool,
    ) -> Result<Generation, Error> {
        let progress = self.progress()?;
        let began = self.read(&keys::meta_began(), |stored| Bytes::new("beginning", stored).u64())?;
        let lineage = self.read(&keys::meta_lineage(), Lineage::decode)?;
        let mut totals = Vec::with_capacity(views.len());
        for view in &views {
            totals.push(self.totals(view.tag)?);
        }
        // What was read now comes from files: RocksDB writes what it recovers from a write-ahead log to files on
        // opening, and without such a log there is nothing else. A read-only opening leaves the log as it is.
        let position = progress.position.0;
        Ok(Generation {
            db: self.db,
            path: self.path,
            number,
            identity,
            tags: views.iter().map(|view| view.tag).collect(),
            durability,
            read_only,
            totals: Mutex::new(totals.clone()),
            written: Mutex::new(Written::new(progress, totals)),
            shown: Arc::new(Shown { views, applied: AtomicU64::new(position) }),
            durable: AtomicU64::new(position),
            began: AtomicU64::new(began.unwrap_or_default()),
            lineage: lineage.unwrap_or_default(),
            slot: None,
            root: Arc::clone(root),
        })
    }
}

fn family<'a>(db: &'a DB, path: &Path, name: &'static str) -> Result<&'a ColumnFamily, Error> {
    let missing = || Error::Corrupt { path: path.to_owned(), reason: format!("family `{name}` is missing") };
    db.cf_handle(name).ok_or_else(missing)
}

/// Always all families: an atomic flush is atomic only over those that it names.
fn flush(db: &DB, path: &Path) -> Result<(), Error> {
    let mut families = Vec::with_capacity(keys::FAMILIES.len());
    for name in keys::FAMILIES {
        families.push(family(db, path, name)?);
    }
    db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(|error| Error::rocks(path, error))
}

fn same_identity(path: &Path, stored: &Identity, wanted: &Identity) -> Result<(), Error> {
    let at = wanted.at.clone();
    if stored.at != wanted.at {
        return Err(Error::Misplaced { path: path.to_owned(), stored: stored.at.clone(), wanted: at });
    }
    crate::state::check::same_log(stored, &wanted.cluster, wanted.partitions)
}

/// A database that does not open may be one of a newer format, with families that this program does not know: then its
/// `meta` family, which every format has, says so.
fn newer_or(path: &Path, error: rocksdb::Error) -> Error {
    let refused = Error::rocks(path, error);
    if !paths::holds_database(path) || !matches!(refused, Error::Io { .. }) {
        return refused;
    }
    let meta_only = DB::open_cf_for_read_only(&Options::default(), path, [keys::META], false);
    let newer = meta_only.ok().and_then(|db| Opened { db, path: path.to_owned() }.format().err());
    newer.filter(|error| matches!(error, Error::Newer { .. })).unwrap_or(refused)
}
