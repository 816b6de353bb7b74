//! The switch: live stands still, the new generations are brought to exactly where it stands, and one durable decision
//! makes all of them live. Before the decision everything can go back; after it nothing has to.
//!
//! Nothing is flushed while live stands still, and no log is opened: what is not durable the log has, as with any live
//! generation, and the new partitions read on with the readers of the old ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::barrier::{Barrier, Next};
use super::build;
use super::differences::{differs_all_the_same, unequal};
use super::drive::Halt;
use super::job::{Job, now};
use super::rebuild::{Arrival, RunEnd};
use super::record::JobRecord;
use super::words::Phase;
use super::worker::Worker;
use crate::actors::node::NodeShared;
use crate::actors::serving::{Mode, Serving, TopicShared, pending};
use crate::position::Position;
use crate::state::{self, Generation, Switch};
use crate::streams::Fault;

/// Cuts over. After an error live goes on as it was.
pub async fn cut_over(
    node: &Arc<NodeShared>,
    job: &Arc<Job>,
    workers: Vec<Worker>,
    identical: Vec<String>,
) -> Result<(), Halt> {
    let store = node.parts.store.clone();
    let record = job.record();
    if let Err(error) = job.change(&store, |record| (record.phase, record.reason) = (Phase::CuttingOver, None)) {
        finish(workers).await;
        return Err(error.into());
    }
    let mut barrier = Barrier::begin(node.topics_of(&record));
    let old: Vec<Arc<Serving>> = barrier.topics.iter().map(|topic| topic.serving()).collect();
    let begun = Instant::now();
    let switched = at_the_barrier(node, job, &mut barrier, &workers, &identical).await;
    let next = match &switched {
        // First of all, for readers of one topic may look at the other next.
        Ok(()) => switch_readers(&record, &barrier.topics, &workers),
        // What would be fed may not be what the next start finds live.
        Err(Halt::Unknown(_)) => Ok(Vec::new()),
        Err(_) => Ok(barrier.as_it_was().await),
    };
    let started = match next {
        Ok(next) => barrier.go_on(node, next).await,
        Err(reason) => Err(reason),
    };
    tracing::info!(job = record.id, switched = switched.is_ok(), stood_still = ?begun.elapsed(), "live goes on");
    // From here on nobody waits.
    drop(barrier);
    if switched.is_err() {
        // A rebuild may be at it still.
        job.gate.stop();
    }
    finish(workers).await;
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
        node.fail(Fault::Internal, format!("after a cut-over the partitions could not be started: {reason}"));
    }
    if let Err(Halt::Unknown(reason)) = &switched {
        node.fail(Fault::Environment, format!("job {}: {reason}", record.id));
    }
    switched
}

async fn finish(workers: Vec<Worker>) {
    for worker in workers {
        worker.finish().await;
    }
}

/// Stops live, catches up, compares what must be equal, decides.
async fn at_the_barrier(
    node: &Arc<NodeShared>,
    job: &Arc<Job>,
    barrier: &mut Barrier,
    workers: &[Worker],
    identical: &[String],
) -> Result<(), Halt> {
    barrier.stop(node).await?;
    let mut runs = Vec::with_capacity(workers.len());
    for worker in workers {
        let gone = || Halt::Failed(format!("{} is not a partition of this node any more", worker.at()));
        let live = node.live_generation(worker.at()).ok_or_else(gone)?;
        // Where nobody waits there is time to make it durable.
        let arrival = if barrier.is_waited_for() { Arrival::AtOnce } else { Arrival::Durable };
        let reach = Reach {
            live,
            arrival,
            may_be_flushed: barrier.may_be_flushed(),
            same: identical.contains(&worker.at().topic.to_string()),
        };
        runs.push(reach.reach(worker));
    }
    let (patience, reached) = (node.parts.replay.patience, try_join_all(runs));
    if barrier.is_waited_for() {
        tokio::time::timeout(patience, reached).await.map_err(|_| Halt::Failed(late(job, patience)))??;
    } else {
        reached.await?;
    }
    if job.cancelled() {
        return Err(Halt::Cancelled);
    }
    // What the switch rests on is looked at once more: a reader must not see a position go back.
    for worker in workers {
        let live = node.live_generation(worker.at()).map(|live| live.applied());
        let new = worker.generation().applied();
        if live != Some(new) {
            let live = live.map_or("gone".to_owned(), |live| live.to_string());
            return Err(Halt::Failed(format!(
                "{}: live was stopped and stands at {live}, and the new generation at {new}: this is a fault of the \
                 program; nothing was switched; report it",
                worker.at()
            )));
        }
    }
    decide(node, job, workers).await
}

/// The one durable write.
async fn decide(node: &Arc<NodeShared>, job: &Arc<Job>, workers: &[Worker]) -> Result<(), Halt> {
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

/// Makes durable where the generations stand that were replaced, so that a rollback begins there. What a crash takes back
/// before that, the rollback reads again.
async fn keep(replaced: Arc<Serving>) {
    for (at, error) in tokio::task::spawn_blocking(move || replaced.flush()).await.unwrap_or_default() {
        tracing::warn!(%at, %error, "where the previous generation stands could not be made durable; a rollback reads more");
    }
}

/// What the last stretch of one rebuild has to come to.
struct Reach {
    live: Arc<Generation>,
    arrival: Arrival,
    /// Somebody may make live durable meanwhile.
    may_be_flushed: bool,
    /// The two must be equal.
    same: bool,
}

impl Reach {
    /// Brings one rebuild to where live stands, and compares the two where they must be equal.
    async fn reach(self, worker: &Worker) -> Result<(), Halt> {
        let (live, new, at) = (self.live, worker.generation().clone(), worker.at().clone());
        let position: Position = live.applied();
        if worker.run_to(position, self.arrival).await? == RunEnd::Stopped {
            return Err(Halt::Stopping);
        }
        let compare = move || -> Result<_, state::Error> {
            if self.may_be_flushed || new.durable() < live.durable() {
                // What was once seen as durable is not to be taken back by a crash, and live can come no further.
                new.flush()?;
            }
            if self.same { unequal(&at, &live, &new) } else { Ok(None) }
        };
        let compared = tokio::task::spawn_blocking(compare).await;
        match compared.map_err(|error| Halt::Failed(format!("the comparison failed: {error}")))?? {
            None => Ok(()),
            Some(view) => Err(Halt::Void(differs_all_the_same(&view))),
        }
    }
}

/// The words for a rebuild that has not come to where live stands while others waited for it.
fn late(job: &Job, patience: Duration) -> String {
    format!(
        "live stood still for {patience:?} and the last records were not folded yet, so the cut-over was given up, and \
         live goes on: a fold that hangs, or a busy machine. `segno replay resume {}` tries again",
        job.id()
    )
}

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
