//! When to try again: the one place that knows the `backoff` crate.
//!
//! `backoff` is unmaintained upstream (`deny.toml` has the advisory); behind this module it can be replaced in one file.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

use super::plan::RetryOptions;

/// The waits between the attempts at one event: exponential with jitter, up to a number of attempts.
pub struct Retry {
    waits: backoff::ExponentialBackoff,
    attempts: u32,
}

impl Retry {
    pub fn new(options: &RetryOptions) -> Self {
        let waits = ExponentialBackoffBuilder::new()
            .with_initial_interval(options.initial)
            .with_multiplier(options.factor)
            .with_max_interval(options.max)
            .with_randomization_factor(0.5)
            // The number of attempts is the bound, not the time since the first: it survives a restart.
            .with_max_elapsed_time(None)
            .build();
        Retry { waits, attempts: options.attempts }
    }

    /// After `made` failed attempts: how long to wait before the next, or `None` when that was the last.
    pub fn next(&mut self, made: u32) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        self.waits.next_backoff()
    }

    /// Starts again with the first wait: the event went in.
    pub fn succeeded(&mut self) {
        self.waits.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_until_the_attempts_are_used_up() {
        let options =
            RetryOptions { attempts: 4, initial: Duration::from_millis(100), factor: 2.0, max: Duration::from_secs(1) };
        let mut retry = Retry::new(&options);
        let waits: Vec<_> = (1..=4).map(|made| retry.next(made)).collect();
        assert!(waits[..3].iter().all(Option::is_some) && waits[3].is_none(), "{waits:?}");
        assert!(waits[2].unwrap() >= Duration::from_millis(200), "{waits:?}");
    }
}
