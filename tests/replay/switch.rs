//! The switch is short because nothing is made durable while live stands still, and what a crash right after it takes the
//! log has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use segno::actors::replay::words::{BaseChoice, JobAction, JobStatus, Phase, ReplayError, ReplayRequest};
use segno::event::EventMeta;
use segno::position::{Position, TopicPartition};
use segno::state::Store;
use segno::streams::murmur2;
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};

use crate::copy::copy_dir;
use crate::stage::{Setup, Stage, TOPIC};
use crate::views::{What, ledger};

/// Nothing that a test waits for takes that long: no timer ever fires.
const NEVER: Duration = Duration::from_secs(3600);

/// No event from this one on can be applied, as long as there is one. One test at a time uses it.
static GATE: (Mutex<Option<u64>>, Condvar) = (Mutex::new(None), Condvar::new());
static TURN: Mutex<()> = Mutex::new(());

/// Events of this amount add something else each time that they are folded.
const MOODY: i64 = 13;
static FOLDS: AtomicI64 = AtomicI64::new(0);

/// Events of this amount are folded once, and then not again, as long as the numbers of those that were are kept here.
const STICKY: i64 = 17;
static STUCK: Mutex<Option<BTreeSet<u64>>> = Mutex::new(None);

/// Whether the fold of this event does not come back.
fn sticks(n: u64) -> bool {
    STUCK.lock().unwrap().as_mut().is_some_and(|folded| !folded.insert(n))
}

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|failed| failed.into_inner())
}

fn close(from: u64) {
    *GATE.0.lock().unwrap() = Some(from);
}

fn open() {
    *GATE.0.lock().unwrap() = None;
    GATE.1.notify_all();
}

/// The sum of an account, and how many events it is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    sum: i64,
    events: u64,
}

#[derive(Deserialize)]
#[serde(tag = "event_type", content = "payload")]
enum Entry {
    Add { n: u64, amount: i64 },
}

impl View for Sum {
    const NAME: &'static str = "sum";
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, Entry::Add { n, amount }: &Entry, _: &EventMeta<'_>) -> Result<(), Reject> {
        let closed = |from: &mut Option<u64>| from.is_some_and(|from| *n >= from);
        drop(GATE.1.wait_while(GATE.0.lock().unwrap(), closed).unwrap());
        if *amount == STICKY && sticks(*n) {
            while STUCK.lock().unwrap().is_some() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.sum += if *amount == MOODY { FOLDS.fetch_add(1, Ordering::Relaxed) } else { *amount };
        self.events += 1;
        Ok(())
    }
}

/// A stage on which nobody makes anything durable but a rebuild that is on its way: no timer fires, and no snapshot can be
/// taken (which would make live durable first), for what is left of one that failed cannot be cleared away.
fn stage() -> Stage {
    let views: Vec<Arc<dyn Definition>> = vec![Arc::new(RustView::<Sum>::new())];
    let mut setup = Setup { flush: NEVER, fold_time_limit: NEVER, ..Setup::of(&views) };
    setup.replay.epoch_records = 1_000_000;
    let stage = Stage::new(setup);
    for partition in 0..stage.setup.partitions {
        std::fs::write(stage.data().join(TOPIC).join(partition.to_string()).join("snapshots"), "").unwrap();
    }
    assert!(stage.block(stage.node().take_snapshot(Vec::new())).is_err());
    stage
}

fn send(stage: &Stage, events: std::ops::Range<u64>) {
    for n in events {
        stage.pen.send(&format!("key-{}", n % 10), n as i64, &What::Add { n, amount: 1 });
    }
}

/// Sends a few events to every partition that live takes in and cannot apply before the gate is open.
fn hold(stage: &Stage, from: u64, amount: i64) {
    close(from);
    for (n, partition) in (from..).zip(0..stage.setup.partitions) {
        let mut keys = (0..).map(|number| format!("held-{number}"));
        let key = keys.find(|key| murmur2::partition_of(key.as_bytes(), stage.setup.partitions) == partition).unwrap();
        stage.pen.send(&key, n as i64, &What::Add { n, amount });
        stage.pen.send(&key, n as i64, &What::Add { n, amount: 2 });
    }
    let status = || stage.node().status().topics[0].partitions.clone();
    stage.until("in flight", || status().iter().all(|partition| partition.in_flight == 2));
}

/// Brings a job to its end whose rebuild is through before live has applied what is held.
fn end(stage: &Stage, job: u64) -> JobStatus {
    stage.until("at the barrier", || stage.job(job).phase == Phase::CuttingOver || stage.job(job).phase.ended());
    open();
    stage.outcome(job)
}

/// The same, and it has cut over.
fn switch(stage: &Stage, job: u64) -> JobStatus {
    let ended = end(stage, job);
    assert_eq!(ended.phase, Phase::Done, "{ended:#?}");
    ended
}

fn genesis() -> ReplayRequest {
    let base = BaseChoice::Genesis;
    ReplayRequest { from: "beginning".to_owned(), base, ..ReplayRequest::default() }
}

/// Every row is the sum of what was sent.
fn check(stage: &Stage) {
    stage.settle();
    let mut expected = BTreeMap::<String, Sum>::new();
    for written in stage.pen.tracks().iter().flat_map(|track| &track.records) {
        let What::Add { amount, .. } = written.what else { panic!("{written:?}") };
        let row = expected.entry(written.key.clone()).or_default();
        row.sum += amount;
        row.events += 1;
    }
    let rows = stage.rows("sum").into_iter();
    let rows: BTreeMap<String, Sum> =
        rows.map(|(key, seen)| (key, serde_json::from_value(seen.json).unwrap())).collect();
    assert_eq!(rows, expected);
    stage.verify();
}

/// Where the live generations stand on the disk.
fn on_disk(data: &Path, partitions: u32) -> Vec<(u64, Position)> {
    let store = Store::read_only(data).unwrap();
    let of = |partition| store.generation(&TopicPartition::new(TOPIC, partition)).unwrap();
    (0..partitions).map(of).map(|live| (live.number(), live.applied())).collect()
}

/// Switches with a tail that is not durable, checks that it is none, and crashes.
fn switch_and_crash(stage: &mut Stage, job: u64) {
    let before = stage.positions();
    let done = switch(stage, job);
    assert_eq!(done.verification.unwrap().changed_share, 0.0);
    let at_switch = stage.positions();
    for ((applied, durable, generation), (old, _, replaced)) in at_switch.iter().zip(&before) {
        assert_ne!(generation, replaced);
        assert!(old < applied, "live has applied what was held: {old} {applied}");
        assert!(durable < applied, "what was held is not durable at the switch: {durable} {applied}");
    }
    let (partitions, mut found) = (stage.setup.partitions, Vec::new());
    stage.crash_and(|data| found = on_disk(data, partitions));
    for ((number, left), (applied, _, generation)) in found.into_iter().zip(&at_switch) {
        assert_eq!(number, *generation, "the switch was durable");
        assert!(left < *applied, "the crash has taken what was held: {left} {applied}");
    }
    assert_eq!(stage.job(job).phase, Phase::Done);
    check(stage);
}

/// The new generations are live with a tail that no file has: after the crash it is folded again, once. And so it is with
/// those that a rollback brings back.
#[test]
fn once_a_crash_right_after_the_switch_reads_the_rest_again() {
    let _turn = turn();
    let mut stage = stage();
    send(&stage, 0..200);
    check(&stage);
    hold(&stage, 200, 1);
    let job = stage.replay(&genesis()).unwrap();
    switch_and_crash(&mut stage, job.id);
    send(&stage, 300..350);
    check(&stage);
    hold(&stage, 400, 1);
    let back = stage.roll_back().unwrap();
    switch_and_crash(&mut stage, back.id);
    send(&stage, 500..550);
    check(&stage);
}

/// What came in after the comparison is compared at the barrier, and live goes on from there as it was.
#[test]
fn identity_r1_what_differs_only_at_the_barrier_is_not_switched_to() {
    let _turn = turn();
    let stage = stage();
    send(&stage, 0..100);
    check(&stage);
    let generations = stage.generations();
    hold(&stage, 200, MOODY);
    let job = stage.replay(&genesis()).unwrap();
    let failed = end(&stage, job.id);
    assert_eq!(failed.phase, Phase::Failed, "{failed:#?}");
    assert!(failed.verification.unwrap().identical, "equal when they were compared");
    let reason = failed.reason.unwrap();
    assert!(reason.contains("the same definitions gave other rows") && reason.contains("held-"), "{reason}");
    assert_eq!(stage.generations(), generations);
    send(&stage, 300..350);
    stage.settle();
    let events: u64 = stage.rows("sum").values().map(|row| row.json["events"].as_u64().unwrap()).sum();
    assert_eq!(events, stage.pen.tracks().iter().map(|track| track.records.len() as u64).sum::<u64>());
    stage.verify();
}

/// Live goes on with the readers that it had, and misses nothing.
#[test]
fn order_live_goes_on_after_a_switch_where_it_stood() {
    let _turn = turn();
    let mut stage = stage();
    send(&stage, 0..100);
    check(&stage);
    for round in 1..4 {
        hold(&stage, round * 100, 1);
        let job = stage.replay(&genesis()).unwrap();
        switch(&stage, job.id);
        send(&stage, round * 100 + 50..round * 100 + 90);
        check(&stage);
    }
    // A stop in good order makes durable what the switches have not.
    let end: Vec<Position> = stage.positions().iter().map(|(applied, ..)| *applied).collect();
    stage.stop();
    let left: Vec<Position> =
        on_disk(stage.data(), stage.setup.partitions).into_iter().map(|(_, applied)| applied).collect();
    assert_eq!(left, end);
    stage.start();
    check(&stage);
}

/// A stage after a switch and a crash that has left of the replaced generations what was durable of them: nothing.
fn lost_previous() -> Stage {
    let mut stage = stage();
    send(&stage, 0..200);
    check(&stage);
    let home = |data: &Path, partition: usize| data.join(TOPIC).join(partition.to_string());
    let replaced: Vec<String> = stage.directories().iter().map(|names| names[0].clone()).collect();
    let as_they_are = tempfile::tempdir().unwrap();
    for (partition, name) in replaced.iter().enumerate() {
        copy_dir(&home(stage.data(), partition).join(name), &home(as_they_are.path(), partition).join(name));
    }
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    send(&stage, 200..230);
    check(&stage);
    stage.crash_and(|data| {
        for (partition, name) in replaced.iter().enumerate() {
            let path = home(data, partition).join(name);
            std::fs::remove_dir_all(&path).unwrap();
            copy_dir(&home(as_they_are.path(), partition).join(name), &path);
        }
    });
    check(&stage);
    stage
}

/// The last flush of the generations that were replaced may be long ago when the crash comes. The way back begins there.
#[test]
fn once_a_rollback_reads_again_what_a_crash_took_from_the_previous_generation() {
    let _turn = turn();
    let stage = lost_previous();
    let back = stage.roll_back().unwrap();
    for partition in &stage.done(back.id).plan.topics[0].partitions {
        assert_eq!((partition.from, partition.live.0 > 0), (Position::ZERO, true), "nothing was durable");
    }
    send(&stage, 230..250);
    check(&stage);
}

#[test]
fn refuse_a_rollback_whose_generation_lost_what_the_log_has_not() {
    let _turn = turn();
    let stage = lost_previous();
    stage.pen.script().truncate_before(&TopicPartition::new(TOPIC, 1), Position(5));
    let error = stage.roll_back().unwrap_err();
    let ReplayError::Refused(why) = &error else { panic!("{error}") };
    for part in ["ledger/1", "stands at 0", "begins at 5", "5 records"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    check(&stage);
}

/// The new generations of a node that consumes nothing are durable when the job is done: nobody waits for the switch, and
/// the next start may be far away.
#[test]
fn a_switch_of_what_is_offline_is_durable() {
    let _turn = turn();
    let mut stage = stage();
    send(&stage, 0..100);
    check(&stage);
    stage.stop();
    stage.setup.consume = false;
    stage.start();
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    for (applied, durable, _) in stage.positions() {
        assert_eq!(durable, applied);
    }
    stage.stop();
    stage.setup.consume = true;
    stage.start();
    check(&stage);
}

/// The fold of a record hangs in the rebuild while live stands still for it.
#[test]
fn live_goes_on_when_the_last_records_take_too_long() {
    let _turn = turn();
    let views: Vec<Arc<dyn Definition>> = vec![Arc::new(RustView::<Sum>::new())];
    let mut setup = Setup { fold_time_limit: NEVER, ..Setup::of(&views) };
    setup.replay.patience = Duration::from_millis(300);
    let stage = Stage::new(setup);
    send(&stage, 0..100);
    check(&stage);
    *STUCK.lock().unwrap() = Some(BTreeSet::new());
    let generations = stage.generations();
    hold(&stage, 200, STICKY);
    let job = stage.replay(&genesis()).unwrap();
    stage.until("at the barrier", || stage.job(job.id).phase == Phase::CuttingOver);
    open();
    send(&stage, 300..350);
    check(&stage);
    assert_eq!((stage.job(job.id).phase, stage.generations()), (Phase::CuttingOver, generations), "it hangs");
    *STUCK.lock().unwrap() = None;
    let failed = stage.outcome(job.id);
    let reason = failed.reason.unwrap();
    assert!(reason.contains("live stood still for 300ms") && reason.contains("segno replay resume"), "{reason}");
    assert_eq!(failed.phase, Phase::Failed);
    stage.act(job.id, JobAction::Resume).unwrap();
    stage.done(job.id);
    check(&stage);
}

/// Events go on failing while the switch is made. What waits for its next try waits on behind the switch, and is as it
/// would have been.
#[test]
fn live_does_not_stand_still_for_retries() {
    let mut setup = Setup { partitions: 1, retry: Duration::from_secs(1), ..Setup::of(&[ledger::<1>()]) };
    setup.replay.patience = Duration::from_secs(60);
    let stage = Stage::new(setup);
    for n in 0..100 {
        stage.pen.send(&format!("key-{}", n % 10), n as i64, &What::Add { n, amount: 1 });
    }
    stage.settle();
    let (done, failing) = (AtomicBool::new(false), &stage.pen);
    let longest = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 1000;
            while !done.load(Ordering::Relaxed) {
                let (key, name) = (format!("failing-{n}"), format!("switch/{n}"));
                failing.send(&key, n as i64, &What::Panics { n, name, times: u32::MAX });
                failing.send(&key, n as i64, &What::Add { n: n + 1, amount: 1 });
                for n in n + 2..n + 12 {
                    failing.send("a", n as i64, &What::Add { n, amount: 1 });
                    std::thread::sleep(Duration::from_millis(20));
                }
                n += 12;
            }
        });
        let job = stage.replay(&genesis()).unwrap();
        let (mut moved, mut position, mut longest) = (Instant::now(), Position::ZERO, Duration::ZERO);
        while !stage.job(job.id).phase.ended() {
            let (applied, ..) = stage.positions()[0];
            if applied != position {
                (moved, position) = (Instant::now(), applied);
            }
            longest = longest.max(moved.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        done.store(true, Ordering::Relaxed);
        stage.done(job.id);
        longest
    });
    assert!(longest < Duration::from_millis(800), "{longest:?}");
    // What was waiting is parked in the end, with what queues behind it.
    stage.settle();
    stage.verify();
    let failed = stage.pen.tracks()[0].records.iter().filter(|written| written.key.starts_with("failing-")).count();
    let (books, rows) = (stage.books("ledger"), stage.rows("ledger"));
    assert_eq!((books.parked, books.waiting), (failed as i64, 0));
    assert!(!rows.keys().any(|key| key.starts_with("failing-")));
}

/// A fold hung, so its event was parked and the rows differ: what was built is to be thrown away, and a thread that was
/// left behind still holds it.
#[test]
fn what_is_to_be_thrown_away_is_not_gone_on_with() {
    let _turn = turn();
    let views: Vec<Arc<dyn Definition>> = vec![Arc::new(RustView::<Sum>::new())];
    let setup = Setup { partitions: 1, fold_time_limit: Duration::from_millis(100), ..Setup::of(&views) };
    let stage = Stage::new(setup);
    send(&stage, 0..50);
    *STUCK.lock().unwrap() = Some(BTreeSet::new());
    stage.pen.send("key-0", 60, &What::Add { n: 60, amount: STICKY });
    check(&stage);
    let job = stage.replay(&genesis()).unwrap();
    let failed = stage.outcome(job.id);
    let reason = failed.reason.unwrap();
    assert!(failed.phase == Phase::Failed && reason.contains("the same definitions gave other rows"), "{reason}");
    stage.until_directories(2);
    *STUCK.lock().unwrap() = None;
    stage.act(job.id, JobAction::Resume).unwrap();
    stage.done(job.id);
    check(&stage);
    // The live one and the previous one.
    stage.until_directories(2);
}
