//! The laws that the store keeps, by name.

use proptest::prelude::*;
use segno::position::{Offset, Position};
use segno::state::{Books, Delta, Durability, Error, HeldChange, Standing};

use crate::harness::*;
use crate::model::{Model, Op, ops};

/// Runs the operations on a store and on the model, and compares everything after each. A crash may take the store back,
/// but only to a commit that was, not before what was durable, and with a write-ahead log not at all.
fn run(durability: Durability, ops: &[Op]) {
    let mut directory = tempfile::tempdir().unwrap();
    let mut generation = open(directory.path(), durability).unwrap();
    let mut history = vec![Model::default()];
    let mut flushed = 0;
    for op in ops {
        let mut model = history[history.len() - 1].clone();
        match op {
            Op::Commit(records, release, gap) => {
                generation.commit(&generation.take_writer(), &model.apply(records, *release, *gap)).unwrap();
                history.push(model);
            }
            Op::Flush => {
                assert_eq!(generation.flush().unwrap(), Position(model.position));
                flushed = history.len() - 1;
            }
            Op::Reopen => {
                drop(generation);
                generation = open(directory.path(), durability).unwrap();
                flushed = history.len() - 1;
            }
            Op::Crash => {
                let copied = tempfile::tempdir().unwrap();
                copy(directory.path(), copied.path());
                drop(generation);
                directory = copied;
                generation = open(directory.path(), durability).unwrap();
                if durability == Durability::Log {
                    // So little data never makes RocksDB flush by itself.
                    history.truncate(flushed + 1);
                }
                flushed = history.len() - 1;
            }
        }
        history[history.len() - 1].assert_equals(&generation);
        let durable = if durability == Durability::WalSync { history.len() - 1 } else { flushed };
        assert_eq!(generation.durable(), Position(history[durable].position));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn atomic_whatever_crashes_without_a_write_ahead_log(ops in ops()) {
        run(Durability::Log, &ops);
    }

    #[test]
    fn atomic_whatever_crashes_with_a_write_ahead_log(ops in ops(), synced: bool) {
        run(if synced { Durability::WalSync } else { Durability::Wal }, &ops);
    }
}

#[test]
fn atomic_when_the_durability_changes_between_openings() {
    let mut directory = tempfile::tempdir().unwrap();
    let mut want = Model::default();
    let modes =
        [Durability::Log, Durability::Wal, Durability::Log, Durability::WalSync, Durability::Wal, Durability::Log];
    for (round, durability) in modes.into_iter().enumerate() {
        let generation = open(directory.path(), durability).unwrap();
        want.assert_equals(&generation);
        let records = [(round as u8, [crate::model::Act::Set("x".into()), crate::model::Act::Hold(Standing::Waiting)])];
        generation.commit(&generation.take_writer(), &want.apply(&records, 0, 0)).unwrap();
        if durability == Durability::Log {
            generation.flush().unwrap();
        }
        let copied = tempfile::tempdir().unwrap();
        copy(directory.path(), copied.path());
        drop(generation);
        directory = copied;
    }
    want.assert_equals(&open(directory.path(), Durability::Log).unwrap());
}

/// Memtables that fill up are flushed without being asked: that must not tear rows, held records and position apart.
#[test]
fn atomic_when_rocksdb_flushes_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let tag = generation.tags()[0];
    for position in 1..=60 {
        let mut next = first_row(&generation, &format!("key-{position:03}"), &noise(100_000, position), position);
        next.deltas[0].held.push(HeldChange::Put(held(tag, "k", position, Standing::Waiting)));
        next.deltas[0].views[0].books.consumed += 1;
        next.deltas[0].views[0].books.waiting += 1;
        generation.commit(&generation.take_writer(), &next).unwrap();
    }
    assert_eq!(generation.durable(), Position::ZERO);
    let copied = tempfile::tempdir().unwrap();
    copy(directory.path(), copied.path());
    let back = open(copied.path(), Durability::Log).unwrap();
    let rows = back.snapshot_read().list(tag, b"", None, usize::MAX).unwrap().rows;
    assert!(back.applied() > Position(10), "RocksDB flushed nothing by itself: {}", back.applied());
    assert!(back.applied() < Position(60), "nothing was left in memory");
    assert_eq!(rows.len() as u64, back.applied().0);
    assert_eq!(back.held_of(tag, b"k", Offset(0), 99).unwrap().len() as u64, back.applied().0);
    assert_eq!(back.recompute(tag).unwrap(), back.view_totals()[0]);
}

/// JSON text that does not compress.
fn noise(len: usize, seed: u64) -> String {
    let mut state = seed;
    let digits = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 59) as u8 % 26)
    });
    format!("\"{}\"", digits.take(len).collect::<String>())
}

/// A reader that started before a commit sees nothing of it.
#[test]
fn atomic_for_readers() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
    let tag = generation.tags()[0];
    let before = generation.snapshot_read();
    generation.commit(&generation.take_writer(), &first_row(&generation, "b", "2", 2)).unwrap();
    assert_eq!(before.position().unwrap(), Position(1));
    assert_eq!(before.get(tag, b"b").unwrap(), None);
    assert_eq!(before.totals(tag).unwrap().rows, 1);
    let after = generation.snapshot_read();
    assert_eq!((after.position().unwrap(), after.totals(tag).unwrap().rows), (Position(2), 2));
}

#[test]
fn forward_only() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 5)).unwrap();
    let refused = generation.commit(&generation.take_writer(), &first_row(&generation, "b", "1", 4)).unwrap_err();
    assert!(matches!(refused, Error::Law { law: "Forward", .. }), "{refused}");
    let mut ahead = first_row(&generation, "b", "1", 6);
    ahead.last = Some(fingerprint(6));
    assert!(matches!(
        generation.commit(&generation.take_writer(), &ahead).unwrap_err(),
        Error::Law { law: "Forward", .. }
    ));
    assert_eq!(generation.applied(), Position(5));
    // The same position is fine when only held records move, and a refused commit spoils nothing.
    generation.commit(&generation.take_writer(), &commit(vec![Delta::new(2)], 5)).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "b", "1", 6)).unwrap();
    assert_eq!(generation.flush().unwrap(), Position(6));
}

#[test]
fn forward_durable_follows_applied() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    for position in 1..=20 {
        generation
            .commit(&generation.take_writer(), &first_row(&generation, &format!("k{position}"), "1", position))
            .unwrap();
        assert!(generation.durable() < generation.applied());
        if position % 3 == 0 {
            assert_eq!(generation.flush().unwrap(), Position(position));
            assert_eq!(generation.durable(), generation.applied());
        }
    }
}

#[test]
fn accounted_or_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let refused = |change: &dyn Fn(&mut Books)| {
        let mut wrong = first_row(&generation, "a", "1", 1);
        change(&mut wrong.deltas[0].views[1].books);
        let error = generation.commit(&generation.take_writer(), &wrong).unwrap_err();
        assert!(matches!(&error, Error::Law { law: "Accounted", .. }), "{error}");
        assert!(error.to_string().contains("`count`"), "{error}");
    };
    refused(&|books| books.consumed += 1);
    refused(&|books| books.applied += 1);
    refused(&|books| (books.parked, books.applied) = (-1, 1));
    let mut short = first_row(&generation, "a", "1", 1);
    short.deltas[0].views.pop();
    assert!(matches!(
        generation.commit(&generation.take_writer(), &short).unwrap_err(),
        Error::Law { law: "Accounted", .. }
    ));
    assert_eq!(generation.applied(), Position::ZERO);
    assert_eq!(load(&generation, generation.tags()[0], b"a").unwrap(), None);
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
}

/// A held record moves from one column to another; the recount sees what was moved without an account.
#[test]
fn accounted_by_recount() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let tag = generation.tags()[0];
    generation
        .commit(&generation.take_writer(), &first_held(&generation, held(tag, "a", 0, Standing::Waiting)))
        .unwrap();
    let mut parked = Delta::new(2);
    parked.held.push(HeldChange::Put(held(tag, "a", 0, Standing::Parked)));
    (parked.views[0].books.waiting, parked.views[0].books.parked) = (-1, 1);
    generation.commit(&generation.take_writer(), &commit(vec![parked], 1)).unwrap();
    assert_eq!(generation.recompute(tag).unwrap(), generation.view_totals()[0]);
    assert_eq!(generation.view_totals()[0].books.parked, 1);

    let mut lost = Delta::new(2);
    lost.held.push(HeldChange::Remove { view: tag, key: b"a".to_vec(), offset: Offset(0) });
    generation.commit(&generation.take_writer(), &commit(vec![lost], 1)).unwrap();
    let recount = generation.recompute(tag).unwrap();
    assert_eq!(recount.books.parked, 0);
    assert_ne!(recount, generation.view_totals()[0]);
}

/// Deltas of many shards interleave in one sorted write.
#[test]
fn once_each_row_of_many_deltas() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let tag = generation.tags()[0];
    let mut deltas: Vec<Delta> = (0..7).map(|_| Delta::new(2)).collect();
    for key in 0u32..3_000 {
        let delta = &mut deltas[(key.wrapping_mul(2_654_435_761) % 7) as usize];
        put(delta, 0, tag, &key.to_be_bytes(), None, Some(&value(u64::from(key), &key.to_string())));
    }
    deltas.iter_mut().for_each(Delta::sort);
    generation.commit(&generation.take_writer(), &commit(deltas, 1)).unwrap();
    let keys: Vec<[u8; 4]> = (0u32..3_100).map(u32::to_be_bytes).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
    let mut seen = 0;
    generation
        .load(tag, &keys, |index, row| {
            assert_eq!(index, seen);
            seen += 1;
            let want = (index < 3_000).then(|| index.to_string());
            assert_eq!(row.map(|row| String::from_utf8(row.json.to_vec()).unwrap()), want);
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, keys.len());
    assert_eq!(generation.recompute(tag).unwrap(), generation.view_totals()[0]);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "Once: a stored key occurs twice")]
fn once_a_row_in_two_deltas_is_a_defect() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let one = first_row(&generation, "a", "1", 1).deltas.remove(0);
    let _ = generation.commit(&generation.take_writer(), &commit(vec![one.clone(), one], 1));
}

#[test]
fn pages_go_through_a_view_without_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let names = ["", "a", "a\0", "ab", "ab\u{7f}", "b", "ba", "c"];
    for (index, name) in names.iter().enumerate() {
        generation.commit(&generation.take_writer(), &first_row(&generation, name, "1", index as u64 + 1)).unwrap();
    }
    let read = generation.snapshot_read();
    let tag = generation.tags()[0];
    for limit in 1..=names.len() + 1 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = read.list(tag, b"", after.as_deref(), limit).unwrap();
            assert!(page.rows.len() <= limit);
            found.extend(page.rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, names);
    }
    let names_of = |page: segno::state::Page| -> Vec<Vec<u8>> { page.rows.into_iter().map(|(key, _)| key).collect() };
    assert_eq!(names_of(read.list(tag, b"a", None, 10).unwrap()), [&b"a"[..], b"a\0", b"ab", b"ab\x7f"]);
    assert_eq!(names_of(read.list(tag, b"a", Some(b"ab"), 10).unwrap()), [b"ab\x7f"]);
    assert_eq!(names_of(read.list(tag, b"b", Some(b"a"), 10).unwrap()), [&b"b"[..], b"ba"]);
    assert_eq!(names_of(read.list(tag, b"a", Some(b"b"), 10).unwrap()), Vec::<Vec<u8>>::new());
    assert_eq!(read.list(generation.tags()[1], b"", None, 10).unwrap().rows, []);
    assert_eq!(read.list(tag, b"", None, 0).unwrap().rows, []);
}

/// Of two writers, each would count what the other has counted.
#[test]
fn once_a_second_writer_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let first = generation.take_writer();
    generation.commit(&first, &first_row(&generation, "a", "1", 1)).unwrap();
    let second = generation.take_writer();
    let late = generation.commit(&first, &first_row(&generation, "b", "1", 2)).unwrap_err();
    assert!(matches!(late, Error::Fenced { .. }), "{late}");
    assert_eq!(generation.applied(), Position(1));
    generation.commit(&second, &first_row(&generation, "b", "1", 2)).unwrap();
    assert_eq!(generation.view_totals()[0].books.consumed, 2);
}

/// Also while commits go on in one thread, whoever takes over finds the position that stays.
#[test]
fn once_a_writer_that_takes_over_finds_what_stays() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    for round in 0..50 {
        std::thread::scope(|scope| {
            let writer = generation.take_writer();
            let (generation, from) = (&generation, generation.applied().0);
            scope.spawn(move || {
                for position in from + 1..from + 1000 {
                    let commit = first_row(generation, &format!("{round}/{position}"), "1", position);
                    if generation.commit(&writer, &commit).is_err() {
                        break;
                    }
                }
            });
            std::thread::sleep(std::time::Duration::from_micros(500));
            let _ = generation.take_writer();
            let found = generation.applied();
            std::thread::sleep(std::time::Duration::from_micros(500));
            assert_eq!(generation.applied(), found);
        });
    }
}

#[test]
fn the_tail_of_a_queue_is_found_without_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let tag = generation.tags()[0];
    let mut position = 0;
    for key in ["a", "b", "ab"] {
        for _ in 0..3 {
            let standing = if key == "b" { Standing::Parked } else { Standing::Waiting };
            let mut commit = first_held(&generation, held(tag, key, position, standing));
            position += 1;
            commit.position = Position(position);
            generation.commit(&generation.take_writer(), &commit).unwrap();
        }
    }
    let tail = |key: &[u8]| generation.held_tail(tag, key).unwrap();
    assert_eq!(tail(b"a"), Some((Offset(2), Standing::Waiting)));
    assert_eq!(tail(b"b"), Some((Offset(5), Standing::Parked)));
    assert_eq!(tail(b"ab"), Some((Offset(8), Standing::Waiting)));
    assert_eq!((tail(b""), tail(b"c")), (None, None));
}
