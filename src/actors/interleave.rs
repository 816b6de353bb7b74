//! Widens the windows between the steps of the flow's protocol, so that a test meets the interleavings that are rare:
//! what descheduling, an `fsync`, a stalled write or a paused process do to it now and then.
//!
//! Only a debug build can be told to; in a release build a step is nothing.

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
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{PoisonError, RwLock};
    use std::time::Duration;

    use super::Widen;

    static WIDEN: RwLock<Option<Widen>> = RwLock::new(None);
    static STEPS: AtomicU64 = AtomicU64::new(0);

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
        let sleeps = random % u64::from(widen.one_in.max(1)) == 0;
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
