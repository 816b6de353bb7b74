//! Snapshots: what they hold, that nothing damaged is ever used, and that a crash leaves nothing that is taken for one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use segno::position::{Position, Timestamp, TopicPartition};
use segno::state::{Delta, Durability, Error, Generation, HeldChange, Identity, Source, Standing, Store};

use crate::harness::*;

pub fn store(root: &Path) -> Arc<Store> {
    Store::open(root, options(Durability::Log)).unwrap()
}

pub fn of_partition(partition: u32) -> Identity {
    Identity { at: TopicPartition::new("bank.accounts", partition), ..identity() }
}

pub fn fill(generation: &Generation, from: u64, to: u64) {
    for n in from..to {
        generation
            .commit(
                &generation.take_writer(),
                &first_row(generation, &format!("key-{n:05}"), &format!("{{\"n\":{n}}}"), n + 1),
            )
            .unwrap();
    }
}

pub fn now(second: i64) -> Timestamp {
    Timestamp(1_700_000_000_000 + second * 1000)
}

#[test]
fn a_snapshot_is_the_state_at_its_position() {
    for durability in [Durability::Log, Durability::Wal, Durability::WalSync] {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), options(durability)).unwrap();
        let generation = store.open_generation(&identity(), &views()).unwrap();
        fill(&generation, 0, 100);
        let taken = store.take_snapshot(&[Arc::clone(&generation)], "operator", now(0)).unwrap();
        assert_eq!((taken.id, taken.damaged.as_deref(), taken.why.as_str()), (1, None, "operator"));
        fill(&generation, 100, 200);

        let [part] = taken.parts.as_slice() else { panic!("{taken:?}") };
        assert_eq!((part.position, part.last), (Position(100), Some(fingerprint(99))));
        assert_eq!(part.path, directory.path().join("bank.accounts/3/snapshots/100.0"));
        assert_eq!(store.snapshots().unwrap(), std::slice::from_ref(&taken));
        assert_eq!(store.verify_snapshot(1).unwrap(), taken);
        let opened = store.open_snapshot(1, &at()).unwrap();
        assert_eq!((opened.applied(), opened.views()), (Position(100), generation.views()));
        let page = opened.snapshot_read().list(opened.tags()[0], b"", None, usize::MAX).unwrap();
        assert_eq!(page.rows.len(), 100);
        assert_eq!(opened.recompute(opened.tags()[0]).unwrap(), part.totals[0]);
        assert!(matches!(opened.commit(&opened.take_writer(), &commit(vec![], 101)), Err(Error::ReadOnly { .. })));
        assert!(Arc::ptr_eq(&opened, &store.open_snapshot(1, &at()).unwrap()));
        assert_eq!(store.snapshot_source(1, &at()).unwrap(), Source::Checkpoint { path: part.path.clone() });

        assert_eq!(store.delete_snapshot(1), Err(Error::SnapshotInUse { id: 1 }));
        drop(opened);
        store.delete_snapshot(1).unwrap();
        assert!(!part.path.exists());
        assert_eq!(store.snapshots().unwrap(), []);
        assert_eq!(store.open_snapshot(1, &at()).err(), Some(Error::NoSnapshot { id: 1 }));
        assert_eq!(store.take_snapshot(&[generation], "time", now(1)).unwrap().id, 2);
    }
}

/// Sets the same rows of both views to the number of the commit.
pub fn overwrite(generation: &Generation) {
    let now = generation.applied().0;
    let mut delta = Delta::new(2);
    for (index, tag) in generation.tags().iter().enumerate() {
        for key in 0..20u8 {
            let before = (now > 0).then(|| value(now - 1, &now.to_string()));
            put(&mut delta, index, *tag, &[key], before.as_deref(), Some(&value(now, &(now + 1).to_string())));
        }
        (delta.views[index].books.consumed, delta.views[index].books.applied) = (1, 1);
    }
    delta.sort();
    generation.commit(&generation.take_writer(), &commit(vec![delta], now + 1)).unwrap();
}

/// Every row of an opened snapshot has the number that its position says.
pub fn is_whole(opened: &Generation) {
    let position = opened.applied().0;
    for (tag, totals) in opened.tags().iter().zip(opened.view_totals()) {
        let page = opened.snapshot_read().list(*tag, b"", None, usize::MAX).unwrap();
        assert_eq!(page.rows.len(), if position == 0 { 0 } else { 20 });
        assert!(page.rows.iter().all(|(_, row)| row.json == position.to_string().as_bytes()), "torn at {position}");
        assert_eq!(opened.recompute(*tag).unwrap(), totals);
        assert_eq!(totals.books.consumed as u64, position);
    }
}

#[test]
fn atomic_a_snapshot_taken_while_commits_run() {
    for durability in [Durability::Log, Durability::Wal] {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), options(durability)).unwrap();
        let parts: Vec<_> = (0..2).map(|p| store.open_generation(&of_partition(p), &views()).unwrap()).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for generation in &parts {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        overwrite(generation);
                    }
                });
            }
            for round in 0..12 {
                let before: Vec<_> = parts.iter().map(|part| part.applied()).collect();
                let taken = store.take_snapshot(&parts, "records", now(round)).unwrap();
                assert_eq!(taken.damaged, None);
                for ((part, generation), before) in taken.parts.iter().zip(&parts).zip(before) {
                    assert!(before <= part.position && part.position <= generation.applied());
                    is_whole(&store.open_snapshot(taken.id, &part.at).unwrap());
                }
                assert_eq!(store.verify_snapshot(taken.id).unwrap(), taken);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(store.snapshots().unwrap().iter().all(|snapshot| snapshot.damaged.is_none()));
    }
}

/// The directories of the snapshots of a partition.
pub fn snapshot_dirs(root: &Path, partition: u32) -> Vec<String> {
    let Ok(found) = std::fs::read_dir(root.join(format!("bank.accounts/{partition}/snapshots"))) else { return vec![] };
    let mut names: Vec<_> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_has_not_changed_is_not_taken_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let parts: Vec<_> = (0..2).map(|p| store.open_generation(&of_partition(p), &views()).unwrap()).collect();
    fill(&parts[0], 0, 10);
    fill(&parts[1], 0, 20);
    let first = store.take_snapshot(&parts, "time", now(0)).unwrap();
    assert_eq!(store.take_snapshot(&parts, "time", now(1)).unwrap(), first, "nothing has changed at all");

    fill(&parts[0], 10, 11);
    let second = store.take_snapshot(&parts, "time", now(2)).unwrap();
    assert_eq!((second.id, second.parts[1].path.clone()), (2, first.parts[1].path.clone()));
    assert_eq!((snapshot_dirs(directory.path(), 0).len(), snapshot_dirs(directory.path(), 1).len()), (2, 1));

    // The first of them goes; what the second shares with it stays.
    store.delete_snapshot(1).unwrap();
    assert_eq!(snapshot_dirs(directory.path(), 0), ["11.0"]);
    assert_eq!(store.verify_snapshot(2).unwrap(), second);
    assert_eq!(store.snapshots().unwrap(), [second]);
    store.delete_snapshot(2).unwrap();
    assert_eq!((snapshot_dirs(directory.path(), 0), snapshot_dirs(directory.path(), 1)), (vec![], vec![]));
}

#[test]
fn the_same_position_with_another_state_is_another_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let generation = store.open_generation(&identity(), &views()).unwrap();
    let tag = generation.tags()[0];
    generation
        .commit(&generation.take_writer(), &first_held(&generation, held(tag, "k", 0, Standing::Parked)))
        .unwrap();
    let parts = [Arc::clone(&generation)];
    let first = store.take_snapshot(&parts, "time", now(0)).unwrap();
    // The same record with one attempt more: neither the position nor the books show it.
    let mut again = Delta::new(2);
    let mut record = held(tag, "k", 0, Standing::Parked);
    record.attempts += 1;
    again.held.push(HeldChange::Put(record.clone()));
    generation.commit(&generation.take_writer(), &commit(vec![again], 1)).unwrap();
    let second = store.take_snapshot(&parts, "time", now(1)).unwrap();
    assert_eq!(snapshot_dirs(directory.path(), 3), ["1.0", "1.0-2"]);
    assert_eq!((first.parts[0].position, second.parts[0].position), (Position(1), Position(1)));
    let opened = store.open_snapshot(2, &at()).unwrap();
    assert_eq!(opened.held_of(tag, b"k", segno::position::Offset(0), 9).unwrap(), [record]);
}

#[test]
fn a_snapshot_survives_the_process_and_is_of_its_generation_only() {
    let directory = tempfile::tempdir().unwrap();
    let taken = {
        let store = store(directory.path());
        let generation = store.open_generation(&identity(), &views()).unwrap();
        fill(&generation, 0, 50);
        store.take_snapshot(&[generation], "time", now(0)).unwrap()
    };
    let store = store(directory.path());
    assert_eq!(store.snapshots().unwrap(), std::slice::from_ref(&taken));
    let generation = store.open_generation(&identity(), &views()).unwrap();
    // Opened again, nothing has changed: the snapshot is still good for now.
    assert_eq!(store.take_snapshot(&[Arc::clone(&generation)], "time", now(1)).unwrap(), taken);
    let other = TopicPartition::new("bank.accounts", 0);
    let lacking = store.snapshot_source(1, &other).unwrap_err();
    assert!(lacking.to_string().contains("snapshot 1 of topic `bank.accounts` has no partition 0"), "{lacking}");
    assert_eq!(store.snapshot_source(9, &other), Err(Error::NoSnapshot { id: 9 }));
    let twice = store.take_snapshot(&[Arc::clone(&generation), generation], "x", now(2));
    assert!(matches!(twice, Err(Error::SnapshotRefused { .. })));
}

#[test]
fn table_files_are_shared_and_not_copied() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let generation = store.open_generation(&identity(), &views()).unwrap();
    fill(&generation, 0, 100);
    let tables = |path: &Path| -> Vec<PathBuf> {
        let all = files(path).into_iter().map(|(path, _)| path);
        all.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).collect()
    };
    let taken = store.take_snapshot(&[Arc::clone(&generation)], "time", now(0)).unwrap();
    let inodes = |path: &Path| -> Vec<u64> {
        let mut inodes: Vec<_> = tables(path).iter().map(|path| path.metadata().unwrap().ino()).collect();
        inodes.sort();
        inodes
    };
    assert!(!tables(generation.path()).is_empty());
    assert_eq!(inodes(&taken.parts[0].path), inodes(generation.path()));
}

#[test]
fn a_scratch_generation_is_one_like_any_other_and_never_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let before = files(directory.path());
    let scratch = store.scratch(&of_partition(0), &views(), Position(7)).unwrap();
    assert_eq!((scratch.applied(), scratch.last()), (Position(7), None));
    for n in 7..500 {
        scratch.commit(&scratch.take_writer(), &first_row(&scratch, &format!("{n}"), "1", n + 1)).unwrap();
    }
    assert_eq!(scratch.flush().unwrap(), Position(500));
    fill(&scratch, 500, 510);
    assert_eq!(scratch.snapshot_read().position().unwrap(), Position(510));
    assert_eq!(load(&scratch, scratch.tags()[0], b"450").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(scratch.recompute(scratch.tags()[0]).unwrap(), scratch.view_totals()[0]);
    assert!(matches!(
        store.take_snapshot(std::slice::from_ref(&scratch), "x", now(0)),
        Err(Error::SnapshotRefused { .. })
    ));
    assert_eq!(files(directory.path()), before);
}

#[test]
fn a_scratch_generation_goes_with_its_last_owner() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let (one, two) = (
        store.scratch(&identity(), &views(), Position::ZERO).unwrap(),
        store.scratch(&identity(), &views(), Position::ZERO).unwrap(),
    );
    fill(&one, 0, 10);
    assert_eq!((one.applied(), two.applied()), (Position(10), Position::ZERO), "each has a memory of its own");
    one.flush().unwrap();
    drop(one);
    assert_eq!(two.snapshot_read().list(two.tags()[0], b"", None, 9).unwrap().rows, []);
}
