//! Values: what payloads are turned into, what rows hold, and what expressions work on, in one form.
//!
//! A row holds only what JSON can say and give back (and timestamps, in fields that are declared as such), so that a
//! row that was stored and read again folds like one that never left memory.

use std::collections::HashMap;

use cel::common::types::{
    CelBool, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, CelUInt,
};
use cel::common::value::{CowVal, Val};

use super::spec::Literal;
use crate::moment::Moment;

/// Levels of lists and maps within a field of a row.
pub(super) const MAX_NESTING: usize = 64;

/// A value. Text may borrow from the payload; in a row it owns.
#[derive(Clone, Debug)]
pub(super) enum Datum<'v> {
    Null,
    Bool(CelBool),
    Int(CelInt),
    Float(CelDouble),
    Text(CelString<'v>),
    Time(CelTimestamp),
    List(CelList<'v>),
    /// Boxed, for it is twice as large as any other.
    Map(Box<CelMap<'v>>),
}

/// A row's field: what its values must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldType {
    Any,
    Bool,
    Int,
    Float,
    Text,
    Time,
    List,
    Map,
}

impl FieldType {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            FieldType::Any => "any",
            FieldType::Bool => "bool",
            FieldType::Int => "int",
            FieldType::Float => "float",
            FieldType::Text => "string",
            FieldType::Time => "timestamp",
            FieldType::List => "list",
            FieldType::Map => "map",
        }
    }

    pub fn of(literal: &Literal) -> Self {
        match literal {
            Literal::Null => FieldType::Any,
            Literal::Bool(_) => FieldType::Bool,
            Literal::Int(_) => FieldType::Int,
            Literal::Float(_) => FieldType::Float,
            Literal::Text(_) => FieldType::Text,
            Literal::Time(_) => FieldType::Time,
            Literal::List(_) => FieldType::List,
            Literal::Map(_) => FieldType::Map,
        }
    }

    /// Takes back a value that was stored as JSON, where a timestamp is text.
    pub fn restore(self, value: Datum<'_>) -> Result<Datum<'static>, String> {
        match (self, value.into_owned()?) {
            (FieldType::Time, Datum::Text(text)) => {
                parse_time(text.inner()).map(Datum::Time).ok_or("string".to_owned())
            }
            (_, value) => self.fit(value),
        }
    }

    /// Makes a value of this type, or says what it is instead. An integer becomes the float that is the same number:
    /// JSON's writers do not tell 2 from 2.0.
    pub fn fit(self, value: Datum<'static>) -> Result<Datum<'static>, String> {
        match (self, value) {
            (FieldType::Any, Datum::Time(time)) => Ok(Datum::Text(rfc3339(&time).into())),
            (FieldType::Any, value)
            | (FieldType::Bool, value @ Datum::Bool(_))
            | (FieldType::Int, value @ Datum::Int(_))
            | (FieldType::Float, value @ Datum::Float(_))
            | (FieldType::Text, value @ Datum::Text(_))
            | (FieldType::Time, value @ Datum::Time(_))
            | (FieldType::List, value @ Datum::List(_))
            | (FieldType::Map, value @ Datum::Map(_)) => Ok(value),
            (FieldType::Float, Datum::Int(int)) if int.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS => {
                Ok(Datum::Float((*int.inner() as f64).into()))
            }
            (_, value) => Err(value.type_name().to_owned()),
        }
    }
}

static NULL: CelNull = CelNull;

impl<'v> Datum<'v> {
    pub fn type_name(&self) -> &'static str {
        match self {
            Datum::Null => "null",
            Datum::Bool(_) => "bool",
            Datum::Int(_) => "int",
            Datum::Float(_) => "float",
            Datum::Text(_) => "string",
            Datum::Time(_) => "timestamp",
            Datum::List(_) => "list",
            Datum::Map(_) => "map",
        }
    }

    /// As expressions see it, without a copy.
    pub fn as_val<'b>(&'b self) -> &'b (dyn Val + 'v) {
        match self {
            Datum::Null => &NULL,
            Datum::Bool(value) => value,
            Datum::Int(value) => value,
            Datum::Float(value) => value,
            Datum::Text(value) => value,
            Datum::Time(value) => value,
            Datum::List(value) => value,
            Datum::Map(value) => value.as_ref(),
        }
    }

    pub fn into_val(self) -> Box<dyn Val + 'v> {
        match self {
            Datum::Null => Box::new(CelNull),
            Datum::Bool(value) => Box::new(value),
            Datum::Int(value) => Box::new(value),
            Datum::Float(value) => Box::new(value),
            Datum::Text(value) => Box::new(value),
            Datum::Time(value) => Box::new(value),
            Datum::List(value) => Box::new(value),
            Datum::Map(value) => value,
        }
    }

    pub fn map(entries: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>>) -> Self {
        Datum::Map(Box::new(entries.into()))
    }

    /// The same value without ties to the text it was read from.
    pub fn into_owned(self) -> Result<Datum<'static>, String> {
        match self {
            Datum::Text(text) => Ok(Datum::Text(text.into_static())),
            Datum::Time(time) => Ok(Datum::Time(time)),
            value => owned(value.as_val(), 0),
        }
    }

    /// What an expression gave, as something that a row can hold; else what it is.
    pub fn result(value: &CowVal<'_, '_>) -> Result<Datum<'static>, String> {
        match value.downcast_ref::<CelTimestamp>() {
            Some(time) => Ok(Datum::Time(in_utc(time)?)),
            None => owned(value.as_ref(), 0),
        }
    }

    pub fn literal(literal: &Literal) -> Result<Datum<'static>, String> {
        match literal {
            Literal::Time(time) => Ok(Datum::Time(cel_time(*time).ok_or("a timestamp outside the years 1 to 9999")?)),
            literal => nested_literal(literal, 0),
        }
    }

    /// Bytes that the value holds outside of itself, roughly.
    pub fn heap(&self) -> usize {
        match self {
            Datum::Text(text) => text.len(),
            Datum::List(list) => list.inner().iter().map(|value| heap_of(value.as_ref())).sum(),
            Datum::Map(map) => map.inner().iter().map(|(k, v)| heap_of(k.inner()) + heap_of(v.as_ref())).sum(),
            _ => 0,
        }
    }
}

fn heap_of(value: &dyn Val) -> usize {
    const BOX: usize = 40;
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        BOX + text.len()
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        BOX + list.inner().iter().map(|value| heap_of(value.as_ref())).sum::<usize>()
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        BOX + map.inner().iter().map(|(k, v)| heap_of(k.inner()) + heap_of(v.as_ref())).sum::<usize>()
    } else {
        BOX
    }
}

fn nested_literal(literal: &Literal, level: usize) -> Result<Datum<'static>, String> {
    if level > MAX_NESTING {
        return Err(format!("lists and maps nested deeper than {MAX_NESTING} levels"));
    }
    Ok(match literal {
        Literal::Null => Datum::Null,
        Literal::Bool(value) => Datum::Bool((*value).into()),
        Literal::Int(value) => Datum::Int((*value).into()),
        Literal::Float(value) if value.is_finite() => Datum::Float((*value).into()),
        Literal::Float(value) => return Err(format!("the number {value}, which JSON cannot hold")),
        Literal::Text(value) => Datum::Text(value.clone().into()),
        Literal::Time(value) => Datum::Text(value.to_string().into()),
        Literal::List(items) => {
            let items = items.iter().map(|item| Ok(nested_literal(item, level + 1)?.into_val()));
            Datum::List(items.collect::<Result<Vec<_>, String>>()?.into())
        }
        Literal::Map(entries) => {
            let entries = entries.iter().map(|(k, v)| Ok((k.clone().into(), nested_literal(v, level + 1)?.into_val())));
            Datum::map(entries.collect::<Result<_, String>>()?)
        }
    })
}

/// Copies a value into one that owns what it holds. Within lists and maps a timestamp becomes its text, for that is
/// what it would be after a stay in the store.
fn owned(value: &dyn Val, level: usize) -> Result<Datum<'static>, String> {
    if level > MAX_NESTING {
        return Err(format!("lists and maps nested deeper than {MAX_NESTING} levels"));
    }
    if let Some(int) = value.downcast_ref::<CelInt>() {
        Ok(Datum::Int(*int))
    } else if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        Ok(Datum::Text(text.inner().to_owned().into()))
    } else if let Some(bool) = value.downcast_ref::<CelBool>() {
        Ok(Datum::Bool(*bool))
    } else if let Some(float) = value.downcast_ref::<CelDouble>() {
        match float.inner().is_finite() {
            true => Ok(Datum::Float(*float)),
            false => Err(format!("the number {}, which JSON cannot hold", float.inner())),
        }
    } else if value.downcast_ref::<CelNull>().is_some() {
        Ok(Datum::Null)
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        let items = list.inner().iter().map(|item| Ok(owned(item.as_ref(), level + 1)?.into_val()));
        Ok(Datum::List(items.collect::<Result<Vec<_>, String>>()?.into()))
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let entries = map.inner().iter().map(|(key, value)| match key {
            CelMapKey::String(key) => {
                Ok((CelMapKey::from(key.inner().to_owned()), owned(value.as_ref(), level + 1)?.into_val()))
            }
            _ => Err("a map with keys that are not strings, which JSON cannot hold".to_owned()),
        });
        Ok(Datum::map(entries.collect::<Result<_, String>>()?))
    } else if let Some(time) = value.downcast_ref::<CelTimestamp>() {
        Ok(Datum::Text(rfc3339(&in_utc(time)?).into()))
    } else if let Some(unsigned) = value.downcast_ref::<CelUInt>() {
        i64::try_from(*unsigned.inner())
            .map(|int| Datum::Int(int.into()))
            .map_err(|_| "an integer beyond 64 bits".into())
    } else if value.downcast_ref::<CelDuration>().is_some() {
        Err("duration (a row can hold its number of seconds: `.getSeconds()`)".to_owned())
    } else {
        Err(value.get_type().name().to_owned())
    }
}

/// The CEL timestamp of a moment.
pub(super) fn cel_time(moment: Moment) -> Option<CelTimestamp> {
    let (seconds, nanos) = moment.unix();
    Some(chrono::DateTime::from_timestamp(seconds, nanos)?.fixed_offset().into())
}

/// The CEL timestamp of milliseconds since the epoch; CEL knows the years 1 to 9999.
pub(super) fn cel_millis(millis: i64) -> Option<CelTimestamp> {
    let time = chrono::DateTime::from_timestamp_millis(millis).filter(|_| Moment::MILLIS.contains(&millis))?;
    Some(time.fixed_offset().into())
}

fn moment(time: &CelTimestamp) -> Option<Moment> {
    Moment::from_unix(time.inner().timestamp(), time.inner().timestamp_subsec_nanos())
}

/// As it would be after a stay in the store: with the offset of UTC, so that equal instants are written alike, and a leap
/// second as the one after it.
fn in_utc(time: &CelTimestamp) -> Result<CelTimestamp, String> {
    let utc = time.inner().to_utc();
    if utc.timestamp_subsec_nanos() < 1_000_000_000 && Moment::MILLIS.contains(&utc.timestamp_millis()) {
        return Ok(utc.fixed_offset().into());
    }
    moment(time).and_then(cel_time).ok_or_else(|| "a timestamp outside the years 1 to 9999".to_owned())
}

pub(super) fn parse_time(text: &str) -> Option<CelTimestamp> {
    cel_time(text.parse().ok()?)
}

/// RFC 3339 in UTC with as many decimals as it needs.
pub(super) fn rfc3339(time: &CelTimestamp) -> String {
    // Rows hold moments only (see `in_utc`), so the fallback is never used.
    moment(time).map_or_else(|| time.inner().to_rfc3339(), |moment| moment.to_string())
}
