//! The store as a model sees it: maps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segno::position::{Offset, Position};
use segno::state::{
    Books, Commit, Delta, Fingerprint, Generation, Held, HeldChange, HeldKey, Standing, ViewTag, digest,
};

use crate::harness::{commit, held, put, row_key, value};

/// View and key.
type Place = (usize, Vec<u8>);

/// Everything that a generation with two views holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub rows: BTreeMap<Place, Vec<u8>>,
    pub held: BTreeMap<(usize, Vec<u8>, u64), Held>,
    pub dead: BTreeMap<(u64, usize), Held>,
    pub books: [Books; 2],
    pub position: u64,
    pub last: Option<Fingerprint>,
}

/// What one record does in the two views.
#[derive(Clone, Debug)]
pub enum Act {
    Set(String),
    Delete,
    Hold(Standing),
}

#[derive(Clone, Debug)]
pub enum Op {
    /// Records (key, act in each view); then how many held records are released; then a gap in the offsets.
    Commit(Vec<(u8, [Act; 2])>, usize, u64),
    Flush,
    Reopen,
    /// Copy the directory while it is open, and go on with the copy.
    Crash,
}

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let standing = prop_oneof![Just(Standing::Waiting), Just(Standing::Parked), Just(Standing::Dead)];
    let act = || {
        prop_oneof![
            6 => "[a-z]{0,12}".prop_map(Act::Set),
            1 => Just(Act::Delete),
            2 => standing.clone().prop_map(Act::Hold),
        ]
    };
    let records = proptest::collection::vec((0u8..12, [act(), act()]), 0..8);
    let op = prop_oneof![
        8 => (records, 0usize..3, 0u64..3).prop_map(|(records, release, gap)| Op::Commit(records, release, gap)),
        2 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ];
    proptest::collection::vec(op, 1..25)
}

impl Model {
    /// Changes the model, and makes the commit that does the same: two deltas, split by key.
    pub fn apply(&mut self, records: &[(u8, [Act; 2])], release: usize, gap: u64) -> Commit {
        let before = self.clone();
        let mut deltas = [Delta::new(2), Delta::new(2)];
        for (index, (key, acts)) in records.iter().enumerate() {
            let offset = self.position + index as u64;
            let delta = &mut deltas[usize::from(*key % 2)];
            let name = format!("key-{key}");
            for (view, act) in acts.iter().enumerate() {
                let books = &mut delta.views[view].books;
                books.consumed += 1;
                match act {
                    Act::Set(text) => {
                        books.applied += 1;
                        self.rows.insert((view, name.clone().into_bytes()), value(offset, text));
                    }
                    Act::Delete => {
                        books.applied += 1;
                        self.rows.remove(&(view, name.clone().into_bytes()));
                    }
                    Act::Hold(standing) => {
                        books.held(*standing, 1);
                        let record = held(ViewTag(view as u16), &name, offset, *standing);
                        match standing {
                            Standing::Dead => self.dead.insert((offset, view), record.clone()),
                            _ => self.held.insert((view, name.clone().into_bytes(), offset), record.clone()),
                        };
                        delta.held.push(HeldChange::Put(record));
                    }
                }
            }
        }
        for (place, record) in before.held.iter().take(release) {
            self.held.remove(place);
            let (view, key, offset) = place.clone();
            let books = &mut deltas[0].views[view].books;
            books.held(record.standing, -1);
            books.applied += 1;
            deltas[0].held.push(HeldChange::Remove { view: record.view, key, offset: Offset(offset) });
        }
        for ((view, key), after) in self.changed(&before) {
            let delta = &mut deltas[usize::from(key[key.len() - 1] % 2)];
            let old = before.rows.get(&(view, key.clone()));
            put(delta, view, ViewTag(view as u16), &key, old.map(Vec::as_slice), after.as_deref());
        }
        for (view, books) in self.books.iter_mut().enumerate() {
            deltas.iter().for_each(|delta| *books += delta.views[view].books);
        }
        deltas.iter_mut().for_each(Delta::sort);
        self.position += records.len() as u64 + gap;
        let mut commit = commit(deltas.into(), self.position);
        if records.is_empty() && gap == 0 {
            commit.last = None;
        } else {
            self.last = commit.last;
        }
        commit
    }

    fn changed(&self, before: &Model) -> Vec<(Place, Option<Vec<u8>>)> {
        let all = self.rows.keys().chain(before.rows.keys().filter(|place| !self.rows.contains_key(*place)));
        all.filter(|place| self.rows.get(*place) != before.rows.get(*place))
            .map(|place| (place.clone(), self.rows.get(place).cloned()))
            .collect()
    }

    /// Everything that can be read must be what the model has.
    pub fn assert_equals(&self, generation: &Generation) {
        let read = generation.snapshot_read();
        assert_eq!(read.position().unwrap(), Position(self.position));
        assert_eq!(generation.applied(), Position(self.position));
        assert_eq!(generation.last(), self.last);
        for (view, totals) in generation.view_totals().into_iter().enumerate() {
            let tag = generation.tags()[view];
            let rows: Vec<_> = self.rows.iter().filter(|((v, _), _)| *v == view).collect();
            let listed = read.list(tag, b"", None, usize::MAX).unwrap();
            assert_eq!(listed.next, None);
            assert_eq!(listed.rows.len(), rows.len());
            for ((key, row), ((_, want_key), want)) in listed.rows.iter().zip(&rows) {
                assert_eq!(key, want_key);
                assert_eq!(&value(row.offset.0, std::str::from_utf8(&row.json).unwrap()), *want);
                assert_eq!(read.get(tag, key).unwrap().as_ref(), Some(row));
            }
            let digest = rows
                .iter()
                .fold(0u128, |sum, ((_, key), value)| sum.wrapping_add(digest::row(&row_key(tag, key), value)));
            assert_eq!((totals.digest, totals.rows), (digest, rows.len() as i64));
            assert_eq!(totals.books, self.books[view]);
            assert!(totals.books.balanced());
            assert_eq!(generation.recompute(tag).unwrap(), totals, "by scan");
            self.assert_loads(generation, view, tag);
        }
        assert_eq!(generation.held_keys().unwrap(), self.held_keys());
        for key in self.held_keys() {
            let want: Vec<Held> = self
                .held
                .iter()
                .filter(|((view, k, _), _)| *view == usize::from(key.view.0) && *k == key.key)
                .map(|(_, record)| record.clone())
                .collect();
            assert_eq!(generation.held_of(key.view, &key.key, Offset(0), usize::MAX).unwrap(), want);
            assert_eq!(generation.held_of(key.view, &key.key, key.last, 1).unwrap(), want[want.len() - 1..]);
        }
        let dead: Vec<Held> = self.dead.values().cloned().collect();
        assert_eq!(generation.dead(Offset(0), usize::MAX).unwrap(), dead);
    }

    fn assert_loads(&self, generation: &Generation, view: usize, tag: ViewTag) {
        let mut all: Vec<Vec<u8>> = (0..14).map(|key| format!("key-{key}").into_bytes()).collect();
        all.sort();
        let keys: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let mut seen = 0;
        generation
            .load(tag, &keys, |index, row| {
                assert_eq!(index, seen);
                seen += 1;
                let stored = row.map(|row| value(row.offset.0, std::str::from_utf8(row.json).unwrap()));
                assert_eq!(stored.as_ref(), self.rows.get(&(view, all[index].clone())));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, keys.len());
    }

    fn held_keys(&self) -> Vec<HeldKey> {
        let mut found: Vec<HeldKey> = Vec::new();
        // Stored order: view, then length of the key, then key.
        let mut places: Vec<_> = self.held.iter().collect();
        places.sort_by_key(|((view, key, offset), _)| (*view, key.len(), key.clone(), *offset));
        for ((view, key, offset), record) in places {
            let view = ViewTag(*view as u16);
            match found.last_mut().filter(|last| last.view == view && last.key == *key) {
                Some(same) => {
                    (same.last, same.count) = (Offset(*offset), same.count + 1);
                    same.waits |= record.standing == Standing::Waiting;
                }
                None => found.push(HeldKey {
                    waits: record.standing == Standing::Waiting,
                    view,
                    key: key.clone(),
                    first: Offset(*offset),
                    last: Offset(*offset),
                    standing: record.standing,
                    count: 1,
                }),
            }
        }
        found
    }
}
