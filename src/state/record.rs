//! What the control store says of generations, as bytes.

use crate::position::Timestamp;
use crate::state::codec::{Bytes, Malformed};

/// The version byte of a partition's entry. Version 1 had no previous generation, and its next number was one more than
/// that of the live one.
const LIVE: u8 = 2;

/// The version byte of the entry of a generation beside the live one.
const BUILT: u8 = 1;

/// The generation that was live before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    pub number: u64,
    /// When it stopped being live.
    pub since: Timestamp,
}

/// Which generation serves a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub number: u64,
    /// False while the first generation is being created: a crash in between leaves a directory that may be incomplete,
    /// and nothing in it counts yet.
    pub ready: bool,
    pub previous: Option<Previous>,
    /// The number that the next generation gets. A number is given once, whatever became of its generation.
    pub next: u64,
}

impl Live {
    pub fn first() -> Live {
        Live { number: 0, ready: false, previous: None, next: 1 }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut into = vec![LIVE];
        into.extend_from_slice(&self.number.to_be_bytes());
        into.push(self.ready.into());
        into.push(self.previous.is_some().into());
        if let Some(previous) = self.previous {
            into.extend_from_slice(&previous.number.to_be_bytes());
            into.extend_from_slice(&previous.since.0.to_be_bytes());
        }
        into.extend_from_slice(&self.next.to_be_bytes());
        into
    }

    pub fn decode(stored: &[u8]) -> Result<Live, Malformed> {
        let mut bytes = Bytes::new("live generation", stored);
        let version = bytes.u8()?;
        let (number, ready) = match version {
            1 | LIVE => (bytes.u64()?, bytes.u8()? != 0),
            _ => return Err(bytes.bad(format!("its version is {version}, and this program knows up to {LIVE}"))),
        };
        let too_large = |bytes: &Bytes<'_>| bytes.bad(format!("number {number} leaves none for the next generation"));
        let live = if version == 1 {
            let next = number.checked_add(1).ok_or_else(|| too_large(&bytes))?;
            Live { number, ready, previous: None, next }
        } else {
            let previous = match bytes.u8()? {
                0 => None,
                _ => Some(Previous { number: bytes.u64()?, since: Timestamp(bytes.i64()?) }),
            };
            let live = Live { number, ready, previous, next: bytes.u64()? };
            if live.next <= number {
                return Err(bytes.bad(format!("its next number {} is not above {number}", live.next)));
            }
            live
        };
        bytes.end()?;
        Ok(live)
    }
}

/// What a generation beside the live one is. Stored as its number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Built {
    /// Its number is given, and its directory may be incomplete.
    Begun = 1,
    /// It can be opened.
    Complete = 2,
    /// It is on its way out, and part of its directory may be gone.
    Condemned = 3,
}

impl Built {
    pub fn encode(self) -> [u8; 2] {
        [BUILT, self as u8]
    }

    pub fn decode(stored: &[u8]) -> Result<Built, Malformed> {
        let mut bytes = Bytes::new("generation beside the live one", stored);
        bytes.version(BUILT)?;
        let state = bytes.u8()?;
        let known = [Built::Begun, Built::Complete, Built::Condemned].into_iter().find(|one| *one as u8 == state);
        let built = known.ok_or_else(|| bytes.bad(format!("state {state} is unknown")))?;
        bytes.end()?;
        Ok(built)
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_1_is_read() {
        let live = Live::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 4, 1]).unwrap();
        assert_eq!(live, Live { number: 4, ready: true, previous: None, next: 5 });
    }

    /// The numbers on disk. A change here is a change of the format.
    #[test]
    fn the_bytes_are_what_they_were() {
        let previous = Some(Previous { number: 3, since: Timestamp(-1) });
        let mut want = vec![2, 0, 0, 0, 0, 0, 0, 0, 4, 1, 1, 0, 0, 0, 0, 0, 0, 0, 3];
        want.extend([255; 8]);
        want.extend([0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(Live { number: 4, ready: true, previous, next: 9 }.encode(), want);
        assert_eq!([Built::Begun, Built::Complete, Built::Condemned].map(Built::encode), [[1, 1], [1, 2], [1, 3]]);
    }

    proptest! {
        #[test]
        fn live_entries_round_trip(number in 0..u64::MAX, ready: bool, previous in option::of(any::<(u64, i64)>())) {
            let previous = previous.map(|(number, since)| Previous { number, since: Timestamp(since) });
            let live = Live { number, ready, previous, next: number + 1 };
            let stored = live.encode();
            prop_assert_eq!(Live::decode(&stored).unwrap(), live);
            for cut in 0..stored.len() {
                prop_assert!(Live::decode(&stored[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_break_a_decoder(bytes: Vec<u8>) {
            if let Ok(live) = Live::decode(&bytes) {
                prop_assert!(live.next > live.number);
            }
            let _ = Built::decode(&bytes).is_ok();
        }
    }
}
