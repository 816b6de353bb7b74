//! Which generations are open in this process: a directory is opened, read, built or removed by one at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::state::generation::Generation;
use crate::state::meta::StoredView;

/// What an open generation shows without being held: whoever looks does not keep it open.
pub(crate) struct Shown {
    /// In the order in which they were given on opening.
    pub views: Vec<StoredView>,
    /// Everything below this position is applied and visible to readers.
    pub applied: AtomicU64,
}

/// The directories that somebody has.
#[derive(Default)]
pub(crate) struct Slots {
    taken: Mutex<HashMap<PathBuf, Taken>>,
    changed: Condvar,
}

enum Taken {
    /// Being opened, built, read or removed.
    Busy,
    /// Open as long as somebody holds it; when nobody does, it is being closed.
    Open(Weak<Generation>, Arc<Shown>),
}

/// A directory that is one's own until this is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    path: PathBuf,
}

/// What became of the wish for a directory.
pub(crate) enum Entered {
    Slot(Slot),
    /// Somebody has the generation open.
    Open(Arc<Shown>),
}

impl Slots {
    /// Takes the directory. Waits while it is being opened, closed, built or removed, so nobody may hold a change of the
    /// control store here: those who are waited for may want to write theirs.
    pub fn enter(self: &Arc<Slots>, path: &Path) -> Entered {
        let mut taken = self.taken();
        loop {
            match taken.get(path) {
                None => return Entered::Slot(self.take(&mut taken, path)),
                Some(Taken::Open(held, shown)) if held.strong_count() > 0 => return Entered::Open(Arc::clone(shown)),
                Some(_) => taken = self.changed.wait(taken).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Takes the directory if nobody has it.
    pub fn try_enter(self: &Arc<Slots>, path: &Path) -> Option<Slot> {
        let mut taken = self.taken();
        (!taken.contains_key(path)).then(|| self.take(&mut taken, path))
    }

    fn take(self: &Arc<Slots>, taken: &mut HashMap<PathBuf, Taken>, path: &Path) -> Slot {
        taken.insert(path.to_owned(), Taken::Busy);
        Slot { slots: Arc::clone(self), path: path.to_owned() }
    }

    /// Each change of the table is one call: a panic leaves no half of one behind.
    fn taken(&self) -> MutexGuard<'_, HashMap<PathBuf, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The generation, which holds the slot itself, is open from now on.
    pub fn open(&self, generation: &Arc<Generation>, shown: &Arc<Shown>) {
        let open = Taken::Open(Arc::downgrade(generation), Arc::clone(shown));
        self.slots.taken().insert(self.path.clone(), open);
        self.slots.changed.notify_all();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken().remove(&self.path);
        self.slots.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_at_a_time_has_a_directory() {
        let slots = Arc::new(Slots::default());
        let (a, b) = (Path::new("a"), Path::new("b"));
        let first = slots.try_enter(a).unwrap();
        assert!(slots.try_enter(a).is_none());
        assert!(slots.try_enter(b).is_some());
        let waiting = thread::spawn({
            let slots = Arc::clone(&slots);
            move || matches!(slots.enter(Path::new("a")), Entered::Slot(_))
        });
        drop(first);
        assert!(waiting.join().unwrap());
        assert!(slots.try_enter(a).is_some());
    }
}
