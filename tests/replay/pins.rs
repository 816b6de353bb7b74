//! What a job stands on is not taken from under it: the snapshot that it begins with, the previous generation that it
//! brings back.

use std::sync::Arc;
use std::time::Duration;

use segno::actors::plan::{ReplayOptions, SnapshotOptions};
use segno::actors::replay::record::JobRecord;
use segno::actors::replay::words::{Base, BaseChoice, JobAction, Phase, ReplayError, ReplayRequest};
use segno::position::TopicPartition;
use segno::views::{Definition, Row};

use crate::moody::moody;
use crate::oracle::{Code, all};
use crate::resume::{genesis, rewrite, send};
use crate::stage::{Setup, Stage, TOPIC};
use crate::views::{TALLY, Tally};

const OLD: Tally = Tally { version: 1, factor: 1, floor: None };

fn check(stage: &Stage) {
    stage.settle();
    let expected = all(Code::Tally(OLD), &stage.pen.tracks(), &stage.setup.policy);
    assert_eq!(stage.rows(TALLY), expected.seen(Code::Tally(OLD)));
}

/// Keeps no snapshot that is not the newest.
fn setup() -> Setup {
    let keep = SnapshotOptions { keep: Duration::ZERO, keep_daily: 0, ..Setup::of(&[]).snapshots };
    Setup { snapshots: keep, ..Setup::of(&[OLD.definition()]) }
}

fn snapshots(stage: &Stage) -> Vec<u64> {
    let mut known: Vec<u64> = stage.block(stage.node().snapshots()).unwrap().iter().map(|one| one.id).collect();
    known.sort_unstable();
    known
}

fn delete(stage: &Stage, id: u64) -> Result<(), ReplayError> {
    stage.block(stage.node().delete_snapshot(id))
}

/// Waits for the snapshot that a cut-over leaves, and answers it.
fn after_cut_over(stage: &Stage, snapshots_before: u64) -> u64 {
    // Two a cut-over, of which the first is not worth keeping then.
    let last = || *snapshots(stage).last().unwrap_or(&0);
    stage.until("snapshot", || last() == snapshots_before + 2 && !snapshots(stage).contains(&(snapshots_before + 1)));
    last()
}

/// A stage whose job is stored and not begun: the node only looks. Answers the job and the snapshot that it begins with,
/// which the policy does not keep.
fn stored_job() -> (Stage, u64, u64) {
    let mut stage = Stage::new(setup());
    send(&stage, 0..100);
    stage.settle();
    let first = stage.replay(&genesis()).unwrap();
    stage.done(first.id);
    let base = after_cut_over(&stage, 0);
    // A question keeps it until there is a newer one.
    let open = stage.store.upgrade().unwrap().open_snapshot(base, &TopicPartition::new(TOPIC, 0)).unwrap();
    send(&stage, 100..110);
    stage.settle();
    let second = stage.replay(&genesis()).unwrap();
    stage.done(second.id);
    after_cut_over(&stage, base);
    let from = format!("@{}", stage.pen.end());
    let request = ReplayRequest { from, base: BaseChoice::Snapshot(base), rate: Some(1), ..genesis() };
    let job = stage.replay(&request).unwrap();
    stage.until("it has begun", || stage.job(job.id).topics[0].partitions.iter().all(|one| one.generation > 0));
    drop(open);
    stage.stop();
    let unmade = |record: &mut JobRecord| {
        if record.id == job.id {
            record.shadows.iter_mut().for_each(|shadow| shadow.generation = None);
            (record.phase, record.ended) = (Phase::Building, None);
        }
    };
    rewrite(&stage, unmade);
    stage.setup.consume = false;
    stage.start();
    assert!(
        matches!(stage.job(job.id).plan.topics[0].partitions[0].base, Base::Snapshot { snapshot, .. } if snapshot == base)
    );
    (stage, job.id, base)
}

#[test]
fn the_base_of_a_job_is_not_deleted_before_it_is_linked() {
    let (mut stage, job, base) = stored_job();
    let error = delete(&stage, base).unwrap_err();
    let why = error.to_string();
    assert!(why.contains(&format!("job {job}")) && why.contains(&format!("replay cancel {job}")), "{why}");
    // The policy passes it over, and would not keep it otherwise.
    let newer = stage.snapshot();
    assert!(snapshots(&stage).contains(&base));
    stage.setup.consume = true;
    stage.restart();
    stage.done(job);
    check(&stage);
    // Nobody needs it any more: the next one of the policy, after the cut-over, has thrown it away.
    stage.until("thrown away", || !snapshots(&stage).contains(&base));
    delete(&stage, newer).unwrap();
}

#[test]
fn a_cancelled_job_lets_go_of_its_base() {
    let (stage, job, base) = stored_job();
    delete(&stage, base).unwrap_err();
    assert_eq!(stage.act(job, JobAction::Cancel).unwrap().phase, Phase::Cancelled);
    delete(&stage, base).unwrap();
    check_offline(&stage);
}

fn check_offline(stage: &Stage) {
    let rows = stage.rows(TALLY);
    assert_eq!(rows.values().map(|row| row.json["n"].as_u64().unwrap()).sum::<u64>(), 110);
}

/// A job that failed pins nothing, and says so when it is to go on.
#[test]
fn a_failed_job_whose_base_is_gone_is_not_resumed() {
    let (mut stage, job, base) = stored_job();
    stage.stop();
    rewrite(&stage, |record| {
        if record.id == job {
            record.phase = Phase::Failed;
        }
    });
    stage.start();
    delete(&stage, base).unwrap();
    let error = stage.act(job, JobAction::Resume).unwrap_err();
    let why = error.to_string();
    assert!(why.contains(&format!("snapshot {base}")) && why.contains("start a new one"), "{why}");
    assert_eq!(stage.job(job).phase, Phase::Failed);
}

/// A question reads an old snapshot while a new one is taken.
#[test]
fn a_snapshot_that_is_read_is_passed_over_and_goes_the_next_time() {
    let stage = Stage::new(setup());
    send(&stage, 0..100);
    stage.settle();
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    let read = after_cut_over(&stage, 0);
    let open = stage.store.upgrade().unwrap().open_snapshot(read, &TopicPartition::new(TOPIC, 0)).unwrap();
    let error = delete(&stage, read).unwrap_err();
    assert!(error.to_string().contains("being read"), "{error}");
    send(&stage, 100..110);
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    after_cut_over(&stage, read);
    send(&stage, 110..120);
    stage.settle();
    stage.snapshot();
    assert!(snapshots(&stage).contains(&read));
    drop(open);
    send(&stage, 120..130);
    stage.settle();
    stage.snapshot();
    assert!(!snapshots(&stage).contains(&read));
    check(&stage);
}

/// Its time has run out, but somebody is bringing it back.
#[test]
fn a_previous_generation_stays_while_it_is_brought_back() {
    let plain = Setup::of(&[OLD.definition()]);
    let mut stage =
        Stage::new(Setup { replay: ReplayOptions { keep: Duration::ZERO, ..plain.replay }, ..plain.clone() });
    let partitions = [0, 1].map(|partition| TopicPartition::new(TOPIC, partition));
    send(&stage, 0..100);
    stage.settle();
    let done = stage.replay(&genesis()).unwrap();
    stage.done(done.id);
    let cut = stage.pen.end();
    send(&stage, 100..150);
    stage.settle();
    partitions.iter().for_each(|at| stage.pen.script().hold_at(at, cut.positions[&at.partition]));
    let back = stage.roll_back().unwrap();
    // The keeper looks when the node starts.
    stage.restart();
    stage.crash();
    stage.until("it is held", || stage.job(back.id).phase == Phase::Building);
    assert!(stage.directories().iter().all(|names| names.len() == 2), "{:?}", stage.directories());
    partitions.iter().for_each(|at| stage.pen.script().release(at));
    stage.done(back.id);
    check(&stage);
}

/// It is the policy's until an operator asks for one and nothing has changed: from then on it is his to delete.
#[test]
fn a_snapshot_that_an_operator_asked_for_stays() {
    let stage = Stage::new(setup());
    send(&stage, 0..100);
    stage.settle();
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    let automatic = after_cut_over(&stage, 0);
    let asked = stage.snapshot();
    assert_eq!(asked, automatic, "nothing has changed");
    send(&stage, 100..110);
    stage.settle();
    let job = stage.replay(&genesis()).unwrap();
    stage.done(job.id);
    after_cut_over(&stage, asked);
    assert!(snapshots(&stage).contains(&asked));
    let known = stage.block(stage.node().snapshots()).unwrap();
    assert_eq!(known.iter().find(|one| one.id == asked).map(|one| one.why.as_str()), Some("operator"));
    delete(&stage, asked).unwrap();
}

/// The next version of a view in Rust under its type's name, which cannot read older rows, as serde says it of a field
/// that was added.
struct Newer(Arc<dyn Definition>);

impl Definition for Newer {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn version(&self) -> u32 {
        self.0.version() + 1
    }

    fn text(&self) -> String {
        self.0.text()
    }

    fn initial(&self) -> Box<dyn Row> {
        self.0.initial()
    }

    fn decode(&self, _: &[u8]) -> Result<Box<dyn Row>, String> {
        Err("missing field `x`".to_owned())
    }
}

#[test]
fn rows_that_a_view_in_rust_cannot_read_are_no_base() {
    let old = moody::<6>();
    let mut stage = Stage::new(Setup::of(std::slice::from_ref(&old)));
    send(&stage, 0..100);
    stage.settle();
    let snapshot = stage.snapshot();
    let newer: Arc<dyn Definition> = Arc::new(Newer(old.clone()));
    stage.restart_with(|setup| (setup.views, setup.previous) = (vec![newer], vec![old]));
    let from = format!("@{}", stage.pen.end());
    let request = ReplayRequest { from, base: BaseChoice::Auto, ..ReplayRequest::default() };
    let plan = stage.plan(&request).unwrap();
    assert!(plan.topics[0].partitions.iter().all(|partition| partition.base == Base::Genesis), "{plan:#?}");
    let named = stage.plan(&ReplayRequest { base: BaseChoice::Snapshot(snapshot), ..request }).unwrap_err();
    assert!(named.to_string().contains("version 2 cannot read its row: missing field `x`"), "{named}");
}

/// `--base empty` was tried and rolled back, and then the definition changes: its snapshots are no base for a live that
/// has everything.
#[test]
fn fix_r2_a_history_that_was_rolled_back_is_no_base_for_a_changed_definition() {
    let of = |version: u32| Tally { version, ..OLD }.definition();
    let mut stage = Stage::new(Setup { partitions: 1, ..Setup::of(&[of(1)]) });
    let end = |stage: &Stage| format!("@{}", stage.pen.end());
    let events = |stage: &Stage| -> u64 { stage.rows(TALLY).values().map(|row| row.json["n"].as_u64().unwrap()).sum() };
    send(&stage, 0..100);
    stage.settle();
    let tried = ReplayRequest { from: end(&stage), base: BaseChoice::Empty, yes: true, ..ReplayRequest::default() };
    let job = stage.replay(&tried).unwrap();
    stage.done(job.id);
    send(&stage, 100..110);
    stage.settle();
    stage.snapshot();
    let from = end(&stage);
    send(&stage, 110..130);
    stage.settle();
    let back = stage.roll_back().unwrap();
    stage.done(back.id);
    assert_eq!(events(&stage), 130);
    stage.restart_with(|setup| setup.views = vec![of(2)]);
    let job = stage.replay(&ReplayRequest { from, base: BaseChoice::Auto, yes: true, ..tried }).unwrap();
    stage.done(job.id);
    assert_eq!(events(&stage), 130);
}
