//! JSON in and out of values: reads what is wanted and steps over the rest.
//!
//! serde_json's generic reading would round an integer beyond 64 bits to a float without a word and keep the last of
//! two equal keys. This reader does neither. It expects text whose syntax has been checked (as payloads and stored
//! rows are) and spends nothing on checking it again; on other text it answers an error or a wrong value, never a panic.

use std::borrow::Cow;
use std::collections::HashMap;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::Val;

use super::datum::{Datum, rfc3339};

/// Deeper text is refused; the decoder of records lets none through.
const MAX_DEPTH: usize = 128;

pub(super) type Bad = String;

pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Reader { text, at: 0 }
    }

    /// Where the reader stands, to come back to.
    pub fn mark(&self) -> usize {
        self.at
    }

    pub fn back_to(&mut self, mark: usize) {
        self.at = mark;
    }

    /// The first byte of what comes next.
    pub fn peek(&mut self) -> Result<u8, Bad> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err("the JSON text ends too early".to_owned())
    }

    pub fn value(&mut self) -> Result<Datum<'a>, Bad> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Datum<'a>, Bad> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        match self.peek()? {
            b'"' => Ok(Datum::Text(self.text()?.into())),
            b'{' => {
                let mut map: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> = HashMap::new();
                self.members(|reader, key| {
                    let value = reader.value_at(depth + 1)?;
                    match map.insert(map_key(key), value.into_val()) {
                        None => Ok(()),
                        Some(_) => Err("a key is given twice in one object".to_owned()),
                    }
                })?;
                Ok(Datum::map(map))
            }
            b'[' => {
                let mut list = Vec::new();
                self.elements(|reader| {
                    list.push(reader.value_at(depth + 1)?.into_val());
                    Ok(())
                })?;
                Ok(Datum::List(list.into()))
            }
            b't' => self.word(b"true").map(|()| Datum::Bool(true.into())),
            b'f' => self.word(b"false").map(|()| Datum::Bool(false.into())),
            b'n' => self.word(b"null").map(|()| Datum::Null),
            _ => self.number(),
        }
    }

    /// Steps over one value, however deep.
    pub fn skip(&mut self) -> Result<(), Bad> {
        let mut open = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.quoted()?;
                }
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1).ok_or("unexpected closing bracket")?;
                    self.at += 1;
                }
                b',' | b':' if open > 0 => self.at += 1,
                _ => {
                    self.scalar()?;
                }
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    /// Reads an object: `member` is called at each value and must read or skip it.
    pub fn members(&mut self, mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), Bad>) -> Result<(), Bad> {
        self.sequence(b'{', b'}', |reader| {
            let key = reader.text()?;
            reader.byte(b':')?;
            member(reader, key)
        })
    }

    fn elements(&mut self, element: impl FnMut(&mut Self) -> Result<(), Bad>) -> Result<(), Bad> {
        self.sequence(b'[', b']', element)
    }

    fn sequence(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Result<(), Bad>) -> Result<(), Bad> {
        self.byte(open)?;
        if self.peek()? == close {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(format!("unexpected byte {} of the JSON text", self.at)),
            }
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), Bad> {
        if self.peek()? != byte {
            return Err(format!("unexpected byte {} of the JSON text", self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Bad> {
        if self.scalar()? == word { Ok(()) } else { Err("not a JSON value".to_owned()) }
    }

    /// The bytes of a number or a word.
    fn scalar(&mut self) -> Result<&'a [u8], Bad> {
        let rest = &self.text[self.at..];
        let len = rest.iter().position(|byte| b" \n\r\t,:]}{[\"".contains(byte)).unwrap_or(rest.len());
        if len == 0 {
            return Err(format!("unexpected byte {} of the JSON text", self.at));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn number(&mut self) -> Result<Datum<'a>, Bad> {
        let digits = std::str::from_utf8(self.scalar()?).map_err(|_| "not a JSON value")?;
        if digits.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            return match digits.parse::<f64>() {
                Ok(float) if float.is_finite() => Ok(Datum::Float(float.into())),
                Ok(_) => Err(format!("the number {} is beyond what a float can hold", shown(digits))),
                Err(_) => Err("not a JSON value".to_owned()),
            };
        }
        match digits.parse::<i64>() {
            Ok(int) => Ok(Datum::Int(int.into())),
            Err(_) if digits.bytes().any(|byte| byte.is_ascii_digit()) => {
                Err(format!("the integer {} is beyond 64 bits", shown(digits)))
            }
            Err(_) => Err("not a JSON value".to_owned()),
        }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Bad> {
        if self.peek()? != b'"' {
            return Err(format!("unexpected byte {} of the JSON text", self.at));
        }
        let (quoted, escaped) = self.quoted()?;
        if escaped {
            return serde_json::from_slice::<String>(quoted).map(Cow::Owned).map_err(|error| error.to_string());
        }
        let inner = &quoted[1..quoted.len() - 1];
        std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| "text that is not UTF-8".to_owned())
    }

    /// The bytes of a text with its quotes, and whether it has escapes. Stands at the opening quote.
    fn quoted(&mut self) -> Result<(&'a [u8], bool), Bad> {
        let start = self.at;
        let mut escaped = false;
        let mut at = start + 1;
        while let Some(&byte) = self.text.get(at) {
            at += 1;
            match byte {
                b'"' => {
                    self.at = at;
                    return Ok((&self.text[start..at], escaped));
                }
                b'\\' => {
                    escaped = true;
                    at += 1;
                }
                _ => {}
            }
        }
        Err("the JSON text ends too early".to_owned())
    }
}

fn map_key(key: Cow<'_, str>) -> CelMapKey<'_> {
    match key {
        Cow::Borrowed(key) => key.into(),
        Cow::Owned(key) => key.into(),
    }
}

/// A number as a message shows it: a hostile one is a megabyte long.
fn shown(digits: &str) -> String {
    if digits.len() <= 40 { digits.to_owned() } else { format!("{}…", &digits[..40]) }
}

/// Appends a value as JSON: map keys sorted, floats in their shortest exact form, timestamps in RFC 3339.
pub(super) fn write(value: &dyn Val, into: &mut Vec<u8>) {
    if let Some(int) = value.downcast_ref::<CelInt>() {
        push(into, int.inner());
    } else if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        push(into, text.inner());
    } else if let Some(float) = value.downcast_ref::<CelDouble>() {
        push(into, float.inner());
    } else if let Some(bool) = value.downcast_ref::<CelBool>() {
        push(into, bool.inner());
    } else if let Some(time) = value.downcast_ref() {
        push(into, &rfc3339(time));
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        into.push(b'[');
        for (index, item) in list.inner().iter().enumerate() {
            if index > 0 {
                into.push(b',');
            }
            write(item.as_ref(), into);
        }
        into.push(b']');
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let mut entries: Vec<_> = map.inner().iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        into.push(b'{');
        for (index, (key, item)) in entries.into_iter().enumerate() {
            if index > 0 {
                into.push(b',');
            }
            write(key.inner(), into);
            into.push(b':');
            write(item.as_ref(), into);
        }
        into.push(b'}');
    } else {
        into.extend_from_slice(b"null");
    }
}

/// Appends a scalar.
pub(super) fn push<T: serde::Serialize + ?Sized>(into: &mut Vec<u8>, value: &T) {
    // Proven: a `Vec` takes every write, and numbers, booleans and text have no other way to fail.
    serde_json::to_writer(into, value).expect("a scalar becomes JSON");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(text: &str) -> Result<String, Bad> {
        let mut reader = Reader::new(text.as_bytes());
        let mut out = Vec::new();
        write(reader.value()?.as_val(), &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808", "1.0", "0.1", "1e+16", "-0.0"] {
            assert_eq!(round(text).unwrap(), text);
        }
        assert_eq!(round("-0").unwrap(), "0", "an integer");
        for text in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e400", "-1e400", "+x"] {
            assert!(round(text).is_err(), "{text}");
        }
        assert!(round(&"9".repeat(100_000)).unwrap_err().len() < 200);
    }

    #[test]
    fn duplicate_keys_are_refused_even_when_written_differently() {
        assert!(round(r#"{"a":1,"a":1}"#).is_err());
        assert!(round(r#"[{"a":1,"\u0061":1}]"#).is_err());
        assert_eq!(round(r#"{"b":{"a":1},"a":[ ]}"#).unwrap(), r#"{"a":[],"b":{"a":1}}"#);
        assert!(round(r#""\ud800""#).is_err(), "half a surrogate pair is no text");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reading_and_writing_agrees_with_serde_json(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut reader = Reader::new(text.as_bytes());
            reader.skip().unwrap();
            prop_assert_eq!(reader.mark(), text.len());
            let written = round(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
            prop_assert_eq!(round(&written).unwrap(), written);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&bytes).value();
            let _ = Reader::new(&bytes).skip();
        }
    }
}
