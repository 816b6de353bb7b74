//! Reads for queries: position and rows through one RocksDB snapshot, so that an answer never mixes two commits.

use rocksdb::{DB, DBRawIteratorWithThreadMode, Snapshot};

use crate::position::{Offset, Position, Timestamp};
use crate::state::delta::ViewTag;
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::keys::{self, ROW_KEY_PREFIX, StoredRow};
use crate::state::meta::{Progress, ViewTotals};
use crate::state::{digest, options};

/// A row as a reader gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of the last event that was folded into the row.
    pub offset: Offset,
    /// Of the same event.
    pub timestamp: Timestamp,
    /// The row as JSON.
    pub json: Vec<u8>,
}

impl From<StoredRow<'_>> for Row {
    fn from(stored: StoredRow<'_>) -> Row {
        Row { offset: stored.offset, timestamp: stored.timestamp, json: stored.json.to_vec() }
    }
}

/// Some rows of a view in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<(Vec<u8>, Row)>,
    /// The key after which the next page starts; `None` when there is nothing more.
    pub next: Option<Vec<u8>>,
}

/// The generation as of one commit. Keeps old data from being cleaned away: not for long use.
pub struct ReadView<'a> {
    generation: &'a Generation,
    snapshot: Snapshot<'a>,
}

impl Generation {
    /// A view of the generation that no later commit changes.
    pub fn snapshot_read(&self) -> ReadView<'_> {
        ReadView { generation: self, snapshot: self.db.snapshot() }
    }

    /// [`ReadView::recompute`] of what is committed now.
    pub fn recompute(&self, view: ViewTag) -> Result<ViewTotals, Error> {
        self.snapshot_read().recompute(view)
    }
}

impl ReadView<'_> {
    /// The position of the commit that is seen.
    pub fn position(&self) -> Result<Position, Error> {
        let stored = self.get_raw(keys::META, &keys::meta_position())?;
        let progress = stored.map(|stored| Progress::decode(&stored)).transpose();
        let position = progress.map_err(|error| self.malformed("meta", &error))?.unwrap_or_default().position;
        self.generation.publish_applied(position);
        Ok(position)
    }

    /// One row.
    pub fn get(&self, view: ViewTag, key: &[u8]) -> Result<Option<Row>, Error> {
        let mut stored_key = Vec::with_capacity(2 + key.len());
        keys::row_key(view, key, &mut stored_key);
        match self.get_raw(keys::STATE, &stored_key)? {
            Some(stored) => self.row(view, key, &stored).map(Some),
            None => Ok(None),
        }
    }

    /// Up to `limit` rows whose keys begin with `prefix` and lie behind `after`, in the order of their keys.
    pub fn list(&self, view: ViewTag, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, Error> {
        let mut start = Vec::new();
        keys::row_key(view, prefix, &mut start);
        let end = keys::after_prefix(&start);
        if let Some(after) = after.filter(|after| *after >= prefix) {
            start.clear();
            keys::row_key(view, after, &mut start);
            // The smallest key that is greater.
            start.push(0);
        }
        let mut page = Page::default();
        self.scan(keys::STATE, (start, end), true, |stored_key, stored| {
            if page.rows.len() == limit {
                page.next = page.rows.last().map(|(key, _)| key.clone());
                return Ok(false);
            }
            page.rows.push(self.entry(view, stored_key, stored)?);
            Ok(true)
        })?;
        Ok(page)
    }

    /// The view's totals as of this commit.
    pub fn totals(&self, view: ViewTag) -> Result<ViewTotals, Error> {
        let stored = self.get_raw(keys::META, &keys::meta_totals(view))?;
        let totals = stored.map(|stored| ViewTotals::decode(view, &stored)).transpose();
        Ok(totals.map_err(|error| self.malformed("meta", &error))?.unwrap_or_else(|| ViewTotals::zero(view)))
    }

    /// What the view holds, computed anew: digest and rows by reading them all, the held columns of the books by counting
    /// the held records (a dead record that stands for all views counts in each). What cannot be recomputed from the
    /// store alone is as committed. Equal to [`ReadView::totals`], unless something is wrong.
    pub fn recompute(&self, view: ViewTag) -> Result<ViewTotals, Error> {
        let mut totals = self.totals(view)?;
        (totals.digest, totals.rows) = (0, 0);
        let mut prefix = Vec::new();
        keys::row_key(view, &[], &mut prefix);
        let end = keys::after_prefix(&prefix);
        self.scan(keys::STATE, (prefix, end), false, |key, value| {
            totals.digest = totals.digest.wrapping_add(digest::row(key, value));
            totals.rows += 1;
            Ok(true)
        })?;
        (totals.books.waiting, totals.books.parked, totals.books.dead) = self.count_held(view)?;
        Ok(totals)
    }

    /// The view's first row whose key is `key` or lies behind it.
    pub fn first_at_or_after(&self, view: ViewTag, key: &[u8]) -> Result<Option<(Vec<u8>, Row)>, Error> {
        let (mut start, mut prefix) = (Vec::new(), Vec::new());
        keys::row_key(view, key, &mut start);
        keys::row_key(view, &[], &mut prefix);
        let mut found = None;
        self.scan(keys::STATE, (start, keys::after_prefix(&prefix)), true, |stored_key, stored| {
            found = Some(self.entry(view, stored_key, stored)?);
            Ok(false)
        })?;
        Ok(found)
    }

    /// The view's last row.
    pub fn last_row(&self, view: ViewTag) -> Result<Option<(Vec<u8>, Row)>, Error> {
        let mut prefix = Vec::new();
        keys::row_key(view, &[], &mut prefix);
        let mut reading = options::reading(true);
        reading.set_iterate_lower_bound(prefix.clone());
        if let Some(end) = keys::after_prefix(&prefix) {
            reading.set_iterate_upper_bound(end);
        }
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.generation.family(keys::STATE)?, reading);
        entries.seek_to_last();
        let last = entries.item().map(|(stored_key, stored)| self.entry(view, stored_key, stored)).transpose()?;
        entries.status().map_err(|error| self.generation.rocks(error))?;
        Ok(last)
    }

    fn entry(&self, view: ViewTag, stored_key: &[u8], stored: &[u8]) -> Result<(Vec<u8>, Row), Error> {
        let key = keys::split_row_key(stored_key).map_or(&[] as &[u8], |(_, key)| key);
        Ok((key.to_vec(), self.row(view, key, stored)?))
    }

    /// All rows of a view, from the first; the cache is left to those who need it.
    pub(super) fn rows(&self, view: ViewTag) -> Result<ViewRows<'_>, Error> {
        let mut start = Vec::new();
        keys::row_key(view, &[], &mut start);
        let mut reading = options::reading(false);
        if let Some(end) = keys::after_prefix(&start) {
            reading.set_iterate_upper_bound(end);
        }
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.generation.family(keys::STATE)?, reading);
        entries.seek(&start);
        Ok(ViewRows { generation: self.generation, view, entries })
    }

    fn row(&self, view: ViewTag, key: &[u8], stored: &[u8]) -> Result<Row, Error> {
        StoredRow::parse(stored).map(Row::from).map_err(|error| self.generation.bad_row(view, key, &error))
    }

    pub(super) fn malformed(&self, what: &str, error: &crate::state::codec::Malformed) -> Error {
        Error::malformed(&self.generation.path, what, error)
    }

    fn get_raw(&self, family: &'static str, key: &[u8]) -> Result<Option<rocksdb::DBPinnableSlice<'_>>, Error> {
        let family = self.generation.family(family)?;
        let stored = self.snapshot.get_pinned_cf_opt(family, key, options::reading(true));
        stored.map_err(|error| self.generation.rocks(error))
    }

    /// Calls `each` with the entries of a key range, in order, until it answers `false`. A scan of everything leaves the
    /// cache to those who need it.
    pub(super) fn scan(
        &self,
        family: &'static str,
        (start, end): (Vec<u8>, Option<Vec<u8>>),
        fill_cache: bool,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut reading = options::reading(fill_cache);
        if let Some(end) = end {
            reading.set_iterate_upper_bound(end);
        }
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.generation.family(family)?, reading);
        entries.seek(&start);
        while let Some((key, value)) = entries.item() {
            if !each(key, value)? {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(|error| self.generation.rocks(error))
    }

    /// The last key of a range.
    pub(super) fn last_key(
        &self,
        family: &'static str,
        (start, end): (Vec<u8>, Option<Vec<u8>>),
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut reading = options::reading(true);
        reading.set_iterate_lower_bound(start);
        if let Some(end) = end {
            reading.set_iterate_upper_bound(end);
        }
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.generation.family(family)?, reading);
        entries.seek_to_last();
        let last = entries.key().map(<[u8]>::to_vec);
        entries.status().map_err(|error| self.generation.rocks(error)).map(|()| last)
    }
}

/// The rows of one view, one after the other.
pub(super) struct ViewRows<'a> {
    generation: &'a Generation,
    view: ViewTag,
    entries: DBRawIteratorWithThreadMode<'a, DB>,
}

impl ViewRows<'_> {
    /// The record key and the stored value of the row at hand.
    pub fn item(&self) -> Option<(&[u8], &[u8])> {
        self.entries.item().map(|(key, value)| (&key[ROW_KEY_PREFIX..], value))
    }

    /// Goes to the row after it; there must be one at hand.
    pub fn next(&mut self) {
        self.entries.next();
    }

    /// What the stored value of the row says.
    pub fn parse<'b>(&self, key: &[u8], stored: &'b [u8]) -> Result<StoredRow<'b>, Error> {
        StoredRow::parse(stored).map_err(|error| self.generation.bad_row(self.view, key, &error))
    }

    /// Whether there were no more rows, or whether they could not be read.
    pub fn end(&self) -> Result<(), Error> {
        self.entries.status().map_err(|error| self.generation.rocks(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::TopicPartition;
    use crate::state::{Identity, Store, StoreOptions};

    /// Between a commit's write and its publication, as a reader may come upon it.
    #[test]
    fn what_a_reader_has_seen_is_applied_for_whoever_asks_next() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let identity = Identity { at: TopicPartition::new("t", 0), cluster: "c".to_owned(), partitions: 1 };
        let generation = store.open_generation(&identity, &[]).unwrap();
        let mut written = Vec::new();
        Progress { position: Position(7), last: None }.encode(&mut written);
        generation.db.put_cf(generation.family(keys::META).unwrap(), keys::meta_position(), written).unwrap();
        assert_eq!(generation.applied(), Position::ZERO, "not published");
        assert_eq!(generation.snapshot_read().position().unwrap(), Position(7));
        assert_eq!(generation.applied(), Position(7));
    }
}
