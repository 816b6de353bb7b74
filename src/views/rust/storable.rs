//! Whether a state can go to the store as JSON and come back the same.
//!
//! serde_json writes a non-finite float as `null` without a word, and fails on map keys that are not text-like. The
//! check walks the state as `Serialize` shows it and writes nothing, so that for a plain struct it costs next to
//! nothing, and an event that leads to such a state is rejected while the state before it is still there.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// Answers what would be lost or refused.
pub(super) fn check<T: Serialize>(state: &T) -> Result<(), Unstorable> {
    state.serialize(Check { key: false })
}

#[derive(Debug)]
pub(super) struct Unstorable(String);

impl fmt::Display for Unstorable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unstorable {}

impl ser::Error for Unstorable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Unstorable(message.to_string())
    }
}

#[derive(Clone, Copy)]
struct Check {
    /// The value is the key of a map.
    key: bool,
}

const VALUE: Check = Check { key: false };

impl Check {
    fn not_as_key(self, what: &str) -> Result<(), Unstorable> {
        if self.key { Err(Unstorable(format!("a map has {what} for a key, JSON wants text"))) } else { Ok(()) }
    }

    fn float(self, value: f64) -> Result<(), Unstorable> {
        if value.is_finite() { Ok(()) } else { Err(Unstorable(format!("it holds the number {value}, JSON has none"))) }
    }

    fn compound(self, what: &str) -> Result<Check, Unstorable> {
        self.not_as_key(what).map(|()| VALUE)
    }
}

macro_rules! fine {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, _: $type) -> Result<(), Unstorable> {
            Ok(())
        })*
    };
}

impl Serializer for Check {
    type Ok = ();
    type Error = Unstorable;
    type SerializeSeq = Check;
    type SerializeTuple = Check;
    type SerializeTupleStruct = Check;
    type SerializeTupleVariant = Check;
    type SerializeMap = Check;
    type SerializeStruct = Check;
    type SerializeStructVariant = Check;

    fine! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_char: char, serialize_str: &str,
    }

    fn serialize_f32(self, value: f32) -> Result<(), Unstorable> {
        self.float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unstorable> {
        self.float(value)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unstorable> {
        self.not_as_key("bytes")
    }

    fn serialize_none(self) -> Result<(), Unstorable> {
        self.not_as_key("an absent value")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unstorable> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unstorable> {
        self.not_as_key("an empty value")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unstorable> {
        self.not_as_key("an empty value")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Unstorable> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unstorable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unstorable> {
        self.not_as_key("an enum with content")?;
        value.serialize(VALUE)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Check, Unstorable> {
        self.compound("a list")
    }

    fn serialize_tuple(self, _: usize) -> Result<Check, Unstorable> {
        self.compound("a tuple")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Check, Unstorable> {
        self.compound("a tuple")
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Check, Unstorable> {
        self.compound("an enum with content")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Check, Unstorable> {
        self.compound("a map")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Check, Unstorable> {
        self.compound("a struct")
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Check, Unstorable> {
        self.compound("an enum with content")
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), Unstorable> {
        Ok(())
    }
}

macro_rules! elements {
    ($($trait:ident: $method:ident,)*) => {
        $(impl ser::$trait for Check {
            type Ok = ();
            type Error = Unstorable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unstorable> {
                value.serialize(VALUE)
            }

            fn end(self) -> Result<(), Unstorable> {
                Ok(())
            }
        })*
    };
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! fields {
    ($($trait:ident,)*) => {
        $(impl ser::$trait for Check {
            type Ok = ();
            type Error = Unstorable;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Unstorable> {
                value.serialize(VALUE)
            }

            fn end(self) -> Result<(), Unstorable> {
                Ok(())
            }
        })*
    };
}

fields! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for Check {
    type Ok = ();
    type Error = Unstorable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unstorable> {
        key.serialize(Check { key: true })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unstorable> {
        value.serialize(VALUE)
    }

    fn end(self) -> Result<(), Unstorable> {
        Ok(())
    }
}
