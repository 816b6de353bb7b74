//! What the rows must be, computed by hand: no view, no actor, no store.

use std::collections::BTreeMap;

use segno::actors::plan::Decision;

use crate::stage::{Entry, Ledger};

/// The rows and the books of one view after a sequence of events, each with its key.
#[derive(Debug, Default, PartialEq)]
pub struct Expected {
    pub rows: BTreeMap<String, Ledger>,
    pub applied: i64,
    pub skipped: i64,
    pub parked: i64,
    pub dead: i64,
}

/// Folds `events` in their order. Flaky and panicking events that give in within `attempts` go in; others are parked.
pub fn expect(events: &[(String, Entry)], rejected: Decision, attempts: u32) -> Expected {
    let mut expected = Expected::default();
    let mut parked: std::collections::BTreeSet<&str> = Default::default();
    for (key, entry) in events {
        if parked.contains(key.as_str()) {
            expected.parked += 1;
            continue;
        }
        let before = expected.rows.get(key).cloned();
        let row = expected.rows.entry(key.clone()).or_default();
        let stuck = match entry {
            Entry::Add { n, amount } => {
                row.balance += amount;
                row.seen.push(*n);
                false
            }
            Entry::Take { n, amount } if row.balance >= *amount => {
                row.balance -= amount;
                row.seen.push(*n);
                false
            }
            Entry::Take { .. } => {
                match rejected {
                    Decision::Skip => expected.skipped += 1,
                    Decision::DeadLetter => expected.dead += 1,
                    _ => {
                        expected.parked += 1;
                        parked.insert(key);
                    }
                }
                if before.is_none() {
                    expected.rows.remove(key);
                }
                continue;
            }
            Entry::Flaky { n, times, .. } | Entry::Panics { n, times, .. } => {
                if *times <= attempts {
                    row.seen.push(*n);
                }
                *times > attempts
            }
            Entry::Slow { n, .. } => {
                row.seen.push(*n);
                false
            }
        };
        if stuck {
            expected.parked += 1;
            parked.insert(key);
            if before.is_none() {
                expected.rows.remove(key);
            }
        } else {
            expected.applied += 1;
        }
    }
    expected
}
