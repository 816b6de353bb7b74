//! Compares the new generations with live, each pair at one exact position.
//!
//! Live goes on meanwhile: a snapshot of it stands still at some position, the rebuild is brought to exactly that, and
//! then both hold a fold of the same records. With the same definitions they must be the same, byte for byte; otherwise
//! what differs is counted and shown.

use std::sync::Arc;
use std::time::Duration;

use super::differences::{SAMPLES, differences, differs_all_the_same, tag_of};
use super::drive::Halt;
use super::job::Job;
use super::rebuild::{Arrival, Rebuild, RunEnd};
use super::record::JobRecord;
use super::words::{DefinitionChange, Difference, JobKind, TopicReplay, Verification, ViewVerdict};
use super::worker::Worker;
use crate::actors::node::NodeShared;
use crate::actors::serving::Mode;
use crate::position::{PartitionId, Position, PositionVector, TopicPartition};
use crate::state::{self, Compared as Counts, Generation};
use crate::streams::Log;
use futures_util::future::join_all;

/// How long to wait for a live that has to come up to the base.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the comparison came to.
pub struct Compared {
    pub verification: Verification,
    /// Topics whose new generations must equal live's.
    pub must_be_identical: Vec<String>,
    /// Why there must be no cut-over.
    pub refused: Option<String>,
}

/// One view of one partition.
struct Verdict {
    view: String,
    change: DefinitionChange,
    live_digest: u128,
    new_digest: u128,
    counts: Counts,
    samples: Vec<Difference>,
    /// What was read of the new generation is not what it says that it holds.
    damaged: bool,
    /// Some rows differ, for no other reason than that live has yet to apply an event of theirs.
    excused: bool,
}

/// One partition.
struct PartitionVerdict {
    position: Position,
    same_history: bool,
    views: Vec<Verdict>,
}

enum Answer {
    /// Live stands below the rebuild.
    Behind {
        live: Position,
        new: Position,
    },
    Stopped,
    Compared(PartitionVerdict),
}

/// Whether the new generations of the topic may be nothing but equal to live's, as far as the plan tells: the same
/// definitions. In each partition both must have the same history besides.
fn may_be_identical(record: &JobRecord, topic: &TopicReplay) -> bool {
    record.kind != JobKind::Rollback && topic.same_definitions() && !topic.compacted
}

/// The rows of both began at the same record, and were taken over from other definitions at the same time or never.
fn same_history(live: &Generation, new: &Generation) -> bool {
    live.began() == new.began() && live.lineage() == new.lineage()
}

/// Compares every partition of the job.
pub async fn verify(node: &Arc<NodeShared>, job: &Job, workers: &[Worker]) -> Result<Compared, Halt> {
    let record = job.record();
    let topics: Vec<&TopicReplay> = record.plan.topics.iter().collect();
    let mut comparing = Vec::with_capacity(workers.len());
    for worker in workers {
        let topic = topics.iter().find(|topic| *topic.topic == *worker.at().topic).copied();
        comparing.push(compare(node.clone(), job, worker, topic.cloned()));
    }
    let mut found = Vec::with_capacity(workers.len());
    for (worker, compared) in workers.iter().zip(join_all(comparing).await) {
        found.push((worker.at().clone(), compared?));
    }
    let mut at: Vec<PositionVector> = Vec::new();
    let mut views: Vec<ViewVerdict> = Vec::new();
    let mut digests: Vec<(u128, u128, bool)> = Vec::new();
    let mut refused = None;
    let must: Vec<String> =
        topics.iter().filter(|topic| may_be_identical(&record, topic)).map(|topic| topic.topic.clone()).collect();
    let differs = |topic: &String| {
        let other = |(at, verdict): &(TopicPartition, PartitionVerdict)| *at.topic == **topic && !verdict.same_history;
        found.iter().any(other)
    };
    let must: Vec<String> = must.into_iter().filter(|topic| !differs(topic)).collect();
    for (partition, verdict) in found {
        match at.iter_mut().find(|token| *token.topic == *partition.topic) {
            Some(token) => token.raise(partition.partition, verdict.position),
            None => {
                let mut token = PositionVector::new(&*partition.topic);
                token.raise(partition.partition, verdict.position);
                at.push(token);
            }
        }
        for view in verdict.views {
            if view.damaged {
                refused.get_or_insert_with(|| {
                    format!(
                        "{partition}: the new generation's rows of view `{}` are not those that were written; the disk \
                         may be failing: cancel the job, check the disk, and start it again",
                        view.view
                    )
                });
            }
            let index = views.iter().position(|known| *known.topic == *partition.topic && known.view == view.view);
            let index = index.unwrap_or_else(|| {
                views.push(empty_verdict(&partition.topic, &view));
                digests.push((0, 0, false));
                views.len() - 1
            });
            let (total, sums) = (&mut views[index], &mut digests[index]);
            let (live, new) = (sums.0.wrapping_add(view.live_digest), sums.1.wrapping_add(view.new_digest));
            *sums = (live, new, sums.2 | view.excused);
            total.added += view.counts.added;
            total.removed += view.counts.removed;
            total.changed += view.counts.changed;
            total.unchanged += view.counts.unchanged;
            let room = SAMPLES.saturating_sub(total.samples.len());
            total.samples.extend(view.samples.into_iter().take(room));
        }
    }
    let (mut moved, mut had) = (0, 0);
    for (view, (live, new, excused)) in views.iter_mut().zip(&digests) {
        (view.live_digest, view.new_digest) = (format!("{live:032x}"), format!("{new:032x}"));
        let differs = view.added + view.removed + view.changed;
        if view.change != DefinitionChange::Added {
            moved += differs;
            had += view.removed + view.changed + view.unchanged;
        }
        let same = differs == 0 && (live == new || *excused);
        if !same && must.contains(&view.topic) {
            refused.get_or_insert_with(|| differs_all_the_same(view));
        }
    }
    let changed_share = match (moved, had) {
        (0, _) => 0.0,
        (_, 0) => 1.0,
        (moved, had) => moved as f64 / had as f64,
    };
    let identical = digests.iter().all(|(live, new, _)| live == new);
    let verification = Verification { at, views, identical, changed_share };
    Ok(Compared { verification, must_be_identical: must, refused })
}

fn empty_verdict(topic: &str, view: &Verdict) -> ViewVerdict {
    ViewVerdict {
        topic: topic.to_owned(),
        view: view.view.clone(),
        change: view.change,
        live_digest: String::new(),
        new_digest: String::new(),
        added: 0,
        removed: 0,
        changed: 0,
        unchanged: 0,
        samples: Vec::new(),
    }
}

/// Compares one partition, waiting for live where that has to come up first.
async fn compare(
    node: Arc<NodeShared>,
    job: &Job,
    worker: &Worker,
    topic: Option<TopicReplay>,
) -> Result<PartitionVerdict, Halt> {
    let at = worker.at().clone();
    let missing = || Halt::Failed(format!("{at} is not a partition of this node any more"));
    let topic = Arc::new(topic.ok_or_else(missing)?);
    loop {
        let live = node.live_generation(&at).ok_or_else(missing)?;
        let (plan, partition) = (topic.clone(), at.partition);
        let new = worker.generation().clone();
        let task = move |rebuild: &mut Rebuild, log: &dyn Log| {
            at_one_position(&live, &new, rebuild, log, &plan, partition).map_err(|error| error.to_string())
        };
        match worker.call(task).await?.map_err(Halt::Failed)? {
            Answer::Compared(verdict) => return Ok(verdict),
            Answer::Stopped => return Err(Halt::Stopping),
            Answer::Behind { live, new } => {
                let running = node.topic(&at.topic).is_some_and(|topic| topic.serving().mode == Mode::Running);
                if !running {
                    return Err(Halt::Failed(format!(
                        "{at}: the rebuild begins at {new} and live stands at {live} and does not move, so they cannot \
                         be compared: choose an earlier cut"
                    )));
                }
                if node.stopping() || job.gate.stopped() {
                    return Err(Halt::Stopping);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// What went wrong in a comparison.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] state::Error),
    #[error("{0}")]
    Rebuild(crate::actors::plan::Fatal),
}

fn at_one_position(
    live: &Generation,
    new: &Generation,
    rebuild: &mut Rebuild,
    log: &dyn Log,
    topic: &TopicReplay,
    partition: PartitionId,
) -> Result<Answer, Failed> {
    let still = live.snapshot_read();
    let position = still.position()?;
    if position < new.applied() {
        return Ok(Answer::Behind { live: position, new: new.applied() });
    }
    match rebuild.run_to(log, position, Arrival::Committed).map_err(Failed::Rebuild)? {
        RunEnd::Reached => {}
        RunEnd::Stopped => return Ok(Answer::Stopped),
    }
    let built = new.snapshot_read();
    let mut views = Vec::with_capacity(topic.views.len());
    for view in &topic.views {
        let (before, after) = (tag_of(live, &view.view), tag_of(new, &view.view));
        let mut verdict = Verdict {
            view: view.view.clone(),
            change: view.change,
            live_digest: 0,
            new_digest: 0,
            counts: Counts::default(),
            samples: Vec::new(),
            damaged: false,
            excused: false,
        };
        if let Some(tag) = before {
            let totals = still.totals(tag)?;
            verdict.live_digest = totals.digest;
            verdict.counts.removed = totals.rows.max(0) as u64;
        }
        if let Some(tag) = after {
            let totals = built.totals(tag)?;
            let found = new.recompute(tag)?;
            verdict.damaged = found.digest != totals.digest || found.rows != totals.rows;
            verdict.new_digest = totals.digest;
            verdict.counts.added = totals.rows.max(0) as u64;
        }
        if let (Some(before), Some(after)) = (before, after) {
            let exact = view.change == DefinitionChange::Same;
            if exact && verdict.live_digest == verdict.new_digest && verdict.counts.added == verdict.counts.removed {
                verdict.counts = Counts { unchanged: verdict.counts.added, ..Counts::default() };
            } else {
                let found = differences(partition, (&still, before), (&built, after), exact, SAMPLES)?;
                (verdict.counts, verdict.samples, verdict.excused) = (found.counts, found.samples, found.excused);
            }
        }
        views.push(verdict);
    }
    Ok(Answer::Compared(PartitionVerdict { position, same_history: same_history(live, new), views }))
}
