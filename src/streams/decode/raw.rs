//! Values without an envelope: the value is the payload, and the event's type comes from beside it or from within it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{Parts, Text};

/// Checks the payload's syntax and finds its type.
pub(super) fn read<'a>(
    text: &'a str,
    header: Option<&'a [u8]>,
    field: Option<&str>,
    default: Option<&'a str>,
) -> Result<Parts<'a>, String> {
    let header = header
        .map(|bytes| std::str::from_utf8(bytes).map_err(|_| "the header with the event's type is not UTF-8"))
        .transpose()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let found = match (header, field) {
        (None, Some(field)) if text.trim_ascii_start().starts_with('{') => json.deserialize_map(TypeIn { field }),
        _ => <IgnoredAny as serde::Deserialize>::deserialize(&mut json).map(|_| None),
    };
    let found = found.and_then(|found| json.end().map(|()| found)).map_err(|error| error.to_string())?;
    let event_type = header.map(Cow::Borrowed).or(found).or(default.map(Cow::Borrowed)).ok_or_else(|| match field {
        Some(field) => format!("there is no field `{field}` that names the event's type, and no other source of it"),
        None => "nothing names the event's type: no header has it, and there is no default".to_owned(),
    })?;
    if event_type.is_empty() {
        return Err("the event's type is empty".to_owned());
    }
    Ok(Parts {
        event_id: None,
        event_type,
        event_version: 1,
        timestamp: None,
        correlation_id: None,
        causation_id: None,
        user_id: None,
        payload: text,
    })
}

/// Looks for the type in a field of the outermost object.
struct TypeIn<'f> {
    field: &'f str,
}

impl<'de> Visitor<'de> for TypeIn<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the field `{}`", self.field)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsIt(self.field))? {
            if !is_it {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Text(name) = map.next_value()?;
            if found.replace(name).is_some() {
                return Err(A::Error::custom(format_args!("`{}` is given twice", self.field)));
            }
        }
        Ok(found)
    }
}

struct IsIt<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for IsIt<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsIt<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
