use proptest::prelude::*;

use super::*;
use crate::position::{Offset, Timestamp};
use crate::record::pack_header;

fn json() -> Decoder {
    Decoder::new(DecodeOptions { format: Format::Json, max_key_bytes: 16 * 1024 })
}

fn raw(header: Option<&str>, field: Option<&str>, default: Option<&str>) -> Decoder {
    let owned = |name: Option<&str>| name.map(str::to_owned);
    let format = Format::Raw { type_header: owned(header), type_field: owned(field), default_type: owned(default) };
    Decoder::new(DecodeOptions { format, max_key_bytes: 64 })
}

fn record(value: &[u8]) -> RecordRef<'_> {
    RecordRef::from_parts(Offset(7), Timestamp(1000), Some(b"k"), Some(value), b"")
}

const AT: (&str, PartitionId) = ("bank", PartitionId(3));

fn reason(decoder: &Decoder, value: &[u8]) -> String {
    match decoder.decode(AT, record(value)) {
        Err(Undecodable::Malformed { reason }) => reason,
        other => panic!("expected Malformed, got {other:?} for {}", String::from_utf8_lossy(value)),
    }
}

const FULL: &str = r#"{"event_id":"e1","event_type":"MoneyDeposited","event_version":2,"timestamp":"2024-05-01T10:00:00Z",
    "metadata":{"correlation_id":"c","causation_id":null,"user_id":"u","other":[1]},"payload":{"amount":5},"more":{"a":[]}}"#;

#[test]
fn both_spellings_give_the_same_event() {
    let camel = FULL
        .replace("event_id", "eventId")
        .replace("event_type", "eventType")
        .replace("event_version", "eventVersion")
        .replace("correlation_id", "correlationId")
        .replace("causation_id", "causationId")
        .replace("user_id", "userId");
    let decoder = json();
    let one = decoder.decode(AT, record(FULL.as_bytes())).unwrap();
    let two = decoder.decode(AT, record(camel.as_bytes())).unwrap();
    assert_eq!(format!("{:?}", one.meta), format!("{:?}", two.meta));
    assert_eq!(one.payload, two.payload);
    assert_eq!((one.meta.topic, one.meta.partition, one.meta.offset), ("bank", PartitionId(3), Offset(7)));
    assert_eq!((one.meta.key, one.meta.record_timestamp), (&b"k"[..], Timestamp(1000)));
    assert_eq!((&*one.meta.event_type, one.meta.event_version), ("MoneyDeposited", 2));
    assert_eq!(one.meta.timestamp, Timestamp(1_714_557_600_000));
    assert_eq!((one.meta.correlation_id.as_deref(), one.meta.causation_id.as_deref()), (Some("c"), None));
    assert_eq!((one.meta.user_id.as_deref(), one.meta.event_id.as_deref()), (Some("u"), Some("e1")));
    assert_eq!(one.payload, br#"{"amount":5}"#);
    assert!(matches!(one.meta.event_type, Cow::Borrowed(_)) && matches!(one.meta.event_id, Some(Cow::Borrowed(_))));
}

#[test]
fn the_least_envelope_has_a_type() {
    let decoder = json();
    let event = decoder.decode(AT, record(br#" {"event_type":"Op\u0065ned"} "#)).unwrap();
    assert_eq!((&*event.meta.event_type, event.meta.event_version, event.payload), ("Opened", 1, &b"null"[..]));
    assert_eq!(event.meta.timestamp, Timestamp(1000), "the record's");
    let value =
        br#"{"event_id":null,"event_type":"O","event_version":null,"timestamp":null,"metadata":null,"payload":null}"#;
    let event = decoder.decode(AT, record(value)).unwrap();
    assert_eq!((event.meta.event_version, event.meta.timestamp), (1, Timestamp(1000)));
}

#[test]
fn a_record_without_key_or_value_is_named() {
    let decoder = json();
    let parts = |key, value| RecordRef::from_parts(Offset(0), Timestamp(0), key, value, b"");
    assert_eq!(decoder.decode(AT, parts(None, None)).unwrap_err(), Undecodable::NullKey);
    assert_eq!(decoder.decode(AT, parts(Some(b"k"), None)).unwrap_err(), Undecodable::NullValue);
    let long = vec![b'k'; 20 * 1024];
    assert_eq!(
        decoder.decode(AT, parts(Some(&long), Some(b"{}"))).unwrap_err(),
        Undecodable::KeyTooLarge { bytes: 20_480, max: 16_384 }
    );
    assert!(decoder.decode(AT, parts(Some(b"\xff"), Some(FULL.as_bytes()))).is_ok(), "a key may be any bytes");
}

#[test]
fn bad_values_say_what_is_wrong() {
    let decoder = json();
    for (value, says) in [
        (&b""[..], "EOF"),
        (b"hello", "expected value"),
        (b"42", "an event envelope"),
        (b"[]", "an event envelope"),
        (b"{}", "`event_type` (or `eventType`) is missing"),
        (br#"{"event_type":"A"} x"#, "trailing characters"),
        (br#"{"event_type":""}"#, "`event_type` is empty"),
        (br#"{"event_type":null}"#, "`event_type`: invalid type: null, expected text"),
        (br#"{"event_type":7}"#, "`event_type`: invalid type: integer `7`"),
        (br#"{"event_type":"A","eventType":"A"}"#, "`event_type`: given twice"),
        (br#"{"event_type":"A","payload":1,"payload":1}"#, "`payload`: given twice"),
        (br#"{"event_type":"A","metadata":{},"metadata":{}}"#, "`metadata`: given twice"),
        (br#"{"event_type":"A","metadata":{"user_id":"a","userId":null}}"#, "`metadata.user_id`: given twice"),
        (br#"{"event_type":"A","metadata":[]}"#, "`metadata`: invalid type: sequence"),
        (br#"{"event_type":"A","event_version":-1}"#, "`event_version`: invalid value: integer `-1`"),
        (br#"{"event_type":"A","event_version":4294967296}"#, "`event_version`: invalid value"),
        (br#"{"event_type":"A","event_version":1.5}"#, "`event_version`: invalid type: floating point"),
        (br#"{"event_type":"A","event_version":"1"}"#, "`event_version`: invalid type: string"),
        (br#"{"event_type":"A","timestamp":"yesterday"}"#, "`timestamp`: invalid value: string \"yesterday\""),
        (br#"{"event_type":"A","timestamp":1.5}"#, "`timestamp`: invalid type: floating point"),
        (br#"{"event_type":"A","timestamp":18446744073709551615}"#, "`timestamp`: invalid value"),
        (br#"{"event_type":"A","payload":{"a":1"#, "`payload`: EOF"),
        (br#"{"event_type":"A","payload":{"a":01}}"#, "`payload`: "),
        (b"{\"event_type\":\"A\",\"payload\":\"\xff\"}", "byte 29 is not UTF-8"),
        (b"\xef\xbb\xbf{\"event_type\":\"A\"}", "byte order mark"),
    ] {
        let reason = reason(&decoder, value);
        assert!(reason.contains(says), "{}: {reason}", String::from_utf8_lossy(value));
    }
}

#[test]
fn every_truncation_is_malformed() {
    let decoder = json();
    for len in 0..FULL.len() {
        reason(&decoder, &FULL.as_bytes()[..len]);
    }
}

#[test]
fn depth_is_limited_wherever_it_is() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let decoder = json();
    for value in [
        deep(10_000),
        format!(r#"{{"event_type":"A","payload":{}}}"#, deep(10_000)),
        format!(r#"{{"event_type":"A","more":{}}}"#, deep(10_000)),
        format!(r#"{{"event_type":"A","payload":{}}}"#, r#"{"a":"#.repeat(10_000)),
        format!(r#"{{"event_type":"A","payload":{}}}"#, deep(MAX_DEPTH)),
    ] {
        assert!(reason(&decoder, value.as_bytes()).contains("deeper than"));
    }
    assert!(reason(&raw(None, None, Some("A")), deep(10_000).as_bytes()).contains("deeper than"));
    let allowed = format!(r#"{{"event_type":"A","payload":{},"text":"{}\""}}"#, deep(MAX_DEPTH - 1), "[".repeat(500));
    assert!(decoder.decode(AT, record(allowed.as_bytes())).is_ok(), "brackets in text are not levels");
}

#[test]
fn extreme_times_are_times() {
    let decoder = json();
    for (text, millis) in
        [("-1", -1), ("0", 0), ("\"2200-01-01T00:00:00Z\"", 7_258_118_400_000), ("9223372036854775807", i64::MAX)]
    {
        let value = format!(r#"{{"event_type":"A","timestamp":{text}}}"#);
        let event = decoder.decode(AT, record(value.as_bytes())).unwrap();
        assert_eq!(event.meta.timestamp, Timestamp(millis));
    }
}

#[test]
fn a_large_value_is_no_problem_and_its_reason_is_short() {
    let decoder = json();
    let value = format!(r#"{{"event_type":"A","payload":"{}"}}"#, "x".repeat(900_000));
    assert_eq!(decoder.decode(AT, record(value.as_bytes())).unwrap().payload.len(), 900_002);
    let value = format!(r#"{{"event_type":"A","timestamp":"{}"}}"#, "é".repeat(450_000));
    assert!(reason(&decoder, value.as_bytes()).len() < 500);
}

#[test]
fn raw_values_take_their_type_from_header_field_or_default() {
    let mut headers = Vec::new();
    pack_header(&mut headers, b"type", Some(b"FromHeader"));
    let value = br#" {"kind":"FromField","n":1} "#;
    let with_header = RecordRef::from_parts(Offset(0), Timestamp(5), Some(b"k"), Some(value), &headers);
    let decoder = raw(Some("type"), Some("kind"), Some("Default"));
    let event = decoder.decode(AT, with_header).unwrap();
    assert_eq!(
        (&*event.meta.event_type, event.payload, event.meta.timestamp),
        ("FromHeader", &value[..], Timestamp(5))
    );
    assert_eq!(&*decoder.decode(AT, record(value)).unwrap().meta.event_type, "FromField");
    assert_eq!(&*decoder.decode(AT, record(b"{}")).unwrap().meta.event_type, "Default");
    assert_eq!(&*decoder.decode(AT, record(b"[1]")).unwrap().meta.event_type, "Default");
}

#[test]
fn bad_raw_values_say_what_is_wrong() {
    let by_field = raw(None, Some("kind"), None);
    assert!(reason(&by_field, b"{}").contains("no field `kind`"));
    assert!(reason(&by_field, br#"{"kind":1}"#).contains("expected text"));
    assert!(reason(&by_field, br#"{"kind":"a","kind":"b"}"#).contains("`kind` is given twice"));
    assert!(reason(&by_field, br#"{"kind":"a""#).contains("EOF"));
    assert!(reason(&raw(Some("t"), None, None), b"{}").contains("no header"));
    assert!(reason(&raw(None, None, Some("A")), b"{,}").contains("at line 1 column"));
    let mut headers = Vec::new();
    pack_header(&mut headers, b"t", Some(b"\xff"));
    let bad = RecordRef::from_parts(Offset(0), Timestamp(0), Some(b"k"), Some(b"{}"), &headers);
    let decoder = raw(Some("t"), None, Some("A"));
    assert!(matches!(decoder.decode(AT, bad), Err(Undecodable::Malformed { reason }) if reason.contains("header")));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = json().decode(AT, record(&bytes));
        let _ = raw(None, Some("t"), Some("A")).decode(AT, record(&bytes));
    }

    #[test]
    fn a_damaged_envelope_never_panics(at in 0..FULL.len(), byte in any::<u8>(), len in 0..FULL.len()) {
        let mut bytes = FULL.as_bytes()[..len.max(1)].to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(event) = json().decode(AT, record(&bytes)) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(event.payload).is_ok());
        }
    }
}
