//! What RocksDB says of itself.

use rocksdb::properties::{
    ACTUAL_DELAYED_WRITE_RATE, BACKGROUND_ERRORS, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_PENDING_COMPACTION_BYTES,
    IS_WRITE_STOPPED, LIVE_SST_FILES_SIZE, NUM_ENTRIES_ACTIVE_MEM_TABLE, NUM_ENTRIES_IMM_MEM_TABLES, PropName,
    num_files_at_level,
};

use crate::state::generation::Generation;
use crate::state::keys::FAMILIES;

/// A generation's health, and the memory of the whole process. Sizes are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// Not yet in files, in this generation.
    pub memtables: u64,
    /// In files.
    pub files: u64,
    /// Files that compaction has not sorted yet; many slow reads down, and in the end stop writes.
    pub l0_files: u64,
    pub pending_compaction: u64,
    /// True while RocksDB takes no writes until compaction has caught up.
    pub write_stopped: bool,
    /// Bytes per second to which RocksDB holds writes; 0 when it does not.
    pub delayed_write_rate: u64,
    pub background_errors: u64,
    /// Of the process: blocks, and memtables, which are charged to the same cache.
    pub block_cache: u64,
    pub block_cache_pinned: u64,
    /// Of the process: memory of all memtables.
    pub all_memtables: u64,
}

impl Generation {
    /// Cheap enough to be asked every second. A number that RocksDB does not give is 0.
    pub fn metrics(&self) -> StoreMetrics {
        let of = |name: &PropName| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let mut metrics = StoreMetrics {
            write_stopped: of(IS_WRITE_STOPPED) != 0,
            delayed_write_rate: of(ACTUAL_DELAYED_WRITE_RATE),
            background_errors: of(BACKGROUND_ERRORS),
            block_cache: self.root.shared.cache.get_usage() as u64,
            block_cache_pinned: self.root.shared.cache.get_pinned_usage() as u64,
            all_memtables: self.root.shared.memtables.get_usage() as u64,
            ..StoreMetrics::default()
        };
        for family in FAMILIES.iter().filter_map(|name| self.db.cf_handle(name)) {
            let of = |name: &PropName| self.db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
            metrics.memtables += of(CUR_SIZE_ALL_MEM_TABLES);
            metrics.files += of(LIVE_SST_FILES_SIZE);
            metrics.pending_compaction += of(ESTIMATE_PENDING_COMPACTION_BYTES);
            metrics.l0_files += of(&num_files_at_level(0));
        }
        metrics
    }

    /// About how many bytes the generation's rows take in files, once they all are there. Files that it shares with a
    /// snapshot count in both; what is in memtables counts once a row, however often the row has changed there.
    pub fn bytes(&self) -> u64 {
        let metrics = self.metrics();
        let of = |name: &PropName| {
            let families = FAMILIES.iter().filter_map(|family| self.db.cf_handle(family));
            families.filter_map(|family| self.db.property_int_value_cf(family, name).ok().flatten()).sum::<u64>()
        };
        let entries = of(NUM_ENTRIES_ACTIVE_MEM_TABLE) + of(NUM_ENTRIES_IMM_MEM_TABLES);
        let rows: u64 = self.view_totals().iter().map(|view| view.rows.max(0) as u64).sum();
        let kept = rows.min(entries) as f64 / entries.max(1) as f64;
        metrics.files + (metrics.memtables as f64 * kept) as u64
    }
}
