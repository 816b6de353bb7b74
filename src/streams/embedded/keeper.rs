//! The thread behind an open embedded log: fsync at its interval, retention once a minute.
//!
//! It holds the log only while it works, so that a log that is dropped without a word is closed all the same.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::{EmbeddedOptions, Fsync, Inner, clock};
use crate::position::Timestamp;
use crate::streams::{Error, Result};

const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// Ends the thread when it is dropped or told to.
#[derive(Clone)]
pub(super) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub fn new() -> Stop {
        Stop(Arc::new((Mutex::new(false), Condvar::new())))
    }

    pub fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits; true when it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Starts the thread when the options ask for anything that it does.
pub(super) fn start(log: &Arc<Inner>) -> Result<()> {
    let options = &log.options;
    let retains = options.retention_time.is_some() || options.retention_bytes.is_some();
    let sync_every = match options.fsync {
        Fsync::Interval(every) => Some(every.max(Duration::from_millis(1))),
        Fsync::Always | Fsync::Never => None,
    };
    let Some(tick) = sync_every.or(retains.then_some(RETENTION_EVERY)) else {
        return Ok(());
    };
    let (log, stop) = (Arc::downgrade(log), log.stop.clone());
    thread::Builder::new()
        .name("segno-log".into())
        .spawn(move || keep(&log, &stop, tick.min(RETENTION_EVERY), RETENTION_EVERY))
        .map(|_| ())
        .map_err(|e| Error::Storage { reason: format!("cannot start the log's thread: {e}") })
}

pub(super) fn keep(log: &Weak<Inner>, stop: &Stop, tick: Duration, retain_every: Duration) {
    let mut retained = Instant::now();
    while !stop.wait(tick) {
        let Some(log) = log.upgrade() else { return };
        if log.check_open().is_err() {
            return;
        }
        log.sync_if_needed();
        if retained.elapsed() >= retain_every {
            retained = Instant::now();
            retain(&log);
        }
    }
}

fn retain(log: &Inner) {
    match log.enforce_retention(Timestamp(clock())) {
        Ok(removed) => {
            for r in removed {
                tracing::info!(at = %r.at, from = %r.from, start = %r.start, bytes = r.bytes, "retention moved the log's start");
            }
        }
        Err(Error::Closed) => {}
        Err(e) => tracing::error!(error = %e, "retention failed; it will be tried again in a minute"),
    }
}

/// What an interval policy owes to the disk.
impl Inner {
    fn sync_if_needed(&self) {
        let Fsync::Interval(_) = self.options.fsync else { return };
        if !self.take_unsynced() {
            return;
        }
        match self.store().and_then(|store| store.sync()) {
            Ok(()) | Err(Error::Closed) => {}
            Err(e) => {
                tracing::error!(error = %e, "the embedded log takes no more appends");
                self.fail(&e);
            }
        }
    }
}

/// A log's options, checked before anything is touched.
pub(super) fn check(options: &EmbeddedOptions) -> Result<()> {
    let refuse = |what: &str| Err(Error::Other(format!("the embedded log cannot be opened: {what}")));
    if options.default_partitions == 0 {
        return refuse("a topic has at least one partition, and the default is 0");
    }
    if options.index_records == 0 {
        return refuse("a block of the time index has at least one record, and 0 are asked for");
    }
    if options.max_record_bytes == 0 || options.max_record_bytes > super::MAX_RECORD_BYTES {
        return refuse("the largest record must have between 1 byte and 256 MiB");
    }
    Ok(())
}
