//! The digest of a view: the sum, modulo 2^128, of one hash per row.
//!
//! A sum does not depend on the order of its terms, so a row that changes costs one subtraction and one addition, and
//! two stores that hold the same rows have the same digest whatever their files look like. It tells apart what chance
//! and bugs do, not what an adversary does.

use xxhash_rust::xxh3::xxh3_128;

use crate::state::delta::ViewTag;
use crate::state::keys::{self, StoredRow};

/// The hash of one stored row: xxh3-128 over the hashes of its two parts, so that no byte can move between key and
/// value unseen.
pub fn row(stored_key: &[u8], stored_value: &[u8]) -> u128 {
    let mut parts = [0; 32];
    parts[..16].copy_from_slice(&xxh3_128(stored_key).to_be_bytes());
    parts[16..].copy_from_slice(&xxh3_128(stored_value).to_be_bytes());
    xxh3_128(&parts)
}

/// The hash of a row that was read from the store.
pub fn stored(view: ViewTag, key: &[u8], stored: &StoredRow<'_>) -> u128 {
    let (mut stored_key, mut stored_value) = (Vec::new(), Vec::new());
    keys::row_key(view, key, &mut stored_key);
    keys::row_value_header(stored.offset, stored.timestamp, &mut stored_value);
    stored_value.extend_from_slice(stored.json);
    row(&stored_key, &stored_value)
}

/// What names a definition: the hash of its text.
pub fn text(text: &str) -> u128 {
    xxh3_128(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored digests depend on this function: its values never change. Computed with Python's `xxhash`.
    #[test]
    fn the_values_are_what_they_were() {
        assert_eq!(row(b"", b""), 0x5903_5011_9ab0_222f_0424_5739_b856_3505);
        assert_eq!(row(b"\x00\x00key", b"value"), 0x8adf_3c58_8ae6_3fa6_8083_953d_db67_0122);
    }

    #[test]
    fn a_byte_that_moves_is_seen() {
        assert_ne!(row(b"ab", b"c"), row(b"a", b"bc"));
        let (x, y) =
            (row(b"k1", b"v1").wrapping_add(row(b"k2", b"v2")), row(b"k1", b"v2").wrapping_add(row(b"k2", b"v1")));
        assert_ne!(x, y);
    }
}
