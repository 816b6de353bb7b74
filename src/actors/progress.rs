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
    seen: Option<((Offset, usize), Instant)>,
}

impl Observed {
    /// Looks at the progress; answers the event (offset and view number) that has been folding for `limit` or longer.
    pub fn overrun(&mut self, progress: &Progress, now: Instant, limit: Duration) -> Option<(Offset, usize)> {
        let Some(at) = progress.get() else {
            self.seen = None;
            return None;
        };
        match self.seen {
            Some((seen, since)) if seen == at => (now.duration_since(since) >= limit).then_some(at),
            _ => {
                self.seen = Some((at, now));
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
        assert_eq!(observed.overrun(&progress, start + limit, limit), None);
        assert_eq!(observed.overrun(&progress, start + 2 * limit, limit), Some((Offset(8), 0)));
        progress.idle();
        assert_eq!(observed.overrun(&progress, start + 9 * limit, limit), None);
    }
}
