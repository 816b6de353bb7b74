//! A Segno of one's own whose views have moods: a fold hangs, panics or says "try again", and the row itself panics when
//! it is copied, written, read or made, as the events say. `pausing.rs` starts it, pauses it and kills it; it is no
//! example of how a view should be.
//!
//! An event says how it goes wrong before it goes well. The process counts that in memory, so that after a kill the count
//! begins anew. What went in, a hanging fold that was just quick enough for example, may go wrong when it is folded again:
//! a view should be pure, but where one is not, nothing may be lost.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use segno::event::EventMeta;
use segno::views::{Reject, View};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

// As in the program that users run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The topics' names, with a comma between them.
const TOPICS: &str = "SEGNO_MOODY_TOPICS";

const NAMES: [&str; 2] = ["moody_ledger", "moody_ledger_in_company"];

/// How long an endless fold sleeps at a time. A pause of the process costs it one such sleep and no more, so that it is
/// still folding when somebody looks.
const SLICE: Duration = Duration::from_millis(10);

/// How many rows are still not to be made.
static UNBORN: AtomicU32 = AtomicU32::new(0);

/// How often `name` was asked about before, the first `times` times.
fn tried(name: &str, times: usize) -> Option<usize> {
    static TRIED: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = tried.get_or_insert_default().entry(name.to_owned()).or_default();
    let before = (*count < times).then_some(*count);
    *count += usize::from(before.is_some());
    before
}

#[derive(Deserialize)]
#[serde(tag = "event_type", content = "payload")]
enum Entry {
    /// Goes in.
    Noted { n: u64 },
    /// Goes wrong in these ways, one after the other.
    Fickle { n: u64, tries: Vec<Try> },
    /// Is rejected for good, with a torn row.
    Refused { n: u64 },
    /// Takes so long of the process's own time, whenever it is tried.
    Endless { n: u64, ms: u64 },
    /// Puts a trap into the row, which stays there for the next `events` events.
    Trapped { n: u64, place: Place, times: usize, events: u32 },
    /// The next `times` rows that this process makes panic while they are made.
    Unborn { n: u64, times: u32 },
}

impl Entry {
    fn number(&self) -> u64 {
        match self {
            Entry::Noted { n }
            | Entry::Fickle { n, .. }
            | Entry::Refused { n }
            | Entry::Endless { n, .. }
            | Entry::Trapped { n, .. }
            | Entry::Unborn { n, .. } => *n,
        }
    }
}

/// What a fold does, with a torn row.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Try {
    Panic,
    /// It says "try again".
    Again,
    /// It sleeps for so many milliseconds, and then all is well.
    Hang(u64),
}

/// Where a trap springs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Clone,
    /// Wherever the row is written, also where it is only looked through.
    Serialize,
    /// Where the row is written as JSON, after the fold.
    Encode,
    Deserialize,
}

/// A field of the row that panics.
#[derive(PartialEq)]
struct Trap(Spring);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Spring {
    place: Place,
    name: String,
    times: usize,
    /// Events that the trap will see yet.
    left: u32,
}

impl Trap {
    fn at(&self, place: Place) {
        let Spring { name, times, .. } = &self.0;
        if self.0.place == place && tried(name, *times).is_some() {
            panic!("on purpose, in {place:?} of {name}");
        }
    }
}

impl Clone for Trap {
    fn clone(&self) -> Trap {
        self.at(Place::Clone);
        Trap(self.0.clone())
    }
}

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.at(Place::Serialize);
        if std::any::type_name::<S>().contains("serde_json") {
            self.at(Place::Encode);
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Trap, D::Error> {
        let trap = Trap(Spring::deserialize(deserializer)?);
        trap.at(Place::Deserialize);
        Ok(trap)
    }
}

/// Keeps the number of every event that it has folded, so that a lost, doubled or displaced one shows.
#[derive(Clone, Serialize, Deserialize)]
struct Ledger<const WHICH: usize> {
    seen: Vec<u64>,
    trap: Option<Trap>,
}

impl<const WHICH: usize> Default for Ledger<WHICH> {
    fn default() -> Self {
        let taken = UNBORN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(taken.is_err(), "on purpose, in Default");
        Ledger { seen: Vec::new(), trap: None }
    }
}

impl<const WHICH: usize> View for Ledger<WHICH> {
    const NAME: &'static str = NAMES[WHICH];
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, event: &Entry, meta: &EventMeta<'_>) -> Result<(), Reject> {
        let n = event.number();
        let name = format!("{}/{}/{n}", NAMES[WHICH], String::from_utf8_lossy(meta.key));
        if let Some(trap) = self.trap.take() {
            let left = trap.0.left.saturating_sub(1);
            self.trap = (left > 0).then_some(Trap(Spring { left, ..trap.0 }));
        }
        let torn = std::mem::take(&mut self.seen);
        match event {
            Entry::Noted { .. } => {}
            Entry::Fickle { tries, .. } => match tried(&name, tries.len()).map(|before| tries[before]) {
                Some(Try::Panic) => panic!("on purpose, in {name}"),
                Some(Try::Again) => return Err(Reject::try_again("not yet")),
                Some(Try::Hang(ms)) => std::thread::sleep(Duration::from_millis(ms)),
                None => {}
            },
            Entry::Refused { .. } => return Err(Reject::because("never")),
            Entry::Endless { ms, .. } => (0..ms / SLICE.as_millis() as u64).for_each(|_| std::thread::sleep(SLICE)),
            Entry::Trapped { place, times, events, .. } => {
                let spring = Spring { place: *place, name, times: *times, left: *events };
                self.trap = Some(Trap(spring));
            }
            Entry::Unborn { times, .. } => {
                let again = tried(&name, 1).map_or(0, |_| *times);
                UNBORN.fetch_add(again, Ordering::SeqCst);
            }
        }
        self.seen = torn;
        self.seen.push(n);
        Ok(())
    }
}

/// A neighbour of the moody one, over the same events: a few numbers, of which nothing ever goes wrong.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Steady {
    count: u64,
    /// Tells one order of the numbers from another.
    sum: u64,
}

impl View for Steady {
    const NAME: &'static str = "steady";
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, event: &Entry, _: &EventMeta<'_>) -> Result<(), Reject> {
        self.count += 1;
        self.sum = (self.sum * 31 + event.number()) % 1_000_000_007;
        Ok(())
    }
}

/// A stopped process outlives whoever stopped it, unless the system ends it.
fn end_with_the_parent() {
    #[cfg(target_os = "linux")]
    {
        let signal = Some(rustix::process::Signal::KILL);
        if let Err(error) = rustix::process::set_parent_process_death_signal(signal) {
            eprintln!("this process may outlive its parent: {error}");
        }
    }
}

fn main() -> ExitCode {
    end_with_the_parent();
    let topics = std::env::var(TOPICS).unwrap_or_else(|_| "ledger.alone,ledger.company".to_owned());
    let Some((alone, company)) = topics.split_once(',') else {
        eprintln!("{TOPICS} wants two names, found {topics:?}");
        return ExitCode::FAILURE;
    };
    segno::App::new()
        .topic(alone, |topic| topic.view::<Ledger<0>>())
        .topic(company, |topic| topic.view::<Ledger<1>>().view::<Steady>())
        .run()
}
