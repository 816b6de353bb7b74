//! Percent-encoding of arbitrary bytes. Keys are bytes, not text, so the usual text-only extractors will not do.

/// Encodes everything but letters, digits and `-._~`.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Decodes a path segment; `+` is itself. `None` when a `%` is not followed by two hexadecimal digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Decodes a query's `name=value&…`; `+` is a space. `None` as with [`decode`].
pub fn query(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((String::from_utf8(decode(&name.replace('+', " "))?).ok()?, decode(&value.replace('+', " "))?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_survive_the_round_trip(bytes: Vec<u8>) {
            assert_eq!(decode(&encode(&bytes)).as_deref(), Some(&bytes[..]));
            assert_eq!(query(&format!("k={}", encode(&bytes))), Some(vec![("k".to_owned(), bytes)]));
        }
    }

    #[test]
    fn torn_escapes_are_refused() {
        for text in ["%", "%2", "%zz", "a%", "%+1"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
