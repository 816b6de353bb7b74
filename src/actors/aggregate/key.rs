//! An aggregate's key, kept beside what is read with it: a key apart would be one more place in memory for each record.

use std::fmt;
use std::ops::Deref;

/// Bytes of a key that has no memory of its own: room for a UUID as text.
const INLINE: usize = 38;

/// A key. A short one costs no memory beside the aggregate's own.
pub struct Key(Place);

enum Place {
    Here { len: u8, bytes: [u8; INLINE] },
    Apart(Box<[u8]>),
}

impl Key {
    /// Bytes of memory beside the key itself.
    pub fn heap(&self) -> usize {
        match &self.0 {
            Place::Here { .. } => 0,
            Place::Apart(bytes) => bytes.len(),
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..key.len()) {
            Some(room) => {
                room.copy_from_slice(key);
                Key(Place::Here { len: key.len() as u8, bytes })
            }
            None => Key(Place::Apart(key.into())),
        }
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Here { len, bytes } => &bytes[..usize::from(*len).min(INLINE)],
            Place::Apart(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_it_was_made_of_short_or_long() {
        for len in [0, 1, 16, INLINE - 1, INLINE, INLINE + 1, 300] {
            let bytes: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            let key = Key::from(&*bytes);
            assert_eq!(*key, *bytes);
            assert_eq!(key.heap(), if len <= INLINE { 0 } else { len });
        }
    }
}
