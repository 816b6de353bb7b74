//! Damaged files: an error that names the directory, never a wrong value.

use std::fs;
use std::path::{Path, PathBuf};

use segno::fault::Fault;
use segno::state::{Delta, Durability, Error};

use crate::harness::*;

const ROWS: u32 = 2_000;

fn text(key: u32) -> String {
    format!("{{\"balance\":{key},\"owner\":\"{}\"}}", key.wrapping_mul(2_654_435_761))
}

fn filled(root: &Path) {
    let generation = open(root, Durability::Log).unwrap();
    let mut delta = Delta::new(2);
    for key in 0..ROWS {
        put(&mut delta, 0, generation.tags()[0], &key.to_be_bytes(), None, Some(&value(1, &text(key))));
    }
    delta.sort();
    generation.commit(&generation.take_writer(), &commit(vec![delta], 2)).unwrap();
    generation.flush().unwrap();
}

/// Opens the store and reads every row in both ways. `Ok` only when all is as it was.
fn read_all(root: &Path) -> Result<(), Error> {
    let generation = open(root, Durability::Log)?;
    let tag = generation.tags()[0];
    let keys: Vec<[u8; 4]> = (0..ROWS).map(u32::to_be_bytes).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
    let loaded = generation.load(tag, &keys, |index, row| {
        assert_eq!(row.expect("a row vanished").json, text(index as u32).as_bytes());
        Ok(())
    });
    let page = generation.snapshot_read().list(tag, b"", None, usize::MAX);
    if let Ok(page) = &page {
        assert_eq!(page.rows.len(), ROWS as usize, "rows vanished");
        for (index, (_, row)) in page.rows.iter().enumerate() {
            assert_eq!(row.json, text(index as u32).as_bytes());
        }
    }
    let totals = generation.recompute(tag);
    if let Ok(totals) = &totals {
        assert_eq!(*totals, generation.view_totals()[0]);
    }
    loaded.and(page.map(drop)).and(totals.map(drop))
}

fn sst_files(root: &Path) -> Vec<PathBuf> {
    let all = files(&generation_dir(root)).into_iter().map(|(path, _)| path);
    all.filter(|path| path.extension().is_some_and(|name| name == "sst")).collect()
}

fn damaged(from: &Path, damage: impl FnOnce(&Path)) -> Result<(), Error> {
    let copied = tempfile::tempdir().unwrap();
    copy(from, copied.path());
    damage(copied.path());
    let result = read_all(copied.path());
    if let Err(error) = &result {
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(generation_dir(copied.path()).to_str().unwrap()), "{error}");
        assert_eq!(error.fault(), Fault::Environment);
    }
    result
}

#[test]
fn a_flipped_byte_in_a_table_is_an_error_and_never_a_wrong_value() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    assert_eq!(read_all(directory.path()), Ok(()));
    let (mut seen, mut tried) = (0, 0);
    for file in sst_files(directory.path()) {
        let name = file.strip_prefix(directory.path()).unwrap();
        let len = fs::metadata(&file).unwrap().len() as usize;
        for place in (0..len).step_by(len / 40 + 1) {
            let result = damaged(directory.path(), |root| {
                let mut bytes = fs::read(root.join(name)).unwrap();
                bytes[place] ^= 0x40;
                fs::write(root.join(name), bytes).unwrap();
            });
            tried += 1;
            seen += usize::from(result.is_err());
        }
    }
    // Some bytes of a table are statistics that no read depends on.
    assert!(tried > 40 && seen * 2 > tried, "{seen} of {tried} damages were seen");
}

#[test]
fn a_table_that_is_cut_or_gone_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    for file in sst_files(directory.path()) {
        let name = file.strip_prefix(directory.path()).unwrap().to_owned();
        let len = fs::metadata(&file).unwrap().len();
        for keep in [0, len / 2, len - 1] {
            let cut =
                |root: &Path| fs::File::options().write(true).open(root.join(&name)).unwrap().set_len(keep).unwrap();
            damaged(directory.path(), cut).unwrap_err();
        }
        damaged(directory.path(), |root| fs::remove_file(root.join(&name)).unwrap()).unwrap_err();
    }
}

/// A row whose bytes are sound for RocksDB but not for us: the error names view and key.
#[test]
fn a_row_of_an_unknown_format_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    let tag = generation.tags()[0];
    let mut delta = Delta::new(2);
    put(&mut delta, 0, tag, b"acc-1", None, Some(&[9, 9, 9]));
    generation.commit(&generation.take_writer(), &commit(vec![delta], 1)).unwrap();
    let error = load(&generation, tag, b"acc-1").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }));
    for part in ["bank.accounts/3", "`balance`", "\"acc-1\"", "version is 9"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(generation.snapshot_read().get(tag, b"acc-1").unwrap_err(), error);
}

/// After a write that failed nothing more is written, and the first cause is told every time.
#[test]
fn a_generation_is_poisoned_by_its_first_failed_write() {
    let directory = tempfile::tempdir().unwrap();
    let generation = open(directory.path(), Durability::Log).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
    // The directory goes away under the open database: its flush can create no file.
    fs::remove_dir_all(generation_dir(directory.path())).unwrap();
    let first = generation.flush().unwrap_err();
    assert!(matches!(first, Error::Io { .. }), "{first}");
    let poisoned = generation.commit(&generation.take_writer(), &first_row(&generation, "b", "1", 2)).unwrap_err();
    assert_eq!(poisoned, Error::Poisoned { at: at(), first: first.to_string() });
    assert_eq!(generation.flush().unwrap_err(), poisoned);
    assert_eq!(generation.applied().0, 1);
    assert_eq!(load(&generation, generation.tags()[0], b"a").unwrap().unwrap(), b"1");
}

#[test]
fn a_bad_byte_undoes_nothing_that_was_decided() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    let logs = files(&directory.path().join("control")).into_iter().map(|(path, _)| path);
    let largest = logs
        .filter(|path| path.extension().is_some_and(|name| name == "log"))
        .max_by_key(|path| fs::metadata(path).unwrap().len());
    let name = largest.unwrap().strip_prefix(directory.path()).unwrap().to_owned();
    let sound = fs::read(directory.path().join(&name)).unwrap();
    for place in [10, sound.len() / 2, sound.len() - 2] {
        let copied = tempfile::tempdir().unwrap();
        copy(directory.path(), copied.path());
        let mut bytes = sound.clone();
        bytes[place] ^= 1;
        fs::write(copied.path().join(&name), bytes).unwrap();
        let refused = open(copied.path(), Durability::Log).err();
        let refused = refused.unwrap_or_else(|| panic!("opened with a bad byte at {place} of {}", sound.len()));
        assert!(matches!(refused, Error::Corrupt { .. }), "{refused:?}");
        assert!(refused.to_string().contains("control"), "{refused}");
    }
}
