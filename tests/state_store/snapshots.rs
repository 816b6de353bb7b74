//! Snapshots: what they hold, that nothing damaged is ever used, and that a crash leaves nothing that is taken for one.

use std::path::Path;
use std::sync::Arc;

use segno::position::{Position, Timestamp, TopicPartition};
use segno::state::{Durability, Error, Generation, Identity, Source, Store};

use crate::harness::*;

fn store(root: &Path) -> Arc<Store> {
    Store::open(root, options(Durability::Log)).unwrap()
}

fn of_partition(partition: u32) -> Identity {
    Identity { at: TopicPartition::new("bank.accounts", partition), ..identity() }
}

fn fill(generation: &Generation, from: u64, to: u64) {
    for n in from..to {
        generation.commit(&first_row(generation, &format!("key-{n:05}"), &format!("{{\"n\":{n}}}"), n + 1)).unwrap();
    }
}

fn now(second: i64) -> Timestamp {
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
        assert_eq!(store.snapshots().unwrap(), [taken.clone()]);
        assert_eq!(store.verify_snapshot(1).unwrap(), taken);
        let opened = store.open_snapshot(1, &at()).unwrap();
        assert_eq!((opened.applied(), opened.views()), (Position(100), generation.views()));
        let page = opened.snapshot_read().list(opened.tags()[0], b"", None, usize::MAX).unwrap();
        assert_eq!(page.rows.len(), 100);
        assert_eq!(opened.recompute(opened.tags()[0]).unwrap(), part.totals[0]);
        assert!(matches!(opened.commit(&commit(vec![], 101)), Err(Error::ReadOnly { .. })));
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

#[test]
fn a_scratch_generation_is_one_like_any_other_and_never_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let before = files(directory.path());
    let scratch = store.scratch(&of_partition(0), &views(), Position(7)).unwrap();
    assert_eq!((scratch.applied(), scratch.last()), (Position(7), None));
    for n in 7..500 {
        scratch.commit(&first_row(&scratch, &format!("{n}"), "1", n + 1)).unwrap();
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
