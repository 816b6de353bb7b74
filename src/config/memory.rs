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

/// Shares out `total` bytes: a quarter each to the block cache, the memtables, resident aggregates, and what is in
/// flight. The embedded log takes a quarter of the memtables' part. What is in flight is shared evenly by the
/// partitions, read ahead first, and never exceeds what the configuration asks for; what that leaves over goes to
/// resident aggregates.
pub fn split(total: u64, wanted: Wanted) -> Split {
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let quarter = total / 4;
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
            let sum = split.block_cache + split.memtables + split.log + split.residency + in_flight;
            assert!(sum as u64 <= total);
            assert!(split.batch(wanted) <= split.credit.max(1));
        }
    }
}
