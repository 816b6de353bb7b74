//! How fast a replay may be expected to go where none has been measured yet: some of the records that it would read are
//! read and folded, as it would, into nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::build::side_by_side;
use super::rebuild::quiet;
use super::words::{PartitionReplay, ReplayPlan};
use crate::actors::node::NodeShared;
use crate::actors::replay::gate::wait_ready;
use crate::actors::serving::idents;
use crate::actors::shard::Setting;
use crate::actors::shard::core::Shard;
use crate::position::{Position, TopicPartition};
use crate::streams::{Limit, Log, Prefetch};

/// Fewer records are read in no time, whatever the rate.
const WORTH_A_TRIAL: u64 = 20_000;
/// The most records of a partition that are tried, and how many at once.
const RECORDS: u64 = 100_000;
const BATCH: Limit = Limit { records: 4096, bytes: 4 << 20 };
/// How long they are tried.
const TIME: Duration = Duration::from_millis(200);
/// How long the plan waits for it: a log that is slow to open, or a fold that hangs, is left alone.
const PATIENCE: Duration = Duration::from_secs(2);

/// One partition that is tried.
struct Trial {
    log: Arc<dyn Log>,
    setting: Arc<Setting>,
    prefetch: Prefetch,
    from: Position,
    to: Position,
}

impl NodeShared {
    /// Records a second that this machine reads and folds of what the plan names, as many partitions at once as a job
    /// would. Commits are left out, so that it is a little fast. `None` where there is too little to tell by. Blocks, not
    /// long.
    pub(super) fn tried_rate(&self, plan: &ReplayPlan) -> Option<f64> {
        if plan.records < WORTH_A_TRIAL {
            return None;
        }
        let mut largest: Vec<(&str, &PartitionReplay)> =
            plan.topics.iter().flat_map(|topic| topic.partitions.iter().map(|one| (&*topic.topic, one))).collect();
        largest.sort_by_key(|(_, one)| std::cmp::Reverse(one.records));
        largest.truncate(side_by_side());
        let (tell, told) = mpsc::channel();
        for trial in largest.into_iter().filter_map(|(topic, one)| self.trial(topic, one)) {
            let tell = tell.clone();
            // Not waited for: it ends by itself, and where a fold hangs it does not.
            let run = move || {
                quiet::lower();
                // What a fold says here is not about live.
                let nobody = tracing::subscriber::NoSubscriber::default();
                let rate = tracing::subscriber::with_default(nobody, || trial.run());
                // Nobody listens any more when it took too long.
                let _ = tell.send(rate);
            };
            let started = thread::Builder::new().name("segno-trial".to_owned()).spawn(run);
            if let Err(error) = started {
                tracing::debug!(%error, "no thread to try how fast a replay would be");
            }
        }
        drop(tell);
        let until = Instant::now() + PATIENCE;
        let mut rates = Vec::new();
        while let Ok(rate) = told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            rates.extend(rate);
        }
        (!rates.is_empty()).then(|| rates.iter().sum())
    }

    fn trial(&self, topic: &str, one: &PartitionReplay) -> Option<Trial> {
        let topic = self.topic(topic)?;
        let live = self.live_generation(&TopicPartition::new(topic.name(), one.partition.0))?;
        let wanted = &topic.parts.wanted;
        let scratch = self.parts.store.scratch(live.identity(), &idents(wanted), one.from);
        let scratch = scratch.inspect_err(|error| tracing::debug!(%error, "no place to try a fold")).ok()?;
        Some(Trial {
            log: self.parts.log.clone(),
            setting: Arc::new(topic.parts.setting(wanted, scratch)),
            prefetch: topic.parts.flow.prefetch,
            from: one.from,
            to: one.log_end,
        })
    }
}

impl Trial {
    /// The clock starts when the first records are there: opening the log and the first fetch are no part of a rate.
    fn run(self) -> Option<f64> {
        let at = &self.setting.at;
        let opened = self.log.readers(&at.topic, &[(at.partition, self.from)], self.prefetch);
        let mut reader = opened.ok()?.pop()?;
        let mut shard = Shard::new(self.setting.clone(), Arc::default(), HashMap::new(), Vec::new());
        shard.begin_complete();
        let opened = Instant::now();
        let mut began: Option<Instant> = None;
        let mut folded = 0;
        while folded < RECORDS && reader.position() < self.to && opened.elapsed() < PATIENCE {
            let batch = reader.drain(BATCH).ok()?;
            if batch.is_empty() {
                wait_ready(&reader.ready());
                continue;
            }
            shard.apply_range(&batch, 0..batch.len()).ok()?;
            match began {
                None => began = Some(Instant::now()),
                Some(_) => folded += batch.len() as u64,
            }
            if began.is_some_and(|began| began.elapsed() >= TIME) {
                break;
            }
        }
        drop(shard.hand_all_over(1));
        let seconds = began?.elapsed().as_secs_f64();
        (folded > 0 && seconds > 0.0).then(|| folded as f64 / seconds)
    }
}
