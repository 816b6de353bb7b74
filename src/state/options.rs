//! How RocksDB is set up, for the whole process and for one generation.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    ReadOptions, WriteBufferManager, WriteOptions,
};

use crate::state::keys::FAMILIES;

const MIB: usize = 1024 * 1024;

/// What a crash may take back. The log always supplies it again; this decides how much it has to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Durability {
    /// No write-ahead log: after a crash the store is back at its last flush, consistent, and the log is read again
    /// from there.
    #[default]
    Log = 1,
    /// A write-ahead log without fsync: a killed process loses nothing, a power cut loses the tail.
    Wal = 2,
    /// A write-ahead log with an fsync for every commit.
    WalSync = 3,
}

impl Durability {
    pub(crate) fn from_number(number: u8) -> Option<Durability> {
        [Durability::Log, Durability::Wal, Durability::WalSync].into_iter().find(|d| *d as u8 == number)
    }
}

/// How the store's files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    None,
    #[default]
    Lz4,
    Zstd,
}

/// The store's share of memory and files. Sizes are bytes for the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    pub durability: Durability,
    /// Blocks, indexes and filters that were read.
    pub block_cache: usize,
    /// Rows that are not yet in files. A soft bound: a flush starts when it is nearly reached.
    pub memtables: usize,
    pub compression: Compression,
    /// Per generation; -1 keeps all files open.
    pub max_open_files: i32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            durability: Durability::Log,
            block_cache: 128 * MIB,
            memtables: 128 * MIB,
            compression: Compression::Lz4,
            max_open_files: 512,
        }
    }
}

/// What all databases of the process share.
pub(crate) struct Shared {
    pub options: StoreOptions,
    pub cache: Cache,
    pub memtables: WriteBufferManager,
}

impl Shared {
    pub fn new(options: StoreOptions) -> Shared {
        // Memtables are charged to the cache, so that one bound holds for both. Stalling writers is left to RocksDB's
        // own limits: a generation that waits for an idle one's memory would wait for that one's next flush.
        let cache = Cache::new_hyper_clock_cache(options.block_cache + options.memtables, 0);
        let memtables =
            WriteBufferManager::new_write_buffer_manager_with_cache(options.memtables, false, cache.clone());
        Shared { options, cache, memtables }
    }

    /// Options of one generation's database.
    pub fn database(&self) -> Options {
        let mut options = quiet();
        // Without it, a flush could store rows without the position that belongs to them.
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(&self.memtables);
        options.set_max_open_files(self.options.max_open_files);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(MIB as u64);
        options.set_max_manifest_file_size(8 * MIB);
        options
    }

    /// The families of one generation.
    pub fn families(&self) -> Vec<ColumnFamilyDescriptor> {
        FAMILIES.iter().map(|name| ColumnFamilyDescriptor::new(*name, self.family())).collect()
    }

    fn family(&self) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(8 * 1024);
        table.set_bloom_filter(10.0, false);
        table.set_optimize_filters_for_memory(true);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);

        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_compression_type(match self.options.compression {
            Compression::None => DBCompressionType::None,
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::Zstd => DBCompressionType::Zstd,
        });
        // The process-wide bound decides when many generations write; a single one must not fill it alone.
        options.set_write_buffer_size((self.options.memtables / 4).clamp(MIB, 64 * MIB));
        options.set_arena_block_size(256 * 1024);
        options.set_max_write_buffer_number(4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options
    }

    pub fn writing(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.disable_wal(self.options.durability == Durability::Log);
        options.set_sync(self.options.durability == Durability::WalSync);
        options
    }
}

/// Options of the control database: tiny, and every write is on disk when it returns.
pub(crate) fn control() -> Options {
    let mut options = quiet();
    options.create_if_missing(true);
    options.set_write_buffer_size(MIB);
    options.set_max_open_files(16);
    // Nothing that was decided is undone by a bad byte: RocksDB's default would drop all that stands behind it.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options
}

/// Common to all: checks everything, writes little beside the data.
fn quiet() -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(MIB);
    // RocksDB would reserve 4 MiB of disk for it, in each of many databases.
    options.set_manifest_preallocation_size(64 * 1024);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Reads check what they read.
pub(crate) fn reading(fill_cache: bool) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(fill_cache);
    options
}
