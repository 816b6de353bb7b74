//! Rows as of a cut, and their history.

use proptest::prelude::*;

use super::oracle::{Op, name, ops, write};
use super::*;
use crate::actors::admin::Explanation;
use crate::state::{Delta, Held, HeldChange, Reason};

fn decisions() -> impl Strategy<Value = (Decision, Decision)> {
    let rejected = prop_oneof![Just(Decision::Park), Just(Decision::Skip), Just(Decision::DeadLetter)];
    (rejected, prop_oneof![Just(Decision::Delete), Just(Decision::DeadLetter)])
}

fn ledger(json: &serde_json::value::RawValue) -> Ledger {
    serde_json::from_str(json.get()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Law *Pure*: a row as of a cut is the fold of what lies below it, whatever the base.
    #[test]
    fn a_row_as_of_a_cut_is_the_naive_fold(ops in ops(), (rejected, null_value) in decisions(), retention in 0u64..40) {
        let stage = Stage::new(1, policy(rejected, null_value));
        let expected = write(&stage, &ops, rejected, null_value);
        let retained = Position(retention.min(stage.end(0).0) / 3);
        stage.log.truncate_before(&at(0), retained);
        let travel = stage.travel();
        let served = travel.served("ledger").unwrap();
        for (&position, rows) in &expected {
            let cut = cut(&[position]);
            for key in (0..4).map(name) {
                let want = rows.get(&key);
                let folded = match travel.row_at(&served, &travel.live[0], key.as_bytes(), position) {
                    Ok(found) => found.row,
                    Err(ReplayError::Refused(_)) if retained > Position::ZERO => continue,
                    Err(error) => panic!("{error}"),
                };
                let found: Option<(Ledger, Offset)> =
                    folded.map(|row| (serde_json::from_slice(&row.json).unwrap(), row.offset));
                prop_assert_eq!(found.as_ref(), want, "{} at {}", key, position);

                let asked = travel.get_at("ledger", key.as_bytes(), &cut).unwrap().row;
                let asked = asked.map(|row| (ledger(&row.json), row.offset));
                prop_assert_eq!(asked.as_ref(), want, "{} at {}, shortest way", key, position);

                let Explanation { before, steps, left_out, .. } =
                    travel.explain("ledger", key.as_bytes(), None, &cut, usize::MAX).unwrap();
                prop_assert_eq!(left_out, 0);
                let last = steps.last().map_or(&before, |step| &step.state);
                prop_assert_eq!(last.as_deref().map(ledger), want.map(|(row, _)| row.clone()));
            }
        }
    }
}

#[test]
fn every_record_of_a_key_says_what_became_of_it() {
    let stage = Stage::new(1, policy(Decision::Park, Decision::Delete));
    let values = [("Add", 5), ("Flaky", 0), ("Other", 1), ("Take", 99), ("Add", 1)];
    stage.add(0, "a", 1);
    stage.append(0, "a", None);
    stage.append(0, "a", Some("{"));
    for (kind, amount) in values {
        stage.append(0, "a", Some(&event(kind, amount)));
        stage.add(0, "b", 1);
    }
    stage.feed(3);
    let (travel, end) = (stage.travel(), cut(&[stage.end(0)]));
    let whole = travel.explain("ledger", b"a", None, &end, 100).unwrap();
    let outcomes: Vec<&str> = whole.steps.iter().map(|step| &*step.outcome).collect();
    assert_eq!(outcomes, ["applied", "removed", "dead", "applied", "applied", "dead", "parked", "parked"]);
    let details: Vec<_> = whole.steps.iter().map(|step| step.detail.as_deref().unwrap_or("")).collect();
    assert_eq!(details[4], "at first transient: try again: not yet");
    assert_eq!(details[6], "rejected: insufficient funds");
    assert_eq!(details[7], "queues behind an earlier event that is parked");
    assert!(details[2].contains("not an event") && details[5].contains("`Other`"), "{details:?}");
    assert!(whole.steps[1].state.is_none() && whole.steps[2].event_type.is_none());
    assert_eq!(whole.steps[3].event_type.as_deref(), Some("Add"));
    assert_eq!((whole.cost.base.as_str(), whole.cost.records), ("genesis", 13));

    let newest = travel.explain("ledger", b"a", None, &end, 2).unwrap();
    assert_eq!((newest.steps.len(), newest.left_out), (2, 6));
    assert_eq!(ledger(newest.before.as_deref().unwrap()), ledger(whole.steps[5].state.as_deref().unwrap()));

    let from = cut(&[Position(4)]);
    let later = travel.explain("ledger", b"a", Some(&from), &end, 100).unwrap();
    assert_eq!((later.steps.len(), later.left_out), (4, 0));
    assert_eq!(ledger(later.before.as_deref().unwrap()).balance, 5);
}

#[test]
fn what_the_policy_passes_over_is_told_from_what_the_view_ignores() {
    let stage = Stage::new(1, policy(Decision::Skip, Decision::Skip));
    stage.add(0, "a", 1);
    stage.append(0, "a", Some(&event("Take", 5)));
    stage.append(0, "a", None);
    stage.feed(9);
    let end = cut(&[stage.end(0)]);
    let steps = stage.travel().explain("ledger", b"a", None, &end, 9).unwrap().steps;
    let told: Vec<_> = steps.iter().map(|step| (&*step.outcome, step.detail.as_deref())).collect();
    let no_value = Some("the record has no value (a tombstone)");
    assert_eq!(told, [("applied", None), ("skipped", Some("rejected: insufficient funds")), ("skipped", no_value)]);
}

#[test]
fn a_key_is_found_wherever_its_producer_has_put_it() {
    let stage = Stage::new(3, Policy::default());
    let home = crate::streams::murmur2::partition_of(b"a", 3);
    let elsewhere = (home + 1) % 3;
    stage.append(elsewhere, "gone", Some(&event("Add", 7)));
    stage.add(elsewhere, "a", 1);
    stage.add(elsewhere, "a", 2);
    (0..3).for_each(|partition| stage.add(partition, "noise", 1));
    stage.feed(2);
    let ends: Vec<Position> = (0..3).map(|partition| stage.end(partition)).collect();
    let mut then = ends.clone();
    then[elsewhere as usize] = Position(2);
    let travel = stage.travel();

    let now = travel.get_at("ledger", b"a", &cut(&ends)).unwrap();
    assert_eq!((now.cost.base.as_str(), now.cost.records), ("live", 0));
    let row = travel.get_at("ledger", b"a", &cut(&then)).unwrap();
    assert_eq!((row.cost.base.as_str(), row.cost.records), ("genesis", 2));
    let row = row.row.unwrap();
    assert_eq!((row.partition, ledger(&row.json).balance), (PartitionId(elsewhere), 1));

    // What live does not have is looked for everywhere.
    let nobody = travel.get_at("ledger", b"nobody", &cut(&ends)).unwrap();
    assert!(nobody.row.is_none());
    assert_eq!(nobody.cost.records, 6);
    let history = travel.explain("ledger", b"nobody", None, &cut(&ends), 5).unwrap();
    assert!(history.steps.is_empty() && history.before.is_none());
}

/// A fold that hung in live is not tried here, where nobody watches over it.
#[test]
fn what_never_came_back_in_live_is_not_tried_again() {
    let stage = Stage::new(1, Policy::default());
    stage.add(0, "a", 1);
    stage.feed(1);
    let value = r#"{"event_type":"Add","payload":{"amount":1}}"#;
    stage.append(0, "a", Some(value));
    let live = &stage.live[0];
    let hung = Held {
        view: live.tags()[0],
        standing: Standing::Parked,
        reason: Reason::Overran,
        detail: String::new(),
        attempts: 3,
        offset: Offset(1),
        timestamp: Timestamp(1),
        key: Some(b"a".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    };
    let mut delta = Delta::new(1);
    delta.held.push(HeldChange::Put(hung));
    (delta.views[0].books.consumed, delta.views[0].books.parked) = (1, 1);
    live.commit(&live.take_writer(), &Commit { deltas: vec![delta], position: Position(2), last: None }).unwrap();
    stage.add(0, "a", 1);
    stage.feed(1);
    let steps = stage.travel().explain("ledger", b"a", None, &cut(&[Position(3)]), 9).unwrap().steps;
    let told: Vec<_> = steps.iter().map(|step| (&*step.outcome, step.detail.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("applied", None),
            ("parked", Some("the fold ran over its time limit")),
            ("parked", Some("queues behind an earlier event that is parked"))
        ]
    );
    assert_eq!(ledger(steps[2].state.as_deref().unwrap()).balance, 1);
}

#[test]
fn the_nearest_snapshot_bounds_what_is_read() {
    let stage = Stage::new(1, Policy::default());
    (0..50).for_each(|_| stage.add(0, "a", 1));
    stage.feed(10);
    let snapshot = stage.snapshot();
    (0..50).for_each(|_| stage.add(0, "a", 1));
    stage.feed(10);
    let row = stage.travel().get_at("ledger", b"a", &cut(&[Position(53)])).unwrap();
    assert_eq!((row.cost.base, row.cost.records), (format!("snapshot {}", snapshot.id), 3));
    assert_eq!(ledger(&row.row.unwrap().json).balance, 53);
}

#[test]
fn the_random_logs_have_what_matters() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let all: Vec<Op> = (0..50).flat_map(|_| ops().new_tree(&mut runner).unwrap().current()).collect();
    assert!(all.iter().any(|op| matches!(op, Op::Panics(_))) && all.iter().any(|op| matches!(op, Op::Snapshot)));
}
