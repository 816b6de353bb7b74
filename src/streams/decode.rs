//! From a record to an event: one pass over the value, borrowing from the record wherever the JSON text allows it.
//!
//! What a [`Decoder`] lets through is a whole JSON text in UTF-8, no deeper than [`MAX_DEPTH`], whose envelope is
//! complete. The payload stays text: each view decodes from it what it needs.

use std::borrow::Cow;

use crate::event::{Event, EventMeta, Undecodable};
use crate::position::PartitionId;
use crate::record::RecordRef;

mod envelope;
mod raw;
mod time;

/// Levels of arrays and objects that a value may have, its outermost one included. It bounds the recursion of
/// whatever decodes payloads later.
pub const MAX_DEPTH: usize = 120;

/// A reason is stored beside its record; a longer one is cut.
const MAX_REASON: usize = 400;

/// How the records of a topic become events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    pub format: Format,
    /// Records with a longer key are refused: the key is stored with every row.
    pub max_key_bytes: usize,
}

/// What a record's value holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// The JSON envelope, its fields in snake_case or camelCase.
    Json,
    /// The payload alone. The event's type is the first of these that there is: the header `type_header`, the
    /// payload's own field `type_field`, `default_type`.
    Raw { type_header: Option<String>, type_field: Option<String>, default_type: Option<String> },
}

/// Makes events of the records of one topic.
#[derive(Clone, Debug)]
pub struct Decoder {
    options: DecodeOptions,
}

/// What a format found in a value: an event without its coordinates.
#[derive(Debug)]
struct Parts<'a> {
    event_id: Option<Cow<'a, str>>,
    event_type: Cow<'a, str>,
    event_version: u32,
    timestamp: Option<crate::position::Timestamp>,
    correlation_id: Option<Cow<'a, str>>,
    causation_id: Option<Cow<'a, str>>,
    user_id: Option<Cow<'a, str>>,
    payload: &'a str,
}

impl Decoder {
    pub fn new(options: DecodeOptions) -> Self {
        Decoder { options }
    }

    /// The longest key that becomes an event, in bytes.
    pub fn max_key_bytes(&self) -> usize {
        self.options.max_key_bytes
    }

    /// Makes an event of the record that was read from the topic and partition `at`.
    pub fn decode<'a>(&'a self, at: (&'a str, PartitionId), record: RecordRef<'a>) -> Result<Event<'a>, Undecodable> {
        let key = record.key.ok_or(Undecodable::NullKey)?;
        if key.len() > self.options.max_key_bytes {
            return Err(Undecodable::KeyTooLarge { bytes: key.len(), max: self.options.max_key_bytes });
        }
        let value = record.value.ok_or(Undecodable::NullValue)?;
        let text = json_text(value).map_err(malformed)?;
        let parts = match &self.options.format {
            Format::Json => envelope::read(text),
            Format::Raw { type_header, type_field, default_type } => {
                let header = type_header.as_deref().and_then(|name| record.header(name));
                raw::read(text, header, type_field.as_deref(), default_type.as_deref())
            }
        }
        .map_err(malformed)?;
        Ok(Event {
            meta: EventMeta {
                topic: at.0,
                partition: at.1,
                offset: record.offset,
                record_timestamp: record.timestamp,
                key,
                event_id: parts.event_id,
                event_type: parts.event_type,
                event_version: parts.event_version,
                timestamp: parts.timestamp.unwrap_or(record.timestamp),
                correlation_id: parts.correlation_id,
                causation_id: parts.causation_id,
                user_id: parts.user_id,
            },
            payload: parts.payload.as_bytes(),
        })
    }
}

fn malformed(mut reason: String) -> Undecodable {
    if reason.len() > MAX_REASON {
        let cut = (0..=MAX_REASON).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
        reason.truncate(cut);
        reason.push('…');
    }
    Undecodable::Malformed { reason }
}

/// The value as text that can be handed to a JSON reader: UTF-8, without a byte order mark, not too deep.
fn json_text(value: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(value).map_err(|e| format!("byte {} is not UTF-8", e.valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        return Err("it begins with a byte order mark".to_owned());
    }
    check_depth(value)?;
    Ok(text)
}

/// Refuses what is nested deeper than [`MAX_DEPTH`]. serde_json skips unread values without counting levels, so
/// nothing else would.
fn check_depth(value: &[u8]) -> Result<(), String> {
    // Cannot be deeper than it has opening brackets. Counted in bytes, chunk by chunk, that is a few nanoseconds.
    let in_chunk = |chunk: &[u8]| usize::from(chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>());
    if value.chunks(128).map(in_chunk).sum::<usize>() <= MAX_DEPTH {
        return Ok(());
    }
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in value {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Text that borrows from the JSON where that has no escapes. (`Cow`'s own `Deserialize` always copies.)
struct Text<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests;
