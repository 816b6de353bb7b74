//! The views of the stage, in Rust and declared, in versions that fold differently, and the events that they fold.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use segno::event::EventMeta;
use segno::views::cel::{Declared, GuardSpec, Literal, Located, ViewSpec};
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub const LEDGER: &str = "ledger";
pub const TALLY: &str = "tally";

/// What a record holds.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Add {
        n: u64,
        amount: i64,
    },
    /// Rejected when the balance does not suffice.
    Take {
        n: u64,
        amount: i64,
    },
    /// Says "try again" until it has been tried `times` times.
    Flaky {
        n: u64,
        name: String,
        times: u32,
    },
    /// Panics until it has been tried `times` times.
    Panics {
        n: u64,
        name: String,
        times: u32,
    },
    Tombstone,
    Garbage,
    /// An event of a type that the view in Rust does not know.
    Unheard,
}

impl What {
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let event = |name: &str, payload| json!({"event_type": name, "payload": payload}).to_string().into_bytes();
        Some(match self {
            What::Add { n, amount } => event("Add", json!({"n": n, "amount": amount})),
            What::Take { n, amount } => event("Take", json!({"n": n, "amount": amount})),
            What::Flaky { n, name, times } => event("Flaky", json!({"n": n, "name": name, "times": times})),
            What::Panics { n, name, times } => event("Panics", json!({"n": n, "name": name, "times": times})),
            What::Unheard => event("Unheard", json!({})),
            What::Garbage => b"not json".to_vec(),
            What::Tombstone => return None,
        })
    }
}

/// How often an event has been tried, by its name.
static TRIES: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

fn tried(name: &str) -> u32 {
    let mut tries = TRIES.lock().unwrap();
    let count = tries.entry(name.to_owned()).or_default();
    *count += 1;
    *count
}

/// Each event leaves its number in the row. `V` is the version, and what an amount is multiplied by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger<const V: u32> {
    pub by: u32,
    pub balance: i64,
    pub seen: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "event_type", content = "payload")]
pub enum Entry {
    Add { n: u64, amount: i64 },
    Take { n: u64, amount: i64 },
    Flaky { n: u64, name: String, times: u32 },
    Panics { n: u64, name: String, times: u32 },
}

impl<const V: u32> View for Ledger<V> {
    const NAME: &'static str = LEDGER;
    const VERSION: u32 = V;
    type Event = Entry;

    fn apply(&mut self, event: &Entry, _: &EventMeta<'_>) -> Result<(), Reject> {
        self.by = V;
        let n = match event {
            Entry::Add { n, amount } => {
                self.balance += amount * i64::from(V);
                n
            }
            Entry::Take { n, amount } => {
                self.balance -= amount;
                if self.balance < 0 {
                    return Err(Reject::because("insufficient funds"));
                }
                n
            }
            Entry::Flaky { n, name, times } => {
                self.balance += 1_000_000;
                if tried(name) < *times {
                    return Err(Reject::try_again("not yet"));
                }
                self.balance -= 1_000_000;
                n
            }
            Entry::Panics { n, name, times } => {
                let seen = std::mem::take(&mut self.seen);
                if tried(name) < *times {
                    // A panic like any other, but that no hook writes about it.
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
                self.seen = seen;
                n
            }
        };
        self.seen.push(*n);
        Ok(())
    }
}

pub fn ledger<const V: u32>() -> Arc<dyn Definition> {
    Arc::new(RustView::<Ledger<V>>::new())
}

/// A declared view: what it counts an amount for, and how far below zero a `Take` may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    pub version: u32,
    pub factor: i64,
    pub floor: Option<i64>,
}

impl Tally {
    pub fn definition(self) -> Arc<dyn Definition> {
        self.named(TALLY)
    }

    pub fn named(self, name: &str) -> Arc<dyn Definition> {
        let located = |text: String| Located { text, line: 1, column: 1 };
        let rule = |total: String| {
            BTreeMap::from([
                ("by".to_owned(), located(self.version.to_string())),
                ("n".to_owned(), located("state.n + 1".to_owned())),
                ("total".to_owned(), located(total)),
            ])
        };
        let guard = |floor: i64| GuardSpec {
            on: "Take".to_owned(),
            when: located(format!("state.total - event.payload.amount < {floor}")),
            reason: "too little".to_owned(),
        };
        let spec = ViewSpec {
            file: "config.toml".to_owned(),
            source: "".into(),
            line: 1,
            column: 1,
            name: name.to_owned(),
            version: self.version,
            initial: ["by", "n", "total"].map(|field| (field.to_owned(), Literal::Int(0))).into(),
            on: BTreeMap::from([
                ("Add".to_owned(), rule(format!("state.total + {} * event.payload.amount", self.factor))),
                ("Take".to_owned(), rule("state.total - event.payload.amount".to_owned())),
            ]),
            ignore: vec!["*".to_owned()],
            reject_when: self.floor.map(guard).into_iter().collect(),
            max_event_version: None,
        };
        Arc::new(Declared::compile(&spec).unwrap_or_else(|error| panic!("{error}")))
    }
}
