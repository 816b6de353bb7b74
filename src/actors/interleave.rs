//! Widens the windows between the steps of the flow's protocol, so that a test meets the interleavings that are rare:
//! what descheduling, an `fsync`, a stalled write or a paused process do to it now and then.
//!
//! And loses shards, as a fault of the program would. Only a debug build can be told to; in a release build a step is
//! nothing.

use std::path::Path;
use std::time::Duration;

/// How wide.
#[derive(Clone, Copy, Debug)]
pub struct Widen {
    /// One step of so many sleeps.
    pub one_in: u32,
    /// For a random time, up to this.
    pub most: Duration,
}

#[cfg(debug_assertions)]
mod debug {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError, RwLock};
    use std::time::Duration;

    use super::{Lost, Widen};

    static WIDEN: RwLock<Option<Widen>> = RwLock::new(None);
    static STEPS: AtomicU64 = AtomicU64::new(0);

    static ANY_FAULTS: AtomicBool = AtomicBool::new(false);
    static FAULTS: Mutex<Vec<(PathBuf, Lost, u32)>> = Mutex::new(Vec::new());

    pub fn lose(below: &Path, which: Lost, times: u32) {
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|(path, lost, _)| (&**path, *lost) != (below, which));
        faults.push((below.to_owned(), which, times));
        ANY_FAULTS.store(true, Ordering::Relaxed);
    }

    /// Whether the shard at hand is to be lost.
    pub fn is_lost(store: &Path, which: Lost) -> bool {
        if !ANY_FAULTS.load(Ordering::Relaxed) {
            return false;
        }
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left =
            faults.iter_mut().filter(|(below, lost, left)| *lost == which && *left > 0 && store.starts_with(below));
        left.next().map(|(_, _, left)| *left -= 1).is_some()
    }

    pub fn set(widen: Option<Widen>) {
        *WIDEN.write().unwrap_or_else(PoisonError::into_inner) = widen;
    }

    /// How long the next step sleeps.
    pub fn next() -> Option<Duration> {
        let widen = (*WIDEN.read().unwrap_or_else(PoisonError::into_inner))?;
        // splitmix64: steps are random and cost no state.
        let mut random = STEPS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        random = (random ^ random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        random = (random ^ random >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        random ^= random >> 31;
        let sleeps = random.is_multiple_of(u64::from(widen.one_in.max(1)));
        sleeps.then(|| widen.most.mul_f64((random >> 32) as f64 / f64::from(u32::MAX)))
    }
}

/// From now on steps sleep, or do not. In a release build they never do.
pub fn widen(widen: Option<Widen>) {
    #[cfg(debug_assertions)]
    debug::set(widen);
    #[cfg(not(debug_assertions))]
    let _ = widen;
}

/// Which shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Home,
    Own,
}

/// So many of the next messages to such shards panic, of the partitions whose stores are below that directory. In a
/// release build none does.
pub fn lose(below: &Path, which: Lost, times: u32) {
    #[cfg(debug_assertions)]
    debug::lose(below, which, times);
    #[cfg(not(debug_assertions))]
    let _ = (below, which, times);
}

/// A shard has a message in hand.
#[inline(always)]
pub fn fault(store: &Path, which: Lost) {
    #[cfg(debug_assertions)]
    if debug::is_lost(store, which) {
        panic!("on purpose: a fault of the program");
    }
    #[cfg(not(debug_assertions))]
    let _ = (store, which);
}

/// A step on a thread that may block.
#[inline(always)]
pub fn step() {
    #[cfg(debug_assertions)]
    if let Some(sleep) = debug::next() {
        std::thread::sleep(sleep);
    }
}

/// A step of an actor.
#[inline(always)]
pub async fn step_async() {
    #[cfg(debug_assertions)]
    if let Some(sleep) = debug::next() {
        tokio::time::sleep(sleep).await;
    }
}
