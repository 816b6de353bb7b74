//! An event's own time: RFC 3339 text, or milliseconds since the epoch as an integer.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};

use crate::moment::parse_millis;
use crate::position::Timestamp;

/// A time in whole milliseconds; a finer text is rounded down.
pub(super) struct Instant(pub Timestamp);

pub(super) struct InstantVisitor;

impl Visitor<'_> for InstantVisitor {
    type Value = Instant;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time: RFC 3339 text, or whole milliseconds since 1970-01-01T00:00:00Z")
    }

    fn visit_i64<E: Error>(self, millis: i64) -> Result<Instant, E> {
        Ok(Instant(Timestamp(millis)))
    }

    fn visit_u64<E: Error>(self, millis: u64) -> Result<Instant, E> {
        i64::try_from(millis)
            .map(|millis| Instant(Timestamp(millis)))
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(millis), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Instant, E> {
        parse(text)
            .map(|millis| Instant(Timestamp(millis)))
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Milliseconds since the epoch. The common form, UTC with at most nine decimals, is read here; jiff, which knows all
/// the others, is three times slower. Both know all of year 9999.
pub(super) fn parse(text: &str) -> Option<i64> {
    utc(text.as_bytes()).or_else(|| parse_millis(text))
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, and nothing else.
fn utc(text: &[u8]) -> Option<i64> {
    let (date, fraction) = text.split_at_checked(19)?;
    let shape = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if shape.iter().any(|&(at, byte)| date[at] != byte) {
        return None;
    }
    let number = |from: usize, to: usize| {
        date[from..to]
            .iter()
            .try_fold(0i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let millis = match fraction {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            if !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            (0..3).fold(0, |sum, at| sum * 10 + digits.get(at).map_or(0, |byte| i64::from(byte - b'0')))
        }
        _ => return None,
    };
    let days = days_since_epoch(year, month, day)?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis)
}

/// The days from 1970-01-01 to a day of the Gregorian calendar, or nothing when there is no such day.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day last; 400 of them have 146,097 days.
    let from_march = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (from_march.div_euclid(400), from_march.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offsets_and_fractions_are_understood() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2024-02-29T12:00:00.5Z"), parse("2024-02-29T14:00:00.500+02:00"));
        assert_eq!(parse("2200-12-31T23:59:59.999Z"), Some(7_289_654_399_999));
        assert_eq!(parse("1969-12-31T23:59:59.9999Z"), Some(-1), "rounded down, not towards zero");
        assert_eq!(parse("1969-12-31T23:59:59.9999+00:00"), Some(-1));
        for end in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00", "9999-12-31T22:59:59-01:00"] {
            assert_eq!(parse(end), Some(253_402_300_799_000), "{end}");
        }
        for text in ["", "yesterday", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01", "1700000000000"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_agrees_with_jiff(
            year in 0i64..10_000, month in 0i64..14, day in 0i64..33,
            hour in 0i64..24, minute in 0i64..60, second in 0i64..60, fraction in "(\\.[0-9]{1,9})?",
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z");
            prop_assert_eq!(utc(text.as_bytes()), parse_millis(&text), "{}", text);
        }
    }
}
