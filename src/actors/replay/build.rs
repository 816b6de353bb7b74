//! Makes the new generations of a job, or takes up those that it has made before, and starts a worker for each.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::drive::Halt;
use super::footing;
use super::job::{Job, UnderWay};
use super::rebuild::RebuildOptions;
use super::record::{JobRecord, ShadowRecord};
use super::words::{Base, JobKind};
use super::worker::Worker;
use crate::actors::inheritance;
use crate::actors::node::NodeShared;
use crate::actors::opening;
use crate::actors::serving::{TopicShared, stored};
use crate::state::{self, Generation, Source, Store, ViewIdent};
use crate::streams::{Limit, Log};
use crate::views::{Definitions, guard};

/// Rebuilds that run side by side: enough to keep every core busy, and no more, for each has its share of the memory.
pub fn side_by_side() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

/// Opens every new generation of the job, making those that are not there, and starts their workers.
pub async fn open(node: &Arc<NodeShared>, job: &Arc<Job>) -> Result<Vec<Worker>, Halt> {
    let record = job.record();
    let at_once = side_by_side().min(record.shadows.len().max(1));
    let turns = Arc::new(Semaphore::new(at_once));
    let mut workers: Vec<Worker> = Vec::with_capacity(record.shadows.len());
    for (index, shadow) in record.shadows.iter().enumerate() {
        let opened = open_one(node, job, &record, index, shadow, at_once, &turns).await;
        match opened {
            Ok(worker) => workers.push(worker),
            Err(halt) => {
                for worker in workers {
                    worker.finish().await;
                }
                return Err(halt);
            }
        }
    }
    let seen = |worker: &Worker| UnderWay {
        at: worker.at().clone(),
        gauge: worker.gauge.clone(),
        generation: Arc::downgrade(worker.generation()),
    };
    job.show(workers.iter().map(seen).collect());
    Ok(workers)
}

async fn open_one(
    node: &Arc<NodeShared>,
    job: &Arc<Job>,
    record: &JobRecord,
    index: usize,
    shadow: &ShadowRecord,
    at_once: usize,
    turns: &Arc<Semaphore>,
) -> Result<Worker, Halt> {
    if job.gate.stopped() {
        return Err(Halt::Stopping);
    }
    let gone = || Halt::Failed(format!("topic `{}` is not configured any more: cancel the job", shadow.topic));
    let topic = node.topic(&shadow.topic).ok_or_else(gone)?;
    let definitions = definitions(record, &topic)?;
    let gate = job.gate.clone();
    let (log, store, job) = (node.parts.log.clone(), node.parts.store.clone(), job.clone());
    let (record, shadow, made_by) = (record.clone(), shadow.clone(), definitions.clone());
    let open = move || {
        let generation = open_generation(&*log, &store, &record, &shadow, &made_by)?;
        job.change(&store, |record| record.shadows[index].generation = Some(generation.number()))?;
        Ok::<_, Halt>(generation)
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let generation = opened.map_err(|error| Halt::Failed(format!("opening a generation failed: {error}")))??;
    let options = &node.parts.replay;
    let options = RebuildOptions {
        memory: options.memory / at_once,
        epoch_records: options.epoch_records,
        epoch_time: options.epoch_time,
        prefetch: topic.parts.flow.prefetch,
        batch: Limit { records: topic.parts.flow.batch.records, bytes: topic.parts.flow.batch.bytes },
        fold_time_limit: topic.parts.flow.fold_time_limit,
    };
    let setting = Arc::new(topic.parts.setting(&definitions, generation));
    Ok(Worker::start(setting, options, gate, node.parts.log.clone(), turns.clone())?)
}

/// The definitions that the job's generations are made with, as code.
pub fn definitions(record: &JobRecord, topic: &TopicShared) -> Result<Definitions, Halt> {
    let texts = record.topic(topic.name()).map(|topic| topic.new.as_slice()).unwrap_or_default();
    let views: Vec<_> = texts.iter().map(|view| stored(&ViewIdent::from(view))).collect();
    inheritance::at_hand(&views, &topic.parts.wanted, &topic.parts.previous).map_err(|missing| {
        Halt::Failed(format!(
            "topic `{}`: {missing}; the job was made for other definitions than the configuration has now: cancel it and \
             start a new one",
            topic.name()
        ))
    })
}

/// Opens the generation of one partition, or makes it. Blocks.
fn open_generation(
    log: &dyn Log,
    store: &Arc<Store>,
    record: &JobRecord,
    shadow: &ShadowRecord,
    definitions: &Definitions,
) -> Result<Arc<Generation>, Halt> {
    let info = log.topic(&shadow.topic).map_err(|error| Halt::Failed(error.to_string()))?;
    let identity = opening::identity(&info, shadow.partition.0);
    let idents = crate::actors::serving::idents(definitions);
    if let Some(number) = shadow.generation
        && let Some(generation) = store.open_numbered(&identity, number, &idents)?
    {
        return Ok(generation);
    }
    let plan = footing::partition(record, shadow);
    let plan = plan.ok_or_else(|| Halt::Failed(format!("{} is missing in the job's plan", shadow.at())))?;
    let source = match plan.base {
        Base::Genesis | Base::Empty => Source::Nothing { position: plan.from },
        Base::Snapshot { snapshot, .. } => store.snapshot_source(snapshot, &shadow.at())?,
        Base::Previous { generation } => {
            let gone =
                format!("{}: generation {generation} is not there any more; a replay makes a new one", shadow.at());
            return Err(Halt::Failed(gone));
        }
    };
    let mut take_over = |view: usize, _: &[u8], json: &[u8]| {
        let mut bytes = Vec::new();
        let row = guard::decode(&*definitions[view], json)?;
        guard::encode(&*row, &mut bytes).map_err(|why| format!("the row cannot be written: {why}"))?;
        Ok((bytes != json).then_some(bytes))
    };
    let made = store.create_shadow(&identity, &idents, &source, &mut take_over);
    made.map_err(|error| match error {
        state::Error::Incompatible { .. } => Halt::Failed(format!("{error}; start it again with `--base genesis`")),
        error => error.into(),
    })
}

/// How many records the rebuild that is farthest behind has to fold until it is where live is.
pub fn behind(node: &NodeShared, workers: &[Worker]) -> u64 {
    let behind = |worker: &Worker| {
        let live = node.live_generation(worker.at()).map(|live| live.applied());
        live.map_or(0, |live| worker.generation().applied().lag_to(live))
    };
    workers.iter().map(behind).max().unwrap_or_default()
}

/// Throws away what the job has made. Generations that were there before it stay.
pub fn discard(store: &Store, job: &Job) {
    let record = job.record();
    if record.kind == JobKind::Rollback || record.phase == super::words::Phase::Done {
        return;
    }
    for (index, shadow) in record.shadows.iter().enumerate() {
        let Some(number) = shadow.generation else { continue };
        let dropped = store.drop_numbered(&shadow.at(), number);
        let dropped = dropped.and_then(|()| job.change(store, |record| record.shadows[index].generation = None));
        if let Err(error) = dropped {
            tracing::warn!(job = record.id, at = %shadow.at(), number, %error, "a generation that is not needed any more could not be removed; the next start tries again");
        }
    }
}
