//! What a fold of some keys begins with: the rows of its base, and what these keys hold back.

use std::collections::HashMap;

use super::fold::PAGE;
use super::store_failed;
use crate::actors::board::Cell;
use crate::actors::replay::words::ReplayError;
use crate::actors::shard::Setting;
use crate::actors::shard::core::Tail;
use crate::position::Offset;
use crate::state::{Commit, Delta, Generation, Held, HeldChange, Standing, ViewTag, WriterToken, digest, keys};

/// What a fold takes from its base.
pub(super) struct Seed<'a> {
    setting: &'a Setting,
    token: &'a WriterToken,
    pub held: HashMap<Cell, Tail>,
    pub waiting: Vec<Cell>,
    /// The keys that have rows, and the rows' bytes.
    pub rows: Vec<(Box<[u8]>, usize)>,
}

impl<'a> Seed<'a> {
    pub fn new(setting: &'a Setting, token: &'a WriterToken) -> Self {
        Seed { setting, token, held: HashMap::new(), waiting: Vec::new(), rows: Vec::new() }
    }

    /// Takes the rows and waiting events of some keys, sorted.
    pub fn take(&mut self, base: &Generation, tag: ViewTag, keys: &[&[u8]]) -> Result<(), ReplayError> {
        let mut delta = Delta::new(1);
        let mine = self.setting.tags[0];
        let load = base.load(tag, keys, |i, stored| {
            let Some(stored) = stored else { return Ok(()) };
            let (rows, change) = delta.split(0);
            let (stored_key, stored_value) = rows.put(
                |into| keys::row_key(mine, keys[i], into),
                |into| {
                    keys::row_value_header(stored.offset, stored.timestamp, into);
                    into.extend_from_slice(stored.json);
                },
            );
            change.digest = change.digest.wrapping_add(digest::row(stored_key, stored_value));
            change.rows += 1;
            self.rows.push((keys[i].into(), stored_key.len() + stored_value.len()));
            Ok(())
        });
        load.map_err(store_failed)?;
        for key in keys {
            self.hold(base, tag, key, &mut delta)?;
        }
        let commit = Commit { deltas: vec![delta], position: self.setting.generation.applied(), last: None };
        self.setting.generation.commit(self.token, &commit).map_err(store_failed)
    }

    /// A parked cell stays as it is, so that its mark is enough; what waits has to be tried.
    fn hold(&mut self, base: &Generation, tag: ViewTag, key: &[u8], delta: &mut Delta) -> Result<(), ReplayError> {
        let mut from = Offset(0);
        loop {
            let page = base.held_of(tag, key, from, PAGE).map_err(store_failed)?;
            let Some(last) = page.last() else { return Ok(()) };
            let cell = Cell { view: 0, key: key.into() };
            let full = page.len() == PAGE;
            let standing = match self.held.get(&cell) {
                Some(tail) => tail.standing,
                None => page[0].standing,
            };
            if self.held.insert(cell.clone(), Tail { last: last.offset, standing }).is_none()
                && standing == Standing::Waiting
            {
                self.waiting.push(cell);
            }
            if standing != Standing::Waiting {
                return Ok(());
            }
            from = Offset(last.offset.0 + 1);
            for held in page {
                delta.views[0].books.consumed += 1;
                delta.views[0].books.held(held.standing, 1);
                delta.held.push(HeldChange::Put(Held { view: self.setting.tags[0], ..held }));
            }
            if !full {
                return Ok(());
            }
        }
    }
}
