//! The comparison of two generations against that of two maps, and a generation in memory against one on disk.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use segno::position::Position;
use segno::state::{Compared, Delta, Error, Generation, StoredRow, ViewTag, compare};

use crate::harness::*;
use crate::snapshots::store;

type Model = BTreeMap<Vec<u8>, (u64, String)>;

/// Rows whose keys often meet, and whose offsets and texts are often the same.
fn model() -> impl Strategy<Value = Model> {
    btree_map(vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(255u8)], 0..4), (0u64..3, "[xy]{0,2}"), 0..30)
}

/// Replaces the rows of a view by those of the model.
fn write(generation: &Generation, index: usize, before: &Model, rows: &Model, position: u64) {
    let mut delta = Delta::new(2);
    let tag = generation.tags()[index];
    let stored = |model: &Model, key: &Vec<u8>| model.get(key).map(|(offset, json)| value(*offset, json));
    for key in before.keys().chain(rows.keys().filter(|key| !before.contains_key(*key))) {
        put(&mut delta, index, tag, key, stored(before, key).as_deref(), stored(rows, key).as_deref());
    }
    delta.sort();
    for view in &mut delta.views {
        (view.books.consumed, view.books.applied) = (1, 1);
    }
    generation.commit(&generation.take_writer(), &commit(vec![delta], position)).unwrap();
}

type Differing = Vec<(Vec<u8>, Option<(u64, String)>, Option<(u64, String)>)>;

fn compared(live: &Generation, left: ViewTag, new: &Generation, right: ViewTag, exact: bool) -> (Compared, Differing) {
    let owned = |row: StoredRow<'_>| (row.offset.0, String::from_utf8(row.json.to_vec()).unwrap());
    let mut rows = Vec::new();
    let mut each = |key: &[u8], live: Option<StoredRow<'_>>, new: Option<StoredRow<'_>>| {
        rows.push((key.to_vec(), live.map(owned), new.map(owned)));
        Ok(())
    };
    let counts = compare(&live.snapshot_read(), left, &new.snapshot_read(), right, exact, &mut each).unwrap();
    (counts, rows)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn two_views_compare_as_two_maps_do(left in model(), right in model(), other in model(), flush: [bool; 2]) {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let live = store.scratch(&identity(), &views(), Position::ZERO).unwrap();
        let new = store.scratch(&identity(), &views(), Position::ZERO).unwrap();
        // The second view of one with the first of the other; what lies beside them does not count.
        write(&live, 0, &Model::new(), &other, 1);
        write(&live, 1, &Model::new(), &left, 2);
        write(&new, 0, &Model::new(), &right, 1);
        write(&new, 1, &Model::new(), &other, 2);
        for (generation, flush) in [&live, &new].into_iter().zip(flush) {
            if flush {
                generation.flush().unwrap();
            }
        }
        for exact in [false, true] {
            let same = |a: &(u64, String), b: &(u64, String)| a.1 == b.1 && (!exact || a.0 == b.0);
            let mut want = Compared::default();
            let mut rows = Vec::new();
            let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let (old, new) = (left.get(key), right.get(key));
                match (old, new) {
                    (Some(old), Some(new)) if same(old, new) => {
                        want.unchanged += 1;
                        continue;
                    }
                    (Some(_), Some(_)) => want.changed += 1,
                    (Some(_), None) => want.removed += 1,
                    _ => want.added += 1,
                }
                rows.push((key.clone(), old.cloned(), new.cloned()));
            }
            let found = compared(&live, live.tags()[1], &new, new.tags()[0], exact);
            prop_assert_eq!(found, (want, rows));
        }
    }

    #[test]
    fn pure_in_memory_and_on_disk_come_out_the_same(steps in vec((model(), 0usize..2, any::<bool>()), 1..8)) {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let disk = store.open_generation(&identity(), &views()).unwrap();
        let memory = store.scratch(&identity(), &views(), Position::ZERO).unwrap();
        let mut now = [Model::new(), Model::new()];
        for (position, (rows, index, flush)) in (1..).zip(&steps) {
            for generation in [&disk, &memory] {
                write(generation, *index, &now[*index], rows, position);
                if *flush {
                    prop_assert_eq!(generation.flush().unwrap(), Position(position));
                }
            }
            now[*index].clone_from(rows);
            prop_assert_eq!(disk.view_totals(), memory.view_totals());
            prop_assert_eq!((disk.applied(), disk.durable(), disk.last()), (memory.applied(), memory.durable(), memory.last()));
        }
        for (tag, rows) in disk.tags().iter().zip(&now) {
            let want = Compared { unchanged: rows.len() as u64, ..Compared::default() };
            prop_assert_eq!(compared(&disk, *tag, &memory, *tag, true), (want, vec![]));
            prop_assert_eq!(memory.recompute(*tag).unwrap(), disk.recompute(*tag).unwrap());
        }
    }
}

#[test]
fn an_error_of_the_caller_ends_the_comparison() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let [live, new] = [0, 1].map(|_| store.scratch(&identity(), &views(), Position::ZERO).unwrap());
    live.commit(&live.take_writer(), &first_row(&live, "a", "1", 1)).unwrap();
    live.commit(&live.take_writer(), &first_row(&live, "b", "1", 2)).unwrap();
    let mut seen = 0;
    let mut each = |_: &[u8], _: Option<StoredRow<'_>>, _: Option<StoredRow<'_>>| {
        seen += 1;
        Err(Error::ReadOnly { at: at() })
    };
    let tag = live.tags()[0];
    let ended = compare(&live.snapshot_read(), tag, &new.snapshot_read(), tag, true, &mut each);
    assert_eq!((ended, seen), (Err(Error::ReadOnly { at: at() }), 1));
}
