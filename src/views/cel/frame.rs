//! What an expression sees of the world: the row as it was before the event, the event, and nothing else.
//!
//! The compiler replaces each `state.field` and `event.…` by a name that holds its number (see [`Slot`]), so that
//! nothing is looked up by name, and no map is built, while events are folded.

use cel::common::types::{CelBool, CelInt, CelNull, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;

use super::datum::{Datum, cel_millis};
use super::payload::{Found, Paths};
use super::types::Type;
use crate::event::EventMeta;

/// A numbered place that an expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A field of the row.
    State(usize),
    /// The value at a path of the payload.
    Payload(usize),
    /// Whether there is anything at a path of the payload.
    HasPayload(usize),
    /// A field of the envelope.
    Meta(usize),
    /// Whether the envelope has the field.
    HasMeta(usize),
}

impl Slot {
    /// The name that stands for the slot; no CEL text can spell it.
    pub fn name(self) -> String {
        let (kind, number) = match self {
            Slot::State(number) => ('s', number),
            Slot::Payload(number) => ('p', number),
            Slot::HasPayload(number) => ('q', number),
            Slot::Meta(number) => ('m', number),
            Slot::HasMeta(number) => ('n', number),
        };
        format!("#{kind}{number}")
    }

    pub fn of(name: &str) -> Option<Slot> {
        let [b'#', kind, digits @ ..] = name.as_bytes() else { return None };
        if digits.is_empty() {
            return None;
        }
        let number = digits.iter().try_fold(0usize, |sum, digit| {
            digit.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(usize::from(digit - b'0')))
        })?;
        Some(match kind {
            b's' => Slot::State(number),
            b'p' => Slot::Payload(number),
            b'q' => Slot::HasPayload(number),
            b'm' => Slot::Meta(number),
            b'n' => Slot::HasMeta(number),
            _ => return None,
        })
    }
}

/// A field of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meta {
    Type,
    Id,
    Version,
    Timestamp,
    Key,
    Offset,
    Partition,
    Topic,
    CorrelationId,
    CausationId,
    UserId,
}

/// The envelope's fields: name, whether it is within `event.metadata`, type.
pub(super) const META: &[(&str, Meta, Type)] = &[
    ("type", Meta::Type, Type::Text),
    ("id", Meta::Id, Type::Any),
    ("version", Meta::Version, Type::Int),
    ("timestamp", Meta::Timestamp, Type::Time),
    ("key", Meta::Key, Type::Text),
    ("offset", Meta::Offset, Type::Int),
    ("partition", Meta::Partition, Type::Int),
    ("topic", Meta::Topic, Type::Text),
    ("metadata.correlation_id", Meta::CorrelationId, Type::Any),
    ("metadata.causation_id", Meta::CausationId, Type::Any),
    ("metadata.user_id", Meta::UserId, Type::Any),
];

/// One event and the row it meets.
pub(super) struct Frame<'f> {
    pub state: &'f [Datum<'static>],
    pub payload: &'f [Found<'f>],
    pub meta: &'f EventMeta<'f>,
}

impl Frame<'_> {
    fn meta<'b>(&'b self, field: Meta) -> Option<CowVal<'b, 'b>> {
        let event = self.meta;
        let text = |text: &'b str| CowVal::owned(CelString::from(text));
        let int = |int: i64| CowVal::owned(CelInt::from(int));
        let optional = |value: Option<&'b str>| value.map_or_else(|| CowVal::owned(CelNull), text);
        Some(match field {
            Meta::Type => text(&event.event_type),
            Meta::Id => optional(event.event_id.as_deref()),
            Meta::Version => int(event.event_version.into()),
            Meta::Timestamp => CowVal::owned(cel_millis(event.timestamp.0)?),
            Meta::Key => text(std::str::from_utf8(event.key).ok()?),
            Meta::Offset => int(i64::try_from(event.offset.0).ok()?),
            Meta::Partition => int(event.partition.0.into()),
            Meta::Topic => text(event.topic),
            Meta::CorrelationId => optional(event.correlation_id.as_deref()),
            Meta::CausationId => optional(event.causation_id.as_deref()),
            Meta::UserId => optional(event.user_id.as_deref()),
        })
    }

    fn has_meta(&self, field: Meta) -> bool {
        match field {
            Meta::Id => self.meta.event_id.is_some(),
            Meta::CorrelationId => self.meta.correlation_id.is_some(),
            Meta::CausationId => self.meta.causation_id.is_some(),
            Meta::UserId => self.meta.user_id.is_some(),
            _ => true,
        }
    }
}

impl VariableResolver for Frame<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match Slot::of(name)? {
            Slot::State(number) => self.state.get(number).map(|datum| CowVal::Borrowed(datum.as_val())),
            Slot::Payload(number) => match self.payload.get(number)? {
                Found::Value(datum) => Some(CowVal::Borrowed(datum.as_val())),
                Found::Seen | Found::Missing => None,
            },
            Slot::HasPayload(number) => {
                let found = !matches!(self.payload.get(number)?, Found::Missing);
                Some(CowVal::owned(CelBool::from(found)))
            }
            Slot::Meta(number) => self.meta(META.get(number)?.1),
            Slot::HasMeta(number) => Some(CowVal::owned(CelBool::from(self.has_meta(META.get(number)?.1)))),
        }
    }
}

/// Why a slot gave nothing.
pub(super) fn nothing_at(slot: Slot, paths: &Paths) -> String {
    match slot {
        Slot::Payload(number) => format!("no such field `{}`", paths.name(number)),
        Slot::Meta(number) => match META.get(number) {
            Some((_, Meta::Timestamp, _)) => "`event.timestamp` is outside the years 1 to 9999".to_owned(),
            Some((_, Meta::Key, _)) => "`event.key` is not UTF-8".to_owned(),
            Some((name, ..)) => format!("`event.{name}` has no value"),
            None => "no such field".to_owned(),
        },
        _ => "no such field".to_owned(),
    }
}
