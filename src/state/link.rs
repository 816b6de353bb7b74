//! A second database from the files of one that nobody writes: table files are shared, the rest is copied.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::state::error::Error;
use crate::state::paths;

/// How a file of a database comes into another directory.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// RocksDB never changes it: both directories may have it.
    Share,
    Copy,
    /// A lock, a log for people, or none of RocksDB's files.
    Leave,
}

/// Makes the new directory `to` a database with the contents of `from`, where nothing is changed. Durable when it
/// returns; an error leaves a directory that is to be removed.
pub(crate) fn database(from: &Path, to: &Path) -> Result<(), Error> {
    paths::create_dirs(to)?;
    for entry in fs::read_dir(from).map_err(|error| Error::io(from, error))? {
        let source = entry.map_err(|error| Error::io(from, error))?.path();
        let Some(name) = source.file_name() else { continue };
        let target = to.join(name);
        match way(name) {
            Way::Share => share(&source, &target)?,
            Way::Copy => copy(&source, &target)?,
            Way::Leave => {}
        }
    }
    paths::sync_dir(to)
}

fn way(name: &OsStr) -> Way {
    let Some(name) = name.to_str() else { return Way::Leave };
    match name.rsplit_once('.') {
        Some((_, "sst" | "blob")) => Way::Share,
        Some((_, "log")) => Way::Copy,
        _ if ["CURRENT", "IDENTITY"].contains(&name) => Way::Copy,
        _ if name.starts_with("MANIFEST-") || name.starts_with("OPTIONS-") => Way::Copy,
        _ => Way::Leave,
    }
}

fn share(source: &Path, target: &Path) -> Result<(), Error> {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    match fs::hard_link(source, target) {
        // Another disk, or a file system that has no links or no more of them: that costs room, and nothing else.
        Err(error) if matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported) => {
            copy(source, target)
        }
        linked => linked.map_err(|error| Error::io(source, error)),
    }
}

fn copy(source: &Path, target: &Path) -> Result<(), Error> {
    let mut from = File::open(source).map_err(|error| Error::io(source, error))?;
    let written = File::create_new(target).and_then(|mut to| {
        io::copy(&mut from, &mut to)?;
        to.sync_all()
    });
    written.map_err(|error| Error::io(target, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn tables_are_shared_and_the_rest_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        let names = ["000008.sst", "000004.log", "CURRENT", "IDENTITY", "MANIFEST-000005", "OPTIONS-000007"];
        let left = ["LOCK", "LOG", "LOG.old.17", "manifest.json", "notes.txt"];
        for name in names.iter().chain(&left) {
            fs::write(from.join(name), name).unwrap();
        }
        database(&from, &to).unwrap();
        let mut found: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        found.sort();
        let mut want: Vec<_> = names.map(std::ffi::OsString::from).to_vec();
        want.sort();
        assert_eq!(found, want);
        for name in names {
            assert_eq!(fs::read_to_string(to.join(name)).unwrap(), name);
            let shared = fs::metadata(from.join(name)).unwrap().ino() == fs::metadata(to.join(name)).unwrap().ino();
            assert_eq!(shared, name.ends_with(".sst"), "{name}");
        }
    }
}
