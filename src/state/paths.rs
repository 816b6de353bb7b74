//! Where things lie below the data directory.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::position::TopicPartition;
use crate::state::error::Error;

/// Names at the top of the data directory that are not topics.
const RESERVED: [&str; 3] = ["control", "log", "lock"];

pub(crate) fn lock(root: &Path) -> PathBuf {
    root.join("LOCK")
}

pub(crate) fn control(root: &Path) -> PathBuf {
    root.join("control")
}

/// `<root>/<topic>/<partition>`. A topic called like one of the store's own directories gets a `~`, which no topic's
/// name can contain.
pub(crate) fn partition(root: &Path, at: &TopicPartition) -> Result<PathBuf, Error> {
    let topic = check_topic(&at.topic)?;
    let taken = RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(topic));
    let topic = if taken { format!("{topic}~") } else { topic.to_owned() };
    Ok(root.join(topic).join(at.partition.to_string()))
}

pub(crate) fn generation(partition: &Path, number: u64) -> PathBuf {
    partition.join(format!("gen-{number}"))
}

/// The directory of a partition's snapshots.
pub(crate) fn snapshots(partition: &Path) -> PathBuf {
    partition.join("snapshots")
}

/// Kafka's rule for topic names, which also makes a name harmless as that of a directory.
fn check_topic(topic: &str) -> Result<&str, Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = match topic {
        "" => "it is empty",
        "." | ".." => "it names a directory",
        _ if topic.len() > 249 => "it is too long",
        _ if !topic.chars().all(legal) => "it contains other characters",
        _ => return Ok(topic),
    };
    Err(Error::TopicName { topic: topic.chars().take(260).collect(), why })
}

/// Creates `path` and what is missing above it, open to nobody else, and makes the new entries durable.
pub(crate) fn create_dirs(path: &Path) -> Result<(), Error> {
    let failed = |at: &Path, error| Err(Error::io(at, error));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return failed(path, io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return failed(path, error),
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_dirs(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return failed(path, error),
    }
    sync_dir(parent)
}

/// Makes it durable which entries a directory has.
pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| Error::io(path, error))
}

/// Removes a directory with everything in it, if it is there.
pub(crate) fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// True when a RocksDB has been created in `path`.
pub(crate) fn holds_database(path: &Path) -> bool {
    path.join("CURRENT").is_file()
}

/// The first `gen-…` directory of a partition, if there is any.
pub(crate) fn any_generation(partition: &Path) -> Result<Option<PathBuf>, Error> {
    let entries = match fs::read_dir(partition) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(partition, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(partition, error))?;
        if entry.file_name().to_string_lossy().starts_with("gen-") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(topic: &str) -> Result<PathBuf, Error> {
        partition(Path::new("/data"), &TopicPartition::new(topic, 3))
    }

    #[test]
    fn a_topic_names_its_directory() {
        assert_eq!(dir("bank.accounts").unwrap(), Path::new("/data/bank.accounts/3"));
        assert_eq!(dir("Control").unwrap(), Path::new("/data/Control~/3"));
        assert_eq!(dir("log").unwrap(), Path::new("/data/log~/3"));
        assert_eq!(dir("LOCK").unwrap(), Path::new("/data/LOCK~/3"));
    }

    #[test]
    fn a_name_that_could_escape_is_refused() {
        for topic in ["", ".", "..", "a/b", "../x", "a b", "a~", "ü", "a\0b", &"x".repeat(250)] {
            assert!(matches!(dir(topic), Err(Error::TopicName { .. })), "{topic}");
        }
        assert!(dir(&"x".repeat(249)).is_ok());
    }
}
