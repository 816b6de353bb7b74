//! The directories of snapshots: making one, looking at it, reading it through, and removing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::checkpoint::Checkpoint;

use crate::position::{Position, TopicPartition};
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::manifest::{self, Contents, Manifest};
use crate::state::paths;
use crate::state::registry::{Entry, Part, Stage};
use crate::state::snapshot::{Snapshot, SnapshotPart};
use crate::state::store::Store;

impl Store {
    /// Refuses what no snapshot of `topic` can have beside the parts in `others`.
    pub(super) fn may_take(
        &self,
        generation: &Arc<Generation>,
        topic: &str,
        others: &[Arc<Generation>],
    ) -> Result<(), Error> {
        let at = generation.at();
        let home = paths::generation(&paths::partition(self.path(), at)?, generation.number());
        let why = if &*at.topic != topic {
            "it is of another topic than the rest"
        } else if others.iter().any(|other| other.at() == at) {
            "it is named twice"
        } else if generation.path() != home || !Arc::ptr_eq(&generation.root, &self.root) {
            "its files are not those of a generation of this store"
        } else {
            return Ok(());
        };
        Err(Error::SnapshotRefused { at: at.clone(), why })
    }

    /// Makes the directory of one partition, and answers its name and the position in it. What was read for `before`,
    /// the same partition in an earlier snapshot, is not read again.
    pub(super) fn take_part(
        &self,
        entry: &Entry,
        generation: &Generation,
        before: Option<&Part>,
    ) -> Result<(String, Position), Error> {
        let home = self.home(&entry.topic, generation.at().partition.0)?;
        paths::create_dirs(&home)?;
        let draft = home.join(draft_name(entry.id));
        // It flushes first: without a write-ahead log, what is in memory would be missing.
        let checkpoint = Checkpoint::new(&generation.db).and_then(|checkpoint| checkpoint.create_checkpoint(&draft));
        checkpoint.map_err(|error| Error::rocks(&draft, error))?;

        let before = before.and_then(|part| part.place.as_ref()).map(|(name, _)| home.join(name));
        let before = before.and_then(|path| Some((Manifest::read(&path).ok()?, path)));
        let files = manifest::list_files(&draft, before.as_ref().map(|(manifest, path)| (path.as_path(), manifest)))?;
        // Commits went on until the checkpoint was made: only it can tell where it stands.
        let opened = Generation::read_only(&self.root, draft.clone(), generation.number())?;
        let manifest = Manifest::of(&opened, entry.id, &entry.why, entry.taken, files);
        drop(opened);
        manifest.write(&draft)?;

        let mut name = format!("{}.{}", manifest.position, manifest.generation);
        if home.join(&name).exists() {
            // The same position with another state: records that were set aside have been decided upon.
            name = format!("{name}-{}", entry.id);
        }
        let path = home.join(&name);
        fs::rename(&draft, &path).map_err(|error| Error::io(&path, error))?;
        manifest::sync(&home)?;
        Ok((name, manifest.position))
    }

    /// The newest snapshot of a topic that can be used.
    pub(super) fn last_intact(&self, topic: &str) -> Result<Option<(Entry, Snapshot)>, Error> {
        for entry in self.control.entries()?.into_iter().filter(|entry| entry.topic == topic) {
            let snapshot = self.look_at(&entry)?;
            if snapshot.damaged.is_none() {
                return Ok(Some((entry, snapshot)));
            }
        }
        Ok(None)
    }

    /// Where the snapshot `entry` has the state that `generation` has now, if it has.
    pub(super) fn same_state(
        &self,
        entry: &Entry,
        generation: &Generation,
    ) -> Result<Option<(String, Position)>, Error> {
        let partition = generation.at().partition.0;
        let Some(part) = entry.parts.iter().find(|part| part.partition == partition) else { return Ok(None) };
        let Some((name, position)) = part.place.clone() else { return Ok(None) };
        let Ok(manifest) = Manifest::read(&self.home(&entry.topic, partition)?.join(&name)) else { return Ok(None) };
        // The number of changes tells apart what position and totals do not.
        let same = manifest.generation == generation.number()
            && manifest.sequence == generation.db.latest_sequence_number()
            && position == generation.applied()
            && manifest.contents().is_ok_and(|found| found.totals == generation.view_totals());
        Ok(same.then_some((name, position)))
    }

    /// A snapshot as manifests and sizes of files show it.
    pub(super) fn look_at(&self, entry: &Entry) -> Result<Snapshot, Error> {
        let mut snapshot = Snapshot {
            id: entry.id,
            topic: entry.topic.clone(),
            taken: entry.taken,
            why: entry.why.clone(),
            parts: Vec::with_capacity(entry.parts.len()),
            damaged: match &entry.stage {
                Stage::Taken => None,
                Stage::Taking => Some("it was being taken when the process ended or failed".to_owned()),
                Stage::Deleting => Some("it was being deleted when the process ended or failed".to_owned()),
                Stage::Damaged(reason) => Some(reason.clone()),
            },
        };
        for part in &entry.parts {
            let Some((name, position)) = &part.place else { continue };
            let path = self.home(&entry.topic, part.partition)?.join(name);
            let at = TopicPartition::new(entry.topic.as_str(), part.partition);
            let found = Manifest::read(&path).and_then(|manifest| {
                let Contents { identity, last, views, totals } = manifest.contents()?;
                if identity.at != at || manifest.generation != part.generation || manifest.position != *position {
                    return Err(format!(
                        "its manifest is of generation {} of {} at position {}, and should be of generation {} at {position}",
                        manifest.generation, identity.at, manifest.position, part.generation
                    ));
                }
                manifest.check_sizes(&path)?;
                let (generation, position, bytes, path) = (part.generation, *position, manifest.bytes(), path.clone());
                let (lineage, began) = (manifest.lineage.unwrap_or_default(), manifest.began.unwrap_or(Position::ZERO));
                Ok(SnapshotPart { at, generation, position, lineage, began, last, identity, views, totals, bytes, path })
            });
            match found {
                Ok(part) => snapshot.parts.push(part),
                Err(why) if snapshot.damaged.is_none() => {
                    snapshot.damaged = Some(format!("partition {}, {}: {why}", part.partition, path.display()));
                }
                Err(_) => {}
            }
        }
        Ok(snapshot)
    }

    /// Reads all of a part that looks well; the inner error says what is not as its manifest has it.
    pub(super) fn read_through(&self, id: u64, part: &SnapshotPart) -> Result<Result<(), String>, Error> {
        let manifest = match Manifest::read(&part.path) {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Err(why)),
        };
        if let Err(why) = manifest.check_files(&part.path)? {
            return Ok(Err(why));
        }
        let opened = match self.open_part(id, part) {
            Ok(opened) => opened,
            Err(error @ (Error::Corrupt { .. } | Error::Newer { .. } | Error::Misplaced { .. })) => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if (opened.identity(), opened.applied(), opened.last()) != (&part.identity, part.position, part.last) {
            let (at, position) = (opened.at(), opened.applied());
            return Ok(Err(format!("it holds {at} at position {position}, which is not what its manifest says")));
        }
        if opened.views() != part.views || opened.view_totals() != part.totals {
            return Ok(Err("its views or their totals are not those of its manifest".to_owned()));
        }
        for (view, totals) in part.views.iter().zip(&part.totals) {
            match opened.recompute(view.tag) {
                Ok(found) if found == *totals => {}
                Ok(found) => {
                    return Ok(Err(format!(
                        "view `{}` has {} rows with digest {:032x}, and should have {} with {:032x}",
                        view.name, found.rows, found.digest, totals.rows, totals.digest
                    )));
                }
                Err(error @ Error::Corrupt { .. }) => return Ok(Err(error.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(()))
    }

    /// Removes the directories of a snapshot, the manifests first, but not those that others share.
    pub(super) fn remove_files(&self, entry: &Entry) -> Result<(), Error> {
        let mut others = self.control.entries()?;
        others.retain(|other| other.id != entry.id);
        for part in &entry.parts {
            let home = self.home(&entry.topic, part.partition)?;
            let draft = home.join(draft_name(entry.id));
            paths::remove_dir(&draft)?;
            // RocksDB's own name for a checkpoint that is not complete.
            paths::remove_dir(&draft.with_extension("tmp"))?;
            let mut names = made_for(&home, entry.id)?;
            names.extend(part.place.iter().map(|(name, _)| name.clone()));
            names.retain(|name| !others.iter().any(|other| other.uses(&entry.topic, part.partition, name)));
            for name in names {
                let path = home.join(name);
                remove_manifest(&path)?;
                paths::remove_dir(&path)?;
            }
            if home.is_dir() {
                manifest::sync(&home)?;
            }
        }
        Ok(())
    }

    /// Removes what a crash left of snapshots of the topic. Not while one is being taken or deleted.
    pub(super) fn sweep_snapshots(&self, topic: &str) -> Result<(), Error> {
        for entry in self.control.entries()?.iter().filter(|entry| entry.topic == topic) {
            if matches!(entry.stage, Stage::Taking | Stage::Deleting) {
                self.remove_files(entry)?;
                self.control.unregister(entry.id)?;
            }
        }
        Ok(())
    }

    /// Removes the directories without a manifest that no snapshot is known to have: a crash came after the one had gone,
    /// and before the other. Not while a snapshot is being taken or deleted.
    pub(super) fn sweep_nameless(&self, topic: &str, partition: u32) -> Result<(), Error> {
        let home = self.home(topic, partition)?;
        let entries = self.control.entries()?;
        for name in names_in(&home)? {
            let path = home.join(&name);
            let known = entries.iter().any(|entry| entry.uses(topic, partition, &name));
            if !known && path.is_dir() && !path.join(manifest::FILE).exists() {
                paths::remove_dir(&path)?;
            }
        }
        Ok(())
    }

    /// The directory of a partition's snapshots.
    pub(super) fn home(&self, topic: &str, partition: u32) -> Result<PathBuf, Error> {
        Ok(paths::snapshots(&paths::partition(self.path(), &TopicPartition::new(topic, partition))?))
    }
}

fn draft_name(id: u64) -> String {
    format!("taking-{id}")
}

/// The directories whose manifest says that they were made for snapshot `id`.
fn made_for(home: &Path, id: u64) -> Result<Vec<String>, Error> {
    let mut names = names_in(home)?;
    names.retain(|name| Manifest::read(&home.join(name)).is_ok_and(|manifest| manifest.snapshot == id));
    Ok(names)
}

/// What lies in the directory of a partition's snapshots.
fn names_in(home: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(home) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(home, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(home, error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// First of all: without its manifest, no directory is taken for a snapshot.
fn remove_manifest(directory: &Path) -> Result<(), Error> {
    let path = directory.join(manifest::FILE);
    match fs::remove_file(&path) {
        Ok(()) => manifest::sync(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(&path, error)),
    }
}
