//! How a record that was set aside is stored.

use crate::position::{Offset, Timestamp};
use crate::state::codec::{Bytes, Malformed, put_optional, put_slice};
use crate::state::delta::{Held, Reason, Standing, ViewTag};

/// The version byte at the head of a stored record.
const FORMAT: u8 = 1;

/// Appends the stored form.
pub fn encode(held: &Held, into: &mut Vec<u8>) {
    into.push(FORMAT);
    into.push(held.standing as u8);
    into.push(held.reason as u8);
    into.extend_from_slice(&held.view.0.to_be_bytes());
    into.extend_from_slice(&held.attempts.to_be_bytes());
    into.extend_from_slice(&held.offset.0.to_be_bytes());
    into.extend_from_slice(&held.timestamp.0.to_be_bytes());
    put_slice(into, held.detail.as_bytes());
    put_optional(into, held.key.as_deref());
    put_optional(into, held.value.as_deref());
    put_slice(into, &held.headers);
}

/// Reads the stored form.
pub fn decode(stored: &[u8]) -> Result<Held, Malformed> {
    let mut bytes = Bytes::new("held record", stored);
    bytes.version(FORMAT)?;
    let standing = standing(&mut bytes)?;
    let reason = bytes.u8()?;
    let reason = Reason::from_number(reason).ok_or_else(|| bytes.bad(format!("reason {reason} is unknown")))?;
    let held = Held {
        standing,
        reason,
        view: ViewTag(bytes.u16()?),
        attempts: bytes.u32()?,
        offset: Offset(bytes.u64()?),
        timestamp: Timestamp(bytes.i64()?),
        detail: bytes.text()?.to_owned(),
        key: bytes.optional()?.map(<[u8]>::to_vec),
        value: bytes.optional()?.map(<[u8]>::to_vec),
        headers: bytes.slice()?.to_vec(),
    };
    bytes.end()?;
    Ok(held)
}

/// Reads no more than where the record stands.
pub fn decode_standing(stored: &[u8]) -> Result<Standing, Malformed> {
    let mut bytes = Bytes::new("held record", stored);
    bytes.version(FORMAT)?;
    standing(&mut bytes)
}

fn standing(bytes: &mut Bytes<'_>) -> Result<Standing, Malformed> {
    let number = bytes.u8()?;
    [Standing::Waiting, Standing::Parked, Standing::Dead]
        .into_iter()
        .find(|standing| *standing as u8 == number)
        .ok_or_else(|| bytes.bad(format!("standing {number} is unknown")))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn held_records_round_trip(
            numbers: (u16, u32, u64, i64),
            standing in 1u8..=3,
            reason in 0usize..Reason::ALL.len(),
            detail: String,
            key in option::of(vec(any::<u8>(), 0..50)),
            value in option::of(vec(any::<u8>(), 0..50)),
            headers in vec(any::<u8>(), 0..50),
        ) {
            let held = Held {
                view: ViewTag(numbers.0),
                standing: [Standing::Waiting, Standing::Parked, Standing::Dead][standing as usize - 1],
                reason: Reason::ALL[reason],
                detail,
                attempts: numbers.1,
                offset: Offset(numbers.2),
                timestamp: Timestamp(numbers.3),
                key,
                value,
                headers,
            };
            let mut stored = Vec::new();
            encode(&held, &mut stored);
            prop_assert_eq!(decode_standing(&stored).unwrap(), held.standing);
            prop_assert_eq!(decode(&stored).unwrap(), held);
            for cut in 0..stored.len() {
                prop_assert!(decode(&stored[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_break_the_decoder(bytes: Vec<u8>) {
            let _ = decode(&bytes).is_ok();
        }
    }
}
