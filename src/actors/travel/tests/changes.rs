//! What changed between two cuts, and the digests.

use proptest::prelude::*;

use super::oracle::{name, ops, write};
use super::*;
use crate::state::{Delta, keys};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The rows that differ are the difference of two naive folds.
    #[test]
    fn changes_are_the_difference_of_two_naive_folds(ops in ops(), from in 0.0..1.0f64, length in 0.0..1.0f64) {
        let stage = Stage::new(1, policy(Decision::Skip, Decision::Delete));
        let expected = write(&stage, &ops, Decision::Skip, Decision::Delete);
        stage.feed(7);
        let positions: Vec<Position> = expected.keys().copied().collect();
        let pick = |share: f64| ((positions.len() as f64 * share) as usize).min(positions.len() - 1);
        let first = pick(from);
        let last = first + ((positions.len() - 1 - first) as f64 * length) as usize;
        let (from, to) = (positions[first], positions[last]);

        let found = stage.travel().changes("ledger", &cut(&[from]), &cut(&[to])).unwrap();
        let (mut added, mut removed, mut changed, mut differing) = (0, 0, 0, Vec::new());
        for key in (0..4).map(name) {
            let json = |at| expected[&at].get(&key).map(|(row, _)| serde_json::to_value(row).unwrap());
            let (was, is) = (json(from), json(to));
            match (&was, &is) {
                (None, Some(_)) => added += 1,
                (Some(_), None) => removed += 1,
                (was, is) if was != is => changed += 1,
                _ => continue,
            }
            differing.push((key, was, is));
        }
        prop_assert_eq!((found.added, found.removed, found.changed), (added, removed, changed));
        let rows: Vec<_> = found.rows.into_iter().map(|row| (row.key, row.live, row.new)).collect();
        prop_assert_eq!(rows, differing);
        prop_assert!(found.unchanged <= 4);
    }
}

#[test]
fn only_keys_with_events_in_between_are_folded() {
    let stage = Stage::new(2, Policy::default());
    (0..300).for_each(|n| stage.add(n % 2, &format!("k{n}"), 1));
    stage.feed(64);
    let from = cut(&[stage.end(0), stage.end(1)]);
    stage.add(0, "k0", 5);
    stage.add(1, "new", 5);
    stage.append(1, "k1", Some("{"));
    let to = cut(&[stage.end(0), stage.end(1)]);
    let changes = stage.travel().changes("ledger", &from, &to).unwrap();
    assert_eq!((changes.added, changes.removed, changes.changed, changes.unchanged), (1, 0, 1, 1));
    let fields: Vec<_> = changes.rows[0].fields.iter().map(|field| &*field.field).collect();
    assert_eq!((changes.rows[0].key.as_str(), fields), ("k0", vec!["balance", "seen"]));
    assert_eq!(changes.cost.base, "genesis");
}

#[test]
fn more_rows_than_are_answered_are_counted() {
    let stage = Stage::new(1, Policy::default());
    (0..1500).for_each(|n| stage.add(0, &format!("k{n}"), 1));
    let changes = stage.travel().changes("ledger", &cut(&[Position::ZERO]), &cut(&[stage.end(0)])).unwrap();
    assert_eq!((changes.added, changes.rows.len()), (1500, 1000));
}

#[test]
fn verify_finds_a_row_that_the_digest_does_not_know() {
    let stage = Stage::new(1, Policy::default());
    (0..20).for_each(|n| stage.add(0, &format!("k{n}"), 1));
    stage.feed(7);
    let clean = stage.travel().verify().unwrap();
    assert!(clean.len() == 1 && clean[0].ok && clean[0].rows == 20 && clean[0].kept == clean[0].found, "{clean:?}");

    let live = &stage.live[0];
    let mut delta = Delta::new(1);
    delta.put(|into| keys::row_key(live.tags()[0], b"k3", into), |into| into.extend_from_slice(b"\x01tampered with"));
    live.commit(&live.take_writer(), &Commit { deltas: vec![delta], position: live.applied(), last: None }).unwrap();
    let found = &stage.travel().verify().unwrap()[0];
    assert!(!found.ok && found.kept == clean[0].kept && found.found != found.kept, "{found:?}");
}
