//! What the rows must be, computed by hand: no view, no actor, no store.

use std::collections::{BTreeMap, BTreeSet};

use segno::actors::plan::{Decision, Policy};
use segno::state::Books;
use serde_json::{Value, json};

use crate::tape::{Track, Written};
use crate::views::{Tally, What};

/// How many times an event is tried.
pub const ATTEMPTS: u32 = 3;

/// What a view does with events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Code {
    Ledger(u32),
    Tally(Tally),
}

/// A row, as readers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub json: Value,
    pub offset: u64,
    pub time: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Fold {
    by: u32,
    total: i64,
    seen: Vec<u64>,
    offset: u64,
    time: i64,
}

enum Outcome {
    Folded,
    Ignored,
    Rejected,
    Unknown,
    Stuck,
}

impl Code {
    fn apply(self, fold: &mut Fold, what: &What) -> Outcome {
        let (by, factor, floor, ignores) = match self {
            Code::Ledger(version) => (version, i64::from(version), Some(0), false),
            Code::Tally(tally) => (tally.version, tally.factor, tally.floor, true),
        };
        let number = match what {
            What::Add { n, amount } => {
                fold.total += factor * amount;
                *n
            }
            What::Take { n, amount } => {
                if floor.is_some_and(|floor| fold.total - amount < floor) {
                    return Outcome::Rejected;
                }
                fold.total -= amount;
                *n
            }
            _ if ignores => return Outcome::Ignored,
            What::Flaky { times, .. } | What::Panics { times, .. } if *times > ATTEMPTS => return Outcome::Stuck,
            What::Flaky { n, .. } | What::Panics { n, .. } => *n,
            _ => return Outcome::Unknown,
        };
        fold.by = by;
        fold.seen.push(number);
        Outcome::Folded
    }

    fn json(self, fold: &Fold) -> Value {
        match self {
            Code::Ledger(_) => json!({"by": fold.by, "balance": fold.total, "seen": fold.seen}),
            Code::Tally(_) => json!({"by": fold.by, "total": fold.total, "n": fold.seen.len()}),
        }
    }
}

/// One view over one or more partitions.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    rows: BTreeMap<String, Fold>,
    blocked: BTreeSet<String>,
    pub books: Books,
}

impl Rows {
    /// Folds records in their order.
    pub fn fold<'a>(&mut self, code: Code, records: impl Iterator<Item = &'a Written>, policy: &Policy) {
        for record in records {
            self.one(code, record, policy);
        }
    }

    fn one(&mut self, code: Code, record: &Written, policy: &Policy) {
        let books = &mut self.books;
        books.consumed += 1;
        let deletes = record.what == What::Tombstone && policy.null_value == Decision::Delete;
        if matches!(record.what, What::Garbage | What::Tombstone) && !deletes {
            books.dead += 1;
            return;
        }
        if self.blocked.contains(&record.key) {
            books.parked += 1;
            return;
        }
        if deletes {
            self.rows.remove(&record.key);
            books.applied += 1;
            return;
        }
        let mut fold = self.rows.get(&record.key).cloned().unwrap_or_default();
        let decision = match code.apply(&mut fold, &record.what) {
            Outcome::Folded => {
                (fold.offset, fold.time) = (record.offset, record.time);
                self.rows.insert(record.key.clone(), fold);
                books.applied += 1;
                return;
            }
            Outcome::Ignored => Decision::Skip,
            Outcome::Rejected => policy.rejected,
            Outcome::Unknown => policy.unknown_type,
            Outcome::Stuck => Decision::Park,
        };
        match decision {
            Decision::Skip => books.skipped += 1,
            Decision::DeadLetter => books.dead += 1,
            _ => {
                books.parked += 1;
                self.blocked.insert(record.key.clone());
            }
        }
    }

    pub fn seen(&self, code: Code) -> BTreeMap<String, Seen> {
        let seen = |fold: &Fold| Seen { json: code.json(fold), offset: fold.offset, time: fold.time };
        self.rows.iter().map(|(key, fold)| (key.clone(), seen(fold))).collect()
    }
}

/// One code over everything below `to`, a position a partition.
pub fn whole(code: Code, tracks: &[Track], to: impl Fn(usize) -> u64, policy: &Policy) -> Rows {
    let mut rows = Rows::default();
    for (partition, track) in tracks.iter().enumerate() {
        rows.fold(code, track.between(0, to(partition)), policy);
    }
    rows
}

/// What one code makes of everything that is on the tape.
pub fn all(code: Code, tracks: &[Track], policy: &Policy) -> Rows {
    whole(code, tracks, |_| u64::MAX, policy)
}
