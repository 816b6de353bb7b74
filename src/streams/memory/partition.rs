//! One partition of the log in memory: its records, its ends, and the faults that a script has put on it.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use crate::position::{Offset, Position, Timestamp, TopicPartition};
use crate::record::{NewRecord, RecordBatch, pack_header};
use crate::streams::{Error, Limit, Result, TimeLookup, Volume, Watermarks};

#[derive(Default)]
pub(super) struct Partition {
    /// In offset order; offsets may have gaps.
    records: Vec<Record>,
    start: u64,
    end: u64,
    readers: Vec<Weak<Notify>>,
    pub faults: Faults,
}

struct Record {
    offset: u64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
}

impl Record {
    /// Bytes of key, value and headers.
    fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + self.headers.len()
    }
}

/// What a script makes of the reads of a partition.
#[derive(Default)]
pub(super) struct Faults {
    /// Errors of the next drains, oldest first.
    pub drains: Vec<Error>,
    /// Nothing at or after this position is handed out, although the end says that it is there.
    pub held_at: Option<u64>,
    /// At most so many records a drain, whatever the reader asks for.
    pub short: Option<usize>,
}

impl Partition {
    pub fn watermarks(&self) -> Watermarks {
        Watermarks { start: Position(self.start), end: Position(self.end) }
    }

    pub fn check_range(&self, at: &TopicPartition, position: Position) -> Result<()> {
        let Watermarks { start, end } = self.watermarks();
        if position < start || position > end {
            return Err(Error::OutOfRange { at: at.clone(), position, start, end });
        }
        Ok(())
    }

    /// Appends at `offset`, which must not be below the end, or at the end.
    pub fn push(&mut self, offset: Option<Offset>, record: NewRecord, now: i64) -> Offset {
        let offset = offset.map_or(self.end, |offset| offset.0);
        assert!(offset >= self.end, "offset {offset} is below the end {} of the partition", self.end);
        let mut headers = Vec::new();
        for (name, value) in &record.headers {
            pack_header(&mut headers, name.as_bytes(), value.as_deref());
        }
        let timestamp = record.timestamp.unwrap_or(now);
        self.records.push(Record { offset, timestamp, key: record.key, value: record.value, headers });
        self.end = offset + 1;
        Offset(offset)
    }

    pub fn push_gap(&mut self, offsets: u64) {
        self.end += offsets;
    }

    pub fn truncate_before(&mut self, position: Position) {
        self.start = self.start.max(position.0);
        self.end = self.end.max(self.start);
        let start = self.start;
        self.records.retain(|record| record.offset >= start);
    }

    pub fn position_at(&self, time: Timestamp) -> TimeLookup {
        match self.records.iter().find(|record| record.timestamp >= time.0) {
            Some(record) => {
                TimeLookup::Found { position: Position(record.offset), timestamp: Some(Timestamp(record.timestamp)) }
            }
            None => TimeLookup::AtEnd { position: Position(self.end) },
        }
    }

    pub fn volume(&self, from: Position, to: Position) -> Volume {
        let first = self.records.partition_point(|record| record.offset < from.0);
        let behind = self.records.partition_point(|record| record.offset < to.0).max(first);
        let counted = &self.records[first..behind];
        let bytes = counted.iter().map(|record| record.size() as u64).sum();
        Volume { records: counted.len() as u64, bytes: Some(bytes), exact: true }
    }

    /// What a reader at `position` gets now.
    pub fn drain(&mut self, at: &TopicPartition, position: Position, limit: Limit) -> Result<RecordBatch> {
        super::take_fault(&mut self.faults.drains)?;
        self.check_range(at, position)?;
        let until = self.faults.held_at.unwrap_or(u64::MAX).min(self.end).max(position.0);
        let most = limit.records.min(self.faults.short.unwrap_or(usize::MAX));
        let most_bytes = limit.bytes.min(RecordBatch::MOST_BYTES);
        let first = self.records.partition_point(|record| record.offset < position.0);
        let mut batch = RecordBatch::new(position);
        for record in self.records[first..].iter().take_while(|record| record.offset < until) {
            let size = record.size();
            if batch.len() >= most || (!batch.is_empty() && batch.bytes() + size > most_bytes) {
                return Ok(batch);
            }
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            batch.push(Offset(record.offset), Timestamp(record.timestamp), key, value, |into| {
                into.extend_from_slice(&record.headers);
            });
        }
        batch.advance_to(Position(until));
        Ok(batch)
    }

    pub fn add_reader(&mut self, ready: &Arc<Notify>) {
        self.readers.retain(|reader| reader.strong_count() > 0);
        self.readers.push(Arc::downgrade(ready));
    }

    pub fn wake(&mut self) {
        self.readers.iter().filter_map(Weak::upgrade).for_each(|ready| ready.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_moves_over_gaps_but_not_past_what_is_held() {
        let at = TopicPartition::new("t", 0);
        let mut partition = Partition::default();
        partition.push(None, NewRecord::default(), 1);
        partition.push_gap(4);
        partition.push(Some(Offset(7)), NewRecord::default(), 1);
        let limit = Limit { records: 10, bytes: 1000 };
        let all = partition.drain(&at, Position(0), limit).unwrap();
        assert_eq!((all.len(), all.end()), (2, Position(8)));
        partition.faults.held_at = Some(3);
        let held = partition.drain(&at, Position(0), limit).unwrap();
        assert_eq!((held.len(), held.end()), (1, Position(3)));
        assert_eq!(partition.drain(&at, Position(5), limit).unwrap().end(), Position(5));
    }
}
