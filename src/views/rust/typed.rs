//! From an event's type and the text of its payload to a view's own event type, without writing the envelope again.
//!
//! A derived `Deserialize` asks for an enum in one of three ways, and gets what it asks for: an adjacently tagged enum
//! (`#[serde(tag = "event_type", content = "payload")]`, whatever the two are called) as a map of tag and content, a
//! plain enum as a variant with its content, anything else as the envelope's own map.

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use crate::views::Failure;

/// Decodes the event. A type that the enum does not have is [`Failure::UnknownType`].
pub(super) fn decode<T: DeserializeOwned>(event_type: &str, payload: &[u8]) -> Result<T, Failure> {
    let typed = Typed { event_type, payload, null: payload.trim_ascii() == b"null" };
    let result = T::deserialize(typed).or_else(|error| match error {
        // A variant without fields takes no content, not even the empty object that some producers send.
        Error::Payload(_) if is_empty_object(payload) => T::deserialize(Typed { null: true, ..typed }).or(Err(error)),
        error => Err(error),
    });
    result.map_err(|error| match error {
        Error::UnknownType => Failure::UnknownType(event_type.to_owned()),
        Error::Payload(reason) => Failure::Undecodable(reason),
    })
}

fn is_empty_object(payload: &[u8]) -> bool {
    let inner = payload.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// Tells an unknown type, which the tag's visitor reports as an unknown variant, from everything else.
#[derive(Debug)]
enum Error {
    UnknownType,
    Payload(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::UnknownType => f.write_str("unknown event type"),
            Error::Payload(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error::Payload(message.to_string())
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Error::UnknownType
    }
}

#[derive(Clone, Copy)]
struct Typed<'de> {
    event_type: &'de str,
    payload: &'de [u8],
    /// The payload is JSON's null, which stands for none.
    null: bool,
}

impl<'de> Typed<'de> {
    fn tag(self) -> BorrowedStrDeserializer<'de, Error> {
        BorrowedStrDeserializer::new(self.event_type)
    }

    /// Decodes the payload. Errors in it are serde_json's own, so that none can be taken for an unknown type.
    fn content<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let mut json = serde_json::Deserializer::from_slice(self.payload);
        let value = seed.deserialize(&mut json).map_err(in_payload)?;
        json.end().map_err(in_payload)?;
        Ok(value)
    }

    fn envelope(self, tag: &'static str, content: &'static str) -> Envelope<'de> {
        Envelope { typed: self, tag: Some(tag), content: (!self.null).then_some(content), at_tag: true }
    }
}

fn in_payload(error: serde_json::Error) -> Error {
    Error::Payload(error.to_string())
}

impl<'de> Deserializer<'de> for Typed<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.envelope("event_type", "payload"))
    }

    /// An adjacently tagged enum passes the names of its tag and its content, in this order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match *fields {
            ["payload", tag] => visitor.visit_map(self.envelope(tag, "payload")),
            [tag, content] => visitor.visit_map(self.envelope(tag, content)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// The map `{tag: event type, content: payload}`, the second entry only where there is a payload.
struct Envelope<'de> {
    typed: Typed<'de>,
    tag: Option<&'static str>,
    content: Option<&'static str>,
    at_tag: bool,
}

impl<'de> MapAccess<'de> for Envelope<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.at_tag = self.tag.is_some();
        let Some(name) = self.tag.take().or_else(|| self.content.take()) else { return Ok(None) };
        let name: de::value::StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        if self.at_tag { seed.deserialize(self.typed.tag()) } else { self.typed.content(seed) }
    }
}

impl<'de> EnumAccess<'de> for Typed<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(self.tag())?, self))
    }
}

impl<'de> VariantAccess<'de> for Typed<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        if self.null { Ok(()) } else { self.content(std::marker::PhantomData::<()>) }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.content(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let mut json = serde_json::Deserializer::from_slice(self.payload);
        let value = json.deserialize_tuple(len, visitor).map_err(in_payload)?;
        json.end().map_err(in_payload)?;
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let mut json = serde_json::Deserializer::from_slice(self.payload);
        let value = json.deserialize_struct("", fields, visitor).map_err(in_payload)?;
        json.end().map_err(in_payload)?;
        Ok(value)
    }
}
