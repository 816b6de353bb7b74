//! Measures a running job, holds it back when live falls behind, and ends it before it fills the disk.
//!
//! Live's lag is taken as time: the records that it has not applied over the rate at which it applies. The age of the
//! oldest of them would not do, for records of last year are old however fast they are read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk;
use super::job::{Job, Pulse};
use super::words::Phase;
use crate::actors::node::NodeShared;
use crate::actors::serving::TopicShared;

/// How often the job is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Rates are taken over this time.
const WINDOW: Duration = Duration::from_secs(3);
/// So many records are in flight in a live that keeps up well; they are no lag to act upon.
const IN_FLIGHT: u64 = 4096;
/// The share of its speed that a job keeps at least, so that it ends.
const LEAST: f64 = 0.02;

/// What was seen at one look.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    folded: u64,
    applied: u64,
    /// Positions between the job and live.
    apart: u64,
}

/// Runs until it is dropped.
pub async fn govern(node: Arc<NodeShared>, job: Arc<Job>) {
    let bound = node.parts.replay.live_lag.as_secs_f64();
    let topics = node.topics_of(&job.record());
    let mut looks: VecDeque<Look> = VecDeque::new();
    let mut share = 1.0;
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(why) = disk::full(&node.parts.store) {
            job.give_up(why);
        }
        let look = look(&topics, &job);
        while looks.front().is_some_and(|first| look.at.duration_since(first.at) > WINDOW) {
            looks.pop_front();
        }
        looks.push_back(look);
        let first = looks[0];
        let seconds = look.at.duration_since(first.at).as_secs_f64().max(LOOK.as_secs_f64());
        let applying = look.applied.saturating_sub(first.applied) as f64 / seconds;
        let lag = lag(&topics);
        let lag_seconds = lag.map(|lag| if lag == 0 { 0.0 } else { lag as f64 / applying.max(1.0) });
        share = next_share(share, lag, lag_seconds, bound);
        job.gate.set_throttle(share);
        let full = seconds > WINDOW.as_secs_f64() * 0.8;
        job.set_pulse(Pulse {
            rate: look.folded.saturating_sub(first.folded) as f64 / seconds,
            losing: full && job.phase() == Phase::Building && look.apart > first.apart && look.apart > IN_FLIGHT,
            live_lag_records: lag,
            live_lag_seconds: lag_seconds,
        });
    }
}

/// Halves the job's share while live is too far behind, and gives back a little at a time.
fn next_share(share: f64, lag: Option<u64>, seconds: Option<f64>, bound: f64) -> f64 {
    let behind = lag.is_some_and(|lag| lag > IN_FLIGHT) && seconds.is_some_and(|seconds| seconds > bound);
    if behind { (share / 2.0).max(LEAST) } else { (share * 1.1 + 0.01).min(1.0) }
}

fn look(topics: &[Arc<TopicShared>], job: &Job) -> Look {
    let (mut applied, mut apart) = (0, 0);
    for topic in topics {
        for partition in &topic.serving().partitions {
            let live = partition.setting().generation.applied();
            applied += live.0;
            let behind = job.reached(&partition.setting().at).map(|(position, _)| position.lag_to(live));
            apart += behind.unwrap_or_default();
        }
    }
    Look { at: Instant::now(), folded: job.folded(), applied, apart }
}

/// Records that live has not applied; `None` while the log has not told its end.
fn lag(topics: &[Arc<TopicShared>]) -> Option<u64> {
    let mut lag = 0;
    for topic in topics {
        for partition in &topic.serving().partitions {
            lag += partition.setting().generation.applied().lag_to(partition.log_end()?);
        }
    }
    Some(lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gives_way_to_live_and_comes_back() {
        let mut share = 1.0;
        for _ in 0..10 {
            share = next_share(share, Some(100_000), Some(5.0), 2.0);
        }
        assert_eq!(share, LEAST);
        for _ in 0..60 {
            share = next_share(share, Some(10), Some(0.0), 2.0);
        }
        assert_eq!(share, 1.0);
        assert_eq!(next_share(1.0, Some(100), Some(50.0), 2.0), 1.0, "a handful of records is no lag");
        assert_eq!(next_share(1.0, None, None, 2.0), 1.0);
    }
}
