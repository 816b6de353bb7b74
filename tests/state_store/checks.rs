//! Law *Refuse*: a store that cannot go on correctly says so on opening, changes nothing, and names the way out.

use std::fs;
use std::path::Path;

use segno::position::{Offset, Position, Timestamp, TopicPartition};
use segno::state::{Durability, Error, Fingerprint, Identity, LogFacts, Store};

use crate::harness::*;

fn facts() -> LogFacts {
    LogFacts {
        cluster: "cluster-a".to_owned(),
        partitions: 4,
        start: Position::ZERO,
        end: Position(100),
        fingerprint_at: Some(fingerprint(9)),
    }
}

/// A store at position 10 is opened again, and `log` is put before it.
fn check(log: LogFacts) -> Result<(), Error> {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 10)).unwrap();
    drop(generation);
    let generation = open(directory.path(), Durability::Log).unwrap();
    assert_eq!(generation.last(), Some(fingerprint(9)));
    let checked = generation.check_log(&log);
    assert_eq!(generation.applied(), Position(10));
    checked
}

#[test]
fn refuse_nothing_of_the_same_log() {
    assert_eq!(check(facts()), Ok(()));
    assert_eq!(check(LogFacts { fingerprint_at: None, start: Position(10), end: Position(10), ..facts() }), Ok(()));
}

#[test]
fn refuse_a_topic_that_was_created_anew() {
    let found = Fingerprint { offset: Offset(9), timestamp: Timestamp(90), hash: 1 };
    let refused = check(LogFacts { fingerprint_at: Some(found), ..facts() }).unwrap_err();
    assert_eq!(refused, Error::RecordChanged { at: at(), stored: fingerprint(9), found });
    for part in ["bank.accounts/3", "offset 9", "created anew", "new data directory"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
}

#[test]
fn refuse_a_log_that_is_shorter() {
    let refused = check(LogFacts { end: Position(4), fingerprint_at: None, ..facts() }).unwrap_err();
    assert_eq!(refused, Error::LogBehind { at: at(), position: Position(10), end: Position(4) });
}

#[test]
fn refuse_when_retention_has_passed() {
    let refused = check(LogFacts { start: Position(12), fingerprint_at: None, ..facts() }).unwrap_err();
    assert_eq!(refused, Error::RetentionPassed { at: at(), position: Position(10), start: Position(12) });
}

#[test]
fn refuse_another_cluster() {
    let refused = check(LogFacts { cluster: "cluster-b".to_owned(), ..facts() }).unwrap_err();
    assert!(matches!(refused, Error::ClusterChanged { .. }));
    refuse_identity(Identity { cluster: "cluster-b".to_owned(), ..identity() }, refused);
}

#[test]
fn refuse_another_number_of_partitions() {
    let refused = check(LogFacts { partitions: 8, ..facts() }).unwrap_err();
    assert_eq!(refused, Error::PartitionCountChanged { at: at(), stored: 4, found: 8 });
    refuse_identity(Identity { partitions: 8, ..identity() }, refused);
}

/// The same answer when the store is opened with what the log says of itself.
fn refuse_identity(wanted: Identity, want: Error) {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), Durability::Log).unwrap());
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    assert_eq!(store.open_generation(&wanted, &views()).err().unwrap(), want);
}

#[test]
fn refuse_a_directory_of_another_partition() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    let other = Identity { at: TopicPartition::new("bank.accounts", 2), ..identity() };
    drop(store.open_generation(&identity(), &views()).unwrap());
    drop(store.open_generation(&other, &views()).unwrap());
    fs::remove_dir_all(directory.path().join("bank.accounts/2/gen-0")).unwrap();
    fs::rename(generation_dir(directory.path()), directory.path().join("bank.accounts/2/gen-0")).unwrap();
    let refused = store.open_generation(&other, &views()).err().unwrap();
    assert!(matches!(&refused, Error::Misplaced { stored, wanted, .. } if *stored == at() && *wanted == other.at));
    let missing = store.open_generation(&identity(), &views()).err().unwrap();
    assert!(matches!(missing, Error::GenerationMissing { number: 0, .. }), "{missing}");
}

#[test]
fn refuse_a_generation_that_the_control_store_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), Durability::Log).unwrap());
    fs::remove_dir_all(directory.path().join("control")).unwrap();
    let refused = open(directory.path(), Durability::Log).err().unwrap();
    assert!(matches!(refused, Error::Unregistered { .. }), "{refused}");
}

/// A crash while a generation is being created leaves a directory that may be incomplete; it is simply finished.
#[test]
fn a_generation_that_was_half_created_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), Durability::Log).unwrap());
    // As the control store is between its two writes.
    let control = rocksdb::DB::open_default(directory.path().join("control")).unwrap();
    let (key, mut live) = control.iterator(rocksdb::IteratorMode::Start).map(Result::unwrap).nth(1).unwrap();
    // Behind the version and the number.
    assert_eq!(std::mem::replace(&mut live[9], 0), 1);
    control.put(key, live).unwrap();
    drop(control);
    let remove_pointer = |root: &Path| fs::remove_file(generation_dir(root).join("CURRENT")).unwrap();
    let remove_all = |root: &Path| fs::remove_dir_all(generation_dir(root)).unwrap();
    for damage in [&(|_: &Path| ()) as &dyn Fn(&Path), &remove_pointer, &remove_all] {
        let copied = tempfile::tempdir().unwrap();
        copy(directory.path(), copied.path());
        damage(copied.path());
        let generation = open(copied.path(), Durability::Log).unwrap();
        generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
        drop(generation);
        assert_eq!(open(copied.path(), Durability::Log).unwrap().applied(), Position(1));
    }
}

#[test]
fn refuse_a_definition_that_changed_without_its_version() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
    drop(generation);
    let [balance, count] = views();
    let changed = [view("balance", 1, "state.balance + 2"), count.clone()];
    let refused = open_views(directory.path(), Durability::Log, &changed).err().unwrap();
    assert!(matches!(&refused, Error::DefinitionChanged { view, version: 1, .. } if view == "balance"), "{refused}");
    assert!(refused.to_string().contains("raise the version"), "{refused}");
    let raised = [view("balance", 2, "state.balance + 2"), count.clone()];
    let refused = open_views(directory.path(), Durability::Log, &raised).err().unwrap();
    assert!(matches!(&refused, Error::VersionChanged { stored: 1, wanted: 2, .. }), "{refused}");
    let added = [balance.clone(), count.clone(), view("new", 1, "x")];
    let refused = open_views(directory.path(), Durability::Log, &added).err().unwrap();
    assert!(matches!(&refused, Error::ViewAdded { view, .. } if view == "new"), "{refused}");

    // Nothing of all that changed anything. The order of the configuration is free, and the tags follow it.
    let generation = open_views(directory.path(), Durability::Log, &[count, balance]).unwrap();
    assert_eq!(generation.tags().iter().map(|tag| tag.0).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(generation.view_totals()[1].rows, 1);
}

#[test]
fn refuse_a_view_that_comes_back_after_it_missed_records() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
    drop(generation);
    let only = &views()[..1];
    drop(open_views(directory.path(), Durability::Log, only).unwrap());
    // Nothing was read without it.
    let generation = open(directory.path(), Durability::Log).unwrap();
    assert_eq!(generation.view_totals()[1].books.consumed, 1);
    drop(generation);
    let generation = open_views(directory.path(), Durability::Log, only).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "b", "1", 2)).unwrap();
    drop(generation);
    let refused = open(directory.path(), Durability::Log).err().unwrap();
    let (seen, position) = (Position(1), Position(2));
    assert_eq!(refused, Error::ViewAdded { at: at(), view: "count".into(), version: 1, seen, position });
    assert_eq!(open_views(directory.path(), Durability::Log, only).unwrap().view_totals().len(), 1);
}

#[test]
fn refuse_a_newer_format_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), Durability::Log).unwrap());
    let newer = |path: &Path, family: Option<&str>, also: &[&str]| {
        let families = ["state", "rollup", "parked", "outbox", "meta"];
        let mut options = rocksdb::Options::default();
        options.create_missing_column_families(true);
        let names: Vec<&str> = family.iter().flat_map(|_| families).chain(also.iter().copied()).collect();
        let db = rocksdb::DB::open_cf(&options, path, names).unwrap();
        match family {
            Some(name) => db.put_cf(db.cf_handle(name).unwrap(), [1], 7u32.to_be_bytes()).unwrap(),
            None => db.put([1], 7u32.to_be_bytes()).unwrap(),
        }
    };
    for also in [&[][..], &["family-of-the-future"]] {
        let copied = tempfile::tempdir().unwrap();
        copy(directory.path(), copied.path());
        newer(&generation_dir(copied.path()), Some("meta"), also);
        let refused = open(copied.path(), Durability::Log).err().unwrap();
        let path = generation_dir(copied.path());
        assert_eq!(refused, Error::Newer { found: 7, known: 1, path });
        assert!(refused.to_string().contains("use the newer program"), "{refused}");
        let reader = Store::read_only(copied.path()).unwrap().generation(&at()).err().unwrap();
        assert_eq!(reader, refused);
    }
    newer(&directory.path().join("control"), None, &[]);
    let refused = Store::open(directory.path(), options(Durability::Log)).err().unwrap();
    assert_eq!(refused, Error::Newer { found: 7, known: 2, path: directory.path().join("control") });
}
