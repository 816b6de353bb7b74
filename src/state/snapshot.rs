//! Snapshots: checkpoints of a topic's generations that share their table files, with manifests that tell a whole one
//! from a damaged one.
//!
//! A snapshot is taken in a directory of its own, `taking-<id>`, which is renamed when its manifest is durable; the
//! control store says which directories are which snapshot, before the first one is made and after the last. So whatever
//! a crash leaves behind has a number and a name, is listed as damaged, and is removed before the next one is taken.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::position::{Position, Timestamp, TopicPartition};
use crate::state::delta::Fingerprint;
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::meta::{Identity, Lineage, StoredView, ViewTotals};
use crate::state::registry::{Entry, Part, Stage};
use crate::state::shadow::Source;
use crate::state::store::Store;

/// What a snapshot was taken for that somebody has asked for by hand: it stays until he deletes it.
pub const OPERATOR: &str = "operator";

/// The state of a topic's partitions, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub id: u64,
    pub topic: String,
    /// When it was asked for.
    pub taken: Timestamp,
    /// What it was taken for, such as `records`, `time`, `cut-over`, [`OPERATOR`].
    pub why: String,
    /// In the order of partitions; of a damaged one, those whose manifest can be read.
    pub parts: Vec<SnapshotPart>,
    /// Why it may not be used, if so.
    pub damaged: Option<String>,
}

/// One partition of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    pub at: TopicPartition,
    /// The number of the generation that it is of.
    pub generation: u64,
    pub position: Position,
    /// Where its rows were last taken over from other definitions.
    pub lineage: Lineage,
    /// The generation has seen nothing below it.
    pub began: Position,
    /// The last record in it.
    pub last: Option<Fingerprint>,
    pub identity: Identity,
    /// Those that were in use.
    pub views: Vec<StoredView>,
    /// In the order of the views.
    pub totals: Vec<ViewTotals>,
    /// Of its files; what they share with a generation or with other snapshots takes no room of its own.
    pub bytes: u64,
    pub path: PathBuf,
}

/// What the process knows of its snapshots beyond what is on disk.
#[derive(Default)]
pub(crate) struct SnapshotDesk {
    /// One is taken or deleted at a time.
    work: Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
pub(crate) struct Known {
    /// The snapshot that is being taken or deleted right now: nothing is wrong with it.
    busy: Option<u64>,
    /// The ones that were opened for reading, by directory.
    open: HashMap<PathBuf, Weak<Generation>>,
}

impl SnapshotDesk {
    /// A panic of another thread leaves no half of a change: what counts is on disk.
    fn work(&self) -> MutexGuard<'_, ()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Takes a snapshot of one topic: of every generation given, each at a position of its own, while they go on.
    /// Everything committed before the call is in it. If no part has changed since the topic's last intact snapshot, that
    /// one is the answer, and an operator's from then on if it is an operator who asks; parts that have not changed share
    /// its directories.
    pub fn take_snapshot(&self, generations: &[Arc<Generation>], why: &str, now: Timestamp) -> Result<Snapshot, Error> {
        let _work = self.desk.work();
        let Some(first) = generations.first() else {
            let at = TopicPartition::new("", 0);
            return Err(Error::SnapshotRefused { at, why: "no partition was named" });
        };
        let topic = first.at().topic.to_string();
        for (index, generation) in generations.iter().enumerate() {
            self.may_take(generation, &topic, &generations[..index])?;
        }
        self.sweep_snapshots(&topic)?;
        for generation in generations {
            self.sweep_nameless(&topic, generation.at().partition.0)?;
        }

        let mut earlier = self.last_intact(&topic)?;
        let mut parts = Vec::with_capacity(generations.len());
        for generation in generations {
            // A store whose writes have failed refuses it, and would not be worth keeping.
            generation.flush()?;
            let place = match &earlier {
                Some((entry, _)) => self.same_state(entry, generation)?,
                None => None,
            };
            parts.push(Part { partition: generation.at().partition.0, generation: generation.number(), place });
        }
        let same =
            |entry: &Entry| entry.parts.len() == parts.len() && parts.iter().all(|part| entry.parts.contains(part));
        if let Some((mut entry, snapshot)) = earlier.take_if(|(entry, _)| same(entry)) {
            if why == OPERATOR && entry.why != OPERATOR {
                entry.why = OPERATOR.to_owned();
                self.control.update(&entry)?;
            }
            return Ok(Snapshot { why: entry.why, ..snapshot });
        }

        let mut entry = Entry::begun(&topic, why, now, parts);
        let _busy = {
            let mut known = self.desk.known();
            self.control.register(&mut entry)?;
            known.busy = Some(entry.id);
            Busy(&self.desk)
        };
        let before = earlier.map(|(entry, _)| entry.parts).unwrap_or_default();
        if let Err(error) = self.take_parts(&mut entry, generations, &before) {
            // As far as it goes: a full disk has to be freed, and what stays is swept before the next one is taken.
            if self.remove_files(&entry).is_ok() {
                let _ = self.control.unregister(entry.id);
            }
            return Err(error);
        }
        self.look_at(&entry)
    }

    fn take_parts(&self, entry: &mut Entry, generations: &[Arc<Generation>], before: &[Part]) -> Result<(), Error> {
        for (index, generation) in generations.iter().enumerate() {
            if entry.parts[index].place.is_none() {
                let before = before.iter().find(|part| part.partition == entry.parts[index].partition);
                entry.parts[index].place = Some(self.take_part(entry, generation, before)?);
            }
        }
        entry.parts.sort_by_key(|part| part.partition);
        entry.stage = Stage::Taken;
        self.control.update(entry)
    }

    /// All snapshots, the newest first. What may not be used says why; that takes a look at manifests and at the sizes of
    /// files, and is no proof of what is in them ([`Store::verify_snapshot`] gives that).
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        let (entries, busy) = {
            let known = self.desk.known();
            (self.control.entries()?, known.busy)
        };
        let mut snapshots = Vec::with_capacity(entries.len());
        for entry in entries.iter().filter(|entry| Some(entry.id) != busy) {
            let snapshot = self.look_at(entry)?;
            // One that was deleted while its files were looked at is not damaged but gone.
            if snapshot.damaged.is_none() || self.control.entry(entry.id)?.as_ref() == Some(entry) {
                snapshots.push(snapshot);
            }
        }
        Ok(snapshots)
    }

    /// Reads a snapshot through: every file against its checksum, and every row for digests and counts. What it finds is
    /// remembered, so that the snapshot is not used any more.
    pub fn verify_snapshot(&self, id: u64) -> Result<Snapshot, Error> {
        let entry = self.known_entry(id)?;
        let mut snapshot = self.look_at(&entry)?;
        if snapshot.damaged.is_some() {
            return Ok(snapshot);
        }
        for (part, place) in snapshot.parts.iter().zip(&entry.parts) {
            if let Err(why) = self.read_through(id, part)? {
                let reason = format!("partition {}, {}: {why}", part.at.partition, part.path.display());
                self.remember_damage(&entry, place, &reason)?;
                snapshot.damaged = Some(reason);
                break;
            }
        }
        Ok(snapshot)
    }

    /// Marks every snapshot that has the directory.
    fn remember_damage(&self, entry: &Entry, place: &Part, reason: &str) -> Result<(), Error> {
        let _work = self.desk.work();
        let name = place.place.as_ref().map_or("", |(name, _)| name);
        for mut other in self.control.entries()? {
            if other.stage == Stage::Taken && other.uses(&entry.topic, place.partition, name) {
                other.stage = Stage::Damaged(reason.to_owned());
                self.control.update(&other)?;
            }
        }
        Ok(())
    }

    /// Deletes a snapshot, damaged or not. Directories that others share with it stay.
    pub fn delete_snapshot(&self, id: u64) -> Result<(), Error> {
        let _work = self.desk.work();
        self.delete(self.known_entry(id)?)
    }

    /// The same, unless an operator has asked for the snapshot meanwhile. Answers whether it is gone.
    pub fn prune_snapshot(&self, id: u64) -> Result<bool, Error> {
        let _work = self.desk.work();
        let entry = self.known_entry(id)?;
        let prunable = entry.why != OPERATOR;
        if prunable {
            self.delete(entry)?;
        }
        Ok(prunable)
    }

    fn delete(&self, mut entry: Entry) -> Result<(), Error> {
        let id = entry.id;
        let _busy = {
            let mut known = self.desk.known();
            let others = self.control.entries()?;
            for part in &entry.parts {
                let Some((name, _)) = &part.place else { continue };
                let path = self.home(&entry.topic, part.partition)?.join(name);
                let shared =
                    others.iter().any(|other| other.id != id && other.uses(&entry.topic, part.partition, name));
                if !shared && known.open.get(&path).is_some_and(|open| open.strong_count() > 0) {
                    return Err(Error::SnapshotInUse { id });
                }
            }
            entry.stage = Stage::Deleting;
            self.control.update(&entry)?;
            known.busy = Some(id);
            Busy(&self.desk)
        };
        self.remove_files(&entry)?;
        self.control.unregister(id)
    }

    /// The intact directory of a partition, for a generation that is to start from it.
    pub fn snapshot_source(&self, id: u64, at: &TopicPartition) -> Result<Source, Error> {
        Ok(Source::Checkpoint { path: self.intact_part(id, at)?.path })
    }

    /// Opens a partition of an intact snapshot for reading. As long as the answer lives, the snapshot cannot be deleted,
    /// and another call answers the same.
    pub fn open_snapshot(&self, id: u64, at: &TopicPartition) -> Result<Arc<Generation>, Error> {
        let part = self.intact_part(id, at)?;
        self.open_part(id, &part)
    }

    pub(super) fn open_part(&self, id: u64, part: &SnapshotPart) -> Result<Arc<Generation>, Error> {
        // Under the lock, so that no deletion comes in between.
        let mut known = self.desk.known();
        if let Some(open) = known.open.get(&part.path).and_then(Weak::upgrade) {
            return Ok(open);
        }
        if known.busy == Some(id) || self.control.entry(id)?.is_none() {
            return Err(Error::NoSnapshot { id });
        }
        let generation = Arc::new(Generation::read_only(&self.root, part.path.clone(), part.generation)?);
        known.open.retain(|_, open| open.strong_count() > 0);
        known.open.insert(part.path.clone(), Arc::downgrade(&generation));
        Ok(generation)
    }

    fn known_entry(&self, id: u64) -> Result<Entry, Error> {
        self.control.entry(id)?.ok_or(Error::NoSnapshot { id })
    }

    fn intact_part(&self, id: u64, at: &TopicPartition) -> Result<SnapshotPart, Error> {
        let Snapshot { topic, parts, damaged, .. } = self.look_at(&self.known_entry(id)?)?;
        if let Some(reason) = damaged {
            return Err(Error::SnapshotDamaged { id, topic, reason });
        }
        let part = parts.into_iter().find(|part| part.at == *at);
        part.ok_or_else(|| Error::SnapshotLacks { id, topic, at: at.clone() })
    }
}

/// The end of a piece of work on one snapshot, however it ends.
struct Busy<'a>(&'a SnapshotDesk);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.known().busy = None;
    }
}
