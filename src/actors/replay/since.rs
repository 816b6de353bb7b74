//! Since when: a time or positions, as people write them.
//!
//! Everything is in UTC unless the text says otherwise, and every time is a whole millisecond, as the log's timestamps
//! are; a finer one is rounded down, so that no record is missed.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use super::words::ReplayError;
use crate::position::{PositionVector, Timestamp};

const DAY: i64 = 24 * 60 * 60 * 1000;

/// What is accepted, as an error shows it.
pub const FORMS: &str = "\
    2026-11-17T08:30:00Z or 2026-11-17T09:30:00+01:00 (RFC 3339), \
    2026-11-17 or 2026-11-17T08:30 (UTC), \
    1700000000s or 1700000000000ms (since 1970), \
    -PT2H or -P1D (back from now), \
    today, yesterday or a weekday such as tuesday (the newest that has begun, 00:00 UTC), \
    beginning, \
    @bank.accounts@0:17,1:4 (position tokens, several with `;` between)";

/// Since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// From the first record, in each partition, whose timestamp is at or after this.
    Time(Timestamp),
    /// From these positions. No topic is named twice, and each vector names at least one partition.
    Positions(Vec<PositionVector>),
    /// From the first record that the log has.
    Beginning,
}

impl Since {
    /// Reads `text`; `now` is what times are relative to. [`ReplayError::Bad`] shows what is accepted.
    pub fn parse(text: &str, now: Timestamp) -> Result<Since, ReplayError> {
        Since::read(text, now, &mut Vec::new())
    }

    /// The same, and what was taken for granted goes into `warnings`.
    pub fn read(text: &str, now: Timestamp, warnings: &mut Vec<String>) -> Result<Since, ReplayError> {
        let text = text.trim();
        if let Some(tokens) = text.strip_prefix('@') {
            return positions(tokens);
        }
        if let Some(word) = word(text, now) {
            return Ok(word);
        }
        if text.starts_with(['-', 'P', 'p', '+']) {
            return back(text, now).map(Since::Time);
        }
        if text.starts_with(|c: char| c.is_ascii_digit())
            && let Some(time) = epoch(text)?
        {
            return Ok(Since::Time(time));
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Since::Time(floor(time)));
        }
        if let Some(time) = local(text) {
            let taken = Timestamp(time);
            warnings.push(format!("`{text}` names no time zone; it was taken as UTC: {taken}"));
            return Ok(Since::Time(taken));
        }
        if text.parse::<PositionVector>().is_ok() {
            return bad(format!("a position token begins with `@`: write `@{text}`"));
        }
        bad(format!("`{text}` is neither a time nor a position; what is understood: {FORMS}"))
    }
}

fn bad<T>(why: String) -> Result<T, ReplayError> {
    Err(ReplayError::Bad(why))
}

fn floor(time: jiff::Timestamp) -> Timestamp {
    // Proven: jiff's range, the years −9999 to 9999, is far inside of 64 bits of milliseconds.
    Timestamp(time.as_nanosecond().div_euclid(1_000_000) as i64)
}

/// `today`, `yesterday`, a weekday, `beginning`, in any case.
fn word(text: &str, now: Timestamp) -> Option<Since> {
    let word = text.to_ascii_lowercase();
    let weekday = |name: &str| {
        let day = match name {
            "monday" => Weekday::Monday,
            "tuesday" => Weekday::Tuesday,
            "wednesday" => Weekday::Wednesday,
            "thursday" => Weekday::Thursday,
            "friday" => Weekday::Friday,
            "saturday" => Weekday::Saturday,
            "sunday" => Weekday::Sunday,
            _ => return None,
        };
        // 1970-01-01 was a Thursday.
        let today = Weekday::Thursday.wrapping_add(now.0.div_euclid(DAY));
        Some(i64::from(today.since(day)))
    };
    let days = match word.as_str() {
        "beginning" => return Some(Since::Beginning),
        "today" => 0,
        "yesterday" => 1,
        name => weekday(name)?,
    };
    Some(Since::Time(Timestamp((now.0.div_euclid(DAY) - days) * DAY)))
}

/// A duration back from now.
fn back(text: &str, now: Timestamp) -> Result<Timestamp, ReplayError> {
    let upper = text.to_ascii_uppercase();
    let Some(positive) = upper.strip_prefix("-P") else {
        if upper.starts_with('P') && upper.parse::<Span>().is_ok() {
            return bad(format!("`{text}` is ahead of now: a duration goes back, write `-{text}`"));
        }
        return bad(format!("`{text}` is not a duration back from now; what is understood: {FORMS}"));
    };
    let span: Span = match format!("P{positive}").parse() {
        Ok(span) => span,
        Err(error) => return bad(format!("`{text}` is not a duration: {error}; what is understood: {FORMS}")),
    };
    let now: Zoned = match jiff::Timestamp::from_millisecond(now.0) {
        Ok(now) => now.to_zoned(TimeZone::UTC),
        Err(error) => return bad(format!("the clock shows {now}, from which nothing can be reckoned: {error}")),
    };
    match now.checked_sub(span) {
        Ok(then) => Ok(floor(then.timestamp())),
        Err(_) => bad(format!("`{text}` goes back further than the calendar does; write `beginning`")),
    }
}

/// Digits and a unit; `None` when the text is something else.
fn epoch(text: &str) -> Result<Option<Timestamp>, ReplayError> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - unit.len()];
    let factor = match unit {
        "s" => 1000,
        "ms" => 1,
        "" => {
            let means = |factor| digits.parse::<i64>().ok().and_then(|n: i64| n.checked_mul(factor)).map(Timestamp);
            let shown = |time: Option<Timestamp>| time.map_or("beyond the calendar".to_owned(), |t| t.to_string());
            let (seconds, millis) = (shown(means(1000)), shown(means(1)));
            return bad(format!("`{text}` has no unit: write `{text}s` for {seconds}, or `{text}ms` for {millis}"));
        }
        _ => return Ok(None),
    };
    match digits.parse::<i64>().ok().and_then(|n| n.checked_mul(factor)) {
        Some(millis) => Ok(Some(Timestamp(millis))),
        None => bad(format!("`{text}` is beyond any calendar")),
    }
}

/// A date, or a date with a time, without a zone. jiff passes over what follows, such as an offset: that is not for it
/// to decide here.
fn local(text: &str) -> Option<i64> {
    if !text.chars().all(|c| c.is_ascii_digit() || "-:.Tt ".contains(c)) {
        return None;
    }
    let written = match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => date.to_datetime(jiff::civil::Time::midnight()),
        // A hyphen after the date begins an offset that RFC 3339 does not know.
        _ if text.get(10..).is_some_and(|rest| !rest.contains('-')) => text.parse::<DateTime>().ok()?,
        _ => return None,
    };
    Some(floor(written.to_zoned(TimeZone::UTC).ok()?.timestamp()).0)
}

/// Tokens with `;` between; each may begin with an `@` of its own.
fn positions(text: &str) -> Result<Since, ReplayError> {
    let mut vectors: Vec<PositionVector> = Vec::new();
    for token in text.split(';').map(str::trim) {
        let vector: PositionVector = match token.strip_prefix('@').unwrap_or(token).parse() {
            Ok(vector) => vector,
            Err(error) => return bad(format!("{error}")),
        };
        if vector.positions.is_empty() {
            return bad(format!("`{token}` names no partition (expected topic@partition:position,…)"));
        }
        if vectors.iter().any(|earlier| earlier.topic == vector.topic) {
            return bad(format!("topic `{}` has two tokens: write all its partitions into one", vector.topic));
        }
        vectors.push(vector);
    }
    Ok(Since::Positions(vectors))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Saturday: 2026-11-21T13:02:22.500Z.
    const NOW: Timestamp = Timestamp(1_795_266_142_500);

    fn time(text: &str) -> String {
        match Since::parse(text, NOW) {
            Ok(Since::Time(time)) => time.to_string(),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn error(text: &str) -> String {
        match Since::parse(text, NOW) {
            Err(ReplayError::Bad(why)) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, means) in [
            ("2026-11-17T08:30:00Z", "2026-11-17T08:30:00.000Z"),
            ("2026-11-17T09:30:00.9996+01:00", "2026-11-17T08:30:00.999Z"),
            ("2026-11-17t08:30:00z", "2026-11-17T08:30:00.000Z"),
            (" 2026-11-17 08:30:00-05:30 ", "2026-11-17T14:00:00.000Z"),
            ("1700000000s", "2023-11-14T22:13:20.000Z"),
            ("1700000000001ms", "2023-11-14T22:13:20.001Z"),
            ("0s", "1970-01-01T00:00:00.000Z"),
            ("-PT2H", "2026-11-21T11:02:22.500Z"),
            ("-PT90M0.5S", "2026-11-21T11:32:22.000Z"),
            ("-P1D", "2026-11-20T13:02:22.500Z"),
            ("-p1w", "2026-11-14T13:02:22.500Z"),
            ("-P1M", "2026-10-21T13:02:22.500Z"),
            ("today", "2026-11-21T00:00:00.000Z"),
            ("Yesterday", "2026-11-20T00:00:00.000Z"),
            ("saturday", "2026-11-21T00:00:00.000Z"),
            ("tuesday", "2026-11-17T00:00:00.000Z"),
            ("sunday", "2026-11-15T00:00:00.000Z"),
            ("1959-12-31T23:59:59.9999Z", "1959-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(time(text), means, "{text}");
        }
        assert_eq!(Since::parse("beginning", NOW), Ok(Since::Beginning));
    }

    #[test]
    fn a_weekday_has_begun_at_its_first_millisecond() {
        let midnight = Timestamp(NOW.0.div_euclid(DAY) * DAY);
        assert_eq!(Since::parse("saturday", midnight), Ok(Since::Time(midnight)));
        let before = Timestamp(midnight.0 - 1);
        assert_eq!(Since::parse("saturday", before), Ok(Since::Time(Timestamp(midnight.0 - 7 * DAY))));
    }

    #[test]
    fn a_time_without_a_zone_is_utc_and_says_so() {
        for (text, means) in [
            ("2026-11-17", "2026-11-17T00:00:00.000Z"),
            ("2026-11-17T08:30", "2026-11-17T08:30:00.000Z"),
            ("2026-11-17 08:30:01.25", "2026-11-17T08:30:01.250Z"),
        ] {
            let mut warnings = Vec::new();
            let Ok(Since::Time(time)) = Since::read(text, NOW, &mut warnings) else { panic!("{text}") };
            assert_eq!(time.to_string(), means);
            assert_eq!(warnings, [format!("`{text}` names no time zone; it was taken as UTC: {means}")]);
        }
        let mut warnings = Vec::new();
        Since::read("2026-11-17T08:30:00Z", NOW, &mut warnings).unwrap();
        assert_eq!(warnings, <[String; 0]>::default());
    }

    #[test]
    fn tokens_name_positions() {
        let vectors = |text| match Since::parse(text, NOW) {
            Ok(Since::Positions(vectors)) => vectors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(vectors("@bank.accounts@0:17,3:4"), ["bank.accounts@0:17,3:4"]);
        assert_eq!(vectors("@a@0:1;b@1:2"), ["a@0:1", "b@1:2"]);
        assert_eq!(vectors("@a@0:1; @b@1:2"), ["a@0:1", "b@1:2"]);
    }

    #[test]
    fn refuse_bad_text_with_the_fix() {
        assert_eq!(
            error("1700000000"),
            "`1700000000` has no unit: write `1700000000s` for 2023-11-14T22:13:20.000Z, or `1700000000ms` for \
             1970-01-20T16:13:20.000Z"
        );
        assert_eq!(error("PT2H"), "`PT2H` is ahead of now: a duration goes back, write `-PT2H`");
        assert_eq!(error("a@0:1"), "a position token begins with `@`: write `@a@0:1`");
        assert_eq!(error("@a@0:1;a@1:1"), "topic `a` has two tokens: write all its partitions into one");
        assert_eq!(error("@a@"), "`a@` names no partition (expected topic@partition:position,…)");
        assert_eq!(error("99999999999999999s"), "`99999999999999999s` is beyond any calendar");
        assert_eq!(error("-P19000Y"), "`-P19000Y` goes back further than the calendar does; write `beginning`");
        assert!(error("@a@0").starts_with("`a@0` is not a position token: an entry has no `:`"));
        assert_eq!(
            error("teusday"),
            format!("`teusday` is neither a time nor a position; what is understood: {FORMS}")
        );
        for text in ["", "2h", "-2h", "-PT", "--PT1H", "2026-13-01", "2026-11-17T25:00Z", "2026"] {
            assert!(error(text).len() > 20, "{text}");
        }
        assert!(error("2026-11-17T10:00[Europe/Berlin]").contains("what is understood"));
    }
}
