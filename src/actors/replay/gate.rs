//! What all rebuilds of a job share: how fast they may go, and whether they may go on at all.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A cap on the rate is kept over stretches of this length: so much may be taken at once, and is waited for afterwards.
const STRETCH: Duration = Duration::from_millis(50);
/// How long a wait for records goes before the gate is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// Shared by all rebuilds of a job.
#[derive(Debug)]
pub struct Gate {
    /// Records a second, over all rebuilds.
    rate: Option<u64>,
    /// The cap does not count any more.
    lifted: AtomicBool,
    /// When the records that were let through so far are paid for.
    paid: Mutex<Option<Instant>>,
    /// Bits of the share of time that a rebuild works.
    share: AtomicU64,
    stopped: AtomicBool,
    changed: Condvar,
}

impl Gate {
    /// `rate`: the most records a second, over all rebuilds of the job; `None`: no cap.
    pub fn new(rate: Option<u64>) -> Arc<Gate> {
        Arc::new(Gate {
            rate: rate.map(|rate| rate.max(1)),
            lifted: AtomicBool::new(false),
            paid: Mutex::new(None),
            share: AtomicU64::new(1f64.to_bits()),
            stopped: AtomicBool::new(false),
            changed: Condvar::new(),
        })
    }

    /// The share of the time that each rebuild works: 1.0 is full speed, 0.0 stands still until it is raised.
    pub fn set_throttle(&self, share: f64) {
        let _held = self.paid();
        self.share.store(share.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Gives up the cap on the rate: live stands still and waits for the rest.
    pub fn lift_cap(&self) {
        let _held = self.paid();
        self.lifted.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    fn rate(&self) -> Option<u64> {
        self.rate.filter(|_| !self.lifted.load(Ordering::Relaxed))
    }

    /// Ends all runs at their next batch, for good. What they have folded is committed first.
    pub fn stop(&self) {
        let _held = self.paid();
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// How many of `wanted` records a rebuild should take at once, so that a cap on the rate does not come in gulps.
    pub(super) fn portion(&self, wanted: usize) -> usize {
        let portion = |rate: u64| (rate as f64 * STRETCH.as_secs_f64()) as usize;
        self.rate().map_or(wanted, |rate| portion(rate).clamp(1, wanted.max(1)))
    }

    /// Holds a rebuild back after it has folded so many records since `began`, as rate and throttle say.
    pub(super) fn pace(&self, records: usize, began: Instant) {
        let share = || f64::from_bits(self.share.load(Ordering::Relaxed));
        if self.rate().is_none() && share() >= 1.0 {
            return;
        }
        let worked = began.elapsed();
        let mut paid = self.paid();
        let mut until = began;
        if let Some(rate) = self.rate() {
            let floor = Instant::now().checked_sub(STRETCH).unwrap_or(began);
            let from = paid.map_or(floor, |paid| paid.max(floor));
            until = from + Duration::from_secs_f64(records as f64 / rate as f64);
            *paid = Some(until);
        }
        while !self.stopped() {
            let now = Instant::now();
            let throttled = match share() {
                share if share >= 1.0 => began,
                // Nothing ends this wait but a change.
                share if share <= 0.0 => now + Duration::from_secs(3600),
                share => began + Duration::try_from_secs_f64(worked.as_secs_f64() / share).unwrap_or(Duration::MAX / 4),
            };
            let until = if self.rate().is_some() { until } else { began };
            let left = until.max(throttled).saturating_duration_since(now);
            if left.is_zero() {
                return;
            }
            paid = self.changed.wait_timeout(paid, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits, unless the job is stopped. Answers whether it may go on.
    pub(super) fn sleep(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut held = self.paid();
        while !self.stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            held = self.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn paid(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread until a reader says that something may be ready, but not long.
pub(super) fn wait_ready(ready: &Notify) {
    let until = Instant::now() + LOOK;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut notified = pin!(ready.notified());
    while notified.as_mut().poll(&mut context) == Poll::Pending {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// How far a rebuild is. Read by status at any time.
#[derive(Debug, Default)]
pub struct Gauge {
    /// What is folded.
    pub position: AtomicU64,
    /// What would survive a crash.
    pub durable: AtomicU64,
    /// Records folded since the rebuild was made, those that were folded again after a fold had hung included.
    pub records: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_holds_over_all_who_share_the_gate() {
        let gate = Gate::new(Some(10_000));
        assert_eq!(gate.portion(16_384), 500);
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..3).for_each(|_| gate.pace(500, Instant::now())));
            }
        });
        // 3,000 records at 10,000 a second, of which one stretch is given in advance.
        assert!(began.elapsed() >= Duration::from_millis(245), "{:?}", began.elapsed());
    }

    #[test]
    fn a_throttle_stands_still_until_it_is_raised_or_the_job_stops() {
        let gate = Gate::new(None);
        for stop in [false, true] {
            gate.set_throttle(0.0);
            let began = Instant::now();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| gate.pace(1, began));
                thread::sleep(Duration::from_millis(30));
                assert!(!waiting.is_finished());
                if stop { gate.stop() } else { gate.set_throttle(1.0) }
            });
        }
        assert!(!gate.sleep(Duration::from_secs(60)));
    }

    #[test]
    fn a_wait_ends_with_a_permit_that_is_already_there() {
        let ready = Notify::new();
        ready.notify_one();
        let began = Instant::now();
        wait_ready(&ready);
        assert!(began.elapsed() < LOOK);
        wait_ready(&ready);
        assert!(began.elapsed() >= LOOK);
    }
}
