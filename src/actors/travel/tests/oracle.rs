//! Rows computed by hand, and random logs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Ledger, Stage, at, event};
use crate::actors::plan::Decision;
use crate::position::{Offset, Position};

/// One record of a random log.
#[derive(Clone, Debug)]
pub enum Op {
    Add(u8, i64),
    Take(u8, i64),
    Panics(u8),
    Flaky(u8),
    Tombstone(u8),
    Garbage(u8),
    Unknown(u8),
    NoKey,
    LongKey,
    Gap,
    /// Live catches up, in batches of so many.
    Feed(usize),
    Snapshot,
}

/// A random log of one partition, and when live was fed and snapshots were taken.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0u8..4;
    let op = prop_oneof![
        8 => (key.clone(), 1i64..100).prop_map(|(key, n)| Op::Add(key, n)),
        5 => (key.clone(), 1i64..60).prop_map(|(key, n)| Op::Take(key, n)),
        1 => key.clone().prop_map(Op::Panics),
        1 => key.clone().prop_map(Op::Flaky),
        2 => key.clone().prop_map(Op::Tombstone),
        1 => key.clone().prop_map(Op::Garbage),
        1 => key.prop_map(Op::Unknown),
        1 => Just(Op::NoKey),
        1 => Just(Op::LongKey),
        1 => Just(Op::Gap),
        2 => (1usize..9).prop_map(Op::Feed),
        2 => Just(Op::Snapshot),
    ];
    proptest::collection::vec(op, 0..50)
}

pub fn name(key: u8) -> String {
    format!("key-{key}")
}

/// A row by hand, with the offset of its last event.
pub type Expected = BTreeMap<String, (Ledger, Offset)>;

/// Writes the operations into partition 0 and answers the rows after each position, the first of an empty log.
pub fn write(stage: &Stage, ops: &[Op], rejected: Decision, null_value: Decision) -> BTreeMap<Position, Expected> {
    let mut rows = Expected::new();
    let mut parked = std::collections::BTreeSet::new();
    let mut after = BTreeMap::from([(Position::ZERO, rows.clone())]);
    for op in ops {
        let offset = Offset(stage.end(0).0);
        match op {
            Op::Add(key, _) | Op::Take(key, _) | Op::Panics(key) | Op::Flaky(key) => {
                let key = name(*key);
                let (kind, amount) = match op {
                    Op::Add(_, amount) => ("Add", *amount),
                    Op::Take(_, amount) => ("Take", *amount),
                    Op::Panics(_) => ("Panics", 0),
                    _ => ("Flaky", 0),
                };
                stage.append(0, &key, Some(&event(kind, amount)));
                if !parked.contains(&key) {
                    let mut row = rows.get(&key).map(|(row, _)| row.clone()).unwrap_or_default();
                    row.balance += if kind == "Take" { -amount } else { amount };
                    row.seen.push(offset.0);
                    if kind == "Panics" || (row.balance < 0 && rejected == Decision::Park) {
                        parked.insert(key);
                    } else if row.balance >= 0 {
                        rows.insert(key, (row, offset));
                    }
                }
            }
            Op::Tombstone(key) => {
                stage.append(0, &name(*key), None);
                if !parked.contains(&name(*key)) && null_value == Decision::Delete {
                    rows.remove(&name(*key));
                }
            }
            Op::Garbage(key) => stage.append(0, &name(*key), Some("{")),
            Op::Unknown(key) => stage.append(0, &name(*key), Some(&event("Other", 1))),
            Op::NoKey => {
                let record = crate::record::NewRecord { partition: Some(0), ..Default::default() };
                crate::streams::Log::append(&stage.log, super::TOPIC, vec![record]).unwrap();
            }
            Op::LongKey => stage.append(0, "a key that is far too long", Some(&event("Add", 1))),
            Op::Gap => stage.log.push_gap(&at(0), 2),
            Op::Feed(batch) => stage.feed(*batch),
            Op::Snapshot => drop(stage.snapshot()),
        }
        let end = stage.end(0).0;
        for position in offset.0..=end {
            // Within a gap, the rows are those of its end.
            if position > offset.0 || end == offset.0 {
                after.insert(Position(position), rows.clone());
            }
        }
    }
    after
}
