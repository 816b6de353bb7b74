//! How many bytes lie ahead of a reader, judged by the first of them.

use std::thread;
use std::time::{Duration, Instant};

use crate::position::Position;
use crate::streams::{Limit, Prefetch, Reader, Result};

/// Read-ahead of a sample.
pub(super) const SAMPLE: Prefetch = Prefetch { bytes: 1 << 20 };
/// A sample ends with as many records or bytes.
const ENOUGH: Limit = Limit { records: 2_000, bytes: 1 << 20 };
const PAUSE: Duration = Duration::from_millis(2);

/// Bytes from where the reader stands to `to`. `None` when nothing could be sampled within `patience`.
///
/// Bytes are counted by position and not by record, so that offsets without a record weigh as they do in the sample.
pub(super) fn estimate(reader: &mut dyn Reader, to: Position, patience: Duration) -> Result<Option<u64>> {
    let from = reader.position();
    let deadline = Instant::now() + patience;
    let (mut records, mut bytes) = (0, 0);
    while reader.position() < to && records < ENOUGH.records && bytes < ENOUGH.bytes {
        let batch = reader.drain(ENOUGH)?;
        records += batch.len();
        bytes += batch.bytes();
        if batch.is_empty() {
            // A few are enough when more are slow to come.
            if records > 0 || Instant::now() >= deadline {
                break;
            }
            thread::sleep(PAUSE);
        }
    }
    let read = from.lag_to(reader.position());
    if read == 0 {
        return Ok(None);
    }
    let all = bytes as u128 * u128::from(from.lag_to(to)) / u128::from(read);
    Ok(Some(u64::try_from(all).unwrap_or(u64::MAX)))
}
