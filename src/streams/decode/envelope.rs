//! The JSON envelope, in one pass. Unknown fields are stepped over; a field that is given twice is an error, for one
//! of the two would be lost.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Parts, Text, time};
use crate::position::Timestamp;

/// The fields that are read, by their snake_case names.
#[derive(Clone, Copy)]
enum Field {
    EventId,
    EventType,
    EventVersion,
    Timestamp,
    Metadata,
    Payload,
    CorrelationId,
    CausationId,
    UserId,
    Unknown,
}

impl Field {
    fn of_envelope(name: &str) -> Field {
        match name {
            "event_id" | "eventId" => Field::EventId,
            "event_type" | "eventType" => Field::EventType,
            "event_version" | "eventVersion" => Field::EventVersion,
            "timestamp" => Field::Timestamp,
            "metadata" => Field::Metadata,
            "payload" => Field::Payload,
            _ => Field::Unknown,
        }
    }

    fn of_metadata(name: &str) -> Field {
        match name {
            "correlation_id" | "correlationId" => Field::CorrelationId,
            "causation_id" | "causationId" => Field::CausationId,
            "user_id" | "userId" => Field::UserId,
            _ => Field::Unknown,
        }
    }

    /// As error messages show it.
    fn name(self) -> &'static str {
        match self {
            Field::EventId => "event_id",
            Field::EventType => "event_type",
            Field::EventVersion => "event_version",
            Field::Timestamp => "timestamp",
            Field::Metadata => "metadata",
            Field::Payload => "payload",
            Field::CorrelationId => "metadata.correlation_id",
            Field::CausationId => "metadata.causation_id",
            Field::UserId => "metadata.user_id",
            Field::Unknown => "",
        }
    }
}

/// What has been read so far, and where the reader is. JSON `null` counts as given, and reads as absent.
#[derive(Default)]
struct Found<'a> {
    event_id: Option<Option<Cow<'a, str>>>,
    event_type: Option<Cow<'a, str>>,
    event_version: Option<Option<u32>>,
    timestamp: Option<Option<Timestamp>>,
    metadata: bool,
    correlation_id: Option<Option<Cow<'a, str>>>,
    causation_id: Option<Option<Cow<'a, str>>>,
    user_id: Option<Option<Cow<'a, str>>>,
    payload: Option<&'a str>,
}

/// Reads an envelope. The error names the field where there is one.
pub(super) fn read(text: &str) -> Result<Parts<'_>, String> {
    let reading = Cell::new("");
    let mut found = Found::default();
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Envelope { found: &mut found, reading: &reading }).and_then(|()| json.end()).map_err(
        |error| match reading.get() {
            "" => error.to_string(),
            field => format!("`{field}`: {error}"),
        },
    )?;
    let event_type = found.event_type.ok_or("`event_type` (or `eventType`) is missing")?;
    if event_type.is_empty() {
        return Err("`event_type` is empty".to_owned());
    }
    Ok(Parts {
        event_id: found.event_id.flatten(),
        event_type,
        event_version: found.event_version.flatten().unwrap_or(1),
        timestamp: found.timestamp.flatten(),
        correlation_id: found.correlation_id.flatten(),
        causation_id: found.causation_id.flatten(),
        user_id: found.user_id.flatten(),
        payload: found.payload.unwrap_or("null"),
    })
}

struct Envelope<'f, 'a> {
    found: &'f mut Found<'a>,
    reading: &'f Cell<&'static str>,
}

impl<'de> Visitor<'de> for Envelope<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event envelope, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Envelope { found, reading } = self;
        while let Some(field) = map.next_key_seed(Name(Field::of_envelope))? {
            reading.set(field.name());
            match field {
                Field::EventId => text(&mut found.event_id, &mut map)?,
                Field::EventType => {
                    let Text(name) = map.next_value()?;
                    once(&mut found.event_type, name)?;
                }
                Field::EventVersion => {
                    let version = map.next_value()?;
                    once(&mut found.event_version, version)?;
                }
                Field::Timestamp => {
                    let time = map.next_value::<Option<time::Instant>>()?;
                    once(&mut found.timestamp, time.map(|time::Instant(time)| time))?;
                }
                Field::Metadata => {
                    if std::mem::replace(&mut found.metadata, true) {
                        return Err(A::Error::custom("given twice"));
                    }
                    map.next_value_seed(Metadata { found, reading })?;
                }
                Field::Payload => {
                    let payload = map.next_value::<&'de RawValue>()?;
                    once(&mut found.payload, payload.get())?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            reading.set("");
        }
        Ok(())
    }
}

struct Metadata<'f, 'a> {
    found: &'f mut Found<'a>,
    reading: &'f Cell<&'static str>,
}

impl<'de> DeserializeSeed<'de> for Metadata<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Metadata { found, reading } = self;
        while let Some(field) = map.next_key_seed(Name(Field::of_metadata))? {
            reading.set(field.name());
            match field {
                Field::CorrelationId => text(&mut found.correlation_id, &mut map)?,
                Field::CausationId => text(&mut found.causation_id, &mut map)?,
                Field::UserId => text(&mut found.user_id, &mut map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            reading.set(Field::Metadata.name());
        }
        Ok(())
    }
}

/// Reads text or null into `slot`.
fn text<'de, A: MapAccess<'de>>(slot: &mut Option<Option<Cow<'de, str>>>, map: &mut A) -> Result<(), A::Error> {
    let value = map.next_value::<Option<Text<'de>>>()?;
    once(slot, value.map(|Text(text)| text))
}

fn once<T, E: Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    if slot.is_some() {
        return Err(E::custom("given twice"));
    }
    *slot = Some(value);
    Ok(())
}

/// Recognizes a field's name without copying it.
struct Name(fn(&str) -> Field);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok((self.0)(name))
    }
}

impl<'de> Deserialize<'de> for time::Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(time::InstantVisitor)
    }
}
