//! The control store: a small database whose every write is durable when it returns. It says which generation of each
//! partition is live.

use std::path::{Path, PathBuf};

use rocksdb::{DB, IteratorMode, WriteOptions};

use crate::position::TopicPartition;
use crate::state::codec::Bytes;
use crate::state::error::Error;
use crate::state::{keys, options, paths};

/// The format of the data directory as a whole.
pub(crate) const FORMAT: u32 = 1;

/// The version byte of the entry of a live generation.
const LIVE_FORMAT: u8 = 1;

/// Which generation serves a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub number: u64,
    /// False while the generation is being created: a crash in between leaves a directory that may be incomplete, and
    /// nothing in it counts yet.
    pub ready: bool,
}

pub(crate) struct Control {
    pub(super) db: DB,
    pub(super) path: PathBuf,
}

impl Control {
    pub fn open(root: &Path) -> Result<Control, Error> {
        let path = paths::control(root);
        paths::create_dirs(&path)?;
        let db = DB::open(&options::control(), &path).map_err(|error| Error::rocks(&path, error))?;
        let control = Control { db, path };
        if control.format()?.is_none() {
            control.put(&keys::control_format(), &FORMAT.to_be_bytes())?;
        }
        Ok(control)
    }

    pub fn read_only(root: &Path) -> Result<Control, Error> {
        let path = paths::control(root);
        if !paths::holds_database(&path) {
            return Err(Error::Missing { path: root.to_owned() });
        }
        let db = DB::open_for_read_only(&options::control(), &path, false);
        let control = Control { db: db.map_err(|error| Error::rocks(&path, error))?, path };
        control.format()?;
        Ok(control)
    }

    /// The stored format, if it is one that this program knows.
    fn format(&self) -> Result<Option<u32>, Error> {
        let Some(stored) = self.get(&keys::control_format())? else { return Ok(None) };
        let mut bytes = Bytes::new("format", &stored);
        let found = bytes.u32().map_err(|error| Error::malformed(&self.path, "control store", &error))?;
        if found > FORMAT {
            return Err(Error::Newer { found, known: FORMAT, path: self.path.clone() });
        }
        Ok(Some(found))
    }

    /// The live generation of a partition.
    pub fn live(&self, at: &TopicPartition) -> Result<Option<Live>, Error> {
        let mut key = Vec::new();
        keys::control_live(at, &mut key);
        let Some(stored) = self.get(&key)? else { return Ok(None) };
        let mut bytes = Bytes::new("live generation", &stored);
        let mut parse = || {
            bytes.version(LIVE_FORMAT)?;
            Ok(Live { number: bytes.u64()?, ready: bytes.u8()? != 0 })
        };
        parse().map(Some).map_err(|error| Error::malformed(&self.path, at, &error))
    }

    pub fn set_live(&self, at: &TopicPartition, live: Live) -> Result<(), Error> {
        let mut key = Vec::new();
        keys::control_live(at, &mut key);
        let mut value = vec![LIVE_FORMAT];
        value.extend_from_slice(&live.number.to_be_bytes());
        value.push(live.ready.into());
        self.put(&key, &value)
    }

    /// All partitions that have a live generation, in order.
    pub fn partitions(&self) -> Result<Vec<TopicPartition>, Error> {
        let mut reading = options::reading(true);
        reading.set_iterate_lower_bound(keys::CONTROL_LIVES.0);
        reading.set_iterate_upper_bound(keys::CONTROL_LIVES.1);
        let mut found = Vec::new();
        for item in self.db.iterator_opt(IteratorMode::Start, reading) {
            let (key, _) = item.map_err(|error| Error::rocks(&self.path, error))?;
            let at = keys::parse_control_live(&key)
                .map_err(|error| Error::malformed(&self.path, "control store", &error))?;
            found.push(at);
        }
        found.sort();
        Ok(found)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.db.get_opt(key, &options::reading(true)).map_err(|error| Error::rocks(&self.path, error))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db.put_opt(key, value, &synced).map_err(|error| Error::rocks(&self.path, error))
    }
}
