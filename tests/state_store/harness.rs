//! What the tests of the store share: a data directory to open, and short words for commits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use segno::position::{Offset, Position, Timestamp, TopicPartition};
use segno::state::{
    Commit, Delta, Durability, Error, Fingerprint, Generation, Held, HeldChange, Identity, Reason, Standing, Store,
    StoreOptions, ViewIdent, ViewTag, digest, keys,
};

pub const MIB: usize = 1024 * 1024;

pub fn options(durability: Durability) -> StoreOptions {
    StoreOptions { durability, block_cache: 4 * MIB, memtables: 4 * MIB, max_open_files: 64, ..StoreOptions::default() }
}

pub fn at() -> TopicPartition {
    TopicPartition::new("bank.accounts", 3)
}

pub fn identity() -> Identity {
    Identity { at: at(), cluster: "cluster-a".to_owned(), partitions: 4 }
}

pub fn view(name: &str, version: u32, text: &str) -> ViewIdent {
    ViewIdent { name: name.to_owned(), version, text: text.to_owned() }
}

pub fn views() -> [ViewIdent; 2] {
    [view("balance", 1, "state.balance + 1"), view("count", 1, "state.count + 1")]
}

pub fn open(root: &Path, durability: Durability) -> Result<Arc<Generation>, Error> {
    open_views(root, durability, &views())
}

/// The store is dropped, as it may be: the generation keeps the lock.
pub fn open_views(root: &Path, durability: Durability, views: &[ViewIdent]) -> Result<Arc<Generation>, Error> {
    Store::open(root, options(durability))?.open_generation(&identity(), views)
}

pub fn generation_dir(root: &Path) -> PathBuf {
    root.join("bank.accounts/3/gen-0")
}

/// The stored value of a row.
pub fn value(offset: u64, json: &str) -> Vec<u8> {
    let mut value = Vec::new();
    keys::row_value_header(Offset(offset), Timestamp(offset as i64 * 10), &mut value);
    value.extend_from_slice(json.as_bytes());
    value
}

pub fn row_key(view: ViewTag, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    keys::row_key(view, key, &mut stored);
    stored
}

/// Adds a row to a delta, and what it does to digest and row count; `before` is its stored value until now.
pub fn put(delta: &mut Delta, index: usize, view: ViewTag, key: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) {
    let stored_key = row_key(view, key);
    match after {
        Some(after) => {
            delta.put(|into| into.extend_from_slice(&stored_key), |into| into.extend_from_slice(after));
        }
        None => delta.remove(|into| into.extend_from_slice(&stored_key)),
    }
    let change = &mut delta.views[index];
    if let Some(before) = before {
        change.digest = change.digest.wrapping_sub(digest::row(&stored_key, before));
        change.rows -= 1;
    }
    if let Some(after) = after {
        change.digest = change.digest.wrapping_add(digest::row(&stored_key, after));
        change.rows += 1;
    }
}

/// A record that was set aside.
pub fn held(view: ViewTag, key: &str, offset: u64, standing: Standing) -> Held {
    Held {
        view,
        standing,
        reason: Reason::Rejected,
        detail: format!("no funds at {offset}"),
        attempts: 3,
        offset: Offset(offset),
        timestamp: Timestamp(offset as i64 * 10),
        key: Some(key.as_bytes().to_vec()),
        value: Some(b"{\"amount\":1}".to_vec()),
        headers: Vec::new(),
    }
}

pub fn fingerprint(offset: u64) -> Fingerprint {
    Fingerprint { offset: Offset(offset), timestamp: Timestamp(offset as i64 * 10), hash: offset ^ 0xabcd }
}

/// A commit that ends at `position`.
pub fn commit(deltas: Vec<Delta>, position: u64) -> Commit {
    Commit { deltas, position: Position(position), last: position.checked_sub(1).map(fingerprint) }
}

/// One applied record, offset `position - 1`, that sets `key` of the first view to `json` for the first time.
pub fn first_row(generation: &Generation, key: &str, json: &str, position: u64) -> Commit {
    let mut delta = Delta::new(generation.tags().len());
    put(&mut delta, 0, generation.tags()[0], key.as_bytes(), None, Some(&value(position - 1, json)));
    for view in &mut delta.views {
        view.books.consumed = 1;
    }
    delta.views[0].books.applied = 1;
    for view in &mut delta.views[1..] {
        view.books.skipped = 1;
    }
    commit(vec![delta], position)
}

/// One record that is set aside for the first view and skipped by the others.
pub fn first_held(generation: &Generation, record: Held) -> Commit {
    let mut delta = Delta::new(generation.tags().len());
    let position = record.offset.next();
    for view in &mut delta.views {
        view.books.consumed = 1;
    }
    delta.views[0].books.held(record.standing, 1);
    for view in &mut delta.views[1..] {
        view.books.skipped = 1;
    }
    delta.held.push(HeldChange::Put(record));
    commit(vec![delta], position.0)
}

/// Loads one row.
pub fn load(generation: &Generation, view: ViewTag, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut found = None;
    generation.load(view, &[key], |_, row| {
        found = row.map(|row| row.json.to_vec());
        Ok(())
    })?;
    Ok(found)
}

/// All files below a directory with their sizes, in order.
pub fn files(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(meta) = path.metadata() {
            found.push((path, meta.len()));
        }
    }
    found.sort();
    found
}

/// Copies a data directory, which may be open: what a killed process would leave behind. RocksDB's own work may change
/// the set of files meanwhile, which it never does for one that is dead; such a copy is made again.
pub fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        let before = files(from);
        let copied = before.iter().all(|(path, _)| {
            let target = to.join(path.strip_prefix(from).unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(path, target).is_ok()
        });
        if copied && before == files(from) {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
        std::fs::create_dir_all(to).unwrap();
    }
    panic!("the directory never came to rest");
}
