//! Drives a job from phase to phase: build, compare, wait for a yes if one is needed, cut over. Whatever ends it early
//! leaves live as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::build;
use super::cutover;
use super::disk;
use super::footing;
use super::governor;
use super::job::{Job, now};
use super::rebuild::{Arrival, RunEnd};
use super::verify;
use super::words::{JobKind, Phase, ReplayError, Verification};
use super::worker::Worker;
use crate::actors::node::NodeShared;
use crate::actors::plan::Fatal;
use crate::position::Position;
use crate::state;

/// A rebuild that is no further than this behind live is as good as there: the rest is done at the barrier, in less
/// time than stopping live takes.
const CLOSE: u64 = 20_000;
/// A rebuild of fewer records says little about the rate of the next.
const ENOUGH_TO_TELL: u64 = 10_000;
/// How often a job that waits for a yes catches up.
const KEEP_UP: Duration = Duration::from_secs(1);
/// How often one that waits for live looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why a job does not go on.
#[derive(Debug)]
pub enum Halt {
    /// By an operator.
    Cancelled,
    /// The node stops; the job goes on when it starts again.
    Stopping,
    /// Says why, and what can be done.
    Failed(String),
    /// The same, and what was built is not to be gone on with.
    Void(String),
    /// Whether it has cut over only the next start can tell: says why.
    Unknown(String),
}

impl From<Fatal> for Halt {
    fn from(fatal: Fatal) -> Self {
        Halt::Failed(fatal.to_string())
    }
}

impl From<state::Error> for Halt {
    fn from(error: state::Error) -> Self {
        match error {
            state::Error::Undecided { .. } => Halt::Unknown(error.to_string()),
            error => Halt::Failed(error.to_string()),
        }
    }
}

/// Whoever holds it drives the job; also when that ends by a panic, nobody waits for it in vain.
pub struct Driver(Arc<Job>);

impl Driver {
    pub fn of(job: Arc<Job>) -> Driver {
        job.set_driven(true);
        Driver(job)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.set_driven(false);
    }
}

/// Drives a job to its end. Spawned; nobody waits for it but a stop or a cancel.
pub async fn drive(node: Arc<NodeShared>, driver: Driver) {
    let job = &driver.0;
    let id = job.id();
    let ended = match run(&node, job).await {
        // Whoever stops the gate has said why.
        Err(Halt::Stopping) if job.cancelled() => Err(Halt::Cancelled),
        Err(Halt::Stopping) => Err(job.given_up().map_or(Halt::Stopping, Halt::Void)),
        // Whatever it was, live shares the disk.
        Err(Halt::Failed(reason)) if disk::full(&node.parts.store).is_some() => Err(Halt::Void(reason)),
        ended => ended,
    };
    let store = &node.parts.store;
    let halted = match ended {
        Ok(()) => {
            tracing::info!(job = id, "the new generations are live");
            super::rollback::sweep(&node).await;
            Ok(())
        }
        Err(Halt::Stopping) => Ok(()),
        Err(Halt::Unknown(reason)) => {
            tracing::error!(job = id, reason, "the node has to be started again");
            Ok(())
        }
        Err(Halt::Cancelled) => {
            build::discard(store, job);
            tracing::info!(job = id, "cancelled; live is as it was");
            job.change(store, |record| {
                (record.phase, record.ended) = (Phase::Cancelled, Some(now()));
                record.reason = None;
            })
        }
        Err(halt @ (Halt::Failed(_) | Halt::Void(_))) => {
            if let Halt::Void(_) = halt {
                build::discard(store, job);
            }
            let (Halt::Failed(reason) | Halt::Void(reason)) = halt else { return };
            tracing::error!(job = id, reason, "the replay failed; live is as it was");
            job.change(store, |record| {
                (record.phase, record.ended) = (Phase::Failed, Some(now()));
                record.reason = Some(reason);
            })
        }
    };
    if let Err(error) = halted {
        tracing::error!(job = id, %error, "how the job ended could not be stored; it goes on at the next start");
    }
}

async fn run(node: &Arc<NodeShared>, job: &Arc<Job>) -> Result<(), Halt> {
    let store = node.parts.store.clone();
    job.change(&store, |record| {
        (record.phase, record.reason, record.ended) = (Phase::Building, None, None);
        record.verification = None;
    })?;
    let (looking, record) = (store.clone(), job.record());
    let stands = tokio::task::spawn_blocking(move || footing::check(&looking, &record)).await;
    stands.map_err(|error| Halt::Failed(error.to_string()))?.map_err(|error| match error {
        ReplayError::NotNow(why) => Halt::Void(why),
        error => Halt::Failed(error.to_string()),
    })?;
    if let Some(why) = disk::full(&store) {
        return Err(Halt::Void(why));
    }
    let workers = build::open(node, job).await?;
    let governor = tokio::spawn(governor::govern(node.clone(), job.clone()));
    let built = prepare(node, job, &workers).await;
    governor.abort();
    let _ = governor.await;
    job.gate.set_throttle(1.0);
    match built {
        Ok(identical) => cutover::cut_over(node, job, workers, identical).await,
        Err(halt) => {
            for worker in workers {
                worker.finish().await;
            }
            Err(halt)
        }
    }
}

/// Builds and compares until the cut-over may be. Answers which topics must come out the same at the barrier too.
async fn prepare(node: &Arc<NodeShared>, job: &Arc<Job>, workers: &[Worker]) -> Result<Vec<String>, Halt> {
    let store = &node.parts.store;
    let begun = Instant::now();
    while build::behind(node, workers) > CLOSE {
        catch_up(node, job, workers, Arrival::Committed).await?;
    }
    catch_up(node, job, workers, Arrival::Committed).await?;
    let folded = job.folded();
    let free = folded > ENOUGH_TO_TELL && job.record().plan.request.rate.is_none();
    let rate = free.then(|| folded as f64 / begun.elapsed().as_secs_f64().max(1e-3));
    job.change(store, |record| (record.phase, record.rate) = (Phase::Verifying, rate))?;
    let compared = verify::verify(node, job, workers).await?;
    let identical = compared.must_be_identical.clone();
    let verification = compared.verification.clone();
    job.change(store, |record| record.verification = Some(compared.verification))?;
    if let Some(reason) = compared.refused {
        return Err(Halt::Void(reason));
    }
    wait_for_yes(node, job, workers, &verification).await?;
    let record = job.record();
    if record.kind != JobKind::Rollback {
        super::snapshots::before_cut_over(node, &record).await;
    }
    // Next live stands still: every record that is left then is time that it waits.
    job.gate.lift_cap();
    job.gate.set_throttle(1.0);
    catch_up(node, job, workers, Arrival::Durable).await?;
    // And what has come in while that was made durable.
    catch_up(node, job, workers, Arrival::AtOnce).await?;
    Ok(identical)
}

/// Folds everything that live has applied.
async fn catch_up(node: &Arc<NodeShared>, job: &Job, workers: &[Worker], arrival: Arrival) -> Result<(), Halt> {
    let mut runs = Vec::with_capacity(workers.len());
    for worker in workers {
        let live = node.live_generation(worker.at());
        let target = live.map_or(Position::ZERO, |live| live.applied());
        let position = worker.generation().applied();
        if target < position {
            // The base is newer than live, or history begins above it: live has to come up first.
            tokio::time::sleep(LOOK_AGAIN).await;
            if node.stopping() || job.gate.stopped() {
                return Err(Halt::Stopping);
            }
            continue;
        }
        runs.push(worker.run_to(target, arrival));
    }
    for run in join_all(runs).await {
        match run? {
            RunEnd::Reached => {}
            RunEnd::Stopped => return Err(Halt::Stopping),
        }
    }
    Ok(())
}

/// Waits for a yes where one is needed, and keeps the rebuild at live's heels meanwhile.
async fn wait_for_yes(
    node: &Arc<NodeShared>,
    job: &Arc<Job>,
    workers: &[Worker],
    verification: &Verification,
) -> Result<(), Halt> {
    let store = &node.parts.store;
    let record = job.record();
    let allowed = record.plan.request.max_changed.unwrap_or(0.0);
    let free = record.kind == JobKind::Rollback || verification.changed_share <= allowed;
    if free || record.approved {
        return Ok(());
    }
    let share = verification.changed_share * 100.0;
    let reason = format!(
        "{share:.3} % of the rows would change: look at them with `segno replay diff {id}`, then say yes with \
         `segno replay approve {id}`, or give it up with `segno replay cancel {id}`; live is as it was",
        id = record.id
    );
    tracing::info!(job = record.id, reason, "the replay waits for a yes");
    job.change(store, |record| (record.phase, record.reason) = (Phase::Waiting, Some(reason)))?;
    loop {
        let prodded = job.prodded.notified();
        if job.cancelled() {
            return Err(Halt::Cancelled);
        }
        if job.record().approved {
            return Ok(());
        }
        if node.stopping() {
            return Err(Halt::Stopping);
        }
        catch_up(node, job, workers, Arrival::Committed).await?;
        // A timeout is the usual end.
        let _ = tokio::time::timeout(KEEP_UP, prodded).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_that_could_not_be_written_is_not_taken_for_one_that_was_not_made() {
        let (path, reason) = ("control".into(), "no space left".to_owned());
        assert!(matches!(Halt::from(state::Error::Undecided { path, reason }), Halt::Unknown(_)));
        let at = crate::position::TopicPartition::new("t", 0);
        assert!(matches!(Halt::from(state::Error::NoGeneration { at }), Halt::Failed(_)));
    }
}
