//! Times: whatever CEL can hold comes back from the store as it went, up to the last nanosecond of year 9999.

use cel::common::types::CelTimestamp;
use proptest::prelude::*;

use super::super::datum::{parse_time, rfc3339};
use super::*;

/// `t` is a timestamp, `any` and `list` hold one as text; `seen` is what an expression sees of `t` and `list`.
fn clock(first: Moment) -> Declared {
    view(&[
        ("t", Literal::Time(first)),
        ("any", Literal::Null),
        ("list", Literal::List(vec![])),
        ("seen", Literal::List(vec![])),
        ("n", Literal::Int(0)),
    ])
    .on("A", "t", "timestamp(event.payload)")
    .on("A", "any", "timestamp(event.payload)")
    .on("A", "list", "[timestamp(event.payload)]")
    .on("A", "n", "state.n + 1")
    .on("B", "seen", "[state.t, string(state.t), state.list, state.t == timestamp(event.payload), int(state.t)]")
    .on("B", "n", "state.n + 1")
    .compile()
    .unwrap_or_else(|error| panic!("{error}"))
}

/// Folds the time, and an event that looks at it, once with a stay in the store in between and once without: the same
/// bytes, of which the field `t` is answered.
fn folded(view: &Declared, time: &str) -> String {
    let payload = serde_json::to_string(time).unwrap();
    let mut resident = view.initial();
    assert_eq!(resident.apply(&event("A", &payload)), Ok(Applied::Folded), "{time}");
    let mut stored = view.decode(json(resident.as_ref()).as_bytes()).unwrap_or_else(|error| panic!("{time}: {error}"));
    assert_eq!(json(stored.as_ref()), json(resident.as_ref()), "{time}");
    let seen = [&mut resident, &mut stored].map(|row| (row.apply(&event("B", &payload)), json(row.as_ref())));
    assert_eq!(seen[0], seen[1], "{time}");
    assert_eq!(seen[0].0, Ok(Applied::Folded), "{time}");
    let row: serde_json::Value = serde_json::from_str(&seen[0].1).unwrap();
    assert_eq!([&row["any"], &row["list"][0], &row["seen"][0]], [&row["t"]; 3], "{time}");
    row["t"].as_str().unwrap().to_owned()
}

#[test]
fn pure_the_end_of_time_is_a_time() {
    let view = clock(Moment::EPOCH);
    for (time, stored) in [
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("9999-12-30T22:00:01Z", "9999-12-30T22:00:01Z"),
        ("9999-12-31T23:59:59+01:00", "9999-12-31T22:59:59Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0000-12-31T23:00:00-01:00", "0001-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z"),
    ] {
        assert_eq!(folded(&view, time), stored);
    }
    let mut row = view.initial();
    for beyond in ["9999-12-31T23:59:60Z", "9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"] {
        let outcome = row.apply(&event("A", &format!("\"{beyond}\"")));
        assert!(matches!(outcome, Err(Failure::Rejected(_))), "{beyond}: {outcome:?}");
    }
}

#[test]
fn a_row_with_the_end_of_time_in_its_former_writing_is_read() {
    let view = clock(Moment::EPOCH);
    let stored = r#"{"any":null,"list":[],"n":1,"seen":[],"t":"9999-12-31T23:59:59+00:00"}"#;
    let row = view.decode(stored.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(json(row.as_ref()), stored.replace("+00:00", "Z"));
}

#[test]
fn the_end_of_time_is_a_first_value() {
    let table: toml::Table = "t = 9999-12-31T23:59:59Z".parse().unwrap();
    let last = "9999-12-31T23:59:59Z".parse().unwrap();
    assert_eq!(Literal::try_from(&table["t"]), Ok(Literal::Time(last)));
    let view = clock(last);
    assert!(json(view.initial().as_ref()).contains(r#""t":"9999-12-31T23:59:59Z""#));
    assert_eq!(Declared::from_text(&view.text()).unwrap().text(), view.text());
    let beyond: toml::Table = "t = 9999-12-31T23:59:59-01:00".parse().unwrap();
    assert!(Literal::try_from(&beyond["t"]).unwrap_err().contains("of the years 1 to 9999"));
}

#[test]
fn an_events_own_time_is_known_to_the_last_millisecond() {
    let mut row = view(&[("t", Literal::Time(Moment::EPOCH))]).on("A", "t", "event.timestamp").row();
    for (millis, text) in [
        (*Moment::MILLIS.end(), "9999-12-31T23:59:59.999Z"),
        (*Moment::MILLIS.start(), "0001-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ] {
        let mut event = event("A", "null");
        event.meta.timestamp = Timestamp(millis);
        row.apply(&event).unwrap();
        assert_eq!(json(row.as_ref()), format!(r#"{{"t":"{text}"}}"#));
    }
}

/// Seconds that CEL knows; as many at the two ends as in between.
fn seconds() -> impl Strategy<Value = i64> {
    let (first, last) = (Moment::MILLIS.start() / 1000, Moment::MILLIS.end() / 1000);
    prop_oneof![first..=last, first..first + 200_000, last - 200_000..=last]
}

proptest! {
    #[test]
    fn pure_every_time_that_cel_can_hold_comes_back(
        second in seconds(), nanos in prop_oneof![Just(0u32), 0u32..1_000_000_000], leap: bool, offset in -1439i32..1440,
    ) {
        // A leap second stands in the last second of a minute, and not in the last of all.
        let leap = leap && second.rem_euclid(60) == 59 && second < Moment::MILLIS.end() / 1000;
        let time = chrono::DateTime::from_timestamp(second, nanos + if leap { 1_000_000_000 } else { 0 }).unwrap();
        let east = chrono::FixedOffset::east_opt(offset * 60).unwrap();
        let (view, text) = (clock(Moment::EPOCH), time.with_timezone(&east).to_rfc3339());
        // Years of five digits or none cannot be written, though their UTC could.
        prop_assume!(text.len() > 20 && text.as_bytes()[4] == b'-' && !text.starts_with('-'));
        let stored = folded(&view, &text);
        let second = CelTimestamp::from(chrono::DateTime::from_timestamp(second + i64::from(leap), nanos).unwrap().fixed_offset());
        prop_assert_eq!(&stored, &rfc3339(&second));
        prop_assert_eq!(parse_time(&stored), Some(second));
    }
}
