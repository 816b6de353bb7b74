//! The control store's register of snapshots: which there are, of which directories, and what was begun and not ended.

use rocksdb::{IteratorMode, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};

use crate::position::{Position, Timestamp};
use crate::state::control::Control;
use crate::state::error::Error;
use crate::state::options;

/// Keys of the control store that belong to snapshots. Append only, apart from those in `keys`.
const SNAPSHOT: u8 = 32;
const LAST_ID: u8 = 33;

/// The format of an entry.
const FORMAT: u32 = 1;

/// How far a snapshot's life is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Taking,
    Taken,
    /// Reading it through has found it damaged, for this reason.
    Damaged(String),
    Deleting,
}

/// A snapshot as the control store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    format: u32,
    pub id: u64,
    pub topic: String,
    pub why: String,
    pub taken: Timestamp,
    pub stage: Stage,
    pub parts: Vec<Part>,
}

/// One partition of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub partition: u32,
    pub generation: u64,
    /// The name of its directory below `snapshots`, and the position in it; not known while it is being taken.
    pub place: Option<(String, Position)>,
}

impl Entry {
    pub fn begun(topic: &str, why: &str, taken: Timestamp, parts: Vec<Part>) -> Entry {
        let (topic, why) = (topic.to_owned(), why.to_owned());
        Entry { format: FORMAT, id: 0, topic, why, taken, stage: Stage::Taking, parts }
    }

    /// True when the snapshot has its part of `partition` in that directory.
    pub fn uses(&self, topic: &str, partition: u32, name: &str) -> bool {
        let here = |part: &Part| part.partition == partition && part.place.as_ref().is_some_and(|(dir, _)| dir == name);
        self.topic == topic && self.parts.iter().any(here)
    }
}

/// The entries of the register; the caller sees to it that one writes at a time.
impl Control {
    /// Gives the entry the next number and stores it, at once and durably.
    pub(super) fn register(&self, entry: &mut Entry) -> Result<(), Error> {
        let last = self.db.get_opt([LAST_ID], &options::reading(true));
        let last = match last.map_err(|error| self.rocks(error))? {
            Some(stored) => u64::from_be_bytes(
                stored.try_into().map_err(|_| self.bad("the last snapshot's number has no 8 bytes"))?,
            ),
            None => 0,
        };
        entry.id = last + 1;
        let mut batch = WriteBatch::default();
        batch.put([LAST_ID], entry.id.to_be_bytes());
        batch.put(key(entry.id), self.encode(entry)?);
        self.db.write_opt(batch, &synced()).map_err(|error| self.rocks(error))
    }

    /// Replaces an entry.
    pub(super) fn update(&self, entry: &Entry) -> Result<(), Error> {
        let encoded = self.encode(entry)?;
        self.db.put_opt(key(entry.id), encoded, &synced()).map_err(|error| self.rocks(error))
    }

    /// Removes an entry. Its number is not given again.
    pub(super) fn unregister(&self, id: u64) -> Result<(), Error> {
        self.db.delete_opt(key(id), &synced()).map_err(|error| self.rocks(error))
    }

    pub(super) fn entry(&self, id: u64) -> Result<Option<Entry>, Error> {
        let stored = self.db.get_opt(key(id), &options::reading(true)).map_err(|error| self.rocks(error))?;
        stored.map(|stored| self.decode(&stored)).transpose()
    }

    /// All entries, the newest first.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut reading = options::reading(true);
        reading.set_iterate_lower_bound([SNAPSHOT]);
        reading.set_iterate_upper_bound([SNAPSHOT + 1]);
        let mut entries = Vec::new();
        for item in self.db.iterator_opt(IteratorMode::Start, reading) {
            let (_, stored) = item.map_err(|error| self.rocks(error))?;
            entries.push(self.decode(&stored)?);
        }
        entries.reverse();
        Ok(entries)
    }

    fn encode(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(entry).map_err(|error| self.bad(&format!("snapshot {}: {error}", entry.id)))
    }

    fn decode(&self, stored: &[u8]) -> Result<Entry, Error> {
        /// Read before the rest, which a later format may spell otherwise.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let bad = |error: serde_json::Error| self.bad(&format!("entry of a snapshot: {error}"));
        let Versioned { format } = serde_json::from_slice(stored).map_err(bad)?;
        if format > FORMAT {
            return Err(Error::Newer { found: format, known: FORMAT, path: self.path.clone() });
        }
        serde_json::from_slice(stored).map_err(bad)
    }

    fn rocks(&self, error: rocksdb::Error) -> Error {
        Error::rocks(&self.path, error)
    }

    fn bad(&self, reason: &str) -> Error {
        Error::Corrupt { path: self.path.clone(), reason: reason.to_owned() }
    }
}

fn key(id: u64) -> [u8; 9] {
    let mut key = [SNAPSHOT; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

fn synced() -> WriteOptions {
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    synced
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is on disk. A change here is a change of the format.
    #[test]
    fn the_entries_are_what_they_were() {
        assert_eq!(key(258), [32, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!([LAST_ID], [33]);
        let place = Some(("10.0".to_owned(), Position(10)));
        let mut entry = Entry::begun("t", "time", Timestamp(5), vec![Part { partition: 3, generation: 0, place }]);
        entry.id = 7;
        let stored = |entry: &Entry| serde_json::to_string(entry).unwrap();
        let want = r#"{"format":1,"id":7,"topic":"t","why":"time","taken":5,"stage":"taking","parts":[{"partition":3,"generation":0,"place":["10.0",10]}]}"#;
        assert_eq!(stored(&entry), want);
        for (stage, word) in [
            (Stage::Taken, r#""taken""#),
            (Stage::Deleting, r#""deleting""#),
            (Stage::Damaged("why".to_owned()), r#"{"damaged":"why"}"#),
        ] {
            entry.stage = stage;
            assert_eq!(stored(&entry), want.replace(r#""taking""#, word));
            assert_eq!(serde_json::from_str::<Entry>(&stored(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn a_number_is_given_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut entry = Entry::begun("t", "time", Timestamp(5), Vec::new());
        for want in 1..4 {
            let control = Control::open(directory.path()).unwrap();
            control.register(&mut entry).unwrap();
            assert_eq!(entry.id, want);
            assert_eq!(control.entries().unwrap(), [entry.clone()]);
            control.unregister(entry.id).unwrap();
            assert_eq!(control.entry(entry.id).unwrap(), None);
        }
    }
}
