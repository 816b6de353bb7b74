//! A job in memory: its record, which is durable at every step that counts, and what is seen of it while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};

use super::gate::Gate;
use super::rebuild::Gauge;
use super::record::JobRecord;
use super::words::{JobStatus, PartitionProgress, Phase, TopicProgress};
use crate::actors::handle::ReplayBrief;
use crate::position::{Position, Timestamp, TopicPartition};
use crate::state::{self, Generation, Store};

/// What changes all the time and is stored nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pulse {
    /// Records a second.
    pub rate: f64,
    pub losing: bool,
    pub live_lag_records: Option<u64>,
    pub live_lag_seconds: Option<f64>,
}

/// A rebuild as it is seen from outside.
pub struct UnderWay {
    pub at: TopicPartition,
    pub gauge: Arc<Gauge>,
    /// For looking only: it goes when the job lets go of it.
    pub generation: Weak<Generation>,
}

/// A job that runs or has run.
pub struct Job {
    record: Mutex<JobRecord>,
    under_way: Mutex<Vec<UnderWay>>,
    pulse: Mutex<Pulse>,
    pub gate: Arc<Gate>,
    cancelled: AtomicBool,
    given_up: Mutex<Option<String>>,
    /// An operator has done something.
    pub prodded: Notify,
    /// True while somebody drives it.
    driven: watch::Sender<bool>,
}

impl Job {
    pub fn new(record: JobRecord) -> Job {
        Job {
            gate: Gate::new(record.plan.request.rate),
            record: Mutex::new(record),
            under_way: Mutex::default(),
            pulse: Mutex::default(),
            cancelled: AtomicBool::new(false),
            given_up: Mutex::default(),
            prodded: Notify::new(),
            driven: watch::Sender::new(false),
        }
    }

    fn locked(&self) -> MutexGuard<'_, JobRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record as it is now.
    pub fn record(&self) -> JobRecord {
        self.locked().clone()
    }

    pub fn id(&self) -> u64 {
        self.locked().id
    }

    /// As it is seen: the decision to cut over is durable before readers are switched, and done it is after that.
    pub fn phase(&self) -> Phase {
        let phase = self.locked().phase;
        if phase == Phase::Done && self.driven() { Phase::CuttingOver } else { phase }
    }

    /// Puts a decision in force that `store` makes durable together with others. Nobody changes the record meanwhile: what
    /// they store would take the decision back.
    pub fn decide<E>(
        &self,
        change: impl FnOnce(&mut JobRecord),
        store: impl FnOnce(&JobRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut record = self.locked();
        let mut decided = record.clone();
        change(&mut decided);
        store(&decided)?;
        *record = decided;
        Ok(())
    }

    /// Changes the record and makes it durable. Blocks for as long as the disk does.
    pub fn change(&self, store: &Store, change: impl FnOnce(&mut JobRecord)) -> Result<(), state::Error> {
        let mut record = self.locked();
        let mut changed = record.clone();
        change(&mut changed);
        if changed != *record {
            store.put_job(changed.id, &changed.encode())?;
            *record = changed;
        }
        Ok(())
    }

    /// Ends it for good: what it has made is to be thrown away.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.gate.stop();
        self.prodded.notify_waiters();
    }

    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Ends it, for that reason.
    pub fn give_up(&self, why: String) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.gate.stop();
        self.prodded.notify_waiters();
    }

    /// Why it was given up, if it was.
    pub fn given_up(&self) -> Option<String> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whether somebody drives it.
    pub fn set_driven(&self, driven: bool) {
        self.driven.send_replace(driven);
    }

    /// Whether somebody drives it.
    pub fn driven(&self) -> bool {
        *self.driven.borrow()
    }

    /// Until nobody drives it any more.
    pub async fn released(&self) {
        // An error says that the job is gone, and with it whoever drove it.
        let _ = self.driven.subscribe().wait_for(|driven| !*driven).await;
    }

    /// Shows the rebuilds that are under way.
    pub fn show(&self, under_way: Vec<UnderWay>) {
        *self.seen() = under_way;
    }

    fn seen(&self) -> MutexGuard<'_, Vec<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The new generations of a topic, in the order of its partitions; empty when they are not all open.
    pub fn generations(&self, topic: &str) -> Vec<Arc<Generation>> {
        let seen = self.seen();
        let of_it: Vec<_> = seen.iter().filter(|one| *one.at.topic == *topic).collect();
        let open: Vec<_> = of_it.iter().filter_map(|one| one.generation.upgrade()).collect();
        if open.len() == of_it.len() { open } else { Vec::new() }
    }

    pub fn set_pulse(&self, pulse: Pulse) {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = pulse;
    }

    /// Position and durable position of a partition's rebuild; `None` while it is not under way.
    pub fn reached(&self, at: &TopicPartition) -> Option<(Position, Position)> {
        let seen = self.seen();
        let one = seen.iter().find(|one| one.at == *at)?;
        let load = |value: &std::sync::atomic::AtomicU64| Position(value.load(Ordering::Relaxed));
        let position = load(&one.gauge.position);
        // After the switch others make durable what the rebuild has not.
        let durable = one.generation.upgrade().map_or(load(&one.gauge.durable), |generation| generation.durable());
        Some((position, durable.min(position)))
    }

    /// Records folded so far by this process.
    pub fn folded(&self) -> u64 {
        self.seen().iter().map(|one| one.gauge.records.load(Ordering::Relaxed)).sum()
    }

    /// The job in one line.
    pub fn brief(&self) -> ReplayBrief {
        let status = self.status();
        let sum = |of: fn(&TopicProgress) -> u64| status.topics.iter().map(of).sum::<u64>();
        let (done, total) = (sum(|topic| topic.done), sum(|topic| topic.total));
        let share = if total == 0 { 1.0 } else { done as f64 / total as f64 };
        ReplayBrief { id: status.id, phase: status.phase, share }
    }

    /// The job at a glance.
    pub fn status(&self) -> JobStatus {
        let mut record = self.record();
        record.phase = self.phase();
        record.ended = record.ended.filter(|_| record.phase.ended());
        let pulse = *self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics: Vec<TopicProgress> = Vec::new();
        for shadow in &record.shadows {
            let behind = (shadow.from, shadow.from);
            let ended = record.phase == Phase::Done;
            let over = if ended { (shadow.target, shadow.target) } else { behind };
            let (position, durable) = self.reached(&shadow.at()).unwrap_or(over);
            let partition = PartitionProgress {
                partition: shadow.partition,
                generation: shadow.generation.unwrap_or_default(),
                from: shadow.from,
                position,
                durable,
                target: shadow.target,
            };
            let total = shadow.from.lag_to(shadow.target);
            let done = shadow.from.lag_to(position).min(total);
            match topics.iter_mut().find(|topic| topic.topic == shadow.topic) {
                Some(topic) => {
                    topic.partitions.push(partition);
                    topic.done += done;
                    topic.total += total;
                }
                None => {
                    topics.push(TopicProgress { topic: shadow.topic.clone(), partitions: vec![partition], done, total })
                }
            }
        }
        let left: u64 = topics.iter().map(|topic| topic.total - topic.done).sum();
        let eta_seconds = (pulse.rate > 0.0 && record.phase == Phase::Building).then(|| left as f64 / pulse.rate);
        JobStatus {
            id: record.id,
            kind: record.kind,
            of: record.of,
            phase: record.phase,
            reason: record.reason,
            plan: record.plan,
            created: record.created,
            ended: record.ended,
            topics,
            rate: pulse.rate,
            eta_seconds,
            losing: pulse.losing,
            live_lag_records: pulse.live_lag_records,
            live_lag_seconds: pulse.live_lag_seconds,
            verification: record.verification,
            approved: record.approved,
        }
    }
}

/// The time of the node's clock, for records and decisions; never for a fold.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::super::words::{JobKind, ReplayPlan, ReplayRequest};
    use super::*;
    use crate::state::StoreOptions;

    fn record() -> JobRecord {
        let plan = ReplayPlan {
            request: ReplayRequest::default(),
            time: None,
            topics: Vec::new(),
            records: 0,
            bytes: None,
            exact: true,
            seconds: None,
            disk_needed: 0,
            disk_free: 0,
            warnings: Vec::new(),
        };
        JobRecord {
            id: 1,
            kind: JobKind::Replay,
            of: None,
            phase: Phase::CuttingOver,
            reason: None,
            plan,
            created: Timestamp(0),
            ended: None,
            approved: false,
            verification: None,
            rate: None,
            topics: Vec::new(),
            shadows: Vec::new(),
        }
    }

    /// A yes that comes when the decision is durable, and not yet in force.
    #[test]
    fn a_change_during_a_decision_does_not_take_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let (store, job) = (Store::open(directory.path(), StoreOptions::default()).unwrap(), Job::new(record()));
        std::thread::scope(|scope| {
            let decided = job.decide(
                |record| record.phase = Phase::Done,
                |done| {
                    store.put_job(done.id, &done.encode())?;
                    let late = scope.spawn(|| job.change(&store, |record| record.approved = true).unwrap());
                    // Time enough, if it did not wait.
                    (0..10_000).take_while(|_| !late.is_finished()).for_each(|_| std::thread::yield_now());
                    Ok::<_, state::Error>(())
                },
            );
            decided.unwrap();
        });
        let stored = JobRecord::decode(&store.jobs().unwrap()[0].1).unwrap();
        assert_eq!((stored.phase, stored.approved), (Phase::Done, true));
    }
}
