//! The format on disk: a data directory that each format wrote is opened, compared, and written to.
//!
//! `SEGNO_WRITE_FIXTURE=1 cargo test --test state_format` writes the directory of the newest format anew. That is right
//! only for a format that no release has had; every later format gets a directory of its own beside the older ones.
//!
//! Format 1 knew one generation a partition. Format 2 knows shadows, the previous generation and jobs; generations
//! themselves are as they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segno::position::{Offset, Position, Timestamp, TopicPartition};
use segno::record::pack_header;
use segno::state::{
    Books, Commit, Delta, Fingerprint, Generation, Held, HeldChange, HeldKey, Identity, LiveInfo, Previous, Reason,
    Row, Source, Standing, Store, StoreOptions, Switch, ViewIdent, ViewTag, digest, keys,
};

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/state-v{format}"))
}

fn identity() -> Identity {
    Identity {
        at: TopicPartition::new("bank.accounts", 1),
        cluster: "MkU3OEVBNTcwNTJENDM2Qk".to_owned(),
        partitions: 4,
    }
}

fn views() -> [ViewIdent; 2] {
    let view = |name: &str, text: &str| ViewIdent { name: name.to_owned(), version: 2, text: text.to_owned() };
    [
        view("account_balance", "MoneyDeposited.balance = state.balance + event.payload.amount"),
        view("activity", "rust:Activity"),
    ]
}

const ROWS: [(usize, &str, u64, &str); 5] = [
    (0, "", 3, r#"{"balance":0}"#),
    (0, "acc-1", 7, r#"{"balance":100,"owner":"Ann"}"#),
    (0, "acc-2", 8, r#"{"balance":-5,"owner":"Bo"}"#),
    (1, "acc-1", 9, r#"{"events":3}"#),
    (1, "\u{fc}", 11, r#"{"events":1}"#),
];

fn records() -> [Held; 4] {
    let record = |standing, reason, offset, key: Option<&str>, value: Option<&[u8]>| Held {
        view: ViewTag(0),
        standing,
        reason,
        detail: format!("because of {}", Reason::name(reason)),
        attempts: 2,
        offset: Offset(offset),
        timestamp: Timestamp(1_700_000_000_000 + offset as i64),
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(<[u8]>::to_vec),
        headers: Vec::new(),
    };
    let mut dead = record(Standing::Dead, Reason::Undecodable, 15, None, Some(b"{\"torn"));
    dead.view = ViewTag::ALL;
    pack_header(&mut dead.headers, b"source", Some(b"till-7"));
    pack_header(&mut dead.headers, b"empty", None);
    [
        record(Standing::Parked, Reason::Rejected, 12, Some("acc-2"), Some(b"{\"amount\":7}")),
        record(Standing::Parked, Reason::Behind, 13, Some("acc-2"), Some(b"{\"amount\":8}")),
        record(Standing::Waiting, Reason::Transient, 14, Some("acc-3"), None),
        dead,
    ]
}

fn books() -> [Books; 2] {
    [
        Books { consumed: 16, applied: 11, skipped: 1, waiting: 1, parked: 2, dead: 1 },
        Books { consumed: 16, applied: 15, dead: 1, ..Books::default() },
    ]
}

const LAST: Fingerprint =
    Fingerprint { offset: Offset(15), timestamp: Timestamp(1_700_000_000_015), hash: 0xfeed_beef };
const POSITION: Position = Position(17);
const SWITCHED: Timestamp = Timestamp(1_700_000_100_000);
const JOBS: [&[u8]; 2] = [b"{\"phase\":\"done\"}", b"{\"phase\":\"building\"}"];

/// The stored key and value of a row.
fn stored((view, key, offset, json): (usize, &str, u64, &str)) -> (Vec<u8>, Vec<u8>) {
    let (mut stored_key, mut value) = (Vec::new(), Vec::new());
    keys::row_key(ViewTag(view as u16), key.as_bytes(), &mut stored_key);
    keys::row_value_header(Offset(offset), Timestamp(1_700_000_000_000 + offset as i64), &mut value);
    value.extend_from_slice(json.as_bytes());
    (stored_key, value)
}

fn write(root: &Path) {
    let generation = open(root);
    let mut delta = Delta::new(2);
    for row in ROWS {
        let (key, value) = stored(row);
        delta.put(|into| into.extend_from_slice(&key), |into| into.extend_from_slice(&value));
        delta.views[row.0].digest = delta.views[row.0].digest.wrapping_add(digest::row(&key, &value));
        delta.views[row.0].rows += 1;
    }
    delta.sort();
    delta.held.extend(records().map(HeldChange::Put));
    for (view, books) in delta.views.iter_mut().zip(books()) {
        view.books = books;
    }
    generation
        .commit(&generation.take_writer(), &Commit { deltas: vec![delta], position: POSITION, last: Some(LAST) })
        .unwrap();
    generation.flush().unwrap();
    let path = generation.path().to_owned();
    drop(generation);

    // Generation 1 is live and was made from generation 0, which is the previous one; generation 2 is being built.
    let store = store(root);
    drop(shadow(&store, &Source::Checkpoint { path }));
    store.cut_over(&[Switch { at: identity().at, to: 1 }], SWITCHED, (store.new_job_id().unwrap(), JOBS[0])).unwrap();
    drop(shadow(&store, &Source::Nothing { position: Position(9) }));
    store.put_job(store.new_job_id().unwrap(), JOBS[1]).unwrap();
    drop(store);

    // What RocksDB writes for people and for itself alone.
    let directories = (0..3).map(|number| generation_dir(root, number)).chain([root.join("control")]);
    for entry in directories.flat_map(|directory| fs::read_dir(directory).unwrap()) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("LOG") || name.starts_with("OPTIONS") || name == "LOCK" {
            fs::remove_file(path).unwrap();
        }
    }
}

fn store(root: &Path) -> Arc<Store> {
    Store::open(root, StoreOptions::default()).unwrap()
}

fn open(root: &Path) -> Arc<Generation> {
    store(root).open_generation(&identity(), &views()).unwrap()
}

fn shadow(store: &Store, source: &Source) -> Arc<Generation> {
    let mut nothing_changed = |_: usize, _: &[u8], _: &[u8]| Err("the definitions are the same".to_owned());
    store.create_shadow(&identity(), &views(), source, &mut nothing_changed).unwrap()
}

fn generation_dir(root: &Path, number: u64) -> PathBuf {
    root.join(format!("bank.accounts/1/gen-{number}"))
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn compare(generation: &Generation, number: u64) {
    assert_eq!(generation.number(), number);
    assert_eq!(generation.identity(), &identity());
    assert_eq!(generation.tags(), [ViewTag(0), ViewTag(1)]);
    for (view, want) in generation.views().iter().zip(views()) {
        assert_eq!((&view.name, view.version, &view.text), (&want.name, want.version, &want.text));
        assert_eq!((view.fingerprint, view.left_at), (digest::text(&want.text), None));
    }
    assert_eq!((generation.applied(), generation.durable()), (POSITION, POSITION));
    assert_eq!(generation.last(), Some(LAST));
    let read = generation.snapshot_read();
    assert_eq!(read.position().unwrap(), POSITION);
    for (index, tag) in generation.tags().iter().enumerate() {
        let want: Vec<_> = ROWS.into_iter().filter(|row| row.0 == index).collect();
        let page = read.list(*tag, b"", None, 100).unwrap();
        assert_eq!(page.rows.len(), want.len());
        for ((key, row), (_, want_key, offset, json)) in page.rows.into_iter().zip(&want) {
            assert_eq!(key, want_key.as_bytes());
            let timestamp = Timestamp(1_700_000_000_000 + *offset as i64);
            assert_eq!(row, Row { offset: Offset(*offset), timestamp, json: json.as_bytes().to_vec() });
        }
        let digest = want
            .iter()
            .map(|row| stored(*row))
            .fold(0u128, |sum, (key, value)| sum.wrapping_add(digest::row(&key, &value)));
        let totals = generation.view_totals()[index];
        assert_eq!((totals.digest, totals.rows, totals.books), (digest, want.len() as i64, books()[index]));
        assert_eq!(generation.recompute(*tag).unwrap(), totals);
    }
    let [rejected, behind, waiting, dead] = records();
    let (view, standing) = (ViewTag(0), Standing::Parked);
    let first =
        HeldKey { view, key: b"acc-2".to_vec(), first: Offset(12), last: Offset(13), standing, count: 2, waits: false };
    let (key, standing) = (b"acc-3".to_vec(), Standing::Waiting);
    let second = HeldKey { key, first: Offset(14), last: Offset(14), standing, count: 1, waits: true, ..first.clone() };
    assert_eq!(generation.held_keys().unwrap(), [first, second]);
    assert_eq!(generation.held_of(view, b"acc-2", Offset(0), 9).unwrap(), [rejected, behind]);
    assert_eq!(generation.held_of(view, b"acc-3", Offset(0), 9).unwrap(), [waiting]);
    assert_eq!(generation.dead(Offset(0), 9).unwrap(), [dead]);
}

/// Reads it, reads it as a daemon does, writes it, and reads it again.
fn read_and_write(root: &Path, number: u64) {
    let generation = || Store::read_only(root).unwrap().generation(&identity().at).unwrap();
    compare(&generation(), number);
    compare(&open(root), number);
    let opened = open(root);
    let next = Commit { deltas: vec![Delta::new(2)], position: POSITION, last: None };
    opened.commit(&opened.take_writer(), &next).unwrap();
    opened.flush().unwrap();
    drop(opened);
    compare(&open(root), number);
    compare(&generation(), number);
}

#[test]
fn format_1_is_read_and_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture(1), directory.path());
    read_and_write(directory.path(), 0);

    let store = store(directory.path());
    let at = identity().at;
    let live = store.live(&at).unwrap().unwrap();
    assert_eq!((live.number, live.previous, live.position, live.views.len()), (0, None, POSITION, 2));
    assert_eq!(store.jobs().unwrap(), []);
    assert_eq!(store.new_job_id().unwrap(), 1);
    let made = shadow(&store, &Source::Checkpoint { path: generation_dir(directory.path(), 0) });
    compare(&made, 1);
}

#[test]
fn format_2_is_read_and_written() {
    if std::env::var_os("SEGNO_WRITE_FIXTURE").is_some() {
        let _ = fs::remove_dir_all(fixture(2));
        write(&fixture(2));
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture(2), directory.path());
    read_and_write(directory.path(), 1);

    let store = store(directory.path());
    let at = identity().at;
    let LiveInfo { number, previous, position, views: stored } = store.live(&at).unwrap().unwrap();
    assert_eq!((number, position, stored.len()), (1, POSITION, 2));
    assert_eq!(previous, Some(Previous { number: 0, since: SWITCHED }));
    assert_eq!(store.jobs().unwrap(), [(1, JOBS[0].to_vec()), (2, JOBS[1].to_vec())]);
    compare(&store.open_numbered(&identity(), 0, &views()).unwrap().unwrap(), 0);
    let building = store.open_numbered(&identity(), 2, &views()).unwrap().unwrap();
    assert_eq!((building.applied(), building.view_totals()[0].rows), (Position(9), 0));
    assert_eq!(store.new_job_id().unwrap(), 3);
    assert_eq!(shadow(&store, &Source::Nothing { position: POSITION }).number(), 3);
}

/// What this program writes is what the fixture holds, so that the fixture cannot fall behind unseen.
#[test]
fn format_2_is_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    let entries = |path: &Path| {
        let mut families = rocksdb::DB::list_cf(&rocksdb::Options::default(), path).unwrap();
        families.sort();
        let db = rocksdb::DB::open_cf_for_read_only(&rocksdb::Options::default(), path, &families, false).unwrap();
        let mut all = Vec::new();
        for family in families {
            for item in db.iterator_cf(db.cf_handle(&family).unwrap(), rocksdb::IteratorMode::Start) {
                all.push((family.clone(), item.unwrap()));
            }
        }
        all
    };
    let kept = tempfile::tempdir().unwrap();
    copy(&fixture(2), kept.path());
    for (number, least) in [(0, 13), (1, 13), (2, 5)] {
        let [written, kept] = [directory.path(), kept.path()].map(|root| entries(&generation_dir(root, number)));
        assert!(written.len() >= least, "generation {number}: {}", written.len());
        assert_eq!(written, kept);
    }
    let [written, kept] = [directory.path(), kept.path()].map(|root| entries(&root.join("control")));
    assert_eq!(written.len(), 6);
    assert_eq!(written, kept);
    // A generation is as it was in format 1.
    let first = tempfile::tempdir().unwrap();
    copy(&fixture(1), first.path());
    assert_eq!(entries(&generation_dir(first.path(), 0)), entries(&generation_dir(directory.path(), 0)));
}
