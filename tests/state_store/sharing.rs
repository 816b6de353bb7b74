//! One daemon per data directory; readers only while there is none; and what a reader may not do.

use std::fs::{self, File};

use segno::fault::Fault;
use segno::position::{Offset, Position, TopicPartition};
use segno::state::{Durability, Error, Identity, Standing, Store};

use crate::harness::*;

#[test]
fn a_directory_in_use_is_refused_with_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    let refused = Store::open(directory.path(), options(Durability::Log)).err().unwrap();
    assert!(matches!(&refused, Error::InUse { .. }), "{refused}");
    assert_eq!((refused.fault(), refused.retryable()), (Fault::User, false));
    let process = format!("in use by process {}", std::process::id());
    assert!(refused.to_string().contains(&process), "{refused}");
    assert!(refused.to_string().contains(directory.path().to_str().unwrap()), "{refused}");
    let reader = Store::read_only(directory.path()).err().unwrap();
    assert!(reader.to_string().contains(&process), "{reader}");

    // A generation that is still open keeps the directory, whatever became of the store.
    let generation = store.open_generation(&identity(), &views()).unwrap();
    drop(store);
    assert!(matches!(Store::read_only(directory.path()), Err(Error::InUse { .. })));
    drop(generation);
    Store::open(directory.path(), options(Durability::Log)).unwrap();
}

#[test]
fn a_generation_is_opened_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    let _generation = store.open_generation(&identity(), &views()).unwrap();
    let again = store.open_generation(&identity(), &views()).err().unwrap();
    assert!(matches!(again, Error::InUse { .. }), "{again}");
}

#[test]
fn a_reader_changes_nothing_and_keeps_daemons_away() {
    for durability in [Durability::Log, Durability::Wal] {
        let directory = tempfile::tempdir().unwrap();
        let generation = open(directory.path(), durability).unwrap();
        let tag = generation.tags()[0];
        generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
        generation
            .commit(&generation.take_writer(), &first_held(&generation, held(tag, "b", 1, Standing::Parked)))
            .unwrap();
        let copied = tempfile::tempdir().unwrap();
        if durability == Durability::Log {
            drop(generation);
        }
        // With a write-ahead log, the copy of the open directory has rows that are only in that log.
        copy(directory.path(), copied.path());
        let before = files(copied.path());

        let store = Store::read_only(copied.path()).unwrap();
        assert_eq!(store.partitions().unwrap(), [at()]);
        let reader = store.generation(&at()).unwrap();
        assert_eq!(reader.identity(), &identity());
        assert_eq!(reader.views().iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["balance", "count"]);
        assert_eq!(reader.applied(), Position(2));
        let read = reader.snapshot_read();
        assert_eq!(read.position().unwrap(), Position(2));
        assert_eq!(read.get(tag, b"a").unwrap().unwrap().json, b"1");
        assert_eq!(read.list(tag, b"", None, 10).unwrap().rows.len(), 1);
        assert_eq!(load(&reader, tag, b"a").unwrap().unwrap(), b"1");
        assert_eq!(reader.held_of(tag, b"b", Offset(0), 9).unwrap().len(), 1);
        assert_eq!(reader.recompute(tag).unwrap(), reader.view_totals()[0]);
        drop(read);
        let refused = reader.commit(&reader.take_writer(), &first_row(&reader, "c", "1", 3)).unwrap_err();
        assert_eq!(refused, Error::ReadOnly { at: at() });
        assert_eq!(reader.flush().unwrap_err(), Error::ReadOnly { at: at() });

        Store::read_only(copied.path()).unwrap();
        let daemon = Store::open(copied.path(), options(durability)).err().unwrap();
        assert!(matches!(daemon, Error::InUse { .. }), "{daemon}");
        drop((store, reader));
        assert_eq!(files(copied.path()), before);
    }
}

#[test]
fn a_reader_of_nothing_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere");
    let refused = Store::read_only(&nowhere).err().unwrap();
    assert_eq!(refused, Error::Missing { path: nowhere.clone() });
    assert!(!nowhere.exists());
    assert!(matches!(Store::read_only(directory.path()), Err(Error::Missing { .. })));
    drop(Store::open(directory.path(), options(Durability::Log)).unwrap());
    let store = Store::read_only(directory.path()).unwrap();
    assert_eq!(store.partitions().unwrap(), []);
    assert_eq!(store.generation(&at()).err().unwrap(), Error::NoGeneration { at: at() });
}

#[test]
fn the_directories_belong_to_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("deep/data");
    drop(open(&root, Durability::Log).unwrap());
    for path in [root.clone(), root.join("control"), root.join("bank.accounts/3"), generation_dir(&root)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
}

#[test]
fn a_file_where_the_directory_should_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    File::create(&path).unwrap();
    let refused = Store::open(&path, options(Durability::Log)).err().unwrap();
    assert!(matches!(&refused, Error::Io { path: named, .. } if *named == path), "{refused}");
    assert_eq!(refused.fault(), Fault::Environment);
}

#[test]
fn topics_that_are_called_like_the_stores_own_directories_have_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    for topic in ["control", "log", "LOCK", "control.2"] {
        let identity = Identity { at: TopicPartition::new(topic, 0), ..identity() };
        let generation = store.open_generation(&identity, &views()).unwrap();
        generation.commit(&generation.take_writer(), &first_row(&generation, "a", topic, 1)).unwrap();
    }
    drop(store);
    let store = Store::read_only(directory.path()).unwrap();
    let names: Vec<_> = store.partitions().unwrap().iter().map(|at| at.topic.to_string()).collect();
    assert_eq!(names, ["LOCK", "control", "control.2", "log"]);
    for at in store.partitions().unwrap() {
        let generation = store.generation(&at).unwrap();
        assert_eq!(load(&generation, generation.tags()[0], b"a").unwrap().unwrap(), at.topic.as_bytes());
    }
    let illegal = Identity { at: TopicPartition::new("../escape", 0), ..identity() };
    drop(store);
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    assert!(matches!(store.open_generation(&illegal, &views()), Err(Error::TopicName { .. })));
}

#[test]
fn partitions_open_in_parallel() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    std::thread::scope(|scope| {
        for partition in 0..8 {
            let store = &store;
            scope.spawn(move || {
                let identity = Identity { at: TopicPartition::new("t", partition), partitions: 8, ..identity() };
                let generation = store.open_generation(&identity, &views()).unwrap();
                generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
                assert_eq!(generation.flush().unwrap(), Position(1));
            });
        }
    });
    assert_eq!(store.partitions().unwrap().len(), 8);
}

#[test]
fn numbers_about_the_store_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", &"x".repeat(10_000), 1)).unwrap();
    let before = generation.metrics();
    assert!(before.memtables > 10_000 && before.all_memtables > 10_000, "{before:?}");
    assert!(generation.unflushed_bytes() > 10_000);
    generation.flush().unwrap();
    let after = generation.metrics();
    assert!(after.l0_files > 0 && after.files > before.files, "{after:?}");
    assert!(!after.write_stopped && after.background_errors == 0, "{after:?}");
    assert_eq!(generation.unflushed_bytes(), 0);
}
