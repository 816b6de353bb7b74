//! A view with every trouble that a user's code can make, chosen by the events, and what its rows must be.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use segno::event::EventMeta;
use segno::views::{Definition, Reject, RustView, View};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// How often a name has been tried, and when first: the one impurity, so that "fails twice, then goes in" can be said.
static TRIED: LazyLock<Mutex<HashMap<String, (u32, Instant)>>> = LazyLock::new(Mutex::default);

/// So many of the next calls of `Default` panic.
pub static DEFAULTS_THAT_PANIC: AtomicU32 = AtomicU32::new(0);

/// Counts a try of that name; answers how many there were before, and when the first was.
fn again(name: &str) -> (u32, Instant) {
    let mut tried = TRIED.lock().unwrap();
    let (count, first) = tried.entry(name.to_owned()).or_insert((0, Instant::now()));
    *count += 1;
    (*count - 1, *first)
}

/// Where a row that is cursed panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Where {
    Copy,
    Write,
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curse {
    name: String,
    place: Where,
    times: u32,
}

/// How an event fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    SaysTryAgain,
    Panics,
    Hangs { ms: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event_type", content = "payload")]
pub enum Act {
    Add {
        n: u64,
    },
    Refused {
        n: u64,
    },
    /// Fails so many times, and goes in then; `u32::MAX`: never.
    Fails {
        n: u64,
        name: String,
        how: How,
        times: u32,
    },
    /// Says "try again" until so long after the first try.
    NotBefore {
        n: u64,
        name: String,
        ms: u64,
    },
    /// Goes in, and the row is cursed from then on.
    Curses {
        n: u64,
        curse: Curse,
    },
}

/// Each event leaves its number in the row, so that a lost, doubled or displaced one shows.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Troubled {
    pub seen: Vec<u64>,
    curse: Option<Curse>,
}

impl Troubled {
    fn trouble(&self, place: Where) {
        if let Some(curse) = &self.curse
            && curse.place == place
            && again(&curse.name).0 < curse.times
        {
            panic!("on purpose: {place:?}");
        }
    }
}

impl Default for Troubled {
    fn default() -> Self {
        let less = |left: u32| left.checked_sub(1);
        if DEFAULTS_THAT_PANIC.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            panic!("on purpose: Default");
        }
        Troubled { seen: Vec::new(), curse: None }
    }
}

impl Clone for Troubled {
    fn clone(&self) -> Self {
        self.trouble(Where::Copy);
        Troubled { seen: self.seen.clone(), curse: self.curse.clone() }
    }
}

impl Drop for Troubled {
    fn drop(&mut self) {
        // In the wake of another panic it would end the process: that no guard can keep a view from.
        if !std::thread::panicking() {
            self.trouble(Where::Drop);
        }
    }
}

impl Serialize for Troubled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Not while the fold is looked at whether its row could be stored, but when it is.
        if std::any::type_name::<S>().contains("serde_json") {
            self.trouble(Where::Write);
        }
        let mut row = serializer.serialize_struct("Troubled", 2)?;
        row.serialize_field("seen", &self.seen)?;
        row.serialize_field("curse", &self.curse)?;
        row.end()
    }
}

impl View for Troubled {
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 1;
    type Event = Act;

    fn apply(&mut self, act: &Act, _: &EventMeta<'_>) -> Result<(), Reject> {
        let n = match act {
            Act::Add { n } => *n,
            Act::Refused { .. } => {
                self.seen.clear();
                return Err(Reject::because("refused"));
            }
            Act::Fails { n, name, how, times } => {
                let before = std::mem::take(&mut self.seen);
                if again(name).0 < *times {
                    match how {
                        How::SaysTryAgain => return Err(Reject::try_again("not yet")),
                        How::Panics => panic!("on purpose: apply"),
                        How::Hangs { ms } => std::thread::sleep(Duration::from_millis(*ms)),
                    }
                }
                self.seen = before;
                *n
            }
            Act::NotBefore { n, name, ms } => {
                if again(name).1.elapsed() < Duration::from_millis(*ms) {
                    return Err(Reject::try_again("too early"));
                }
                *n
            }
            Act::Curses { n, curse } => {
                self.curse = Some(curse.clone());
                *n
            }
        };
        self.seen.push(n);
        Ok(())
    }
}

pub fn view() -> Arc<dyn Definition> {
    Arc::new(RustView::<Troubled>::new())
}

/// The events in a stored row.
pub fn seen(json: &[u8]) -> Vec<u64> {
    let row: serde_json::Value = serde_json::from_slice(json).unwrap();
    serde_json::from_value(row["seen"].clone()).unwrap()
}

/// The events of a round by key, in the order in which they went into the log.
#[derive(Default)]
pub struct Sent(pub BTreeMap<String, Vec<Act>>);

/// What the rows and the books must be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub rows: BTreeMap<String, Vec<u64>>,
    pub applied: i64,
    pub parked: i64,
}

impl Expected {
    /// Says where the first row differs, and not all of both.
    pub fn compare(&self, expected: &Expected) {
        let keys = self.rows.keys().chain(expected.rows.keys());
        for key in keys {
            let (found, want) = (self.rows.get(key), expected.rows.get(key));
            let (found, want) = (found.map_or(&[][..], |row| row), want.map_or(&[][..], |row| row));
            let same = found.iter().zip(want).take_while(|(a, b)| a == b).count();
            assert!(
                found == want,
                "{key}: {} events in the row, and {} expected; they differ from {:?} and {:?} on",
                found.len(),
                want.len(),
                found.get(same),
                want.get(same)
            );
        }
        assert_eq!((self.applied, self.parked), (expected.applied, expected.parked), "applied and parked in the books");
    }
}

impl Sent {
    /// By hand: no view, no actor, no store. An event that never goes in is parked, and what follows it.
    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        for (key, acts) in &self.0 {
            let never = |act: &Act| matches!(act, Act::Refused { .. } | Act::Fails { times: u32::MAX, .. });
            let end = acts.iter().position(never).unwrap_or(acts.len());
            let seen: Vec<u64> = acts[..end].iter().map(number).collect();
            expected.applied += seen.len() as i64;
            expected.parked += (acts.len() - end) as i64;
            if !seen.is_empty() {
                expected.rows.insert(key.clone(), seen);
            }
        }
        expected
    }
}

fn number(act: &Act) -> u64 {
    match act {
        Act::Add { n }
        | Act::Refused { n }
        | Act::Fails { n, .. }
        | Act::NotBefore { n, .. }
        | Act::Curses { n, .. } => *n,
    }
}

/// An event: mostly one that goes in. `name` is like no other's. Folds that take longer than `limit` hang.
pub fn random(random: &mut StdRng, n: u64, name: &str, limit: Duration) -> Act {
    let name = name.to_owned();
    let limit = limit.as_millis() as u64;
    let times = random.random_range(1..=3);
    match random.random_range(0..100) {
        0..6 => Act::Fails { n, name, how: How::SaysTryAgain, times },
        6..10 => Act::Fails { n, name, how: How::Panics, times },
        10..13 => {
            // About the limit, so that some come back just as they are given up.
            let ms = random.random_range(limit..3 * limit);
            Act::Fails { n, name, how: How::Hangs { ms }, times: times.min(2) }
        }
        13..15 => Act::NotBefore { n, name, ms: 150 },
        15..18 => {
            let place = [Where::Copy, Where::Write, Where::Copy, Where::Write, Where::Drop][random.random_range(0..5)];
            Act::Curses { n, curse: Curse { name, place, times } }
        }
        18 if random.random_range(0..6) == 0 => Act::Refused { n },
        19 if random.random_range(0..6) == 0 => Act::Fails { n, name, how: How::SaysTryAgain, times: u32::MAX },
        _ => Act::Add { n },
    }
}
