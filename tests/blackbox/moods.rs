//! Events for the moody ledger, and what has to come of them: the oracle of `pausing.rs`. It knows what was sent under each
//! key and in which order, and nothing of Segno.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Where a row can panic outside of `apply`, besides where it is made.
pub const TRAPS: [&str; 4] = ["clone", "serialize", "encode", "deserialize"];
/// The rows that are made next panic.
pub const UNBORN: &str = "default";
/// Which of them the events use: a list with commas, without it all.
const OUTSIDE: &str = "SEGNO_MOODS";

/// How long a fold takes that is always given up, in milliseconds. More than a stop waits for threads that are left
/// behind: the process has to end before them, and well.
const ENDLESS: u64 = 4000;

/// Keys that a topic begins with.
const KEYS: usize = 20;

/// What may come of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    GoesIn,
    /// It is parked, and so is whatever is sent after it under its key.
    StaysOut,
    /// Either of them: what decides is when somebody looks.
    Either,
}

/// An event as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub n: u64,
    /// The event's type, and where a trap springs.
    pub kind: &'static str,
    pub fate: Fate,
}

/// The events of a topic, by key, in the order in which they were sent.
pub type Story = BTreeMap<String, Vec<Sent>>;

/// An event on its way.
pub struct Event {
    pub key: String,
    pub value: Value,
}

/// Makes up the events of one topic.
pub struct Moods {
    pub story: Story,
    outside: Vec<String>,
    /// For each key the newest events that may meet a row that cannot be read.
    unreadable: BTreeMap<String, RangeInclusive<u64>>,
    /// For each key the last event that meets a trap.
    trapped: BTreeMap<String, u64>,
    keys: usize,
}

impl Moods {
    pub fn new() -> Moods {
        let all = || TRAPS.iter().chain([&UNBORN]).map(|&place| place.to_owned()).collect();
        let some = |list: String| list.split(',').filter(|place| !place.is_empty()).map(str::to_owned).collect();
        let outside = std::env::var(OUTSIDE).map_or_else(|_| all(), some);
        let story = Story::new();
        Moods { story, outside, unreadable: BTreeMap::new(), trapped: BTreeMap::new(), keys: KEYS }
    }

    /// The next event, which from now on is part of the story. In a storm everything goes wrong, so that many cells are
    /// set apart at once.
    pub fn next(&mut self, rng: &mut StdRng, storm: bool) -> Event {
        // New keys come all the time, for a row that begins is a case of its own; and some keys are busier than others.
        let key = match rng.random_bool(0.03) {
            true => {
                self.keys += 1;
                self.keys - 1
            }
            false => rng.random_range(0..self.keys).min(rng.random_range(0..self.keys)),
        };
        let key = format!("key-{key:04}");
        let n = self.story.get(&key).map_or(0, |sent| sent.len() as u64);
        // Two of the rare ones are always there.
        let roll = match self.story.values().map(Vec::len).sum() {
            100 => 80,
            150 => 82,
            _ if storm => 0,
            _ => rng.random_range(0..1000),
        };
        let (kind, fate, payload) = match roll {
            0..80 => ("Fickle", Fate::GoesIn, json!({"tries": tries(rng)})),
            80..82 => ("Refused", Fate::StaysOut, json!({})),
            // On a machine that is very busy even this one may be back before somebody has looked twice.
            82..83 => ("Endless", Fate::Either, json!({"ms": ENDLESS})),
            83..100 => self.trap(rng, &key, n).unwrap_or(("Noted", Fate::GoesIn, json!({}))),
            100..103 if self.outside.iter().any(|place| place == UNBORN) => {
                ("Unborn", Fate::GoesIn, json!({"times": rng.random_range(1..=3)}))
            }
            _ => ("Noted", Fate::GoesIn, json!({})),
        };
        self.sent(key, kind, fate, payload)
    }

    /// One more event for every key, which finds out whether any of them is stuck.
    pub fn last_words(&mut self) -> Vec<Event> {
        let keys: Vec<String> = self.story.keys().cloned().collect();
        keys.into_iter().map(|key| self.sent(key, "Noted", Fate::GoesIn, json!({}))).collect()
    }

    fn sent(&mut self, key: String, kind: &'static str, mut fate: Fate, mut payload: Value) -> Event {
        let sent = self.story.entry(key.clone()).or_default();
        let n = sent.len() as u64;
        // A row that could not be read once may have parked what came then.
        if fate == Fate::GoesIn && self.unreadable.get(&key).is_some_and(|range| range.contains(&n)) {
            fate = Fate::Either;
        }
        sent.push(Sent { n, kind, fate });
        payload["n"] = json!(n);
        let event_type = kind.split(' ').next();
        Event { value: json!({"event_type": event_type, "payload": payload}), key }
    }

    fn trap(&mut self, rng: &mut StdRng, key: &str, n: u64) -> Option<(&'static str, Fate, Value)> {
        let place = TRAPS[rng.random_range(0..TRAPS.len())];
        let (times, events) = (rng.random_range(1..=2), rng.random_range(1..=4));
        let in_use = self.outside.iter().any(|other| other == place);
        if !in_use || self.trapped.get(key).is_some_and(|last| n <= *last) {
            return None;
        }
        self.trapped.insert(key.to_owned(), n + events);
        if place == "deserialize" {
            self.unreadable.insert(key.to_owned(), n + 1..=n + events);
        }
        let kind = match place {
            "clone" => "Trapped in clone",
            "serialize" => "Trapped in serialize",
            "encode" => "Trapped in encode",
            _ => "Trapped in deserialize",
        };
        Some((kind, Fate::GoesIn, json!({"place": place, "times": times, "events": events})))
    }
}

/// How an event goes wrong, one time after the other. In a home shard it is mostly one that costs the others no time; in
/// the shard of its own it hangs for around the time limit, many of them side by side.
fn tries(rng: &mut StdRng) -> Vec<Value> {
    let count = rng.random_range(1..=3);
    let one = |i| match rng.random_range(0..100) + if i == 0 { 45 } else { 0 } {
        0..60 => json!({"hang": rng.random_range(30..600)}),
        60..100 => json!("panic"),
        _ => json!("again"),
    };
    (0..count).map(one).collect()
}

/// How many of the events are in a moody row. Whatever happens to the process, they must be the first ones that were sent,
/// each once and in their order, and none that stays out.
pub fn beginning(sent: &[Sent], seen: &[u64]) -> Result<usize, String> {
    for (i, n) in seen.iter().enumerate() {
        match sent.get(i) {
            Some(event) if event.n == *n && event.fate != Fate::StaysOut => {}
            _ => return Err(differences(sent, seen)),
        }
    }
    Ok(seen.len())
}

/// What must be true of a moody row in the end: the first event that is not in it is one that may stay out. Answers the
/// numbers of the events that are parked.
pub fn judge(sent: &[Sent], seen: &[u64]) -> Result<Vec<u64>, String> {
    let out = &sent[beginning(sent, seen)?..];
    match out.first() {
        Some(first) if first.fate == Fate::GoesIn => {
            Err(format!("{} ({}) and {} after it did not go in", first.n, first.kind, out.len() - 1))
        }
        _ => Ok(out.iter().map(|event| event.n).collect()),
    }
}

/// The row of the steady view after so many events.
pub fn steady(sent: &[Sent], count: usize) -> Value {
    let sum = sent[..count].iter().fold(0, |sum: u64, event| (sum * 31 + event.n) % 1_000_000_007);
    json!({"count": count, "sum": sum})
}

fn differences(sent: &[Sent], seen: &[u64]) -> String {
    let last = seen.iter().max().copied().unwrap_or_default();
    let mut text = String::new();
    let mut note = |what: &str, n: u64| {
        let kind = sent.iter().find(|event| event.n == n).map_or("never sent", |event| event.kind);
        text += &format!("{n} ({kind}) is {what}; ");
    };
    for event in sent.iter().take_while(|event| event.n <= last) {
        match seen.iter().filter(|n| **n == event.n).count() {
            0 if event.fate != Fate::StaysOut => note("lost", event.n),
            0 => {}
            1 if event.fate == Fate::StaysOut => note("in", event.n),
            1 => {}
            _ => note("there more than once", event.n),
        }
    }
    for pair in seen.windows(2).filter(|pair| pair[0] > pair[1]) {
        note("out of order", pair[1]);
    }
    seen.iter().filter(|n| sent.iter().all(|event| event.n != **n)).for_each(|n| note("not of this key", *n));
    format!("{text}of {} sent the row has {seen:?}", sent.len())
}

#[test]
fn the_oracle_of_the_moody_ledger_sees_what_is_lost_doubled_displaced_and_left_out() {
    let event = |n, fate| Sent { n, kind: "Noted", fate };
    let all_in = [event(0, Fate::GoesIn), event(1, Fate::GoesIn), event(2, Fate::GoesIn)];
    assert_eq!(judge(&all_in, &[0, 1, 2]), Ok(vec![]));
    for wrong in [&[0, 2][..], &[0, 1, 1, 2], &[0, 2, 1], &[0, 1, 2, 3], &[1, 2]] {
        assert!(beginning(&all_in, wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(beginning(&all_in, &[0, 1]), Ok(2));
    assert!(judge(&all_in, &[0, 1]).unwrap_err().starts_with("2 (Noted) and 0 after it"));
    let refused = [event(0, Fate::GoesIn), event(1, Fate::StaysOut), event(2, Fate::GoesIn)];
    assert_eq!(judge(&refused, &[0]), Ok(vec![1, 2]));
    assert!(judge(&refused, &[]).is_err() && judge(&refused, &[0, 1, 2]).is_err() && judge(&refused, &[0, 2]).is_err());
    let either = [event(0, Fate::Either), event(1, Fate::GoesIn)];
    assert_eq!((judge(&either, &[]), judge(&either, &[0, 1])), (Ok(vec![0, 1]), Ok(vec![])));
    assert!(judge(&either, &[0]).is_err());
    assert_eq!(steady(&all_in, 3), json!({"count": 3, "sum": 33}));
}
