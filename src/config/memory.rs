//! How `memory.total` is shared out. A pure function, so that law *Bounded* can be checked for every total.

/// The parts of the budget, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// RocksDB's block cache, for the whole process.
    pub block_cache: usize,
    /// RocksDB's memtables, for the whole process.
    pub memtables: usize,
    /// The memtables and caches of the embedded log; 0 with Kafka.
    pub log: usize,
    /// Resident aggregates, for the whole process.
    pub residency: usize,
    /// Bytes in flight, for each partition.
    pub credit: usize,
    /// Bytes read ahead, for each partition.
    pub prefetch: usize,
    /// What a running replay reads ahead, keeps resident and has not committed, for the whole process.
    pub replay: usize,
}

/// What is asked for, per partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub credit: usize,
    pub prefetch: usize,
    pub batch: usize,
    pub embedded: bool,
    pub partitions: usize,
}

/// The smallest budget that leaves every part enough to work with.
pub const LEAST: u64 = 64 << 20;

/// Of a hundred parts, those that replays get.
const REPLAY_PERCENT: usize = 15;

/// Shares out `total` bytes. Replays get 15 %, whether or not one runs, so that one that begins takes nothing from live;
/// its rows go through the block cache and the memtables as live's do. Of the rest a quarter each goes to the block
/// cache, the memtables, resident aggregates, and what is in flight. The embedded log takes a quarter of the memtables'
/// part. What is in flight is shared evenly by the partitions, read ahead first, and never exceeds what the configuration
/// asks for; what that leaves over goes to resident aggregates.
pub fn split(total: u64, wanted: Wanted) -> Split {
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let replay = total / 100 * REPLAY_PERCENT;
    let quarter = (total - replay) / 4;
    let log = if wanted.embedded { quarter / 4 } else { 0 };
    let partitions = wanted.partitions.max(1);
    let each = quarter / partitions;
    let prefetch = wanted.prefetch.min(each / 4);
    let credit = wanted.credit.min(each - prefetch);
    let in_flight = (prefetch + credit) * partitions;
    Split {
        block_cache: quarter,
        memtables: quarter - log,
        log,
        residency: quarter + (quarter - in_flight),
        credit,
        prefetch,
        replay,
    }
}

impl Split {
    /// The largest batch, in bytes, that leaves room for a second one while the first is being committed.
    pub fn batch(&self, wanted: Wanted) -> usize {
        wanted.batch.min((self.credit / 2).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn bounded_the_parts_never_exceed_the_whole(
            total in LEAST..1 << 40,
            partitions in 0usize..2000,
            credit in 1usize..1 << 32,
            prefetch in 1usize..1 << 32,
            embedded: bool,
        ) {
            let wanted = Wanted { credit, prefetch, batch: 8 << 20, embedded, partitions };
            let split = split(total, wanted);
            let in_flight = (split.credit + split.prefetch) * partitions.max(1);
            let sum = split.block_cache + split.memtables + split.log + split.residency + in_flight + split.replay;
            assert!(sum as u64 <= total);
            assert!(split.replay as u64 >= total / 7, "enough for a replay: {split:?}");
            assert!(sum as u64 >= total - total / 50, "nothing is wasted: {split:?}");
            assert!(split.batch(wanted) <= split.credit.max(1));
        }
    }
}
