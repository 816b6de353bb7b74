//! A view with moods: what it makes of an event depends on something outside of the log, as it would with a clock or a
//! damaged disk, and here a test has its hand on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use segno::event::EventMeta;
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};

use crate::views::Entry;

pub const MOODY: &str = "moody";

/// The mood in which a fold does not come back.
const HANGS: i64 = i64::MIN;

/// One for each test that needs one.
static MOODS: [AtomicI64; 8] = [const { AtomicI64::new(0) }; 8];

/// From here on folds of the view add so much to every amount.
pub fn set_mood<const N: usize>(mood: i64) {
    MOODS[N].store(mood, Ordering::SeqCst);
}

/// Folds hang until this is dropped.
pub struct Hanging<const N: usize>;

impl<const N: usize> Hanging<N> {
    pub fn begin() -> Hanging<N> {
        set_mood::<N>(HANGS);
        Hanging
    }
}

impl<const N: usize> Drop for Hanging<N> {
    fn drop(&mut self) {
        set_mood::<N>(0);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moody<const N: usize> {
    pub n: u64,
    pub total: i64,
}

impl<const N: usize> View for Moody<N> {
    const NAME: &'static str = MOODY;
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, event: &Entry, _: &EventMeta<'_>) -> Result<(), Reject> {
        let Entry::Add { amount, .. } = event else { return Ok(()) };
        let mood = || MOODS[N].load(Ordering::SeqCst);
        while mood() == HANGS {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.n += 1;
        self.total += amount + mood();
        Ok(())
    }
}

pub fn moody<const N: usize>() -> Arc<dyn Definition> {
    Arc::new(RustView::<Moody<N>>::new())
}
