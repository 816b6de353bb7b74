//! The control store: a small database whose every write is durable when it returns. It says which generation of each
//! partition is live, which one was before, which others there are, and how far each job is.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};

use crate::position::TopicPartition;
use crate::state::codec::{Bytes, Malformed};
use crate::state::error::Error;
use crate::state::record::{Built, Live};
use crate::state::{keys, options, paths};

/// The format of the data directory as a whole. Format 1 knew one generation a partition and no jobs.
pub(crate) const FORMAT: u32 = 2;

pub(crate) struct Control {
    pub(super) db: DB,
    pub(super) path: PathBuf,
    /// Held by those who read in order to write.
    writes: Mutex<()>,
}

/// Reads and writes with no other writer in between.
pub(crate) struct Change<'a> {
    control: &'a Control,
    batch: WriteBatch,
    _alone: MutexGuard<'a, ()>,
}

impl Control {
    /// Opens the control store, creating it when it is not there, and brings one of an older format up to date.
    pub fn open(root: &Path) -> Result<Control, Error> {
        let path = paths::control(root);
        paths::create_dirs(&path)?;
        let db = DB::open(&options::control(), &path).map_err(|error| Error::rocks(&path, error))?;
        let control = Control { db, path, writes: Mutex::default() };
        if control.format()? != Some(FORMAT) {
            // An older program refuses the directory from here on, so it must find nothing half changed.
            let mut change = control.change();
            for at in control.partitions()? {
                if let Some(live) = control.live(&at)? {
                    change.set_live(&at, live);
                }
            }
            change.batch.put(keys::control_format(), FORMAT.to_be_bytes());
            change.write()?;
        }
        Ok(control)
    }

    pub fn read_only(root: &Path) -> Result<Control, Error> {
        let path = paths::control(root);
        if !paths::holds_database(&path) {
            return Err(Error::Missing { path: root.to_owned() });
        }
        let db = DB::open_for_read_only(&options::control(), &path, false);
        let control = Control { db: db.map_err(|error| Error::rocks(&path, error))?, path, writes: Mutex::default() };
        control.format()?;
        Ok(control)
    }

    /// The stored format, if it is one that this program knows.
    fn format(&self) -> Result<Option<u32>, Error> {
        let found = self.read(&keys::control_format(), "control store", |stored| Bytes::new("format", stored).u32())?;
        match found {
            Some(found) if found > FORMAT => Err(Error::Newer { found, known: FORMAT, path: self.path.clone() }),
            found => Ok(found),
        }
    }

    /// The live generation of a partition.
    pub fn live(&self, at: &TopicPartition) -> Result<Option<Live>, Error> {
        self.read(&live_key(at), at, Live::decode)
    }

    /// What the generation of this number is, unless it is live or previous, or was never made.
    pub fn built(&self, at: &TopicPartition, number: u64) -> Result<Option<Built>, Error> {
        self.read(&built_key(at, number), format_args!("{at}, generation {number}"), Built::decode)
    }

    /// All generations that are neither live nor previous.
    pub fn all_built(&self) -> Result<Vec<(TopicPartition, u64)>, Error> {
        self.range(keys::CONTROL_BUILTS, |key, _| keys::parse_control_built(key))
    }

    /// All partitions that have a live generation, in order.
    pub fn partitions(&self) -> Result<Vec<TopicPartition>, Error> {
        let mut found = self.range(keys::CONTROL_LIVES, |key, _| keys::parse_control_live(key))?;
        found.sort();
        Ok(found)
    }

    /// All jobs with their records, oldest first.
    pub fn jobs(&self) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        self.range(keys::CONTROL_JOBS, |key, record| Ok((keys::parse_control_job(key)?, record.to_vec())))
    }

    /// The number that the next job gets.
    pub fn next_job(&self) -> Result<u64, Error> {
        let stored = self.read(&keys::control_next_job(), "next job", |stored| Bytes::new("number", stored).u64())?;
        Ok(stored.unwrap_or(1))
    }

    /// Begins a change. What it reads does not change until it is written or dropped.
    pub fn change(&self) -> Change<'_> {
        // A thread that panicked while it held the lock has written its whole batch or nothing of it.
        let alone = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        Change { control: self, batch: WriteBatch::default(), _alone: alone }
    }

    fn read<T>(
        &self,
        key: &[u8],
        what: impl std::fmt::Display,
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        let stored = self.db.get_opt(key, &options::reading(true)).map_err(|error| Error::rocks(&self.path, error))?;
        let read = stored.map(|stored| decode(&stored)).transpose();
        read.map_err(|error| Error::malformed(&self.path, what, &error))
    }

    fn range<T>(
        &self,
        (start, end): (&[u8], &[u8]),
        mut each: impl FnMut(&[u8], &[u8]) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let mut reading = options::reading(true);
        reading.set_iterate_lower_bound(start);
        reading.set_iterate_upper_bound(end);
        let mut found = Vec::new();
        for item in self.db.iterator_opt(IteratorMode::Start, reading) {
            let (key, value) = item.map_err(|error| Error::rocks(&self.path, error))?;
            found.push(each(&key, &value).map_err(|error| Error::malformed(&self.path, "control store", &error))?);
        }
        Ok(found)
    }
}

impl Change<'_> {
    pub fn set_live(&mut self, at: &TopicPartition, live: Live) {
        self.batch.put(live_key(at), live.encode());
    }

    /// `None` when the generation is no longer beside the live one, or no longer there at all.
    pub fn set_built(&mut self, at: &TopicPartition, number: u64, built: Option<Built>) {
        match built {
            Some(built) => self.batch.put(built_key(at, number), built.encode()),
            None => self.batch.delete(built_key(at, number)),
        }
    }

    pub fn put_job(&mut self, id: u64, record: &[u8]) {
        self.batch.put(keys::control_job(id), record);
    }

    pub fn set_next_job(&mut self, id: u64) {
        self.batch.put(keys::control_next_job(), id.to_be_bytes());
    }

    /// Writes everything at once; durable when it returns.
    pub fn write(self) -> Result<(), Error> {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.control.db.write_opt(self.batch, &synced).map_err(|error| Error::rocks(&self.control.path, error))
    }
}

fn live_key(at: &TopicPartition) -> Vec<u8> {
    let mut key = Vec::new();
    keys::control_live(at, &mut key);
    key
}

fn built_key(at: &TopicPartition, number: u64) -> Vec<u8> {
    let mut key = Vec::new();
    keys::control_built(at, number, &mut key);
    key
}
