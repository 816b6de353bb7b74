//! Reads a partition of the log from one position to another, exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Travel, log_failed};
use crate::actors::replay::words::ReplayError;
use crate::position::{Position, TopicPartition};
use crate::record::RecordBatch;
use crate::streams::{Limit, Prefetch, Reader};

/// What is in memory at once, of one scan.
const BATCH: Limit = Limit { records: 4096, bytes: 4 << 20 };
const PREFETCH: Prefetch = Prefetch { bytes: 8 << 20 };
/// A log that gives nothing for so long although it has more is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a reader that had nothing: the first wait and the longest.
const WAIT: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// A scan under way.
pub(super) struct Scan {
    at: TopicPartition,
    /// `None` when there is nothing to read.
    reader: Option<Box<dyn Reader>>,
    position: Position,
    to: Position,
    stop: Arc<AtomicBool>,
    /// Records that were read.
    pub records: u64,
}

impl Travel<'_> {
    /// Reads `from..to` of one partition, but nothing from before the beginning of live's history, which has not seen it.
    /// `to` is not beyond the end of the log.
    pub(super) fn scan(&self, at: &TopicPartition, from: Position, to: Position) -> Result<Scan, ReplayError> {
        let from = from.max(self.began(at.partition));
        let mut reader = None;
        if from < to {
            let readers = self.log.readers(&at.topic, &[(at.partition, from)], PREFETCH);
            reader = readers.map_err(log_failed)?.pop();
        }
        Ok(Scan { at: at.clone(), reader, position: from, to, stop: self.stop.clone(), records: 0 })
    }
}

impl Scan {
    /// The next records, and how many of them lie below the end of the scan; `None` when all are read.
    pub fn next(&mut self) -> Result<Option<(RecordBatch, usize)>, ReplayError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let mut waited = Instant::now();
        let mut wait = WAIT.0;
        while self.position < self.to {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ReplayError::Stopping);
            }
            // Offsets rise by one at least: so many records and no more can lie below the end.
            let left = usize::try_from(self.position.lag_to(self.to)).unwrap_or(usize::MAX);
            match reader.drain(Limit { records: BATCH.records.min(left), ..BATCH }) {
                Ok(batch) => {
                    if batch.end() > self.position {
                        waited = Instant::now();
                    }
                    self.position = self.position.max(batch.end());
                    let below = below(&batch, self.to);
                    if below > 0 {
                        self.records += below as u64;
                        return Ok(Some((batch, below)));
                    }
                }
                Err(error) if error.retryable() => tracing::debug!(at = %self.at, %error, "cannot read; trying again"),
                Err(error) => return Err(log_failed(error)),
            }
            if self.position < self.to {
                if waited.elapsed() >= PATIENCE {
                    return Err(self.given_up());
                }
                std::thread::sleep(wait);
                wait = (wait * 2).min(WAIT.1);
            }
        }
        self.reader = None;
        Ok(None)
    }

    fn given_up(&self) -> ReplayError {
        ReplayError::Failed(format!(
            "{}: the log gave nothing for {} s at position {}, and {} was to be reached: see whether its brokers answer, \
             and ask again",
            self.at,
            PATIENCE.as_secs(),
            self.position,
            self.to
        ))
    }
}

/// How many records of the batch lie below `to`.
fn below(batch: &RecordBatch, to: Position) -> usize {
    if batch.end() <= to {
        return batch.len();
    }
    batch.iter().take_while(|record| to.is_past(record.offset)).count()
}
