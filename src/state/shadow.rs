//! Generations beside the live one: made from a base, opened by number, and removed again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::position::{Position, TopicPartition};
use crate::state::definitions::ViewIdent;
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::meta::Identity;
use crate::state::record::{Built, Live};
use crate::state::slots::{Entered, Slot};
use crate::state::store::Store;
use crate::state::{link, paths, take_over};

/// What a new generation starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing: no rows, and the next record to read is the one at `position`.
    Nothing { position: Position },
    /// A checkpoint of a generation of the same partition. Nothing is ever written into it; its table files are shared.
    Checkpoint { path: PathBuf },
}

/// Takes a row of the base over into a view whose definition is another one: is given the index of the wanted view, the
/// record key and the row's JSON. `Ok(None)` leaves the row as it is, `Ok(Some(json))` stores `json` in its place, and
/// an error says why the row does not fit, which ends the making of the generation.
pub type TakeOver<'a> = &'a mut dyn FnMut(usize, &[u8], &[u8]) -> Result<Option<Vec<u8>>, String>;

impl Store {
    /// Makes a generation beside the live one, from `source`, with exactly `views`.
    ///
    /// A view that the base has with the same version and text is kept as it is. One that another definition made is
    /// taken over row by row, and one that is not wanted is removed with all that is its own. [`Error::Incompatible`]
    /// when the base lacks a view, or when the view has missed records.
    ///
    /// The number is given for good before anything is written, and the generation counts as made only when it is
    /// complete and durable: a crash in between, as an error, leaves nothing that [`Store::sweep`] would not remove.
    /// Shadows of several partitions may be made at the same time.
    pub fn create_shadow(
        &self,
        identity: &Identity,
        views: &[ViewIdent],
        source: &Source,
        take_over: TakeOver<'_>,
    ) -> Result<Arc<Generation>, Error> {
        let at = &identity.at;
        let partition = paths::partition(&self.root.path, at)?;
        let (number, slot) = self.allocate(at, &partition)?;
        let made = self.build(slot, number, identity, views, source, take_over).and_then(|generation| {
            let mut change = self.control.change();
            change.set_built(at, number, Some(Built::Complete));
            change.write()?;
            Ok(generation)
        });
        made.inspect_err(|_| {
            // The first error is the one that counts. What cannot be removed now is removed by the next sweep.
            let _ = self.drop_numbered(at, number);
        })
    }

    /// Gives out the next number of a partition, and its directory, which nobody else gets from here on.
    fn allocate(&self, at: &TopicPartition, partition: &Path) -> Result<(u64, Slot), Error> {
        let mut change = self.control.change();
        let live = self.control.live(at)?.filter(|live| live.ready);
        let live = live.ok_or_else(|| Error::NoGeneration { at: at.clone() })?;
        let number = live.next;
        let path = paths::generation(partition, number);
        if path.exists() {
            return Err(Error::Unregistered { at: at.clone(), path });
        }
        let open = || Error::GenerationOpen { at: at.clone(), number };
        let slot = self.root.slots.try_enter(&path).ok_or_else(open)?;
        change.set_live(at, Live { next: number + 1, ..live });
        change.set_built(at, number, Some(Built::Begun));
        change.write()?;
        Ok((number, slot))
    }

    /// Everything up to, and without, the entry that makes it count.
    fn build(
        &self,
        slot: Slot,
        number: u64,
        identity: &Identity,
        views: &[ViewIdent],
        source: &Source,
        take_over: TakeOver<'_>,
    ) -> Result<Arc<Generation>, Error> {
        match source {
            Source::Nothing { position } => {
                paths::create_dirs(slot.path())?;
                let generation = Generation::open(&self.root, slot, number, identity, views)?;
                if *position > Position::ZERO {
                    generation.begin_at(*position)?;
                    generation.flush()?;
                }
                Ok(generation)
            }
            Source::Checkpoint { path } => {
                if !paths::holds_database(path) {
                    return Err(Error::NoBase { at: identity.at.clone(), path: path.clone() });
                }
                link::database(path, slot.path())?;
                take_over::adapt(&self.root, (slot.path(), number), path, identity, views, take_over)?;
                Generation::open(&self.root, slot, number, identity, views)
            }
        }
    }

    /// Opens a generation that [`Store::create_shadow`] has made, or the previous one. `None` when its making was not
    /// finished, or when it is gone. The live one is opened with [`Store::open_generation`] only.
    pub fn open_numbered(
        &self,
        identity: &Identity,
        number: u64,
        views: &[ViewIdent],
    ) -> Result<Option<Arc<Generation>>, Error> {
        let at = &identity.at;
        let path = paths::generation(&paths::partition(&self.root.path, at)?, number);
        let Entered::Slot(slot) = self.root.slots.enter(&path) else {
            return Err(Error::GenerationOpen { at: at.clone(), number });
        };
        let Some(live) = self.control.live(at)? else { return Ok(None) };
        if live.number == number {
            return Err(Error::GenerationKept { at: at.clone(), number, role: "live" });
        }
        let previous = live.previous.is_some_and(|previous| previous.number == number);
        if !previous && self.control.built(at, number)? != Some(Built::Complete) {
            return Ok(None);
        }
        if !paths::holds_database(&path) {
            return Err(Error::GenerationMissing { at: at.clone(), number, path });
        }
        Generation::open(&self.root, slot, number, identity, views).map(Some)
    }

    /// Removes a generation that [`Store::create_shadow`] has made, and frees its space; waits while it is being made or
    /// closed. One that is gone already is no error. Refuses the live one, the previous one
    /// ([`Store::forget_previous`] is for that), and one that is open.
    pub fn drop_numbered(&self, at: &TopicPartition, number: u64) -> Result<(), Error> {
        let path = paths::generation(&paths::partition(&self.root.path, at)?, number);
        let Entered::Slot(slot) = self.root.slots.enter(&path) else {
            return Err(Error::GenerationOpen { at: at.clone(), number });
        };
        self.condemn(slot, at, number).map(|_| ())
    }

    /// Removes the generations that nobody will open any more: those whose making was not finished, those that were
    /// being removed, those that were replaced as the previous one, and those that are complete but not in `keep`. The
    /// live one, the previous one and those that are open stay, and so does a directory that the store never made.
    /// Answers the directories that are gone.
    pub fn sweep(&self, keep: &[(TopicPartition, u64)]) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        for (at, number) in self.control.all_built()? {
            let path = paths::generation(&paths::partition(&self.root.path, &at)?, number);
            // Whoever has it is making it, or reads it to the end.
            let Some(slot) = self.root.slots.try_enter(&path) else { continue };
            let kept = keep.iter().any(|(kept_at, kept)| *kept_at == at && *kept == number);
            if kept && self.control.built(&at, number)? == Some(Built::Complete) {
                continue;
            }
            if self.condemn(slot, &at, number)? {
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// Removes what the slot's directory holds; false when there is no such generation. Durable at each step, so that a
    /// directory without an entry never remains, and one that is partly gone is never opened.
    fn condemn(&self, slot: Slot, at: &TopicPartition, number: u64) -> Result<bool, Error> {
        let mut change = self.control.change();
        if let Some(live) = self.control.live(at)? {
            let previous = live.previous.is_some_and(|previous| previous.number == number);
            let role = if live.number == number { Some("live") } else { previous.then_some("previous") };
            if let Some(role) = role {
                return Err(Error::GenerationKept { at: at.clone(), number, role });
            }
        }
        let Some(built) = self.control.built(at, number)? else { return Ok(false) };
        if built != Built::Condemned {
            change.set_built(at, number, Some(Built::Condemned));
            change.write()?;
        } else {
            drop(change);
        }
        self.remove(slot, at, number).map(|()| true)
    }

    /// Removes the directory of a generation that is condemned, and then its entry.
    pub(super) fn remove(&self, slot: Slot, at: &TopicPartition, number: u64) -> Result<(), Error> {
        paths::remove_dir(slot.path())?;
        if let Some(partition) = slot.path().parent().filter(|partition| partition.is_dir()) {
            paths::sync_dir(partition)?;
        }
        let mut change = self.control.change();
        change.set_built(at, number, None);
        change.write()
    }
}
