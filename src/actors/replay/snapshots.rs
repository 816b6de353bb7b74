//! When snapshots are taken and thrown away, and when a previous generation goes: by records, by time, before every
//! cut-over, and by an operator.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::footing;
use super::job::now;
use super::record::JobRecord;
use super::words::ReplayError;
use crate::actors::admin::{SnapshotInfo, SnapshotPartition, SnapshotView};
use crate::actors::node::NodeShared;
use crate::actors::serving::{Mode, TopicShared};
use crate::position::PositionVector;
use crate::state::{self, Keep, Snapshot, Store, prune};

/// How often the keeper looks whether something is due.
const LOOK: Duration = Duration::from_secs(1);

/// After so many looks it sees whether a previous generation's time has run out.
const LET_GO: u32 = 30;

/// What a topic was like when its last snapshot was taken.
struct Last {
    at: Instant,
    positions: u64,
}

/// Takes and prunes snapshots and lets previous generations go, until it is dropped.
pub async fn keep(node: Arc<NodeShared>) {
    let mut last: HashMap<String, Last> = HashMap::new();
    for topic in &node.topics {
        last.insert(topic.name().to_owned(), last_of(&node.parts.store, topic));
    }
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for looks in 0u32.. {
        ticks.tick().await;
        if looks % LET_GO == 0 {
            super::rollback::let_go(&node).await;
        }
        for topic in &node.topics {
            if topic.serving().mode != Mode::Running || topic.switching() {
                continue;
            }
            let positions = positions(topic);
            let Some(before) = last.get_mut(topic.name()) else { continue };
            let Some(why) = due(&node, before, positions) else { continue };
            (before.at, before.positions) = (Instant::now(), positions);
            if let Err(error) = take(&node, topic, why).await {
                tracing::warn!(topic = topic.name(), %error, "no snapshot could be taken; the next is tried when it is due");
            }
        }
    }
}

/// Why a snapshot is due, if one is. Nothing new, nothing due.
fn due(node: &NodeShared, last: &Last, positions: u64) -> Option<&'static str> {
    let options = &node.parts.snapshots;
    let grown = positions.saturating_sub(last.positions);
    if grown == 0 {
        return None;
    }
    if options.records > 0 && grown >= options.records {
        return Some("records");
    }
    options.interval.filter(|interval| last.at.elapsed() >= *interval).map(|_| "time")
}

/// The sum of the topic's positions: what grows with every record.
fn positions(topic: &TopicShared) -> u64 {
    topic.serving().generations().iter().map(|generation| generation.applied().0).sum()
}

/// As the newest snapshot on disk says; a node that has just started does not take one at once for that.
fn last_of(store: &Store, topic: &TopicShared) -> Last {
    let snapshots = store.snapshots().unwrap_or_default();
    let newest = snapshots.iter().filter(|snapshot| snapshot.topic == topic.name() && snapshot.damaged.is_none());
    let Some(newest) = newest.max_by_key(|snapshot| snapshot.id) else {
        return Last { at: Instant::now(), positions: 0 };
    };
    let age = Duration::from_millis(u64::try_from(now().0 - newest.taken.0).unwrap_or_default());
    let at = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
    Last { at, positions: newest.parts.iter().map(|part| part.position.0).sum() }
}

/// Takes a snapshot of what serves the topic, and prunes.
pub async fn take(
    node: &Arc<NodeShared>,
    topic: &Arc<TopicShared>,
    why: &'static str,
) -> Result<Snapshot, ReplayError> {
    // It makes live durable first. Asked for what serves only then, for a cut-over may have been waited for.
    let flushing = topic.flushing().await;
    let (taking, generations) = (node.clone(), topic.serving().generations());
    let options = &node.parts.snapshots;
    let keep = Keep { keep: options.keep, daily: options.keep_daily, ..Keep::default() };
    let name = topic.name().to_owned();
    let taken = tokio::task::spawn_blocking(move || {
        let snapshot = taking.parts.store.take_snapshot(&generations, why, now());
        drop(flushing);
        let snapshot = snapshot?;
        thin_out(&taking, &name, &keep)?;
        Ok::<_, state::Error>(snapshot)
    });
    let taken = taken.await.map_err(|_| ReplayError::Stopping)?;
    let snapshot = taken.map_err(|error| ReplayError::Failed(error.to_string()))?;
    tracing::info!(topic = topic.name(), snapshot = snapshot.id, why, "snapshot taken");
    Ok(snapshot)
}

/// Removes the snapshots of a topic that the policy does not keep. One that an operator has asked for is his to delete, and
/// one that a job or a question still needs goes the next time.
fn thin_out(node: &NodeShared, topic: &str, keep: &Keep) -> Result<(), state::Error> {
    let store = &node.parts.store;
    let snapshots = store.snapshots()?;
    let own =
        |snapshot: &&Snapshot| snapshot.topic == topic && snapshot.damaged.is_none() && snapshot.why != state::OPERATOR;
    let listed: Vec<_> = snapshots.iter().filter(own).map(|one| (one.id, one.taken, token(one))).collect();
    for id in prune(&listed, now(), keep) {
        let _alone = node.alone();
        if footing::held_by(&node.jobs, id).is_some() {
            continue;
        }
        match store.prune_snapshot(id) {
            Ok(true) => tracing::debug!(topic, snapshot = id, "snapshot pruned"),
            Ok(false) | Err(state::Error::SnapshotInUse { .. } | state::Error::NoSnapshot { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn token(snapshot: &Snapshot) -> PositionVector {
    let mut token = PositionVector::new(snapshot.topic.clone());
    for part in &snapshot.parts {
        token.raise(part.at.partition, part.position);
    }
    token
}

/// Before live changes. A snapshot that cannot be taken does not stop the cut-over: the generation itself stays as the
/// previous one.
pub async fn before_cut_over(node: &Arc<NodeShared>, record: &JobRecord) {
    for topic in node.topics_of(record) {
        if let Err(error) = take(node, &topic, "cut-over").await {
            tracing::warn!(topic = topic.name(), %error, "no snapshot before the cut-over");
        }
    }
}

/// After live has changed: what looks at the past of the new generations begins with their own snapshots. Not waited for.
pub fn after_cut_over(node: &Arc<NodeShared>, record: &JobRecord) {
    for topic in node.topics_of(record) {
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(error) = take(&node, &topic, "cut-over").await {
                tracing::warn!(topic = topic.name(), %error, "no snapshot after the cut-over");
            }
        });
    }
}

/// A snapshot as operators see it.
pub fn info(snapshot: &Snapshot) -> SnapshotInfo {
    let views = snapshot.parts.first().map(|part| part.views.as_slice()).unwrap_or_default();
    let view = |view: &state::StoredView| SnapshotView {
        view: view.name.clone(),
        version: view.version,
        fingerprint: format!("{:032x}", view.fingerprint),
    };
    let partition = |part: &state::SnapshotPart| SnapshotPartition {
        partition: part.at.partition,
        generation: part.generation,
        position: part.position,
        last_time: part.last.map(|last| last.timestamp),
        rows: part.totals.iter().map(|totals| totals.rows.max(0) as u64).sum(),
    };
    SnapshotInfo {
        id: snapshot.id,
        topic: snapshot.topic.clone(),
        taken: snapshot.taken,
        why: snapshot.why.clone(),
        views: views.iter().filter(|view| view.left_at.is_none()).map(view).collect(),
        partitions: snapshot.parts.iter().map(partition).collect(),
        bytes: snapshot.parts.iter().map(|part| part.bytes).sum(),
        damaged: snapshot.damaged.clone(),
    }
}
