//! Looks for a time by reading: slow, and right where the broker's own look-up is not.

use std::thread;
use std::time::{Duration, Instant};

use crate::position::{Position, Timestamp};
use crate::streams::{Error, Limit, Reader, Result, TimeLookup};

const LIMIT: Limit = Limit { records: 16_384, bytes: 8 << 20 };
const PAUSE: Duration = Duration::from_millis(2);

/// The first record at or after `time`, between where the reader stands and `end`. Fails after `patience` without
/// progress.
pub(super) fn first_at(
    reader: &mut dyn Reader,
    end: Position,
    time: Timestamp,
    patience: Duration,
) -> Result<TimeLookup> {
    let mut progress = Instant::now();
    while reader.position() < end {
        let before = reader.position();
        let batch = reader.drain(LIMIT)?;
        if let Some(record) = batch.iter().find(|record| record.timestamp >= time) {
            let position = Position(record.offset.0);
            // It was appended after the end was taken: then there is none before the end.
            let found = TimeLookup::Found { position, timestamp: Some(record.timestamp) };
            return Ok(if position < end { found } else { TimeLookup::AtEnd { position: end } });
        }
        if reader.position() > before {
            progress = Instant::now();
        } else if progress.elapsed() > patience {
            let stands = reader.position();
            return Err(Error::Other(format!("looking for {time} by reading: no progress at position {stands}")));
        } else {
            thread::sleep(PAUSE);
        }
    }
    Ok(TimeLookup::AtEnd { position: end })
}
