//! Durations and sizes as people write them.

use std::time::Duration;

use bytesize::ByteSize;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Reads `10s`, `100ms`, `1h30m`, `7d`. The error says what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration such as \"10s\", \"100ms\", \"5m\" or \"1h30m\", found {text:?}");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(expected());
    }
    let mut nanoseconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
        nanoseconds = number
            .checked_mul(*scale)
            .and_then(|part| nanoseconds.checked_add(part))
            .ok_or_else(|| format!("the duration {text:?} is longer than 584 years"))?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Reads `64MiB`, `1GiB`, `500kB`, `4096`. The error says what is expected.
pub fn size(text: &str) -> Result<u64, String> {
    match text.trim().parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(format!("expected a size such as \"64MiB\" or \"1GiB\", found {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, ms) in [("10s", 10_000), ("100ms", 100), ("5m", 300_000), ("1h30m", 5_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "10", "s", "10 parsecs", "-1s", "1.5s", "99999999999w", "unlimited"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [("64MiB", 64 << 20), ("16KiB", 16 << 10), ("1GB", 1_000_000_000), ("4096", 4096)] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "MiB", "64 apples", "-1"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
