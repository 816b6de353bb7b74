//! Activation: many rows of one view at once, by key, without copies.

use crate::state::delta::ViewTag;
use crate::state::error::{Error, show_key};
use crate::state::generation::Generation;
use crate::state::keys::{self, StoredRow};
use crate::state::options;

/// Keys per call of RocksDB: enough for it to read blocks in batches, few enough that pinned blocks stay a few MiB.
const CHUNK: usize = 512;

impl Generation {
    /// Looks up `sorted_keys` (ascending, each once) and calls `row` for each in order, with its index and with what is
    /// stored, which stays where it lies in memory. An error that `row` answers ends the call.
    pub fn load(
        &self,
        view: ViewTag,
        sorted_keys: &[&[u8]],
        mut row: impl FnMut(usize, Option<StoredRow<'_>>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        debug_assert!(sorted_keys.is_sorted_by(|a, b| a < b), "the keys to load are sorted, each once");
        let family = self.family(keys::STATE)?;
        let reading = options::reading(true);
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(sorted_keys.len().min(CHUNK));
        for (chunk, keys) in sorted_keys.chunks(CHUNK).enumerate() {
            bytes.clear();
            ends.clear();
            for key in keys {
                keys::row_key(view, key, &mut bytes);
                ends.push(bytes.len());
            }
            let mut start = 0;
            let stored_keys = ends.iter().map(|end| &bytes[std::mem::replace(&mut start, *end)..*end]);
            let found = self.db.batched_multi_get_cf_opt(family, stored_keys, true, &reading);
            for (index, (key, found)) in keys.iter().zip(found).enumerate() {
                let found = found.map_err(|error| self.rocks(error))?;
                let stored = found.as_deref().map(StoredRow::parse).transpose();
                let stored = stored.map_err(|error| self.bad_row(view, key, &error))?;
                row(chunk * CHUNK + index, stored)?;
            }
        }
        Ok(())
    }

    pub(super) fn bad_row(&self, view: ViewTag, key: &[u8], error: &crate::state::codec::Malformed) -> Error {
        let name = self.views().iter().find(|one| one.tag == view).map_or("?", |one| one.name.as_str());
        Error::malformed(&self.path, format_args!("{}, view `{name}`, key {}", self.at(), show_key(key)), error)
    }
}
