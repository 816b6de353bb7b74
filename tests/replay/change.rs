//! Restarts with other definitions: live goes on under those that made it, until a replay has made the new rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segno::actors::handle::{Bound, PartitionState};
use segno::actors::plan::OnChange;
use segno::actors::replay::words::{Base, BaseChoice, DefinitionChange, JobKind, Phase, ReplayRequest};
use segno::event::EventMeta;
use segno::position::PositionVector;
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};

use crate::oracle::{Code, all};
use crate::stage::{Setup, Stage, TOPIC};
use crate::views::{LEDGER, TALLY, Tally, What, ledger};

const V1: Tally = Tally { version: 1, factor: 1, floor: None };
const V2: Tally = Tally { version: 2, factor: 5, floor: Some(0) };
const V3: Tally = Tally { version: 3, factor: 7, floor: Some(-50) };

fn send(stage: &Stage, events: std::ops::Range<u64>) {
    for n in events {
        let what = if n % 5 == 4 { What::Take { n, amount: 7 } } else { What::Add { n, amount: n as i64 % 9 } };
        stage.pen.send(&format!("key-{}", n % 10), n as i64, &what);
    }
}

fn begun(views: &[Arc<dyn Definition>]) -> Stage {
    let stage = Stage::new(Setup::of(views));
    send(&stage, 0..120);
    stage.settle();
    stage
}

fn check(stage: &Stage, view: &str, code: Code) {
    stage.settle();
    let expected = all(code, &stage.pen.tracks(), &stage.setup.policy);
    assert_eq!(stage.rows(view), expected.seen(code));
    assert_eq!(stage.books(view), expected.books);
    stage.verify();
}

fn version(stage: &Stage, view: &str) -> u32 {
    stage.node().views().iter().find(|known| known.name == view).unwrap().version
}

fn pending(stage: &Stage) -> Vec<(String, DefinitionChange)> {
    let status = stage.node().status();
    status.topics[0].pending.iter().map(|view| (view.view.clone(), view.change)).collect()
}

/// The newest job, once there is one.
fn newest(stage: &Stage) -> u64 {
    stage.until("a job", || stage.node().replay(None).is_ok());
    stage.node().replay(None).unwrap().id
}

#[test]
fn change_waits_and_live_goes_on_under_the_old_definition() {
    for (old, new, previous, view, codes) in [
        (V1.definition(), V2.definition(), vec![], TALLY, (Code::Tally(V1), Code::Tally(V2))),
        (ledger::<1>(), ledger::<2>(), vec![ledger::<1>()], LEDGER, (Code::Ledger(1), Code::Ledger(2))),
    ] {
        let mut stage = begun(&[old]);
        stage.restart_with(|setup| (setup.views, setup.previous) = (vec![new], previous));
        assert_eq!(pending(&stage), [(view.to_owned(), DefinitionChange::Changed)]);
        assert!(stage.node().ready().ok, "{:?}", stage.node().ready());
        send(&stage, 120..200);
        check(&stage, view, codes.0);
        assert_eq!((version(&stage, view), stage.node().replays()), (1, vec![]));
        stage.crash();
        send(&stage, 200..210);
        check(&stage, view, codes.0);
        let base = BaseChoice::Genesis;
        let request = ReplayRequest { from: "beginning".to_owned(), base, yes: true, ..ReplayRequest::default() };
        let job = stage.replay(&request).unwrap();
        stage.done(job.id);
        check(&stage, view, codes.1);
        assert_eq!((version(&stage, view), pending(&stage)), (2, vec![]));
        stage.restart();
        send(&stage, 210..220);
        check(&stage, view, codes.1);
    }
}

#[test]
fn change_goes_through_by_itself_without_a_gap_in_reading() {
    let mut stage = begun(&[V1.definition(), ledger::<1>()]);
    stage.restart_with(|setup| {
        *setup = setup.clone().on_change(OnChange::Replay);
        setup.views = vec![V2.definition(), ledger::<1>()];
    });
    let (stop, node, pen) = (Arc::new(AtomicBool::new(false)), stage.node().clone(), stage.pen.clone());
    let reading = stop.clone();
    let reader = stage.spawn(async move {
        let (mut reads, mut token) = (0u64, PositionVector::new(TOPIC));
        while !reading.load(Ordering::Relaxed) {
            let bound = Bound { at_least: token, wait: Duration::from_secs(10) };
            let answer = node.get(TALLY, b"key-1".to_vec(), Some(bound)).await;
            let answer = answer.unwrap_or_else(|error| panic!("read {reads}: {error}"));
            let json: serde_json::Value = serde_json::from_str(answer.value.unwrap().json.get()).unwrap();
            assert!(json["by"] == 1 || json["by"] == 2, "{json}");
            (token, reads) = (answer.position, reads + 1);
            tokio::task::yield_now().await;
        }
        reads
    });
    send(&stage, 120..160);
    let id = newest(&stage);
    let job = stage.done(id);
    assert_eq!(job.kind, JobKind::Upgrade);
    stop.store(true, Ordering::Relaxed);
    assert!(stage.block(reader).unwrap() > 10);
    drop(pen);
    check(&stage, TALLY, Code::Tally(V2));
    check(&stage, LEDGER, Code::Ledger(1));
    assert_eq!(pending(&stage), []);
    // Nothing is left to do at the next start.
    stage.restart();
    send(&stage, 160..170);
    check(&stage, TALLY, Code::Tally(V2));
    assert_eq!(stage.node().replays().len(), 1);
}

#[test]
fn change_survives_kills_during_the_upgrade() {
    let mut stage = begun(&[V1.definition()]);
    stage.restart_with(|setup| {
        *setup = setup.clone().on_change(OnChange::Replay);
        setup.views = vec![V2.definition()];
    });
    for wait in [0, 3, 9, 27] {
        std::thread::sleep(Duration::from_millis(wait));
        stage.crash();
        send(&stage, 120..123);
    }
    let id = newest(&stage);
    assert_eq!(stage.done(id).kind, JobKind::Upgrade);
    check(&stage, TALLY, Code::Tally(V2));
    assert_eq!(stage.node().replays().len(), 1);
}

#[test]
fn change_back_by_hand_is_not_undone_by_the_next_start() {
    let mut stage = begun(&[V1.definition()]);
    stage.restart_with(|setup| {
        *setup = setup.clone().on_change(OnChange::Replay);
        setup.views = vec![V2.definition()];
    });
    stage.done(newest(&stage));
    send(&stage, 120..140);
    let back = stage.roll_back().unwrap();
    stage.done(back.id);
    check(&stage, TALLY, Code::Tally(V1));
    for _ in 0..2 {
        stage.restart();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(stage.node().replay(None).unwrap().id, back.id, "no new upgrade");
        send(&stage, 140..150);
        check(&stage, TALLY, Code::Tally(V1));
    }
    // Other definitions are another matter.
    stage.restart_with(|setup| setup.views = vec![V3.definition()]);
    stage.until("an upgrade", || stage.node().replay(None).unwrap().id != back.id);
    stage.done(newest(&stage));
    check(&stage, TALLY, Code::Tally(V3));
}

#[test]
fn change_without_the_old_code_freezes_and_a_replay_thaws() {
    let mut stage = begun(&[ledger::<1>()]);
    let rows = stage.rows(LEDGER);
    stage.restart_with(|setup| setup.views = vec![ledger::<2>()]);
    send(&stage, 120..140);
    let status = stage.node().status();
    for partition in &status.topics[0].partitions {
        assert_eq!(partition.state, PartitionState::Frozen);
        let reason = partition.reason.clone().unwrap();
        assert!(reason.contains("`ledger`, version 1") && reason.contains(".previous::<V>()"), "{reason}");
    }
    // It answers reads, and says what is the matter.
    let ready = stage.node().ready();
    assert!(ready.ok && ready.checks.iter().any(|check| check.detail.contains(".previous::<V>()")), "{ready:?}");
    assert_eq!(stage.rows(LEDGER), rows, "it can be read, and does not move");
    assert_eq!(version(&stage, LEDGER), 1);
    let base = BaseChoice::Genesis;
    let request = ReplayRequest { from: "beginning".to_owned(), base, yes: true, ..ReplayRequest::default() };
    let job = stage.replay(&request).unwrap();
    stage.done(job.id);
    check(&stage, LEDGER, Code::Ledger(2));
    assert!(stage.node().ready().ok);
    // The way back has no code: it is refused or fails, and live stays.
    if let Ok(back) = stage.roll_back() {
        let back = stage.outcome(back.id);
        assert_eq!(back.phase, Phase::Failed);
        let reason = back.reason.unwrap();
        assert!(reason.contains(".previous::<V>()"), "{reason}");
    }
    send(&stage, 140..150);
    check(&stage, LEDGER, Code::Ledger(2));
}

#[test]
fn change_under_the_same_version_is_refused() {
    let mut stage = begun(&[V1.definition()]);
    stage.stop();
    stage.setup.views = vec![Tally { factor: 9, ..V1 }.definition()];
    let error = stage.try_start().unwrap_err();
    assert!(error.contains("`tally`") && error.contains("version"), "{error}");
    // Nor a version that is lower.
    stage.setup.views = vec![V2.definition()];
    stage.start();
    let base = BaseChoice::Genesis;
    let request = ReplayRequest { from: "beginning".to_owned(), base, yes: true, ..ReplayRequest::default() };
    let job = stage.replay(&request).unwrap();
    stage.done(job.id);
    stage.stop();
    stage.setup.views = vec![V1.definition()];
    let error = stage.try_start().unwrap_err();
    assert!(error.contains("`tally`") && error.contains('2'), "{error}");
    stage.setup.views = vec![V2.definition()];
    stage.start();
    check(&stage, TALLY, Code::Tally(V2));
}

#[test]
fn change_that_adds_a_view_fills_it_from_the_beginning() {
    for on_change in [OnChange::Wait, OnChange::Replay] {
        let mut stage = begun(&[V1.definition()]);
        stage.snapshot();
        stage.restart_with(|setup| {
            *setup = setup.clone().on_change(on_change);
            setup.views = vec![V1.definition(), ledger::<1>()];
        });
        send(&stage, 120..130);
        if on_change == OnChange::Wait {
            check(&stage, TALLY, Code::Tally(V1));
            assert_eq!(pending(&stage), [(LEDGER.to_owned(), DefinitionChange::Added)]);
            assert!(stage.node().views().iter().all(|view| view.name != LEDGER));
            // Whatever the cut, a new view needs everything; no row of live changes, so that nobody is asked.
            let request = ReplayRequest { from: "-PT0S".to_owned(), ..ReplayRequest::default() };
            stage.replay(&request).unwrap();
        }
        let job = stage.done(newest(&stage));
        let verification = job.verification.unwrap();
        let filled = verification.views.iter().find(|verdict| verdict.view == LEDGER).unwrap();
        assert_eq!((filled.change, filled.removed, filled.changed), (DefinitionChange::Added, 0, 0));
        assert!(filled.added > 0 && verification.changed_share == 0.0, "{verification:?}");
        check(&stage, TALLY, Code::Tally(V1));
        check(&stage, LEDGER, Code::Ledger(1));
        stage.restart();
        send(&stage, 130..140);
        check(&stage, LEDGER, Code::Ledger(1));
    }
}

/// Counts events. Its second version has one field more.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Grown<const V: u32> {
    n: u64,
    #[serde(skip_serializing_if = "is_old::<V>")]
    #[serde(default = "born::<V>")]
    more: u32,
}

fn is_old<const V: u32>(_: &u32) -> bool {
    V == 1
}

fn born<const V: u32>() -> u32 {
    V
}

impl<const V: u32> View for Grown<V> {
    const NAME: &'static str = "grown";
    const VERSION: u32 = V;
    type Event = serde::de::IgnoredAny;

    fn apply(&mut self, _: &Self::Event, _: &EventMeta<'_>) -> Result<(), Reject> {
        self.n += 1;
        Ok(())
    }
}

/// Law *Fix*: rows of the base go through the new code's reading and writing, whether an event touches them since or not.
#[test]
fn r2_rows_of_the_base_are_written_as_the_new_definition_writes_them() {
    let mut stage = begun(&[Arc::new(RustView::<Grown<1>>::new())]);
    assert!(stage.rows("grown").values().all(|row| row.json.get("more").is_none()));
    stage.snapshot();
    let of_both: [Arc<dyn Definition>; 2] =
        [Arc::new(RustView::<Grown<1>>::new()), Arc::new(RustView::<Grown<2>>::new())];
    let [old, new] = of_both;
    stage.restart_with(|setup| (setup.views, setup.previous) = (vec![new], vec![old]));
    stage.pen.send("key-1", 120, &What::Add { n: 120, amount: 1 });
    stage.settle();
    let request = ReplayRequest { from: "-PT0S".to_owned(), yes: true, ..ReplayRequest::default() };
    let job = stage.replay(&request).unwrap();
    let job = stage.done(job.id);
    let based = |part: &segno::actors::replay::words::PartitionReplay| matches!(part.base, Base::Snapshot { .. });
    assert!(job.plan.topics[0].partitions.iter().all(based), "{:#?}", job.plan);
    for (key, row) in stage.rows("grown") {
        let n = if key == "key-1" { 13 } else { 12 };
        assert_eq!(row.json, serde_json::json!({ "n": n, "more": 2 }), "{key}");
    }
    stage.verify();
}
