//! The bytes of a stored record.
//!
//! ```text
//! format u8 = 1, checksum u64, timestamp i64, key length u32, value length u32, key, value, packed headers
//! ```
//!
//! Numbers are little-endian; a length of `u32::MAX` is a null. The checksum (xxh3, 64 bits) covers all that follows
//! it. RocksDB has checksums of its own; this one also sees what goes wrong between our hands and RocksDB's.

use xxhash_rust::xxh3::xxh3_64;

use crate::record::{NewRecord, pack_header};

const FORMAT: u8 = 1;
const CHECKSUM: usize = 1;
const TIMESTAMP: usize = 9;
const KEY_LEN: usize = 17;
const VALUE_LEN: usize = 21;
const BODY: usize = 25;
const NULL: u32 = u32::MAX;

/// A record as it lies in RocksDB's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [u8],
}

/// Bytes of key, value and packed headers: what limits and retention count.
pub(super) fn size_of(record: &NewRecord) -> usize {
    let header = |(name, value): &(String, Option<Vec<u8>>)| 8 + name.len() + value.as_ref().map_or(0, Vec::len);
    record.key.as_ref().map_or(0, Vec::len)
        + record.value.as_ref().map_or(0, Vec::len)
        + record.headers.iter().map(header).sum::<usize>()
}

/// The same count for a record as stored.
pub(super) fn size_of_stored(stored: &[u8]) -> usize {
    stored.len().saturating_sub(BODY)
}

/// Writes the stored form of `record` over whatever `into` holds.
pub(super) fn encode(record: &NewRecord, timestamp: i64, into: &mut Vec<u8>) {
    into.clear();
    into.push(FORMAT);
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&timestamp.to_le_bytes());
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(NULL, |b| b.len() as u32);
    into.extend_from_slice(&length(&record.key).to_le_bytes());
    into.extend_from_slice(&length(&record.value).to_le_bytes());
    into.extend_from_slice(record.key.as_deref().unwrap_or_default());
    into.extend_from_slice(record.value.as_deref().unwrap_or_default());
    for (name, value) in &record.headers {
        pack_header(into, name.as_bytes(), value.as_deref());
    }
    let checksum = xxh3_64(&into[TIMESTAMP..]);
    into[CHECKSUM..TIMESTAMP].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a stored record and verifies it; the error says what is wrong with it.
pub(super) fn decode(stored: &[u8]) -> Result<Stored<'_>, &'static str> {
    let record = parse(stored)?;
    let checksum = u64::from_le_bytes(array(stored, CHECKSUM)?);
    if xxh3_64(&stored[TIMESTAMP..]) != checksum {
        return Err("its checksum does not match its bytes");
    }
    Ok(record)
}

/// Reads a stored record without looking at its checksum: a flipped bit is for the reader of the record to report, and
/// must not keep the whole log from opening.
pub(super) fn parse<'a>(stored: &'a [u8]) -> Result<Stored<'a>, &'static str> {
    match stored.first() {
        Some(&FORMAT) => {}
        Some(_) => return Err("its record format is unknown to this program"),
        None => return Err("it is empty"),
    }
    let timestamp = i64::from_le_bytes(array(stored, TIMESTAMP)?);
    let key_len = u32::from_le_bytes(array(stored, KEY_LEN)?);
    let value_len = u32::from_le_bytes(array(stored, VALUE_LEN)?);
    let mut rest = &stored[BODY..];
    let mut part = |len: u32| -> Result<Option<&'a [u8]>, &'static str> {
        if len == NULL {
            return Ok(None);
        }
        let (head, tail) = rest.split_at_checked(len as usize).ok_or("it is shorter than its lengths say")?;
        rest = tail;
        Ok(Some(head))
    };
    let key = part(key_len)?;
    let value = part(value_len)?;
    Ok(Stored { timestamp, key, value, headers: rest })
}

fn array<const N: usize>(stored: &[u8], at: usize) -> Result<[u8; N], &'static str> {
    stored.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or("it is shorter than a record can be")
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::record::Headers;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..40)
    }

    prop_compose! {
        fn record()(
            key in option::of(bytes()),
            value in option::of(bytes()),
            headers in proptest::collection::vec((".{0,6}", option::of(bytes())), 0..4),
        ) -> NewRecord {
            NewRecord { key, value, headers, ..NewRecord::default() }
        }
    }

    proptest! {
        #[test]
        fn a_record_survives_the_round_trip(record in record(), timestamp: i64) {
            let mut stored = vec![9; 3];
            encode(&record, timestamp, &mut stored);
            let back = decode(&stored).unwrap();
            prop_assert_eq!(back.timestamp, timestamp);
            prop_assert_eq!(back.key, record.key.as_deref());
            prop_assert_eq!(back.value, record.value.as_deref());
            let headers: Vec<_> =
                Headers::unpack(back.headers).map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(headers, record.headers.clone());
            prop_assert_eq!(size_of_stored(&stored), size_of(&record));
        }

        #[test]
        fn every_flipped_bit_is_seen(record in record(), timestamp: i64, at: prop::sample::Index, bit in 0_u32..8) {
            let mut stored = Vec::new();
            encode(&record, timestamp, &mut stored);
            let at = at.index(stored.len());
            stored[at] ^= 1_u8 << bit;
            prop_assert!(decode(&stored).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(stored in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&stored);
            let mut stored = stored;
            if let Some(first) = stored.first_mut() {
                *first = FORMAT;
            }
            let _ = decode(&stored);
        }
    }
}
