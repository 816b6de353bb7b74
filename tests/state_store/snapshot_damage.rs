//! Whatever is done to a snapshot's files is found, said, and keeps the snapshot from being used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segno::position::TopicPartition;
use segno::state::{Error, Store};

use crate::harness::*;
use crate::snapshots::{fill, now, of_partition, store};

const MANIFEST: &str = "segno-manifest.json";

/// A store with one snapshot of two partitions, and the directory of the second.
fn with_snapshot(root: &Path) -> (Arc<Store>, PathBuf) {
    let store = store(root);
    let parts: Vec<_> = (0..2).map(|p| store.open_generation(&of_partition(p), &views()).unwrap()).collect();
    parts.iter().for_each(|part| fill(part, 0, 300));
    let taken = store.take_snapshot(&parts, "time", now(0)).unwrap();
    (store, taken.parts[1].path.clone())
}

/// A file whose name ends so.
fn file(directory: &Path, end: &str) -> PathBuf {
    files(directory).into_iter().map(|(path, _)| path).find(|path| path.to_string_lossy().contains(end)).unwrap()
}

/// The snapshot is listed as damaged for that reason, and nothing lets it be used, of the partition that is well neither.
fn refused(store: &Store, why: &str) {
    let [listed] = store.snapshots().unwrap().try_into().unwrap();
    let reason = listed.damaged.unwrap();
    assert!(reason.contains(why) && reason.contains("partition 1"), "{reason} should say: {why}");
    for partition in 0..2 {
        let at = TopicPartition::new("bank.accounts", partition);
        let source = store.snapshot_source(1, &at).unwrap_err();
        assert!(matches!(&source, Error::SnapshotDamaged { id: 1, reason: said, .. } if *said == reason), "{source}");
        assert_eq!(store.open_snapshot(1, &at).err(), Some(source));
    }
    assert_eq!(store.verify_snapshot(1).unwrap().damaged, Some(reason));
}

fn damage(why: &str, spoil: impl Fn(&Path)) {
    let root = tempfile::tempdir().unwrap();
    let (store, directory) = with_snapshot(root.path());
    spoil(&directory);
    refused(&store, why);
    drop(store);
    // Another process finds the same.
    let store = self::store(root.path());
    refused(&store, why);
    store.delete_snapshot(1).unwrap();
    assert_eq!(store.snapshots().unwrap(), []);
    assert!(!directory.exists());
}

fn cut(path: &Path, by: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(path.metadata().unwrap().len() - by).unwrap();
}

/// Changes one byte in place, in this file only: a table file is shared with the generation.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_that_is_missing() {
    for end in [".sst", "CURRENT", "/MANIFEST-"] {
        damage("is missing", |directory| fs::remove_file(file(directory, end)).unwrap());
    }
}

#[test]
fn a_file_that_is_too_short() {
    for end in [".sst", "/MANIFEST-"] {
        damage("bytes, and should have", |directory| {
            let path = file(directory, end);
            let copy = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, &copy[..copy.len() - 1]).unwrap();
        });
    }
}

#[test]
fn a_manifest_that_is_missing_cut_or_changed() {
    damage("it has no manifest", |directory| fs::remove_file(directory.join(MANIFEST)).unwrap());
    damage("its manifest cannot be read", |directory| cut(&directory.join(MANIFEST), 1));
    damage("its manifest cannot be read", |directory| fs::write(directory.join(MANIFEST), b"").unwrap());
    damage("the directory is gone", |directory| fs::remove_dir_all(directory).unwrap());
    damage("and should have", |directory| {
        let text = fs::read_to_string(directory.join(MANIFEST)).unwrap();
        let changed = text.replace("\"position\":300", "\"position\":301");
        assert_ne!(text, changed);
        fs::write(directory.join(MANIFEST), changed).unwrap();
    });
}

/// Writes a manifest with a checksum that fits.
fn seal(directory: &Path, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(directory.join(MANIFEST)).unwrap();
    let (_, manifest) = text.split_once("\"manifest\":").unwrap();
    let manifest = change(manifest.strip_suffix('}').unwrap());
    let checksum = xxhash_rust::xxh3::xxh3_64(manifest.as_bytes());
    let sealed = format!("{{\"checksum\":\"{checksum:016x}\",\"manifest\":{manifest}}}");
    fs::write(directory.join(MANIFEST), sealed).unwrap();
}

#[test]
fn a_manifest_of_a_newer_format_or_of_something_else() {
    damage("format 2, and this program knows up to 1", |directory| {
        seal(directory, |text| text.replace("\"format\":1", "\"format\":2").replace("\"files\"", "\"objects\""));
    });
    damage("and should be of generation 0 at 300", |directory| {
        seal(directory, |text| text.replace("\"position\":300", "\"position\":299"));
    });
}

#[test]
fn one_byte_of_any_file_is_found_by_reading_it_through() {
    let root = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    let (_, directory) = with_snapshot(&root.path().join("names"));
    for (path, bytes) in files(&directory) {
        // The write-ahead log has nothing in it.
        if bytes > 0 && !path.ends_with(MANIFEST) {
            names.push(path.file_name().unwrap().to_owned());
        }
    }
    assert!(names.iter().any(|name| name.to_string_lossy().ends_with(".sst")) && names.len() >= 4, "{names:?}");
    for (round, name) in names.iter().enumerate() {
        let data = root.path().join(round.to_string());
        let (store, directory) = with_snapshot(&data);
        let path = directory.join(name);
        flip(&path, path.metadata().unwrap().len() as usize / 2);
        assert_eq!(store.snapshots().unwrap()[0].damaged, None, "sizes do not show it");
        let found = store.verify_snapshot(1).unwrap().damaged.unwrap();
        assert!(found.contains("has checksum") && found.contains(name.to_str().unwrap()), "{found}");
        // From now on it is known, to another process too.
        refused(&store, "has checksum");
        drop(store);
        let store = self::store(&data);
        refused(&store, "has checksum");
        // It is not taken for the state that live has, either.
        let parts: Vec<_> = (0..2).map(|p| store.open_generation(&of_partition(p), &views()).unwrap()).collect();
        let next = store.take_snapshot(&parts, "time", now(1)).unwrap();
        assert_eq!((next.id, store.verify_snapshot(2).unwrap().damaged), (2, None));
        store.delete_snapshot(1).unwrap();
        assert_eq!(store.verify_snapshot(2).unwrap().damaged, None);
    }
}

#[test]
fn contents_that_are_not_those_of_the_manifest_are_found_by_reading_it_through() {
    for (from, to, why) in [("\"rows\":300", "\"rows\":301", "their totals"), ("cluster-a", "cluster-b", "holds")] {
        let root = tempfile::tempdir().unwrap();
        let (store, directory) = with_snapshot(root.path());
        seal(&directory, |text| {
            let changed = text.replace(from, to);
            assert_ne!(text, changed);
            changed
        });
        let found = store.verify_snapshot(1).unwrap().damaged.unwrap();
        assert!(found.contains(why), "{found}");
        refused(&store, why);
    }
}
