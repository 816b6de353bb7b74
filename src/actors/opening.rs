//! Opens the generations of a topic and checks that the log is still the one that they were folded from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::{History, StartError};
use crate::position::{PartitionId, Position, TopicPartition};
use crate::state::{Fingerprint, Generation, Identity, LogFacts, Store, ViewIdent};
use crate::streams::{self, Limit, Log, Prefetch, Reader, TopicInfo};

/// How long the log may take to show the record before a position; then the check goes without it.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// Partitions that are opened side by side: enough to hide the waits for log and disk.
const OPEN_AT_ONCE: usize = 8;

/// Opens the live generations of one topic, made by `idents`, in the order of its partitions. Blocks.
pub fn open_topic(
    log: &dyn Log,
    store: &Arc<Store>,
    info: &TopicInfo,
    idents: &[ViewIdent],
    history: History,
) -> Result<Vec<Arc<Generation>>, StartError> {
    let name = &*info.name;
    let log_error = |source| StartError::Log { topic: name.to_owned(), source };
    let open = |partition: u32| -> Result<Arc<Generation>, StartError> {
        let at = TopicPartition::new(name, partition);
        let refused = |error: crate::state::Error| StartError::Store { at: at.clone(), source: error };
        let identity = identity(info, partition);
        let generation = store.open_generation(&identity, idents).map_err(refused)?;
        let watermarks = log.watermarks(&at).map_err(log_error)?;
        if generation.applied() == Position::ZERO && watermarks.start > Position::ZERO && history == History::Retained {
            tracing::warn!(%at, start = %watermarks.start, "the beginning of the log is gone; the views begin at its start");
            generation.begin_at(watermarks.start).map_err(refused)?;
        }
        let fingerprint_at = match generation.last() {
            Some(last) => look_back(log, &at, &last, watermarks.start, watermarks.end).map_err(log_error)?,
            None => None,
        };
        let facts = LogFacts {
            cluster: info.cluster.clone(),
            partitions: info.partitions,
            start: watermarks.start,
            end: watermarks.end,
            fingerprint_at,
        };
        generation.check_log(&facts).map_err(refused)?;
        Ok(generation)
    };
    // Partitions are independent of each other: a few are opened at a time.
    let mut generations = Vec::with_capacity(info.partitions as usize);
    let numbers: Vec<u32> = (0..info.partitions).collect();
    for some in numbers.chunks(OPEN_AT_ONCE) {
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = &open;
            let threads: Vec<_> = some.iter().map(|&partition| scope.spawn(move || open(partition))).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for generation in opened {
            let panicked = |_| StartError::Actors(format!("opening a partition of `{name}` panicked"));
            generations.push(generation.map_err(panicked)??);
        }
    }
    Ok(generations)
}

/// What a generation of a topic's partition is made from.
pub fn identity(info: &TopicInfo, partition: u32) -> Identity {
    let at = TopicPartition::new(&*info.name, partition);
    Identity { at, cluster: info.cluster.clone(), partitions: info.partitions }
}

/// One reader a generation, each at its generation's position. Blocks.
pub fn readers(
    log: &dyn Log,
    name: &str,
    generations: &[Arc<Generation>],
    prefetch: Prefetch,
) -> streams::Result<Vec<Box<dyn Reader>>> {
    let starts: Vec<(PartitionId, Position)> =
        generations.iter().map(|generation| (generation.at().partition, generation.applied())).collect();
    log.readers(name, &starts, prefetch)
}

/// The fingerprint of the record that a generation has read last, as the log has it now. `None` when the log cannot
/// show it: it is below the log's start, or it was never a record but a gap.
pub fn look_back(
    log: &dyn Log,
    at: &TopicPartition,
    last: &Fingerprint,
    start: Position,
    end: Position,
) -> streams::Result<Option<Fingerprint>> {
    let position = Position(last.offset.0);
    if position < start || end <= position {
        return Ok(None);
    }
    let prefetch = Prefetch { bytes: 1 << 20 };
    let mut readers = log.readers(&at.topic, &[(at.partition, position)], prefetch)?;
    let Some(reader) = readers.first_mut() else { return Ok(None) };
    let deadline = Instant::now() + LOOK_BACK;
    while Instant::now() < deadline {
        let batch = reader.drain(Limit { records: 1, bytes: 1 })?;
        if !batch.is_empty() {
            let found = Fingerprint::of(&batch.get(0));
            return Ok((found.offset == last.offset).then_some(found));
        }
        if last.offset.next() <= batch.end() {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}
