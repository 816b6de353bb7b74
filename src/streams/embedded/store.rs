//! The embedded log's RocksDB: its directory, its lock, its settings, and the one way to scan records.
//!
//! ```text
//! <dir>/FORMAT   the format's version, in words; read before anything else is touched
//! <dir>/lock     held exclusively for as long as the log is open
//! <dir>/db/      RocksDB
//! ```

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator,
    DBRecoveryMode, FlushOptions, LogLevel, Options, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::keys::{self, RECORDS, Slot};
use super::wal;
use crate::position::TopicPartition;
use crate::streams::{Error, Result};

/// The newest format that this program writes and reads.
pub(super) const FORMAT: u32 = 1;

const MIB: usize = 1 << 20;

/// Fields are dropped in order: the lock goes after the database that it guards.
pub(super) struct Store {
    db: DB,
    path: String,
    _lock: File,
}

impl Store {
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Store> {
        let path = dir.display().to_string();
        let broken =
            |what: &str, e: &dyn std::fmt::Display| Error::Storage { reason: format!("{what} in {path}: {e}") };
        create_dirs(dir).map_err(|e| broken("cannot create the log's directory", &e))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(|e| broken("cannot open `lock`", &e))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Error::InUse { path: path.clone() },
            TryLockError::Error(e) => broken("cannot lock `lock`", &e),
        })?;
        let new = check_format(dir)?;
        check_wal(dir)?;
        let (mut options, records) = settings(cache_bytes);
        // A log that lost files is never replaced by an empty one.
        options.create_if_missing(new);
        options.create_missing_column_families(new);
        let families = [
            ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, options.clone()),
            ColumnFamilyDescriptor::new(RECORDS, records),
        ];
        let db = DB::open_cf_descriptors(&options, dir.join("db"), families).map_err(|e| {
            broken("RocksDB cannot open `db`; restore it from a copy if files are missing or damaged", &e)
        })?;
        if new {
            // Whoever made the directory may not have come this far.
            sync_dir(parent_of(dir)).map_err(|e| broken("cannot make the log's directory durable", &e))?;
            write_format(dir).map_err(|e| broken("cannot write `FORMAT`", &e))?;
        }
        Ok(Store { db, path, _lock: lock })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    fn records(&self) -> Result<&ColumnFamily> {
        self.db
            .cf_handle(RECORDS)
            .ok_or_else(|| Error::Storage { reason: format!("{}: the column family `{RECORDS}` is gone", self.path) })
    }

    fn failed(&self, what: &str, e: &rocksdb::Error) -> Error {
        Error::Storage { reason: format!("{}: {what}: {e}", self.path) }
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get(key).map_err(|e| self.failed("a read failed", &e))
    }

    /// Adds a record to a batch.
    pub fn put_record(&self, batch: &mut WriteBatch, slot: Slot, offset: u64, stored: &[u8]) -> Result<()> {
        batch.put_cf(self.records()?, keys::record_key(slot, offset), stored);
        Ok(())
    }

    pub fn write(&self, batch: WriteBatch, sync: bool) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options).map_err(|e| self.failed("a write failed", &e))
    }

    /// Makes everything written so far survive a power cut.
    pub fn sync(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(|e| self.failed("fsync of the write-ahead log failed", &e))
    }

    /// Moves what is in the write-ahead log into tables.
    fn flush(&self) -> Result<()> {
        let records = self.records()?;
        let default = self.db.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME);
        let families: Vec<_> = default.into_iter().chain([records]).collect();
        self.db
            .flush_cfs_opt(&families, &FlushOptions::default())
            .map_err(|e| self.failed("moving records into tables failed", &e))
    }

    /// Drops the records and blocks below `start`. What `batch` holds goes in with it, in one write.
    ///
    /// The range begins at 0 each time, so that no later drop of whole files can uncover what an earlier one hid.
    pub fn drop_below(&self, mut batch: WriteBatch, slot: Slot, start: u64, sync: bool) -> Result<()> {
        let records = self.records()?;
        batch.delete_range_cf(records, keys::record_key(slot, 0), keys::record_key(slot, start));
        batch.delete_range(keys::block_key(slot, 0), keys::block_key(slot, start + 1));
        self.write(batch, sync)?;
        // RocksDB counts the end of this range in, so it must name the last record that goes.
        self.db
            .delete_file_in_range_cf(records, keys::record_key(slot, 0), keys::record_key(slot, start.max(1) - 1))
            .map_err(|e| self.failed("dropping old files failed", &e))
    }

    /// Changes or deletes a stored record behind the log's back.
    #[cfg(test)]
    pub fn change_record(&self, slot: Slot, offset: u64, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        let (family, key) = (self.records().unwrap(), keys::record_key(slot, offset));
        let stored = self.db.get_cf(family, key).unwrap().unwrap();
        match change(stored) {
            Some(stored) => self.db.put_cf(family, key, stored).unwrap(),
            None => self.db.delete_cf(family, key).unwrap(),
        }
    }

    /// Makes one table of all records.
    #[cfg(test)]
    pub fn compact(&self) {
        let family = self.records().unwrap();
        self.db.flush_cf(family).unwrap();
        let mut options = rocksdb::CompactOptions::default();
        options.set_change_level(true);
        options.set_target_level(6);
        self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
    }

    /// The offset of the last record of a partition that is still stored.
    pub fn last_offset(&self, at: &TopicPartition, slot: Slot) -> Result<Option<u64>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::record_key(slot, 0));
        let mut iterator = self.db.raw_iterator_cf_opt(self.records()?, options);
        iterator.seek_for_prev(keys::record_key(slot, u64::MAX));
        let last = iterator.key().and_then(keys::record_offset);
        iterator.status().map_err(|e| Error::Storage {
            reason: format!("{at}: its last record cannot be read: {e} (restore {} from a copy)", self.path),
        })?;
        Ok(last)
    }

    /// An iterator over a range of the `default` family.
    pub fn entries(&self, range: Range<Vec<u8>>) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.end);
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek(range.start);
        iterator
    }

    /// Hands the stored bytes of the records `range` to `visit`, in order, until it breaks. Offsets are dense in this
    /// log, so a missing record is damage and is reported.
    pub fn scan(
        &self,
        at: &TopicPartition,
        slot: Slot,
        range: Range<u64>,
        mut visit: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::record_key(slot, range.end));
        options.fill_cache(false);
        let mut iterator = self.db.raw_iterator_cf_opt(self.records()?, options);
        iterator.seek(keys::record_key(slot, range.start));
        for offset in range {
            let Some((key, stored)) = iterator.item() else {
                iterator.status().map_err(|e| damaged(at, offset, &e))?;
                return Err(damaged(at, offset, &"it is missing"));
            };
            if keys::record_offset(key) != Some(offset) {
                return Err(damaged(at, offset, &"it is missing"));
            }
            if visit(offset, stored)?.is_break() {
                break;
            }
            iterator.next();
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(e) = self.sync() {
            tracing::error!(error = %e, "the embedded log could not be made durable when it was closed");
        }
        // A table knows how long it is, and a write-ahead log does not: damage at its end looks as if a crash had torn
        // it. So a log that rests has nothing in there. Opening would do the same work.
        if let Err(e) = self.flush() {
            tracing::warn!(error = %e, "the embedded log leaves records in its write-ahead log");
        }
    }
}

/// The error for a record that cannot be read.
pub(super) fn damaged(at: &TopicPartition, offset: u64, why: &dyn std::fmt::Display) -> Error {
    Error::Storage {
        reason: format!(
            "the record at {at} offset {offset} cannot be read: {why} (restore the log's directory from a copy; \
             records before and after it are not affected)"
        ),
    }
}

/// Settings of the database and of the `records` family. Memtables and block cache share `cache_bytes`.
fn settings(cache_bytes: usize) -> (Options, Options) {
    let cache = Cache::new_lru_cache(cache_bytes.max(MIB));
    let memtables = (cache_bytes / 2).max(MIB);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_block_size(32 << 10);
    let mut options = Options::default();
    options.set_atomic_flush(true);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(memtables, false, cache));
    options.set_write_buffer_size((memtables / 2).clamp(MIB, 64 * MIB));
    options.set_max_total_wal_size(256 * MIB as u64);
    options.set_track_and_verify_wals_in_manifest(true);
    // A tail that a crash has torn is cut off; anything else that is wrong keeps the log from opening. RocksDB's default
    // would drop whatever stands behind a bad byte, acknowledged or not.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bytes_per_sync(MIB as u64);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(4);
    options.set_log_level(LogLevel::Warn);
    options.set_block_based_table_factory(&table);
    let records = options.clone();
    (options, records)
}

/// Reads `FORMAT`; true when there is no log here yet. The file is written once the database is made, so a crash
/// between the two leaves a database without records, which is as good as none.
fn check_format(dir: &Path) -> Result<bool> {
    let file = dir.join("FORMAT");
    let broken = |reason: String| Error::Storage { reason: format!("{}: {reason}", file.display()) };
    match fs::read_to_string(&file) {
        Ok(text) => {
            let version = text.trim().strip_prefix("segno embedded log, format ");
            match version.and_then(|v| v.parse::<u32>().ok()) {
                Some(found) if found > FORMAT => Err(Error::Newer { found, known: FORMAT }),
                Some(FORMAT) => Ok(false),
                _ => Err(broken(format!("not a format that this program knows: `{}`", text.trim().escape_debug()))),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match holds_records(&dir.join("db")) {
            Ok(false) => Ok(true),
            Ok(true) => Err(broken("missing, although there is a log beside it: restore the file from a copy".into())),
            Err(e) => Err(broken(format!("missing, and `db` beside it cannot be read: {e}"))),
        },
        Err(e) => Err(broken(format!("cannot read: {e}"))),
    }
}

/// Refuses a write-ahead log with damage in it: RocksDB would not tell some of it from what a crash leaves, and opening
/// alone would throw away all that stands behind.
fn check_wal(dir: &Path) -> Result<()> {
    let broken = |reason: String| Error::Storage { reason };
    match wal::check(&dir.join("db")) {
        Ok(None) => Ok(()),
        Ok(Some(wal::Damage { file, at })) => Err(broken(format!(
            "the write-ahead log {} is damaged at byte {at}: restore {} from a copy, or give up the records from there on \
             (`truncate --size={at}` cuts them off)",
            file.display(),
            dir.display()
        ))),
        Err(e) => Err(broken(format!("{}: the write-ahead logs cannot be read: {e}", dir.display()))),
    }
}

/// Whether a database's directory has tables, or a write-ahead log with something in it.
fn holds_records(db: &Path) -> std::io::Result<bool> {
    if !db.exists() {
        return Ok(false);
    }
    for entry in fs::read_dir(db)? {
        let entry = entry?;
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some("sst") || (extension == Some("log") && entry.metadata()?.len() > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_format(dir: &Path) -> std::io::Result<()> {
    let new = dir.join("FORMAT.new");
    let mut file = File::create(&new)?;
    writeln!(file, "segno embedded log, format {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&new, dir.join("FORMAT"))?;
    sync_dir(dir)
}

/// Makes `dir` and what is missing above it, and makes the new entries durable: a power cut right after the first append
/// must not take the directory that it is in.
fn create_dirs(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    create_dirs(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(e),
        _ => {}
    }
    sync_dir(parent)
}

fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
