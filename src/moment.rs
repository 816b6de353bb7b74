//! A moment of the calendar: years 1 to 9999 in UTC, with nanoseconds. That is what RFC 3339 can write and CEL can hold,
//! and it is the one range of times in this program.
//!
//! jiff's own `Timestamp` ends 26 hours earlier, and 9999-12-31T23:59:59Z is how many a system writes "without end".

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};
use jiff::fmt::temporal::Pieces;
use serde::{Serialize, Serializer};

/// A date and time in UTC, from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z. Its text is RFC 3339 with as many
/// decimals as it needs, or as many as a precision asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(DateTime);

/// Why a text is no [`Moment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an instant of the years 1 to 9999: write a date, a time and an offset, such as 1970-01-01T00:00:00Z")]
pub struct NotAMoment;

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

impl Moment {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Moment = Moment(EPOCH);

    /// The milliseconds since the epoch that are moments.
    pub const MILLIS: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

    fn in_range(utc: DateTime) -> Option<Moment> {
        // Later than 9999 there is nothing that jiff could hold.
        (utc.year() >= 1).then_some(Moment(utc))
    }

    /// Milliseconds since the epoch.
    pub fn from_millis(millis: i64) -> Option<Moment> {
        Moment::in_range(EPOCH.checked_add(SignedDuration::from_millis(millis)).ok()?)
    }

    /// Seconds since the epoch and, counted up from there, nanoseconds. A leap second, which some write as a billion and
    /// more of them, is the next second.
    pub fn from_unix(seconds: i64, nanos: u32) -> Option<Moment> {
        let since = SignedDuration::from_secs(seconds).checked_add(SignedDuration::from_nanos(nanos.into()))?;
        Moment::in_range(EPOCH.checked_add(since).ok()?)
    }

    /// Seconds since the epoch and, counted up from there, nanoseconds.
    pub fn unix(self) -> (i64, u32) {
        since_epoch(self.0)
    }
}

fn since_epoch(utc: DateTime) -> (i64, u32) {
    let since = utc.duration_since(EPOCH);
    let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
    // The fraction has the sign of the whole.
    if nanos < 0 { (seconds - 1, (nanos + 1_000_000_000).unsigned_abs()) } else { (seconds, nanos.unsigned_abs()) }
}

/// A date and a time with an offset, in UTC.
fn utc(text: &str) -> Option<DateTime> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = SignedDuration::from_secs(pieces.to_numeric_offset()?.seconds().into());
    pieces.date().to_datetime(pieces.time()?).checked_sub(offset).ok()
}

/// Milliseconds since the epoch, rounded down, of a text that may also name a year before 1: what a record's or an event's
/// timestamp may be.
pub fn parse_millis(text: &str) -> Option<i64> {
    let (seconds, nanos) = since_epoch(utc(text)?);
    Some(seconds * 1000 + i64::from(nanos / 1_000_000))
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        utc(text).and_then(Moment::in_range).ok_or(NotAMoment)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        f.write_str("Z")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: &str = "0001-01-01T00:00:00Z";
    const LAST: &str = "9999-12-31T23:59:59.999999999Z";

    #[test]
    fn the_range_is_that_of_four_digits() {
        for text in [FIRST, LAST, "9999-12-31T23:59:59Z", "9999-12-30T22:00:01Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), text);
        }
        for (text, same) in [
            ("9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59+14:00", "9999-12-31T09:59:59Z"),
            ("0000-12-31T23:00:00-02:00", "0001-01-01T01:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), same);
        }
        for text in
            ["0000-12-31T23:59:59Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2024-05-01", "", "x"]
        {
            assert_eq!(text.parse::<Moment>(), Err(NotAMoment), "{text}");
        }
        let (first, last) = (Moment::MILLIS.start(), Moment::MILLIS.end());
        assert_eq!(Moment::from_millis(*first).unwrap().to_string(), FIRST);
        assert_eq!(Moment::from_millis(*last).unwrap().to_string(), "9999-12-31T23:59:59.999Z");
        for beyond in [first - 1, last + 1, i64::MIN, i64::MAX] {
            assert_eq!(Moment::from_millis(beyond), None, "{beyond}");
        }
    }

    #[test]
    fn milliseconds_are_rounded_down_before_year_1_too() {
        assert_eq!(parse_millis("1969-12-31T23:59:59.9999Z"), Some(-1));
        assert_eq!(parse_millis("9999-12-31T23:59:59.9999+00:00"), Some(*Moment::MILLIS.end()));
        assert_eq!(parse_millis("0000-12-31T23:59:59.9999Z"), Some(Moment::MILLIS.start() - 1));
        assert_eq!(parse_millis("2024-05-01"), None);
    }

    proptest! {
        #[test]
        fn seconds_text_and_moment_are_the_same(seconds in -62_135_596_800i64..253_402_300_800, nanos in 0u32..1_000_000_000) {
            let moment = Moment::from_unix(seconds, nanos).unwrap();
            prop_assert_eq!(moment.unix(), (seconds, nanos));
            prop_assert_eq!(moment.to_string().parse::<Moment>().unwrap(), moment);
            prop_assert_eq!(parse_millis(&moment.to_string()), Some(seconds * 1000 + i64::from(nanos / 1_000_000)));
            // As jiff writes it, where jiff can.
            if let Ok(jiff) = jiff::Timestamp::new(seconds, nanos as i32) {
                prop_assert_eq!(moment.to_string(), jiff.to_string());
                prop_assert_eq!(format!("{moment:.3}"), format!("{jiff:.3}"));
            }
        }
    }
}
