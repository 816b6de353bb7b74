//! What a log stores, in the shape in which it travels: a [`RecordBatch`] owns the bytes of all its records in one
//! buffer, so that a record costs no allocation and its bytes are copied once, from the log's buffer into the batch.

use std::ops::Range;

use crate::position::{Offset, Position, Timestamp};

/// A header's name and its value; Kafka allows a header without a value.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// A record that lives in somebody else's buffer.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub offset: Offset,
    pub timestamp: Timestamp,
    /// `None` is Kafka's null key, which is not the same as an empty one.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// The headers in the order of the log. A name that is not UTF-8 is shown with replacement characters lost: such
    /// headers are left out, for Kafka's protocol declares header names to be UTF-8.
    pub fn headers(&self) -> Headers<'a> {
        Headers { rest: self.headers }
    }

    /// The first header of that name that has a value.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(n, v)| *n == name && v.is_some()).and_then(|(_, v)| v)
    }

    /// The headers in their packed form, to be stored beside the record and read again with [`Headers::unpack`].
    pub fn packed_headers(&self) -> &'a [u8] {
        self.headers
    }

    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.len()
    }

    /// A record made of parts, for tests and for records that come back from the store.
    pub fn from_parts(
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        packed_headers: &'a [u8],
    ) -> Self {
        RecordRef { offset, timestamp, key, value, headers: packed_headers }
    }
}

/// Iterator over packed headers: `name length u32, name, value length u32 (MAX = null), value`, little-endian.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads headers that [`pack_header`] wrote. A torn tail ends the iteration.
    pub fn unpack(packed: &'a [u8]) -> Self {
        Headers { rest: packed }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        Some(head)
    }

    fn take_len(&mut self) -> Option<u32> {
        self.take(4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        loop {
            let name_len = self.take_len()?;
            let name = self.take(name_len as usize)?;
            let value = match self.take_len()? {
                u32::MAX => None,
                len => Some(self.take(len as usize)?),
            };
            if let Ok(name) = std::str::from_utf8(name) {
                return Some((name, value));
            }
        }
    }
}

/// Appends one header in packed form.
pub fn pack_header(into: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    into.extend_from_slice(&(name.len() as u32).to_le_bytes());
    into.extend_from_slice(name);
    match value {
        None => into.extend_from_slice(&u32::MAX.to_le_bytes()),
        Some(value) => {
            into.extend_from_slice(&(value.len() as u32).to_le_bytes());
            into.extend_from_slice(value);
        }
    }
}

/// A record on its way into a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// `None` lets the log choose: the murmur2 hash of the key, or round robin without one.
    pub partition: Option<u32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the epoch; `None` is the time of the append.
    pub timestamp: Option<i64>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Where the parts of a record are in its batch's buffer.
#[derive(Clone, Debug)]
struct Slot {
    offset: Offset,
    timestamp: Timestamp,
    start: u32,
    key_len: u32,
    value_len: u32,
    headers_len: u32,
}

/// Marks a null key or value in a slot.
const NULL: u32 = u32::MAX;

/// Records of one partition in offset order, with their bytes in one buffer.
///
/// Memory: the buffer (key + value + headers of each record) and 32 bytes a record.
#[derive(Clone, Debug, Default)]
pub struct RecordBatch {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    end: Position,
}

impl RecordBatch {
    /// The most bytes that readers put into a batch, unless its first record alone has more. Slots have 32 bits for a
    /// place in the buffer, and no log has a record of 3 GiB: so none wraps.
    pub const MOST_BYTES: usize = 1 << 30;

    /// A batch that begins at `start`: without a record it says "the reader stands at `start`".
    pub fn new(start: Position) -> Self {
        RecordBatch { bytes: Vec::new(), slots: Vec::new(), end: start }
    }

    pub fn with_capacity(start: Position, records: usize, bytes: usize) -> Self {
        RecordBatch { bytes: Vec::with_capacity(bytes), slots: Vec::with_capacity(records), end: start }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The position after this batch. It may lie beyond `last offset + 1`, where a log has gaps.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Moves the end over a gap: control records, aborted transactions, compacted offsets. Never moves it back.
    pub fn advance_to(&mut self, end: Position) {
        self.end = self.end.max(end);
    }

    /// Copies a record in. Offsets must rise; `debug_assert` checks it (law *Order*).
    ///
    /// # Panics
    /// When the buffer would pass 4 GiB: a reader has not kept to [`RecordBatch::MOST_BYTES`], and the slots would name
    /// the bytes of other records.
    pub fn push(
        &mut self,
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl FnOnce(&mut Vec<u8>),
    ) {
        debug_assert!(Position(offset.0) >= self.end, "Order: offset {offset} after position {}", self.end);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let headers_start = self.bytes.len();
        headers(&mut self.bytes);
        assert!(self.bytes.len() < NULL as usize, "a batch of 4 GiB: its reader must end it earlier");
        self.slots.push(Slot {
            offset,
            timestamp,
            start: start as u32,
            key_len: key.map_or(NULL, |k| k.len() as u32),
            value_len: value.map_or(NULL, |v| v.len() as u32),
            headers_len: (self.bytes.len() - headers_start) as u32,
        });
        self.end = offset.next();
    }

    /// The record at `index` of this batch (not its offset).
    pub fn get(&self, index: usize) -> RecordRef<'_> {
        let slot = &self.slots[index];
        let present = |len: u32| if len == NULL { 0 } else { len as usize };
        let key: Range<usize> = slot.start as usize..slot.start as usize + present(slot.key_len);
        let value = key.end..key.end + present(slot.value_len);
        let headers = value.end..value.end + slot.headers_len as usize;
        RecordRef {
            offset: slot.offset,
            timestamp: slot.timestamp,
            key: (slot.key_len != NULL).then(|| &self.bytes[key]),
            value: (slot.value_len != NULL).then(|| &self.bytes[value]),
            headers: &self.bytes[headers],
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_pushed() {
        let mut batch = RecordBatch::new(Position(5));
        batch.push(Offset(5), Timestamp(10), Some(b"k"), Some(b"value"), |_| {});
        batch.push(Offset(9), Timestamp(11), None, None, |h| {
            pack_header(h, b"type", Some(b"Opened"));
            pack_header(h, b"empty", None);
        });
        batch.push(Offset(10), Timestamp::NONE, Some(b""), Some(b""), |_| {});
        assert_eq!(batch.end(), Position(11));
        let records: Vec<_> = batch.iter().collect();
        assert_eq!((records[0].key, records[0].value), (Some(&b"k"[..]), Some(&b"value"[..])));
        assert_eq!((records[1].key, records[1].value), (None, None));
        assert_eq!(records[1].header("type"), Some(&b"Opened"[..]));
        assert_eq!(records[1].headers().count(), 2);
        assert_eq!((records[2].key, records[2].value), (Some(&b""[..]), Some(&b""[..])));
    }

    #[test]
    #[should_panic(expected = "a batch of 4 GiB")]
    fn places_in_a_batch_never_wrap() {
        let mut batch = RecordBatch::new(Position(0));
        batch.push(Offset(0), Timestamp(0), Some(b"k"), None, |_| {});
        // Pages that nobody touches cost nothing.
        batch.push(Offset(1), Timestamp(0), None, None, |bytes| *bytes = vec![0; 1 << 32]);
        batch.push(Offset(2), Timestamp(0), Some(b"key"), None, |_| {});
        assert_eq!(batch.get(2).key, Some(&b"key"[..]));
    }

    #[test]
    fn an_end_moves_over_gaps_and_never_back() {
        let mut batch = RecordBatch::new(Position(5));
        batch.advance_to(Position(8));
        batch.advance_to(Position(2));
        assert_eq!(batch.end(), Position(8));
    }
}
