//! How much lies between two positions: from the index, and from the records only at the two edges.

use std::ops::{ControlFlow, Range};

use super::codec;
use super::partition::Partition;
use super::store::Store;
use super::times;
use crate::position::Position;
use crate::streams::{Result, Volume};

/// Counts exactly: offsets have no gaps, and the index knows the bytes up to the end of each complete block.
pub(super) fn between(store: &Store, partition: &Partition, from: Position, to: Position) -> Result<Volume> {
    loop {
        let start = partition.start();
        let range = from.0.max(start)..to.0.min(partition.end());
        let counted = if range.is_empty() { Ok(0) } else { bytes(store, partition, range.clone()) };
        // Retention may have taken what was about to be read; then the answer is one for the new start.
        if partition.start() == start {
            let records = range.end.saturating_sub(range.start);
            return Ok(Volume { records, bytes: Some(counted?), exact: true });
        }
    }
}

/// Bytes of the records `range`: the index says how many lie between the first and the last block that end in it, and
/// what is left at the edges, less than a block each, is read.
fn bytes(store: &Store, partition: &Partition, range: Range<u64>) -> Result<u64> {
    let (at, slot) = (&partition.at, partition.slot);
    let mut first = None;
    times::blocks(store, at, slot, range.start.saturating_sub(1), range.end, |end, entry| {
        first = Some((end, entry.bytes));
        Ok(ControlFlow::Break(()))
    })?;
    let last = times::last_block(store, at, slot, range.end)?.map(|(end, entry)| (end, entry.bytes));
    match (first, last) {
        (Some((first_end, below)), Some((last_end, upto))) if first_end <= last_end => {
            let head = read(store, partition, range.start..first_end)?;
            let tail = read(store, partition, last_end..range.end)?;
            Ok(head + upto.saturating_sub(below) + tail)
        }
        _ => read(store, partition, range),
    }
}

fn read(store: &Store, partition: &Partition, range: Range<u64>) -> Result<u64> {
    let mut bytes = 0;
    store.scan(&partition.at, partition.slot, range, |_, stored| {
        bytes += codec::size_of_stored(stored) as u64;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(bytes)
}
