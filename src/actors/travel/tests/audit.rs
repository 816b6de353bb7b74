//! The audit finds what is not a function of the events, and nothing else.

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::oracle::{ops, write};
use super::*;
use crate::actors::travel::audit::{AuditOutcome, AuditState, Audited, Auditor, Skip};
use crate::state::{Delta, ViewChange, digest, keys};

fn auditor(stage: Stage, seed: u64) -> (Auditor, Arc<AuditState>, tempfile::TempDir) {
    let state = Arc::new(AuditState::default());
    let audited = Audited {
        log: Arc::new(stage.log),
        store: stage.store,
        topics: vec![Arc::new(stage.shared)],
        stop: Arc::default(),
    };
    (Auditor::new(audited, state.clone(), seed), state, stage._dir)
}

/// Reads what no fold should: how often it has been called, by anyone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Impure {
    calls: u64,
}

impl View for Impure {
    const NAME: &'static str = "impure";
    const VERSION: u32 = 1;
    type Event = serde::de::IgnoredAny;

    fn apply(&mut self, _: &serde::de::IgnoredAny, _: &EventMeta<'_>) -> Result<(), Reject> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        self.calls = CALLS.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads the clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Clocked {
    at: u128,
}

impl View for Clocked {
    const NAME: &'static str = "clocked";
    const VERSION: u32 = 1;
    type Event = serde::de::IgnoredAny;

    fn apply(&mut self, _: &serde::de::IgnoredAny, _: &EventMeta<'_>) -> Result<(), Reject> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.at = now.unwrap_or_default().as_nanos();
        Ok(())
    }
}

#[test]
fn a_fold_that_reads_a_clock_or_a_counter_is_caught() {
    let views: [Arc<dyn Definition>; 2] = [Arc::new(RustView::<Impure>::new()), Arc::new(RustView::<Clocked>::new())];
    for view in views {
        let name = view.name().to_owned();
        let stage = Stage::of(2, Policy::default(), vec![Arc::new(RustView::<Ledger>::new()), view]);
        (0..40).for_each(|n| stage.add(n % 2, &format!("k{}", n % 7), 1));
        stage.feed(8);
        let (mut auditor, state, _dir) = auditor(stage, 7);
        let mut caught = None;
        for _ in 0..50 {
            match auditor.step().unwrap() {
                AuditOutcome::Diverged { first, .. } => caught = Some(first),
                AuditOutcome::Agreed { keys } => assert!(keys > 0),
                other => panic!("{other:?}"),
            }
        }
        let caught = caught.unwrap();
        assert!(caught.view == name && caught.impure, "{caught}");
        let told = state.diverged().unwrap();
        assert!(told.contains(&format!("view `{name}`, key \"k")) && told.contains("reads something beside"), "{told}");
        let (keys, diverged, skipped) = state.counts();
        assert!(diverged > 0 && diverged < keys && skipped == 0);
    }
}

/// Writes another value into a row, with a digest that fits: as a bug of the program would.
fn tamper(live: &Generation, key: &[u8]) {
    let tag = live.tags()[0];
    let row = live.snapshot_read().get(tag, key).unwrap().unwrap();
    let stored = |json: &[u8]| {
        let stored = crate::state::StoredRow { offset: row.offset, timestamp: row.timestamp, json };
        digest::stored(tag, key, &stored)
    };
    let json = br#"{"balance":1000000,"seen":[]}"#;
    let mut delta = Delta::new(1);
    delta.put(
        |into| keys::row_key(tag, key, into),
        |into| {
            keys::row_value_header(row.offset, row.timestamp, into);
            into.extend_from_slice(json);
        },
    );
    delta.views[0] = ViewChange { digest: stored(json).wrapping_sub(stored(&row.json)), ..ViewChange::default() };
    live.commit(&live.take_writer(), &Commit { deltas: vec![delta], position: live.applied(), last: None }).unwrap();
}

#[test]
fn a_row_that_was_changed_outside_of_the_flow_is_found() {
    let stage = Stage::new(1, Policy::default());
    (0..60).for_each(|n| stage.add(0, &format!("k{}", n % 20), 1));
    stage.feed(8);
    tamper(&stage.live[0], b"k3");
    assert!(stage.travel().verify().unwrap()[0].ok, "the digest fits: only a fold can tell");
    let (mut auditor, state, _dir) = auditor(stage, 3);
    let found = (0..100).find_map(|_| match auditor.step().unwrap() {
        AuditOutcome::Diverged { first, .. } => Some(first),
        _ => None,
    });
    let found = found.unwrap();
    assert_eq!((found.key.as_slice(), found.offset, found.impure), (&b"k3"[..], Offset(43), false));
    let told = state.diverged().unwrap();
    assert!(told.starts_with("ledger/0: view `ledger`, key \"k3\", up to offset 43"), "{told}");
    assert!(told.contains("agree with each other"), "{told}");
}

#[test]
fn a_row_that_is_wrong_in_the_newest_snapshot_too_is_found_from_an_older_base() {
    let stage = Stage::new(1, Policy::default());
    (0..20).for_each(|n| stage.add(0, &format!("k{n}"), 1));
    stage.feed(8);
    tamper(&stage.live[0], b"k3");
    stage.snapshot();
    let (mut auditor, _, _dir) = auditor(stage, 3);
    assert!((0..200).any(|_| matches!(auditor.step().unwrap(), AuditOutcome::Diverged { .. })));
}

#[test]
fn what_cannot_be_compared_is_counted_and_says_why() {
    let stage = Stage::new(1, Policy::default());
    stage.add(0, "a", 1);
    stage.append(0, "a", Some(r#"{"event_type":"Panics","payload":{}}"#));
    stage.feed(8);
    let (mut set_aside, state, _dir) = auditor(stage, 1);
    assert_eq!(set_aside.step().unwrap(), AuditOutcome::Skipped(Skip::SetAside));
    assert!(state.counts().2 > 0 && state.diverged().is_none());

    let stage = Stage::new(1, Policy::default());
    (0..20).for_each(|n| stage.add(0, &format!("k{n}"), 1));
    stage.feed(8);
    let log = stage.log.clone();
    let (mut auditor, _, _dir) = auditor(stage, 1);
    auditor.records = 10;
    assert_eq!(auditor.step().unwrap(), AuditOutcome::Skipped(Skip::TooFar));
    log.truncate_before(&at(0), Position(1));
    assert_eq!(auditor.step().unwrap(), AuditOutcome::Skipped(Skip::NoBase));
}

/// What a replay has made may have rows of other definitions in it: only its own snapshots tell what it should be.
#[test]
fn a_generation_that_a_replay_has_made_is_folded_from_its_own_snapshots() {
    let stage = Stage::new(1, Policy::default());
    (0..20).for_each(|n| stage.add(0, &format!("k{n}"), 1));
    stage.feed(8);
    stage.snapshot();
    tamper(&stage.live[0], b"k3");
    let (store, log) = (stage.store.clone(), stage.log.clone());
    let (live, definitions) = (stage.live[0].clone(), stage.shared.serving().definitions.clone());
    let (mut auditor, state, _dir) = auditor(stage, 5);
    assert!((0..200).any(|_| matches!(auditor.step().unwrap(), AuditOutcome::Diverged { .. })));
    assert!(state.diverged().is_some());

    let nothing = crate::state::Source::Nothing { position: Position::ZERO };
    let made = store.create_shadow(live.identity(), &idents(&definitions), &nothing, &mut |_, _, _| Ok(None)).unwrap();
    let shared = auditor.topics()[0].clone();
    feed(&log, &shared.parts, &definitions, &made, 8);
    let serving = Serving::new(&shared.parts, definitions, vec![made.clone()], Mode::Offline, Vec::new());
    shared.switch_to(Arc::new(serving));
    assert_eq!(auditor.step().unwrap(), AuditOutcome::Skipped(Skip::NoBase));
    assert_eq!(state.diverged(), None, "the rows that diverged serve no more");
    store.take_snapshot(&[made], "operator", Timestamp(1)).unwrap();
    assert!(matches!(auditor.step().unwrap(), AuditOutcome::Agreed { .. }));
}

#[tokio::test]
async fn the_loop_ends_when_it_is_told_to() {
    let stage = Stage::new(1, Policy::default());
    (0..20).for_each(|n| stage.add(0, &format!("k{n}"), 1));
    stage.feed(8);
    let (state, stop) = (Arc::new(AuditState::default()), Arc::new(std::sync::atomic::AtomicBool::default()));
    let audited = Audited {
        log: Arc::new(stage.log),
        store: stage.store,
        topics: vec![Arc::new(stage.shared)],
        stop: stop.clone(),
    };
    let options = crate::actors::plan::AuditOptions { keys_per_minute: 60_000 };
    let running = tokio::spawn(crate::actors::travel::audit::audit(audited, state.clone(), options));
    while state.counts().0 < 30 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert_eq!(state.counts().1, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Law *Pure*: of a pure fold the audit never says that it is not.
    #[test]
    fn a_pure_fold_never_diverges(ops in ops(), seed: u64, rejected in prop_oneof![Just(Decision::Park), Just(Decision::Skip)]) {
        let stage = Stage::new(1, policy(rejected, Decision::Delete));
        write(&stage, &ops, rejected, Decision::Delete);
        stage.feed(5);
        let (mut auditor, state, _dir) = auditor(stage, seed);
        for _ in 0..8 {
            auditor.step().unwrap();
        }
        prop_assert_eq!(state.diverged(), None);
    }
}
