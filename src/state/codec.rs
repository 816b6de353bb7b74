//! Reading and writing the small binary records of the store: big-endian numbers and byte strings with their length.

/// Why stored bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Malformed {
    what: &'static str,
    why: String,
}

/// Length of a byte string that is absent.
const ABSENT: u32 = u32::MAX;

/// Bytes that are read from the front.
pub(crate) struct Bytes<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// `what` names the record in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Bytes { what, rest: bytes }
    }

    pub fn bad(&self, why: impl Into<String>) -> Malformed {
        Malformed { what: self.what, why: why.into() }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let Some((head, tail)) = self.rest.split_at_checked(len) else {
            return Err(self.bad(format!("{len} bytes are missing, {} are left", self.rest.len())));
        };
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_be_bytes)
    }

    /// Reads the leading version byte.
    pub fn version(&mut self, known: u8) -> Result<(), Malformed> {
        match self.u8()? {
            found if found == known => Ok(()),
            found => Err(self.bad(format!("its version is {found}, and this program knows {known}"))),
        }
    }

    pub fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        self.optional()?.ok_or_else(|| self.bad("a byte string is absent"))
    }

    pub fn optional(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.u32()? {
            ABSENT => Ok(None),
            len => self.take(len as usize).map(Some),
        }
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.slice()?;
        std::str::from_utf8(bytes).map_err(|error| self.bad(format!("a text is not UTF-8: {error}")))
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.bad(format!("{} bytes too many", self.rest.len()))) }
    }
}

/// Appends a byte string with its length.
pub(crate) fn put_slice(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    into.extend_from_slice(bytes);
}

/// Appends a byte string that may be absent, which is not the same as empty.
pub(crate) fn put_optional(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => put_slice(into, bytes),
        None => into.extend_from_slice(&ABSENT.to_be_bytes()),
    }
}
