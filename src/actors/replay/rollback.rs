//! The way back: the generations that a cut-over has replaced are brought up to where live stands and made live again.
//! And their end, when `replay.keep` has run out.

use std::sync::Arc;

use super::job::now;
use super::record::{JobRecord, ShadowRecord, TopicRecord};
use super::standing::check_records;
use super::words::{
    Base, BaseChoice, DefinitionChange, JobKind, PartitionReplay, Phase, ReplayError, ReplayPlan, ReplayRequest,
    TopicReplay, ViewReplay,
};
use crate::actors::node::NodeShared;
use crate::actors::opening;
use crate::position::{Position, TopicPartition};
use crate::state::{Fingerprint, LiveInfo, ViewIdent};

/// The record of a job that undoes `of`, which has cut over. Asks the log; blocks.
pub fn plan(node: &NodeShared, of: &JobRecord, id: u64) -> Result<JobRecord, ReplayError> {
    if of.phase != Phase::Done {
        let why = format!("job {} is {} and has not cut over: there is nothing to roll back", of.id, of.phase);
        return Err(ReplayError::NotNow(why));
    }
    let failed = |error: String| ReplayError::Failed(error);
    let (log, store) = (&node.parts.log, &node.parts.store);
    let (mut topics, mut shadows, mut records) = (Vec::new(), Vec::new(), 0);
    for old in &of.plan.topics {
        let mut partitions = Vec::new();
        for shadow in of.shadows.iter().filter(|shadow| shadow.topic == old.topic) {
            let at = shadow.at();
            let info = store.live(&at).map_err(|error| failed(error.to_string()))?;
            let previous = previous(of, shadow, info)?;
            let live = node.live_generation(&at).map_or((Position::ZERO, None), |live| (live.applied(), live.last()));
            let ends = log.watermarks(&at).map_err(|error| failed(error.to_string()))?;
            // Where the previous generation stopped is where the cut-over was: at its own applied position.
            let (from, last) = standing_of(node, of, shadow, previous)?;
            if ends.start > from {
                return Err(ReplayError::Refused(format!(
                    "{at}: the previous generation stands at {from}, and the log begins at {}: retention has removed {} \
                     records that it has not seen, so it cannot be brought back; `segno replay --from` a later time \
                     makes a new one",
                    ends.start,
                    from.lag_to(ends.start)
                )));
            }
            // The topic may have been created anew while the node runs.
            for stands in [live, (from, last)] {
                check_records(&**log, &at, stands, (ends.start, ends.end))?;
            }
            let (live, _) = live;
            let span = from.lag_to(live);
            records += span;
            partitions.push(PartitionReplay {
                partition: at.partition,
                log_start: ends.start,
                log_end: ends.end,
                cut: from,
                cut_time: None,
                base: Base::Previous { generation: previous },
                from,
                base_time: None,
                base_generation: None,
                live,
                live_generation: shadow.generation.unwrap_or_default(),
                records: span,
                bytes: None,
            });
            shadows.push(ShadowRecord {
                topic: old.topic.clone(),
                partition: at.partition,
                generation: Some(previous),
                from,
                target: live,
                live: shadow.generation.unwrap_or_default(),
            });
        }
        topics.push(TopicReplay {
            topic: old.topic.clone(),
            views: old.views.iter().map(reversed).collect(),
            partitions,
            compacted: old.compacted,
        });
    }
    let request = ReplayRequest {
        from: format!("the previous generations of job {}", of.id),
        topics: topics.iter().map(|topic| topic.topic.clone()).collect(),
        base: BaseChoice::Auto,
        yes: true,
        ..ReplayRequest::default()
    };
    let disk_free = store.free_bytes().map_err(|error| failed(error.to_string()))?;
    let plan = ReplayPlan {
        request,
        time: None,
        topics,
        records,
        bytes: None,
        exact: false,
        seconds: None,
        disk_needed: 0,
        disk_free,
        warnings: Vec::new(),
    };
    let swap = |topic: &TopicRecord| TopicRecord {
        topic: topic.topic.clone(),
        new: topic.live.clone(),
        live: topic.new.clone(),
    };
    Ok(JobRecord {
        id,
        kind: JobKind::Rollback,
        of: Some(of.id),
        phase: Phase::Building,
        reason: None,
        plan,
        created: now(),
        ended: None,
        approved: true,
        verification: None,
        rate: None,
        topics: of.topics.iter().map(swap).collect(),
        shadows,
    })
}

/// The number of the generation that a job has replaced, if that is still there and the job's own is still live.
fn previous(of: &JobRecord, shadow: &ShadowRecord, live: Option<LiveInfo>) -> Result<u64, ReplayError> {
    let at = shadow.at();
    let live = live.ok_or_else(|| ReplayError::Failed(format!("{at} has no live generation")))?;
    if Some(live.number) != shadow.generation {
        let why = format!(
            "{at}: generation {} is live, which job {} has not made: roll back what came after it",
            live.number, of.id
        );
        return Err(ReplayError::NotNow(why));
    }
    match live.previous {
        Some(previous) if previous.number == shadow.live => Ok(previous.number),
        _ => Err(ReplayError::Refused(format!(
            "{at}: the previous generation is not kept any more (`replay.keep`); `segno replay --from` makes a new one"
        ))),
    }
}

/// Where a generation stands that is not live, and after which record.
fn standing_of(
    node: &NodeShared,
    of: &JobRecord,
    shadow: &ShadowRecord,
    number: u64,
) -> Result<(Position, Option<Fingerprint>), ReplayError> {
    let failed = |error: String| ReplayError::Failed(error);
    let info = node.parts.log.topic(&shadow.topic).map_err(|error| failed(error.to_string()))?;
    let identity = opening::identity(&info, shadow.partition.0);
    let texts = of.topic(&shadow.topic).map(|topic| topic.live.as_slice()).unwrap_or_default();
    let idents: Vec<ViewIdent> = texts.iter().map(ViewIdent::from).collect();
    let found = node.parts.store.open_numbered(&identity, number, &idents);
    match found.map_err(|error| failed(error.to_string()))? {
        Some(generation) => Ok((generation.applied(), generation.last())),
        None => Err(ReplayError::Refused(format!("{}: generation {number} is not there any more", shadow.at()))),
    }
}

fn reversed(view: &ViewReplay) -> ViewReplay {
    ViewReplay {
        view: view.view.clone(),
        live: view.wanted,
        wanted: view.live,
        change: match view.change {
            DefinitionChange::Added => DefinitionChange::Removed,
            DefinitionChange::Removed => DefinitionChange::Added,
            // Its rows may differ all the same: somebody wanted them back.
            same => same,
        },
    }
}

/// Removes the generations that nothing needs any more, such as what was previous before the last cut-over. One that is
/// still being read goes the next time.
pub async fn sweep(node: &Arc<NodeShared>) {
    let sweeping = node.clone();
    let swept = tokio::task::spawn_blocking(move || sweeping.jobs.sweep(&sweeping.parts.store)).await;
    if let Ok(Err(error)) = swept {
        tracing::warn!(%error, "generations that nothing needs any more could not be removed; the next look tries again");
    }
}

/// Lets go of previous generations whose time has run out, unless a job is under way, which may be bringing them back.
pub async fn let_go(node: &Arc<NodeShared>) {
    let looking = node.clone();
    let look = move || {
        let _alone = looking.alone();
        if looking.job_under_way().is_some() || looking.jobs.unread().is_some() {
            return false;
        }
        let partitions = looking.topics.iter().flat_map(|topic| topic.serving().generations());
        partitions.for_each(|live| let_go_of(&looking, live.at()));
        true
    };
    // An error says that the runtime is shutting down.
    if let Ok(true) = tokio::task::spawn_blocking(look).await {
        sweep(node).await;
    }
}

fn let_go_of(node: &NodeShared, at: &TopicPartition) {
    let (store, keep) = (&node.parts.store, node.parts.replay.keep);
    let Some(previous) = store.live(at).ok().flatten().and_then(|live| live.previous) else { return };
    let age = now().0.saturating_sub(previous.since.0);
    if u128::try_from(age).is_ok_and(|age| age >= keep.as_millis()) {
        match store.forget_previous(at) {
            Ok(()) => tracing::info!(%at, generation = previous.number, "the previous generation was let go"),
            Err(error) => tracing::warn!(%at, %error, "the previous generation could not be removed"),
        }
    }
}
