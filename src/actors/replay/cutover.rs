//! The switch: live stands still, the new generations are brought to exactly where it stands, and one durable decision
//! makes all of them live. Before the decision everything can go back; after it nothing has to.
//!
//! Nothing is flushed while live stands still, and no log is opened: what is not durable the log has, as with any live
//! generation, and the new partitions read on with the readers of the old ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::build;
use super::drive::Halt;
use super::job::{Job, now};
use super::rebuild::{Arrival, RunEnd};
use super::record::JobRecord;
use super::verify::{differences, differs_all_the_same, tag_of};
use super::words::{DefinitionChange, Phase, ViewVerdict};
use super::worker::Worker;
use crate::actors::node::NodeShared;
use crate::actors::opening;
use crate::actors::serving::{Mode, Serving, TopicShared, pending};
use crate::actors::supervisor::SupervisorMessage;
use crate::position::{Position, TopicPartition};
use crate::state::{self, Generation, Switch};
use crate::streams::Reader;

/// How long live may take to commit what it has in flight.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The readers of the topics whose live stands still, by topic: each where its generation stands.
type Readers = HashMap<String, Vec<Box<dyn Reader>>>;

/// The topics whose live stands still. Whoever drops it has started them again.
struct Barrier {
    topics: Vec<Arc<TopicShared>>,
}

impl Barrier {
    fn begin(topics: Vec<Arc<TopicShared>>) -> Barrier {
        for topic in &topics {
            topic.set_switching(true);
            topic.end_flushing();
        }
        Barrier { topics }
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        for topic in &self.topics {
            topic.set_switching(false);
        }
    }
}

/// Cuts over. After an error live goes on as it was.
pub async fn cut_over(
    node: &Arc<NodeShared>,
    job: &Arc<Job>,
    workers: Vec<Worker>,
    identical: Vec<String>,
) -> Result<(), Halt> {
    let store = node.parts.store.clone();
    let record = job.record();
    let changed = job.change(&store, |record| (record.phase, record.reason) = (Phase::CuttingOver, None));
    let barrier = Barrier::begin(node.topics_of(&record));
    let old: Vec<Arc<Serving>> = barrier.topics.iter().map(|topic| topic.serving()).collect();
    let (begun, mut readers) = (Instant::now(), Readers::new());
    let switched = match changed {
        Ok(()) => at_the_barrier(node, job, &barrier.topics, &workers, &identical, &mut readers).await,
        Err(error) => Err(error.into()),
    };
    let next = match &switched {
        // First of all, for readers of one topic may look at the other next.
        Ok(()) => switch_readers(&record, &barrier.topics, &workers),
        Err(_) => Ok(as_it_was(&barrier.topics)),
    };
    let started = match next {
        Ok(next) => begin_all(node, next, readers).await,
        Err(reason) => Err(reason),
    };
    tracing::info!(job = record.id, switched = switched.is_ok(), stood_still = ?begun.elapsed(), "live goes on");
    // From here on nobody waits.
    for worker in workers {
        worker.finish().await;
    }
    if switched.is_ok() {
        for serving in old {
            keep(serving).await;
        }
        if started.is_ok() {
            super::snapshots::after_cut_over(node, &record);
        }
    }
    if let Err(reason) = started {
        // Nothing is lost, but the node serves rows that do not move: it must not look well.
        node.fail(format!("after a cut-over the partitions could not be started: {reason}"));
    }
    switched
}

/// Stops live, catches up, compares what must be equal, decides.
async fn at_the_barrier(
    node: &Arc<NodeShared>,
    job: &Arc<Job>,
    topics: &[Arc<TopicShared>],
    workers: &[Worker],
    identical: &[String],
    readers: &mut Readers,
) -> Result<(), Halt> {
    for topic in topics {
        readers.insert(topic.name().to_owned(), stop(node, topic).await?);
    }
    let target = |worker: &Worker| {
        let live = node.live_generation(worker.at());
        live.map(|live| (live.applied(), live))
    };
    let mut runs = Vec::with_capacity(workers.len());
    for worker in workers {
        let gone = || Halt::Failed(format!("{} is not a partition of this node any more", worker.at()));
        let (position, live) = target(worker).ok_or_else(gone)?;
        let same = identical.contains(&worker.at().topic.to_string());
        // Where nobody waits there is time to make it durable.
        let running = |topic: &Arc<TopicShared>| topic.serving().mode == Mode::Running;
        let topic = topics.iter().find(|topic| *topic.name() == *worker.at().topic);
        let arrival = if topic.is_some_and(running) { Arrival::AtOnce } else { Arrival::Durable };
        runs.push(reach(worker, position, arrival, live, same));
    }
    for run in join_all(runs).await {
        run?;
    }
    if job.cancelled() {
        return Err(Halt::Cancelled);
    }
    // What the switch rests on is looked at once more: a reader must not see a position go back.
    for worker in workers {
        let (live, new) = (target(worker).map(|(position, _)| position), worker.generation().applied());
        if live != Some(new) {
            let live = live.map_or("gone".to_owned(), |live| live.to_string());
            return Err(Halt::Failed(format!(
                "{}: live was stopped and stands at {live}, and the new generation at {new}: this is a fault of the \
                 program; nothing was switched; report it",
                worker.at()
            )));
        }
    }
    let switches: Vec<Switch> =
        workers.iter().map(|worker| Switch { at: worker.at().clone(), to: worker.generation().number() }).collect();
    let at = now();
    let (store, deciding) = (node.parts.store.clone(), job.clone());
    let decide = move || {
        let done = |record: &mut JobRecord| {
            (record.phase, record.ended, record.reason) = (Phase::Done, Some(at), None);
        };
        deciding.decide(done, |done| store.cut_over(&switches, at, (done.id, &done.encode())))
    };
    let decided = tokio::task::spawn_blocking(decide).await;
    decided.map_err(|error| Halt::Failed(format!("the decision could not be stored: {error}")))??;
    Ok(())
}

/// Stops the live partitions of a topic in good order; they are then at one exact position each, where the readers stand
/// that they give back. That position need not be durable.
async fn stop(node: &NodeShared, topic: &TopicShared) -> Result<Vec<Box<dyn Reader>>, Halt> {
    if topic.serving().mode != Mode::Running {
        return Ok(Vec::new());
    }
    let (reply, answer) = oneshot::channel();
    let message = SupervisorMessage::StopTopic { name: topic.name().to_owned(), within: STOP_WITHIN, reply };
    // A supervisor that is gone drops the reply.
    let _ = node.parts.supervisor.cast(message);
    let mut readers = Vec::new();
    for stopped in answer.await.map_err(|_| Halt::Stopping)? {
        if let Err(problem) = stopped.durable {
            return Err(Halt::Failed(format!("{}: live could not be stopped for the cut-over: {problem}", stopped.at)));
        }
        readers.extend(stopped.reader);
    }
    Ok(readers)
}

/// Makes durable where the generations stand that were replaced, so that a rollback begins there. What a crash takes back
/// before that, the rollback reads again.
async fn keep(replaced: Arc<Serving>) {
    for (at, error) in tokio::task::spawn_blocking(move || replaced.flush()).await.unwrap_or_default() {
        tracing::warn!(%at, %error, "where the previous generation stands could not be made durable; a rollback reads more");
    }
}

/// Brings one rebuild to where live stands, and compares the two where they must be equal.
async fn reach(
    worker: &Worker,
    position: Position,
    arrival: Arrival,
    live: Arc<Generation>,
    same: bool,
) -> Result<(), Halt> {
    let new = worker.generation().clone();
    let mut end = worker.run_to(position, arrival).await?;
    if end == RunEnd::Reached && new.durable() < live.durable() {
        // Live was flushed a moment ago. What was once seen as durable is not to be taken back by a crash.
        end = worker.run_to(position, Arrival::Durable).await?;
    }
    if end == RunEnd::Stopped {
        return Err(Halt::Stopping);
    }
    if !same {
        return Ok(());
    }
    let at = worker.at().clone();
    let compared = tokio::task::spawn_blocking(move || unequal(&at, &live, &new)).await;
    match compared.map_err(|error| Halt::Failed(format!("the comparison failed: {error}")))?? {
        None => Ok(()),
        Some(view) => Err(Halt::Void(differs_all_the_same(&view))),
    }
}

/// The first view whose digests differ.
fn unequal(at: &TopicPartition, live: &Generation, new: &Generation) -> Result<Option<ViewVerdict>, state::Error> {
    let (still, built) = (live.snapshot_read(), new.snapshot_read());
    for view in live.views() {
        let Some(tag) = tag_of(new, &view.name) else { continue };
        let (before, after) = (still.totals(view.tag)?, built.totals(tag)?);
        if before.digest == after.digest && before.rows == after.rows {
            continue;
        }
        let found = differences(at.partition, (&still, view.tag), (&built, tag), true, 10)?;
        let counts = found.counts;
        if found.excused && counts.different() == 0 {
            continue;
        }
        return Ok(Some(ViewVerdict {
            topic: at.topic.to_string(),
            view: view.name.clone(),
            change: DefinitionChange::Same,
            live_digest: format!("{:032x}", before.digest),
            new_digest: format!("{:032x}", after.digest),
            added: counts.added,
            removed: counts.removed,
            changed: counts.changed,
            unchanged: counts.unchanged,
            samples: found.samples,
        }));
    }
    Ok(None)
}

/// What serves a topic next, to be started.
type Next = (Arc<TopicShared>, Arc<Serving>);

/// Puts the new generations in the place of the old ones, of all topics at once.
fn switch_readers(record: &JobRecord, topics: &[Arc<TopicShared>], workers: &[Worker]) -> Result<Vec<Next>, String> {
    let mut next = Vec::with_capacity(topics.len());
    for topic in topics {
        let own = workers.iter().filter(|worker| *worker.at().topic == *topic.name());
        let mut own: Vec<Arc<Generation>> = own.map(|worker| worker.generation().clone()).collect();
        own.sort_by_key(|generation| generation.at().partition);
        let definitions = build::definitions(record, topic).map_err(|halt| format!("{halt:?}"))?;
        let mode = match topic.serving().mode {
            Mode::Offline => Mode::Offline,
            Mode::Running | Mode::Frozen(_) => Mode::Running,
        };
        let pending = pending(&definitions, &topic.parts.wanted);
        next.push((topic.clone(), Arc::new(Serving::new(&topic.parts, definitions, own, mode, pending))));
    }
    TopicShared::switch_all(&next);
    Ok(next)
}

/// The old generations of what was stopped, where they stand.
fn as_it_was(topics: &[Arc<TopicShared>]) -> Vec<Next> {
    let mut next = Vec::with_capacity(topics.len());
    for topic in topics {
        let old = topic.serving();
        if old.mode != Mode::Running {
            continue;
        }
        let (definitions, pending) = (old.definitions.clone(), old.pending.clone());
        let serving = Serving::new(&topic.parts, definitions, old.generations(), Mode::Running, pending);
        next.push((topic.clone(), Arc::new(serving)));
    }
    TopicShared::switch_all(&next);
    next
}

/// Starts them all; one that cannot be started does not keep the others from it. Answers the first reason.
async fn begin_all(node: &Arc<NodeShared>, next: Vec<Next>, mut readers: Readers) -> Result<(), String> {
    let mut begun = Ok(());
    for (topic, serving) in next {
        let readers = readers.remove(topic.name()).unwrap_or_default();
        begun = begun.and(begin(node, &topic, &serving, readers).await);
    }
    begun
}

/// Starts the actors of a topic, unless the node stops: then the next start does.
async fn begin(
    node: &Arc<NodeShared>,
    topic: &Arc<TopicShared>,
    serving: &Arc<Serving>,
    readers: Vec<Box<dyn Reader>>,
) -> Result<(), String> {
    if serving.mode != Mode::Running || node.stopping() {
        return Ok(());
    }
    let generations = serving.generations();
    let readers = match fit(&readers, &generations) {
        true => readers,
        false => {
            let (log, name, prefetch) = (node.parts.log.clone(), topic.name().to_owned(), topic.parts.flow.prefetch);
            let open = move || {
                drop(readers);
                opening::readers(&*log, &name, &generations, prefetch)
            };
            let opened = tokio::task::spawn_blocking(open).await;
            opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
        }
    };
    let start = serving.start(&topic.parts, readers, &node.parts.failed);
    let (reply, answer) = oneshot::channel();
    // A supervisor that is gone drops the reply.
    let _ = node.parts.supervisor.cast(SupervisorMessage::StartTopic { start, reply });
    answer.await.map_err(|_| "the node's supervisor is gone".to_owned())??;
    topic.begin_flushing();
    Ok(())
}

/// Whether the readers are those that the generations need: one for each, in their order, each where its generation
/// stands.
fn fit(readers: &[Box<dyn Reader>], generations: &[Arc<Generation>]) -> bool {
    let positions = readers.iter().map(|reader| (reader.partition(), reader.position()));
    let needed = generations.iter().map(|generation| (generation.at().partition, generation.applied()));
    positions.eq(needed)
}
