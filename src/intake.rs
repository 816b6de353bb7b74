//! From JSON to records on their way into a log. `segno append` and the HTTP API share it, so that both take the same
//! input and answer with the same reasons.
//!
//! An item is either a *record*, `{"key", "value", "timestamp", "headers", "partition"}`, or, when the caller says where
//! the key comes from, an *event*: then the whole item, byte for byte, is the record's value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::moment;
use crate::record::NewRecord;

/// Where the parts of a record come from when items are events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub key: KeyFrom,
    /// Dotted path of the field that holds the timestamp: milliseconds since the epoch, or RFC 3339.
    pub timestamp: Option<String>,
    /// Dotted path of the field that holds the event's type, which then also goes into the header `type`.
    pub event_type: Option<String>,
    /// Where everything goes, instead of where its key belongs.
    pub partition: Option<u32>,
}

/// What names the aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyFrom {
    /// Items are records, which carry their key.
    #[default]
    Record,
    /// Items are events, and this field (a dotted path) is the key.
    Field(String),
    /// Items are events, and all of them have this key.
    Fixed(Vec<u8>),
}

/// The header that `Shape::event_type` fills.
pub const TYPE_HEADER: &str = "type";

/// Bytes in JSON: text where they are UTF-8, `{"base64": "…"}` where they are not.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Base64(Base64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

impl Bytes {
    fn into_vec(self, what: &str) -> Result<Vec<u8>, String> {
        match self {
            Bytes::Text(text) => Ok(text.into_bytes()),
            Bytes::Base64(Base64 { base64 }) => {
                STANDARD.decode(base64).map_err(|error| format!("{what} is not base64: {error}"))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordItem<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default, borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "headers")]
    headers: BTreeMap<String, Option<Bytes>>,
    #[serde(default)]
    partition: Option<u32>,
}

/// Tells `null` from a field that is not there.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Refuses a name that is there twice: one of the two would be lost.
fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Option<Bytes>>, D::Error> {
    struct Headers;
    impl<'de> Visitor<'de> for Headers {
        type Value = BTreeMap<String, Option<Bytes>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of headers")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut headers = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, Option<Bytes>>()? {
                if headers.contains_key(&name) {
                    return Err(A::Error::custom(format!("header `{name}` is there twice")));
                }
                headers.insert(name, value);
            }
            Ok(headers)
        }
    }
    deserializer.deserialize_map(Headers)
}

/// How bytes are shown in JSON; [`record`] reads both forms.
pub fn show_bytes(bytes: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// Reads one item. The error says what is wrong with it.
pub fn record(item: &str, shape: &Shape) -> Result<NewRecord, String> {
    match &shape.key {
        KeyFrom::Record => from_record(item, shape),
        KeyFrom::Field(path) => {
            let key = field(item, path)?.ok_or_else(|| format!("there is no field `{path}` to take the key from"))?;
            event(item, key_bytes(key, path)?, shape)
        }
        KeyFrom::Fixed(key) => event(item, key.clone(), shape),
    }
}

fn from_record(item: &str, shape: &Shape) -> Result<NewRecord, String> {
    let parsed: RecordItem<'_> = serde_json::from_str(item).map_err(|error| {
        format!("not a record {{\"key\", \"value\", \"timestamp\", \"headers\", \"partition\"}}: {}", reason(&error))
    })?;
    // `null` and an absent key are the same here: a record without a key.
    let key = match parsed.key.filter(|key| key.get() != "null") {
        None => None,
        Some(key) => {
            let expected = "`key` is neither a string nor {\"base64\": …} nor null";
            let key: Bytes = serde_json::from_str(key.get()).map_err(|_| expected.to_owned())?;
            Some(key.into_vec("`key`")?)
        }
    };
    let value = match parsed.value {
        None => return Err("there is no `value`; write null for a tombstone".to_owned()),
        Some(value) if value.get() == "null" => None,
        Some(value) => Some(value.get().as_bytes().to_vec()),
    };
    let timestamp = parsed.timestamp.map(|value| timestamp_of(value, "timestamp")).transpose()?;
    let mut headers = Vec::with_capacity(parsed.headers.len());
    for (name, value) in parsed.headers {
        let value = value.map(|value| value.into_vec(&format!("header `{name}`"))).transpose()?;
        headers.push((name, value));
    }
    Ok(NewRecord { partition: parsed.partition.or(shape.partition), key, value, timestamp, headers })
}

fn event(item: &str, key: Vec<u8>, shape: &Shape) -> Result<NewRecord, String> {
    // Also refuses what is not JSON, and what follows a first value.
    let value: &RawValue = serde_json::from_str(item).map_err(|error| format!("not JSON: {}", reason(&error)))?;
    let timestamp = match &shape.timestamp {
        None => None,
        Some(path) => {
            let value =
                field(item, path)?.ok_or_else(|| format!("there is no field `{path}` to take the timestamp from"))?;
            Some(timestamp_of(value, path)?)
        }
    };
    let mut headers = Vec::new();
    if let Some(path) = &shape.event_type {
        let value = field(item, path)?.ok_or_else(|| format!("there is no field `{path}` to take the type from"))?;
        let event_type: String =
            serde_json::from_str(value.get()).map_err(|_| format!("field `{path}`, the type, is not a string"))?;
        headers.push((TYPE_HEADER.to_owned(), Some(event_type.into_bytes())));
    }
    let value = Some(value.get().as_bytes().to_vec());
    Ok(NewRecord { partition: shape.partition, key: Some(key), value, timestamp, headers })
}

/// The field at a dotted path, as it is written. One that is there twice is an error: it would be a matter of luck which
/// of the two is taken.
fn field<'a>(item: &'a str, path: &str) -> Result<Option<&'a RawValue>, String> {
    let mut current: &'a RawValue =
        serde_json::from_str(item).map_err(|error| format!("not JSON: {}", reason(&error)))?;
    for name in path.split('.') {
        let object = current.get();
        if !object.starts_with('{') {
            return Ok(None);
        }
        let found = serde_json::Deserializer::from_str(object).deserialize_map(Named { name, path });
        match found.map_err(|error| reason(&error))? {
            Some(value) => current = value,
            None => return Ok(None),
        }
    }
    Ok(Some(current))
}

/// Picks the value of one name out of an object.
struct Named<'n> {
    name: &'n str,
    path: &'n str,
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            if name != self.name {
                continue;
            }
            if found.replace(value).is_some() {
                return Err(A::Error::custom(format!("field `{}`: `{name}` is there twice", self.path)));
            }
        }
        Ok(found)
    }
}

/// A key from a field: a string's characters, or a number as it is written.
fn key_bytes(value: &RawValue, path: &str) -> Result<Vec<u8>, String> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let text: String =
                serde_json::from_str(text).map_err(|error| format!("field `{path}`: {}", reason(&error)))?;
            Ok(text.into_bytes())
        }
        Some(b'-' | b'0'..=b'9') => Ok(text.as_bytes().to_vec()),
        _ => Err(format!("field `{path}`, the key, is neither a string nor a number")),
    }
}

fn timestamp_of(value: &RawValue, path: &str) -> Result<i64, String> {
    let bad =
        || format!("field `{path}`, the timestamp, is neither milliseconds since 1970 nor RFC 3339: {}", value.get());
    if let Ok(milliseconds) = serde_json::from_str::<i64>(value.get()) {
        return Ok(milliseconds);
    }
    let text: String = serde_json::from_str(value.get()).map_err(|_| bad())?;
    // Rounded down, before 1970 too, as an event's own time is.
    moment::parse_millis(&text).ok_or_else(bad)
}

/// serde_json's message without the line, which is always 1 here.
fn reason(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_carries_everything() {
        let item = r#"{"key":"a","value":{"n":12345678901234567890},"timestamp":"1970-01-01T00:00:01Z",
            "headers":{"h":"x","none":null,"bin":{"base64":"/w=="}},"partition":2}"#;
        let record = record(item, &Shape::default()).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"a"[..]));
        assert_eq!(record.value.as_deref(), Some(&br#"{"n":12345678901234567890}"#[..]));
        assert_eq!((record.timestamp, record.partition), (Some(1000), Some(2)));
        let headers = [("bin", Some(&[255u8][..])), ("h", Some(b"x")), ("none", None)];
        assert_eq!(record.headers, headers.map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))));
    }

    #[test]
    fn null_key_and_null_value_are_said_aloud() {
        let record = record(r#"{"key":null,"value":null}"#, &Shape::default()).unwrap();
        assert_eq!((record.key, record.value), (None, None));
        for bad in [r#"{"key":"a"}"#, r#"{"key":1,"value":1}"#, r#"{"key":"a","value":1,"x":1}"#, "1", "", "{"] {
            assert!(super::record(bad, &Shape::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_is_its_own_value() {
        let shape = Shape {
            key: KeyFrom::Field("payload.id".into()),
            timestamp: Some("at".into()),
            event_type: Some("kind".into()),
            partition: None,
        };
        let item = r#"{"payload":{"id":7}, "at":5, "kind":"Seen"}"#;
        let read = record(item, &shape).unwrap();
        assert_eq!(read.key.as_deref(), Some(&b"7"[..]));
        assert_eq!(read.value.as_deref(), Some(item.as_bytes()));
        assert_eq!(read.timestamp, Some(5));
        assert_eq!(read.headers, [("type".to_owned(), Some(b"Seen".to_vec()))]);
        for bad in
            [r#"{"payload":{},"at":5,"kind":"S"}"#, r#"{"payload":{"id":null},"at":5,"kind":"S"}"#, "nonsense", ""]
        {
            assert!(record(bad, &shape).is_err(), "{bad}");
        }
        let early = record(r#"{"payload":{"id":7},"at":"1969-12-31T23:59:59.9995Z","kind":"S"}"#, &shape).unwrap();
        assert_eq!(early.timestamp, Some(-1), "rounded down, as an event's own time is");
        let late = record(r#"{"payload":{"id":7},"at":"9999-12-31T23:59:59.999Z","kind":"S"}"#, &shape).unwrap();
        assert_eq!(late.timestamp, Some(253_402_300_799_999), "up to the end of the year 9999");
        assert!(record(r#"{"payload":{"id":7},"at":"soon","kind":"S"}"#, &shape).unwrap_err().contains("RFC 3339"));
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        let shape = Shape {
            key: KeyFrom::Field("payload.id".into()),
            timestamp: Some("at".into()),
            event_type: Some("kind".into()),
            partition: None,
        };
        for item in [
            r#"{"payload":{"id":1,"id":2},"at":5,"kind":"S"}"#,
            r#"{"payload":{"id":1},"payload":{"id":1},"at":5,"kind":"S"}"#,
            r#"{"payload":{"id":1},"at":5,"at":6,"kind":"S"}"#,
            r#"{"payload":{"id":1},"at":5,"kind":"S","\u006bind":"T"}"#,
        ] {
            let refused = record(item, &shape).unwrap_err();
            assert!(refused.contains("is there twice") && refused.contains("field `"), "{refused}");
        }
        // What names nothing is the decoder's to judge.
        record(r#"{"payload":{"id":1},"at":5,"kind":"S","x":1,"x":2}"#, &shape).unwrap();
        let headers = r#"{"key":"a","value":1,"headers":{"h":"1","h":"2"}}"#;
        assert!(record(headers, &Shape::default()).unwrap_err().contains("header `h` is there twice"));
    }
}
