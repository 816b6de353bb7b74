//! From a plan to a running node: asks the log, opens the generations, checks that the two fit, and starts the actors.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use ractor::Actor;
use tokio::sync::watch;

use super::board::Board;
use super::flusher;
use super::meter::Meter;
use super::node::{NodeShared, TopicShared};
use super::partition::PartitionStart;
use super::partition::published::Published;
use super::plan::{History, NodePlan, Running, StartError, TopicPlan};
use super::shard::Setting;
use super::supervisor::{NodeStart, Supervisor};
use super::topic::TopicStart;
use crate::position::{PartitionId, Position, TopicPartition};
use crate::state::{Commit, Fingerprint, Generation, Identity, LogFacts, Store, ViewIdent};
use crate::streams::decode::Decoder;
use crate::streams::{self, Limit, Log, Prefetch, Reader};

/// How long the log may take to show the record before a position; then the check goes without it.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// Partitions that are opened side by side: enough to hide the waits for log and disk.
const OPEN_AT_ONCE: usize = 8;

/// A topic that has been opened and checked.
struct Opened {
    generations: Vec<Arc<Generation>>,
    readers: Vec<Box<dyn Reader>>,
}

/// Starts a node. When it answers an error nothing has been changed but, perhaps, new and empty generations.
pub async fn start(plan: NodePlan) -> Result<Running, StartError> {
    let mut partitions = 0;
    let mut opened = Vec::with_capacity(plan.topics.len());
    for topic in &plan.topics {
        let (log, store) = (plan.log.clone(), plan.store.clone());
        let (name, history, prefetch) = (topic.name.clone(), topic.history, plan.flow.prefetch);
        let idents = idents(topic);
        let open = move || open_topic(&*log, &store, &name, &idents, history, prefetch);
        let topic = tokio::task::spawn_blocking(open).await.map_err(|e| StartError::Actors(e.to_string()))??;
        partitions += topic.generations.len();
        opened.push(topic);
    }
    let (failed, watching) = watch::channel(None);
    let failed = Arc::new(failed);
    let (mut starts, mut shared) = (Vec::new(), Vec::new());
    for (topic, opened) in plan.topics.into_iter().zip(opened) {
        let mut partition_starts = Vec::new();
        let mut published = Vec::new();
        let mut flow = plan.flow.clone();
        flow.residency = plan.flow.residency / partitions.max(1);
        for (generation, reader) in opened.generations.into_iter().zip(opened.readers) {
            let at = generation.at().clone();
            let setting = Arc::new(Setting {
                at: at.clone(),
                definitions: topic.views.clone(),
                tags: generation.tags().to_vec(),
                decoder: Decoder::new(topic.decoder.clone()),
                policy: topic.policy,
                retry: plan.retry,
                generation,
                board: Arc::new(Board::default()),
                meter: Meter::new(&at),
                residency: flow.residency / flow.shards_per_partition.max(1),
                committed: AtomicU64::new(0),
                resident: AtomicI64::new(0),
            });
            let partition = Arc::new(Published::new(setting.clone()));
            published.push(partition.clone());
            partition_starts.push(PartitionStart {
                setting,
                flow: flow.clone(),
                reader,
                published: partition,
                failed: failed.clone(),
            });
        }
        let idents = idents(&topic);
        shared.push(TopicShared { name: topic.name, views: idents, partitions: published });
        starts.push(TopicStart { partitions: partition_starts, failed: failed.clone() });
    }
    let shared = Arc::new(NodeShared::new(plan.name, plan.log, shared, watching.clone()));
    let flushers = flusher::start(&shared, plan.flush);
    let node_start = NodeStart { topics: starts, failed };
    let (supervisor, _) =
        Actor::spawn(None, Supervisor, node_start).await.map_err(|e| StartError::Actors(e.to_string()))?;
    shared.set_ready();
    let node = shared.clone();
    Ok(Running::new(shared, watching, move |within| Box::pin(node.stop(supervisor, flushers, within))))
}

fn idents(topic: &TopicPlan) -> Vec<ViewIdent> {
    let ident = |view: &Arc<dyn crate::views::Definition>| ViewIdent {
        name: view.name().to_owned(),
        version: view.version(),
        text: view.text(),
    };
    topic.views.iter().map(ident).collect()
}

/// Opens one topic. Blocks.
fn open_topic(
    log: &dyn Log,
    store: &Arc<Store>,
    name: &str,
    idents: &[ViewIdent],
    history: History,
    prefetch: Prefetch,
) -> Result<Opened, StartError> {
    let log_error = |source| StartError::Log { topic: name.to_owned(), source };
    let info = log.topic(name).map_err(log_error)?;
    let open = |partition: u32| -> Result<Arc<Generation>, StartError> {
        let at = TopicPartition::new(name, partition);
        let refused = |error: crate::state::Error| StartError::Store { at: at.clone(), source: error };
        let identity = Identity { at: at.clone(), cluster: info.cluster.clone(), partitions: info.partitions };
        let generation = store.open_generation(&identity, idents).map_err(refused)?;
        let watermarks = log.watermarks(&at).map_err(log_error)?;
        if generation.applied() == Position::ZERO && watermarks.start > Position::ZERO && history == History::Retained {
            tracing::warn!(%at, start = %watermarks.start, "the beginning of the log is gone; the views begin at its start");
            let begin = Commit { deltas: Vec::new(), position: watermarks.start, last: None };
            generation.commit(&begin).map_err(refused)?;
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
    let starts: Vec<(PartitionId, Position)> =
        generations.iter().map(|generation| (generation.at().partition, generation.applied())).collect();
    let readers = log.readers(name, &starts, prefetch).map_err(log_error)?;
    Ok(Opened { generations, readers })
}

/// The fingerprint of the record that a generation has read last, as the log has it now. `None` when the log cannot
/// show it: it is below the log's start, or it was never a record but a gap.
pub(super) fn look_back(
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
