//! What two generations hold differently, row by row.

use std::cmp::Ordering;

use crate::state::delta::ViewTag;
use crate::state::error::Error;
use crate::state::keys::StoredRow;
use crate::state::read::ReadView;

/// How many rows of a view are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Only in the new one.
    pub added: u64,
    /// Only in the live one.
    pub removed: u64,
    /// In both, and not the same.
    pub changed: u64,
    /// In both, and the same.
    pub unchanged: u64,
}

impl Compared {
    /// Rows that are not the same on both sides.
    pub fn different(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

/// Is given a row that differs: its key, what live has, and what the new one has.
pub type OnDifference<'a> = &'a mut dyn FnMut(&[u8], Option<StoredRow<'_>>, Option<StoredRow<'_>>) -> Result<(), Error>;

/// Compares a view of `live` with one of `new` by reading both through, side by side in the order of keys; the cache is
/// left to those who need it.
///
/// With `exact`, a row is the same when offset and timestamp of its last event are too, otherwise when its JSON is, byte
/// for byte. `each` gets every row that differs, with its key and what either side has; an error that it answers ends
/// the comparison.
pub fn compare(
    live: &ReadView<'_>,
    live_tag: ViewTag,
    new: &ReadView<'_>,
    new_tag: ViewTag,
    exact: bool,
    each: OnDifference<'_>,
) -> Result<Compared, Error> {
    let (mut left, mut right) = (live.rows(live_tag)?, new.rows(new_tag)?);
    let mut compared = Compared::default();
    loop {
        let order = match (left.item(), right.item()) {
            (None, None) => break,
            (Some(_), None) => right.end().map(|()| Ordering::Less)?,
            (None, Some(_)) => left.end().map(|()| Ordering::Greater)?,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let (mine, theirs) = (left.item().filter(|_| order.is_le()), right.item().filter(|_| order.is_ge()));
        match (mine, theirs) {
            (Some((_, old)), Some((_, new))) if old == new => compared.unchanged += 1,
            (Some((key, old)), Some((_, new))) => {
                let (old, new) = (left.parse(key, old)?, right.parse(key, new)?);
                if !exact && old.json == new.json {
                    compared.unchanged += 1;
                } else {
                    compared.changed += 1;
                    each(key, Some(old), Some(new))?;
                }
            }
            (Some((key, old)), None) => {
                compared.removed += 1;
                each(key, Some(left.parse(key, old)?), None)?;
            }
            (None, Some((key, new))) => {
                compared.added += 1;
                each(key, None, Some(right.parse(key, new)?))?;
            }
            (None, None) => break,
        }
        if order.is_le() {
            left.next();
        }
        if order.is_ge() {
            right.next();
        }
    }
    left.end()?;
    right.end()?;
    Ok(compared)
}
