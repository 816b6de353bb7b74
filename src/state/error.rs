//! What can go wrong with the store, whose turn it is, and whether trying again can help.

use std::path::{Path, PathBuf};

use crate::fault::Fault;
use crate::position::{Position, TopicPartition};
use crate::state::codec::Malformed;
use crate::state::delta::Fingerprint;

/// One variant for each situation that an operator can tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the data directory {} is in use by {holder}: stop it, or name another data directory", path.display())]
    InUse { path: PathBuf, holder: String },
    #[error("there is no store in {}: check the data directory's name, or start the daemon once to create it", path.display())]
    Missing { path: PathBuf },
    #[error("{} has format {found}, and this program knows up to {known}: use the newer program", path.display())]
    Newer { found: u32, known: u32, path: PathBuf },
    #[error("`{topic}` cannot name a topic: {why} (1 to 249 of the characters A-Z a-z 0-9 . _ -)")]
    TopicName { topic: String, why: &'static str },
    #[error("{at}: two views are called `{view}`: give each its own name")]
    DuplicateView { at: TopicPartition, view: String },
    #[error("{at}: the generation cannot hold more than {limit} views: use a new data directory")]
    TooManyViews { at: TopicPartition, limit: usize },
    #[error(
        "{at}: the definition of view `{view}` changed, but its version is still {version}: rows up to position \
         {position} were made by the old definition. Put the old definition back, or raise the version: live then goes on \
         under the old one until a replay has built the new rows (`segno replay`, or by itself with \
         `on-change = \"replay\"` under [replay])"
    )]
    DefinitionChanged { at: TopicPartition, view: String, version: u32, position: Position },
    #[error(
        "{at}: view `{view}` is stored with version {stored} up to position {position}, and version {wanted} is wanted: \
         it would start in the middle. {}", way(*stored, *wanted)
    )]
    VersionChanged { at: TopicPartition, view: String, stored: u32, wanted: u32, position: Position },
    #[error(
        "{at}: view `{view}` (version {version}) has seen the log up to position {seen}, and the generation is at \
         {position}: it would miss what lies between. Build it by a replay (`segno replay`, or by itself at the start of \
         the program with `on-change = \"replay\"` under [replay]), or leave the view out"
    )]
    ViewAdded { at: TopicPartition, view: String, version: u32, seen: Position, position: Position },
    #[error("{} holds {stored}, not {wanted}: the directory was moved or copied; put it back", path.display())]
    Misplaced { path: PathBuf, stored: TopicPartition, wanted: TopicPartition },
    #[error(
        "{at}: the live generation {number} is not in {}: restore that directory, or fold the log again in a new data \
         directory", path.display()
    )]
    GenerationMissing { at: TopicPartition, number: u64, path: PathBuf },
    #[error(
        "{at}: {} exists, but the control store does not know it: restore the `control` directory that belongs to it, or \
         move it away to fold the log again from its beginning", path.display()
    )]
    Unregistered { at: TopicPartition, path: PathBuf },
    #[error("{at}: no generation of it is in the store: check topic and partition")]
    NoGeneration { at: TopicPartition },
    #[error(
        "{at}: generation {number} is the {role} one, which is not opened or removed as one that is being built. This is \
         a defect of Segno; please report it"
    )]
    GenerationKept { at: TopicPartition, number: u64, role: &'static str },
    #[error("{at}: generation {number} is still open in this process: let those who read it end, then try again")]
    GenerationOpen { at: TopicPartition, number: u64 },
    #[error("{at}: generation {number} cannot become the live one, and nothing was switched: {why}; replay again")]
    NotSwitched { at: TopicPartition, number: u64, why: &'static str },
    #[error("{at}: there is no snapshot in {}: choose another base", path.display())]
    NoBase { at: TopicPartition, path: PathBuf },
    #[error(
        "{at}: view `{view}` (version {version}) cannot start from the snapshot in {}, {why}: replay it from the \
         beginning of the log (`--base genesis`), or from a snapshot that has all of it", path.display()
    )]
    Incompatible { at: TopicPartition, view: String, version: u32, path: Box<Path>, why: Box<str> },
    #[error(
        "{at}: the row with key {key} of view `{view}` does not fit version {version} of its definition: {why}. Replay \
         from the beginning of the log (`--base genesis`), or change the definition so that it reads such rows"
    )]
    RowUnfit { at: TopicPartition, view: String, version: u32, key: Box<str>, why: Box<str> },

    #[error(
        "{at}: the store was fed from cluster `{stored}`, and the log is cluster `{found}`: go back to that cluster, or \
         use a new data directory for this one"
    )]
    ClusterChanged { at: TopicPartition, stored: String, found: String },
    #[error(
        "{at}: the topic had {stored} partitions and now has {found}, so keys have moved between partitions: use a new \
         data directory, or a new topic with {found} partitions into which the events are copied"
    )]
    PartitionCountChanged { at: TopicPartition, stored: u32, found: u32 },
    #[error(
        "{at}: the next record to read is {position}, but the log begins at {start}: retention has removed {} records \
         that were never applied. Raise the topic's retention and rebuild from a source that still has them, or accept \
         the loss with a new data directory",
        position.lag_to(*start)
    )]
    RetentionPassed { at: TopicPartition, position: Position, start: Position },
    #[error(
        "{at}: the log begins at {start}: retention has removed its first records, so a new view cannot be complete. If \
         a view of what is left is what you want, set `history = \"retained\"` for the topic"
    )]
    BeginningGone { at: TopicPartition, start: Position },
    #[error(
        "{at}: the store has read up to {position}, but the log ends at {end}: the topic was truncated or created anew. \
         Bring the records back, or use a new data directory"
    )]
    LogBehind { at: TopicPartition, position: Position, end: Position },
    #[error(
        "{at}: the last record applied was offset {} with timestamp {} and hash {:016x}, but the log has offset {} with \
         timestamp {} and hash {:016x} there: the topic was created anew. Bring the old topic back, or use a new data \
         directory",
        stored.offset, stored.timestamp, stored.hash, found.offset, found.timestamp, found.hash
    )]
    RecordChanged { at: TopicPartition, stored: Fingerprint, found: Fingerprint },

    #[error("there is no snapshot {id}: `segno snapshot list` shows those that are known")]
    NoSnapshot { id: u64 },
    #[error(
        "snapshot {id} of topic `{topic}` has no partition {}: name another snapshot, or take one of the whole topic",
        at.partition
    )]
    SnapshotLacks { id: u64, topic: String, at: TopicPartition },
    #[error(
        "snapshot {id} of topic `{topic}` is damaged and may not be used: {reason}. Name another one, and free its space \
         with `segno snapshot delete {id}`"
    )]
    SnapshotDamaged { id: u64, topic: String, reason: String },
    #[error("snapshot {id} is being read: delete it when that is over")]
    SnapshotInUse { id: u64 },
    #[error("no snapshot of {at} can be taken: {why}. This is a defect of Segno; please report it")]
    SnapshotRefused { at: TopicPartition, why: &'static str },

    #[error("the disk that holds {} is full: make room, then start again ({reason})", path.display())]
    DiskFull { path: PathBuf, reason: String },
    #[error(
        "the store in {} is damaged: check the disk; then restore the directory, or move the topics' directories and \
         `control` out of the data directory (not `log`, which holds the events of the embedded log) and start again: \
         the views are folded anew ({reason})", path.display()
    )]
    Corrupt { path: PathBuf, reason: String },
    #[error("cannot use {}: {reason}", path.display())]
    Io { path: PathBuf, reason: String },
    #[error("{at}: nothing more is written, because an earlier write failed: {first}")]
    Poisoned { at: TopicPartition, first: String },
    #[error(
        "{at}: another writer has taken over, so nothing of this commit was written: whoever was given up must not write. \
         What was committed before stands"
    )]
    Fenced { at: TopicPartition },
    #[error("{at}: the store was opened for reading only")]
    ReadOnly { at: TopicPartition },
    #[error(
        "{at}: law {law} would be broken, so nothing was written: {detail}. This is a defect of Segno; please report it"
    )]
    Law { at: TopicPartition, law: &'static str, detail: String },
}

impl Error {
    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match self {
            Error::InUse { .. }
            | Error::Missing { .. }
            | Error::Newer { .. }
            | Error::TopicName { .. }
            | Error::DuplicateView { .. }
            | Error::TooManyViews { .. }
            | Error::DefinitionChanged { .. }
            | Error::VersionChanged { .. }
            | Error::ViewAdded { .. }
            | Error::Misplaced { .. }
            | Error::NoSnapshot { .. }
            | Error::SnapshotLacks { .. }
            | Error::SnapshotInUse { .. }
            | Error::NoGeneration { .. }
            | Error::NoBase { .. }
            | Error::Incompatible { .. }
            | Error::RowUnfit { .. } => Fault::User,
            Error::GenerationMissing { .. }
            | Error::GenerationOpen { .. }
            | Error::NotSwitched { .. }
            | Error::Unregistered { .. }
            | Error::ClusterChanged { .. }
            | Error::PartitionCountChanged { .. }
            | Error::RetentionPassed { .. }
            | Error::BeginningGone { .. }
            | Error::LogBehind { .. }
            | Error::RecordChanged { .. }
            | Error::SnapshotDamaged { .. }
            | Error::DiskFull { .. }
            | Error::Corrupt { .. }
            | Error::Io { .. }
            | Error::Poisoned { .. } => Fault::Environment,
            Error::ReadOnly { .. }
            | Error::Fenced { .. }
            | Error::GenerationKept { .. }
            | Error::Law { .. }
            | Error::SnapshotRefused { .. } => Fault::Internal,
        }
    }

    /// Whether the same call can succeed later without anybody changing anything: only when readers will be gone. A
    /// store that failed stays failed until it is opened again, and what refuses to open needs a decision.
    pub fn retryable(&self) -> bool {
        matches!(self, Error::GenerationOpen { .. })
    }

    /// Sorts an error of RocksDB by what an operator can do about it.
    pub(crate) fn rocks(path: &Path, error: rocksdb::Error) -> Error {
        let path = path.to_owned();
        let kind = error.kind();
        let reason = error.into_string();
        let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if says(&["No space left on device", "Disk quota exceeded"]) {
            Error::DiskFull { path, reason }
        } else if says(&["lock hold by current process", "While lock file"]) {
            Error::InUse { path, holder: "another process or another part of this one".to_owned() }
        } else if kind == rocksdb::ErrorKind::Corruption || says(&["Corruption:", "file is too short"]) {
            Error::Corrupt { path, reason }
        } else if says(&["Too many open files"]) {
            let reason = format!("{reason}; raise the limit of open files (`ulimit -n`) or lower max-open-files");
            Error::Io { path, reason }
        } else {
            Error::Io { path, reason }
        }
    }

    pub(crate) fn io(path: &Path, error: std::io::Error) -> Error {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::DiskFull { path, reason },
            _ => Error::Io { path, reason },
        }
    }

    /// Stored bytes that cannot be read; `what` names the record, such as `view 3 key "ab"`.
    pub(crate) fn malformed(path: &Path, what: impl std::fmt::Display, error: &Malformed) -> Error {
        Error::Corrupt { path: path.to_owned(), reason: format!("{what}: {error}") }
    }
}

/// From one version of a view to another.
fn way(stored: u32, wanted: u32) -> String {
    if wanted < stored {
        format!(
            "Bring the rows of the older version back with `segno replay rollback` while the configuration still has \
             version {stored} and the previous generation is kept; else go back to version {stored}, or give the older \
             definition a version above {stored} and replay into it"
        )
    } else {
        format!(
            "Build the rows of version {wanted} by a replay (`segno replay`, or by itself at the start of the program with \
             `on-change = \"replay\"` under [replay]), or go back to version {stored}"
        )
    }
}

/// A key as a person can read it, cut to a length that fits a message.
pub(crate) fn show_key(key: &[u8]) -> String {
    let shown = &key[..key.len().min(64)];
    let cut = if shown.len() < key.len() { "…" } else { "" };
    format!("\"{}{cut}\"", shown.escape_ascii())
}
