//! How a supervisor sees that a fold is stuck, without a clock on the hot path: before each fold a shard stores which
//! event it is at (one relaxed store), and the partition looks now and then whether that has moved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::position::Offset;

/// The most views of a topic: a view's number has eight bits here.
pub const VIEWS_MAX: usize = 1 << VIEW_BITS;

const VIEW_BITS: u32 = 8;
const IDLE: u64 = u64::MAX;

/// Where a shard is. Shared between the shard and its partition.
#[derive(Debug)]
pub struct Progress(AtomicU64);

impl Default for Progress {
    fn default() -> Self {
        Progress(AtomicU64::new(IDLE))
    }
}

impl Progress {
    /// The shard is about to fold the event at `offset` into its view number `view` (below [`VIEWS_MAX`]).
    pub fn at(&self, offset: Offset, view: usize) {
        debug_assert!(view < VIEWS_MAX, "a node with so many views does not start");
        self.0.store(offset.0 << VIEW_BITS | (view % VIEWS_MAX) as u64, Ordering::Relaxed);
    }

    /// The shard is not folding.
    pub fn idle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    fn get(&self) -> Option<(Offset, usize)> {
        match self.0.load(Ordering::Relaxed) {
            IDLE => None,
            packed => Some((Offset(packed >> VIEW_BITS), packed as usize % VIEWS_MAX)),
        }
    }
}

/// The supervisor's memory of one shard's progress.
#[derive(Debug, Default)]
pub struct Observed {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    at: (Offset, usize),
    looked: Instant,
    /// For how long it has been seen to fold.
    folding: Duration,
}

impl Observed {
    /// Looks at the progress; answers the event (offset and view number) that has been folding for `limit` or longer.
    ///
    /// To be called four times a limit. What lies between two looks counts as a third of the limit at most: when the
    /// process was paused (SIGSTOP, a virtual machine that was moved), the folds were paused with it, and none of them
    /// hangs for that.
    pub fn overrun(&mut self, progress: &Progress, now: Instant, limit: Duration) -> Option<(Offset, usize)> {
        let Some(at) = progress.get() else {
            self.seen = None;
            return None;
        };
        match &mut self.seen {
            Some(seen) if seen.at == at => {
                seen.folding += now.duration_since(seen.looked).min(limit / 3);
                seen.looked = now;
                (seen.folding >= limit).then_some(at)
            }
            _ => {
                self.seen = Some(Seen { at, looked: now, folding: Duration::ZERO });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_of_a_topic_is_known_by_its_number() {
        let (progress, mut observed) = (Progress::default(), Observed::default());
        for view in 0..VIEWS_MAX {
            progress.at(Offset(7), view);
            assert_eq!(progress.get(), Some((Offset(7), view)));
        }
        let now = Instant::now();
        assert_eq!(observed.overrun(&progress, now, Duration::ZERO), None);
        assert_eq!(observed.overrun(&progress, now, Duration::ZERO), Some((Offset(7), VIEWS_MAX - 1)));
    }

    #[test]
    fn only_an_event_that_does_not_move_is_an_overrun() {
        let (progress, mut observed) = (Progress::default(), Observed::default());
        let (start, limit) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(observed.overrun(&progress, start, limit), None);
        progress.at(Offset(7), 1);
        assert_eq!(observed.overrun(&progress, start, limit), None);
        progress.at(Offset(8), 0);
        let look =
            |observed: &mut Observed, quarters: u32| observed.overrun(&progress, start + quarters * limit / 4, limit);
        assert_eq!((4..8).map(|quarters| look(&mut observed, quarters)).collect::<Vec<_>>(), [None; 4]);
        assert_eq!(look(&mut observed, 8), Some((Offset(8), 0)));
        progress.idle();
        assert_eq!(look(&mut observed, 36), None);
    }

    #[test]
    fn a_paused_process_makes_no_fold_hang() {
        let (progress, mut observed) = (Progress::default(), Observed::default());
        let (start, limit) = (Instant::now(), Duration::from_secs(1));
        progress.at(Offset(7), 0);
        assert_eq!(observed.overrun(&progress, start, limit), None);
        assert_eq!(observed.overrun(&progress, start + limit / 4, limit), None);
        assert_eq!(observed.overrun(&progress, start + 10 * limit, limit), None, "the pause");
        assert_eq!(observed.overrun(&progress, start + 10 * limit + limit / 4, limit), None);
        assert_eq!(observed.overrun(&progress, start + 10 * limit + limit / 2, limit), Some((Offset(7), 0)));
    }
}
