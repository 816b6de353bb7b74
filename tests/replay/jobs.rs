//! The life of a job beside what goes right: one at a time, cancelled, resumed, rolled back once, and what it leaves on
//! the disk.

use std::time::Duration;

use segno::actors::handle::Bound;
use segno::actors::plan::ReplayOptions;
use segno::actors::replay::words::{BaseChoice, JobAction, JobKind, Phase, ReplayError, ReplayRequest};

use crate::oracle::{Code, all};
use crate::stage::{Setup, Stage};
use crate::views::{TALLY, Tally, What, ledger};

const OLD: Tally = Tally { version: 1, factor: 1, floor: None };
const NEW: Tally = Tally { version: 2, factor: 5, floor: None };

fn setup(tally: Tally) -> Setup {
    Setup::of(&[tally.definition()])
}

fn send(stage: &Stage, events: std::ops::Range<u64>) {
    for n in events {
        stage.pen.send(&format!("key-{}", n % 10), n as i64, &What::Add { n, amount: 1 });
    }
}

fn genesis() -> ReplayRequest {
    let base = BaseChoice::Genesis;
    ReplayRequest { from: "beginning".to_owned(), base, ..ReplayRequest::default() }
}

/// A replay that takes its time.
fn slow() -> ReplayRequest {
    ReplayRequest { rate: Some(50), ..genesis() }
}

fn check(stage: &Stage, tally: Tally) {
    stage.settle();
    let expected = all(Code::Tally(tally), &stage.pen.tracks(), &stage.setup.policy);
    assert_eq!(stage.rows(TALLY), expected.seen(Code::Tally(tally)));
    assert_eq!(stage.books(TALLY), expected.books);
}

#[test]
fn one_job_at_a_time_and_a_cancelled_one_leaves_nothing() {
    let stage = Stage::new(setup(OLD));
    send(&stage, 0..400);
    stage.settle();
    let (generations, directories) = (stage.generations(), stage.directories());
    for round in 0..3 {
        let begun = stage.replay(&slow()).unwrap();
        stage.until("begun", || stage.directories().iter().all(|names| names.len() == 2) || round == 0);
        let busy = ReplayError::Busy { id: begun.id, phase: Phase::Building };
        assert_eq!(stage.replay(&genesis()).unwrap_err(), busy);
        assert_eq!(
            stage.roll_back().map_err(|error| matches!(error, ReplayError::NotNow(_) | ReplayError::Busy { .. })),
            Err(true)
        );
        assert!(stage.plan(&genesis()).is_ok(), "a plan disturbs nobody");
        assert_eq!(stage.node().status().replay.unwrap().id, begun.id);
        let cancelled = stage.act(begun.id, JobAction::Cancel).unwrap();
        assert_eq!(cancelled.phase, Phase::Cancelled);
        assert_eq!((stage.generations(), stage.directories()), (generations.clone(), directories.clone()));
        let again = stage.act(begun.id, JobAction::Cancel).unwrap_err();
        assert!(again.to_string().contains("is cancelled already"), "{again}");
        for action in [JobAction::Resume, JobAction::Approve] {
            assert!(matches!(stage.act(begun.id, action), Err(ReplayError::NotNow(_))));
        }
    }
    assert_eq!(stage.node().status().replay, None);
    check(&stage, OLD);
    send(&stage, 400..450);
    check(&stage, OLD);
    assert_eq!(stage.node().replays().len(), 3);
    assert_eq!(stage.act(99, JobAction::Cancel).unwrap_err(), ReplayError::NoSuchJob { id: 99 });
}

#[test]
fn nothing_to_roll_back() {
    let stage = Stage::new(setup(OLD));
    send(&stage, 0..10);
    let error = stage.roll_back().unwrap_err();
    assert!(error.to_string().contains("nothing to roll back"), "{error}");
    assert_eq!(stage.block(stage.node().roll_back(Some(7))).unwrap_err(), ReplayError::NoSuchJob { id: 7 });
    assert_eq!(stage.node().replay(None).unwrap_err(), ReplayError::NoJob);
}

#[test]
fn a_rollback_comes_back_caught_up_and_can_be_rolled_back() {
    let mut stage = Stage::new(setup(OLD));
    send(&stage, 0..100);
    stage.settle();
    stage.restart_with(|setup| setup.views = vec![NEW.definition()]);
    let done = stage.replay(&ReplayRequest { yes: true, ..genesis() }).unwrap();
    stage.done(done.id);
    check(&stage, NEW);
    send(&stage, 100..200);
    check(&stage, NEW);
    let (back, before) = (stage.roll_back().unwrap(), stage.positions());
    assert_eq!((back.kind, back.of), (JobKind::Rollback, Some(done.id)));
    stage.done(back.id);
    // It is caught up when it begins to serve, not some time later.
    let after = stage.positions();
    assert!(after.iter().zip(&before).all(|(after, before)| after.0 >= before.0), "{after:?} after {before:?}");
    check(&stage, OLD);
    // The job that was undone cannot be undone again: its generations are not live.
    let twice = stage.block(stage.node().roll_back(Some(done.id))).unwrap_err();
    assert!(matches!(&twice, ReplayError::NotNow(why) if why.contains("is live")), "{twice}");
    send(&stage, 200..300);
    // Its own undoing can, and that is the new code again, caught up.
    let forth = stage.roll_back().unwrap();
    assert_eq!((forth.kind, forth.of), (JobKind::Rollback, Some(back.id)));
    stage.done(forth.id);
    check(&stage, NEW);
    send(&stage, 300..310);
    stage.restart();
    check(&stage, NEW);
    stage.until_directories(2);
}

#[test]
fn a_previous_generation_goes_when_its_time_has_run_out() {
    let mut setup = setup(OLD);
    setup.replay = ReplayOptions { keep: Duration::ZERO, ..setup.replay };
    let mut stage = Stage::new(setup);
    send(&stage, 0..50);
    stage.settle();
    let done = stage.replay(&genesis()).unwrap();
    stage.done(done.id);
    // The keeper looks when the node starts, and now and then.
    stage.restart();
    stage.until_directories(1);
    let error = stage.roll_back().unwrap_err();
    assert!(matches!(&error, ReplayError::Refused(why) if why.contains("not kept any more")), "{error}");
    check(&stage, OLD);
}

/// Live has yet to apply an event when the two are compared; the rebuild has tried it until it went in.
#[test]
fn r1_events_that_wait_in_live_are_no_difference() {
    let mut setup = Setup { retry: Duration::from_secs(2), ..Setup::of(&[ledger::<1>()]) };
    setup.replay.epoch_records = 1000;
    let stage = Stage::new(setup);
    send(&stage, 0..50);
    stage.settle();
    for (n, key) in (50..).zip(["key-1", "new"]) {
        // The first two tries are live's, which waits before the third.
        let what = What::Flaky { n, name: format!("waits/{key}"), times: 3 };
        stage.pen.send(key, n as i64, &what);
    }
    stage.until("waiting", || stage.node().status().topics[0].partitions.iter().map(|p| p.waiting).sum::<u64>() == 2);
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    stage.settle();
    let expected = all(Code::Ledger(1), &stage.pen.tracks(), &stage.setup.policy);
    assert_eq!(stage.rows("ledger"), expected.seen(Code::Ledger(1)));
    assert_eq!(stage.books("ledger"), expected.books);
}

/// A cap on the rate is no reason for live to stand still.
#[test]
fn a_slow_replay_does_not_hold_live_at_the_barrier() {
    let stage = Stage::new(setup(OLD));
    send(&stage, 0..20);
    stage.settle();
    let job = stage.replay(&slow()).unwrap();
    send(&stage, 20..170);
    // It is seconds behind at the barrier, at that rate.
    let mut longest = Duration::ZERO;
    let mut since = std::time::Instant::now();
    let mut n = 170;
    while !stage.job(job.id).phase.ended() {
        let token = stage.pen.send("probe", n, &What::Add { n: n as u64, amount: 1 });
        n += 1;
        let bound = Some(Bound { at_least: token, wait: Duration::from_secs(20) });
        stage.block(stage.node().get(TALLY, b"probe".to_vec(), bound)).unwrap();
        (longest, since) = (longest.max(since.elapsed()), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(stage.job(job.id).phase, Phase::Done);
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    check(&stage, OLD);
}

#[test]
fn generations_do_not_pile_up() {
    let mut stage = Stage::new(setup(OLD));
    send(&stage, 0..50);
    stage.settle();
    for round in 0..4 {
        let job = stage.replay(&genesis()).unwrap();
        stage.done(job.id);
        send(&stage, 50 + round * 10..60 + round * 10);
        stage.settle();
        stage.until_directories(2);
        if round % 2 == 0 {
            stage.crash();
        }
    }
    check(&stage, OLD);
}

#[test]
fn a_job_goes_on_after_a_stop_and_after_a_kill_in_any_phase() {
    let mut stage = Stage::new(setup(OLD));
    send(&stage, 0..300);
    stage.settle();
    stage.restart_with(|setup| setup.views = vec![NEW.definition()]);
    // While it is built.
    let job = stage.replay(&ReplayRequest { rate: Some(150), ..genesis() }).unwrap();
    stage.until("under way", || stage.job(job.id).topics.first().is_some_and(|topic| topic.done > 0));
    stage.restart();
    assert!(!stage.job(job.id).phase.ended());
    stage.crash();
    // While it waits for a yes.
    assert_eq!(stage.outcome(job.id).phase, Phase::Waiting);
    check(&stage, OLD);
    stage.crash();
    assert_eq!(stage.outcome(job.id).phase, Phase::Waiting);
    stage.restart();
    assert_eq!(stage.outcome(job.id).phase, Phase::Waiting);
    check(&stage, OLD);
    // A yes is not forgotten.
    stage.act(job.id, JobAction::Approve).unwrap();
    stage.crash();
    stage.until("done", || stage.job(job.id).phase.ended());
    stage.done(job.id);
    check(&stage, NEW);
    stage.crash();
    check(&stage, NEW);
}

#[test]
fn a_job_that_failed_goes_on_when_it_is_told_to() {
    let mut stage = Stage::new(setup(OLD));
    send(&stage, 0..300);
    stage.settle();
    let job = stage.replay(&slow()).unwrap();
    // The definitions that the job was made for are not those of the configuration any more.
    stage.restart_with(|setup| setup.views = vec![NEW.definition()]);
    let after = stage.outcome(job.id);
    // A declared definition is stored with the job's generations or known from live: it may go on, or say what is wrong.
    assert!(matches!(after.phase, Phase::Done | Phase::Failed), "{after:#?}");
    check(&stage, OLD);
}

#[test]
fn what_is_offline_is_replayed_without_consuming() {
    let mut stage = Stage::new(setup(OLD));
    send(&stage, 0..100);
    stage.settle();
    stage.stop();
    send(&stage, 100..120);
    (stage.setup.consume, stage.setup.views) = (false, vec![NEW.definition()]);
    stage.start();
    let job = stage.replay(&ReplayRequest { yes: true, ..genesis() }).unwrap();
    let job = stage.outcome(job.id);
    assert_eq!(job.phase, Phase::Done, "{job:#?}");
    let applied: u64 = stage.positions().iter().map(|(applied, ..)| applied.0).sum();
    assert_eq!(applied, 100, "live stands where it stood");
    stage.restart_with(|setup| setup.consume = true);
    check(&stage, NEW);
}

/// After a downgrade: a newer program has begun a job, of which this one knows nothing but that it is not over.
#[test]
fn a_job_that_cannot_be_read_keeps_what_it_may_need() {
    let mut stage = Stage::new(setup(OLD));
    send(&stage, 0..100);
    stage.settle();
    let job = stage.replay(&slow()).unwrap();
    stage.until_directories(2);
    let snapshot = stage.snapshot();
    stage.stop();
    let record = |phase: &str| format!("{{\"format\":99,\"job\":{{\"phase\":\"{phase}\",\"shadows\":7}}}}");
    let write = |stage: &Stage, phase| stage.open_store().unwrap().put_job(job.id, record(phase).as_bytes()).unwrap();
    write(&stage, "building");
    stage.start();
    let deleted = stage.block(stage.node().delete_snapshot(snapshot));
    let asked = [stage.replay(&genesis()).err(), stage.act(job.id, JobAction::Cancel).err(), deleted.err()];
    for error in asked {
        let Some(ReplayError::NotNow(why)) = &error else { panic!("{error:?}") };
        assert!(why.contains(&format!("job {}", job.id)), "{why}");
    }
    assert!(stage.directories().iter().all(|names| names.len() == 2), "{:?}", stage.directories());
    check(&stage, OLD);
    stage.stop();
    write(&stage, "failed");
    stage.start();
    stage.until_directories(1);
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    check(&stage, OLD);
}
