//! A daemon that is paused and continued at random (SIGSTOP, SIGCONT), beside its kills, while its views hang and panic.
//! After a pause every fold in progress looks as if it hung, and many come back at that very moment. In both placements
//! every row, the books and what is set aside must in the end be what the events say.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segno::position::Offset;
use segno::state::{Standing, Store};
use serde_json::{Value, json};

use crate::common::broker::{self, Broker};
use crate::faces::{self, Answer, Daemon, Place};
use crate::harness::*;
use crate::moods::{Event, Moods, beginning, judge, steady};
use crate::readers::Front;

/// Every third of them ends a life of the daemon, the others pause it.
const ROUNDS: usize = 15;
const ROUNDS_ON_KAFKA: usize = 6;
const PARTITIONS: u32 = 2;
/// Events appended at once, at most, and the longest rest between two appends in milliseconds.
const BATCH: usize = 16;
const REST: u64 = 60;
/// How long an append may take, and how long what was sent may take to go in or to be parked.
const PATIENCE: Duration = Duration::from_secs(180);

/// The view with moods of each topic.
const MOODY: [&str; 2] = ["moody_ledger", "moody_ledger_in_company"];
/// Its company.
const STEADY: &str = "steady";

/// Small steps and short times, so that a pause or a kill finds every stage of the path at work. An event that is to go in
/// fails three times a life at most, and when a pause is taken for a hanging fold: it has attempts enough. The audit is
/// off, for these folds depend on how often they were tried.
fn config(flow: &str, durability: &str, topics: &[String], kafka: Option<&Broker>) -> String {
    let log = kafka.map_or("[embedded]\nfsync = \"never\"\n".to_owned(), |broker| {
        format!("[node]\nlog = \"kafka\"\n[kafka]\nbrokers = \"{}\"\n", broker.plaintext)
    });
    let topics = topics.iter().map(|name| format!("[[topics]]\nname = \"{name}\"\npartitions = {PARTITIONS}\n"));
    format!(
        r#"{log}
[flow]
{flow}
batch-records = 64
credit-records = 512
fold-time-limit = "200ms"
[retry]
attempts = 40
initial = "5ms"
factor = 1.5
max = "50ms"
[state]
durability = "{durability}"
flush-interval = "50ms"
[audit]
rate = 0
{}"#,
        topics.collect::<String>()
    )
}

#[test]
fn paused_continued_and_killed_in_both_placements_every_row_is_what_the_events_say() {
    let _alone = alone();
    let seed = seed("pausing");
    std::thread::scope(|scope| {
        let both = ["shared", "own"].map(|placement| {
            let tale = move || tell(placement, None, seed, ROUNDS * soak());
            std::thread::Builder::new().name(placement.to_owned()).spawn_scoped(scope, tale).unwrap()
        });
        // Both are seen to their ends, so that neither leaves a process behind.
        let ended = both.map(|tale| tale.join().is_ok());
        assert_eq!(ended, [true, true], "shared, own: what was wrong stands above; SEGNO_SEED={seed}");
    });
}

#[test]
fn on_kafka_too_a_pause_changes_no_row() {
    let _alone = alone();
    let seed = seed("pausing_on_kafka");
    let placement = if seed.is_multiple_of(2) { "shared" } else { "own" };
    tell(placement, Some(broker::shared()), seed, ROUNDS_ON_KAFKA * soak());
}

/// SEGNO_SOAK times as many rounds.
fn soak() -> usize {
    std::env::var("SEGNO_SOAK").map_or(1, |factor| factor.parse().expect("SEGNO_SOAK is a number"))
}

fn tell(placement: &str, kafka: Option<&'static Broker>, seed: u64, rounds: usize) {
    let stage = Stage::new(placement, kafka, seed);
    std::thread::scope(|scope| {
        let _ends = GivesUp(&stage);
        let feeding = scope.spawn(|| stage.feed(StdRng::seed_from_u64(seed ^ 1)));
        let mut life = Life::begin(&stage, seed);
        for round in 0..rounds {
            sleep(Duration::from_millis(life.rng.random_range(20..700)));
            life.glance();
            match round % 3 {
                2 => life.end(round / 3),
                _ => life.pause(),
            }
            assert!(!feeding.is_finished(), "{}: an append failed\n{}", stage.name, life.said());
        }
        stage.front.over.store(true, Ordering::Release);
        let fed = feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        fed.unwrap_or_else(|why| panic!("{}: {why}\n{}", stage.name, life.said()));
        life.close();
        life.proves_something();
    });
}

/// What the daemon stands on, and what it is fed with.
struct Stage {
    name: String,
    place: Place,
    kafka: Option<&'static Broker>,
    topics: [String; 2],
    moods: [Mutex<Moods>; 2],
    front: Front,
    given_up: AtomicBool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.place.dir.disable_cleanup(true);
            println!("{}: its data and logs are kept in {}", self.name, self.place.dir.path().display());
        }
    }
}

/// Ends the feeding, however a tale ends.
struct GivesUp<'a>(&'a Stage);

impl Drop for GivesUp<'_> {
    fn drop(&mut self) {
        self.0.front.over.store(true, Ordering::Release);
        self.0.given_up.store(true, Ordering::Release);
    }
}

impl Stage {
    fn new(placement: &str, kafka: Option<&'static Broker>, seed: u64) -> Stage {
        let topics = ["ledger.alone", "ledger.company"]
            .map(|name| kafka.map_or(name.to_owned(), |broker| broker.topic(name, PARTITIONS as i32)));
        let mut rng = StdRng::seed_from_u64(seed ^ 2);
        // With few own shards, cells have to queue for one.
        let own_shards = if rng.random_bool(0.3) { 6 } else { 1024 };
        // A commit that is synced takes its time, and a fold that comes back meets one more often.
        let durability = ["log", "wal", "wal-sync"][rng.random_range(0..3)];
        let flow = format!("placement = \"{placement}\"\nown-shard-limit = {own_shards}");
        let mut place = Place::new(&config(&flow, durability, &topics, kafka));
        place.program = env!("CARGO_BIN_EXE_moody-ledger");
        place.env.push(("SEGNO_MOODY_TOPICS", topics.join(",")));
        let moods = [0, 1].map(|_| Mutex::new(Moods::new()));
        let name = format!("{placement}, {durability}, SEGNO_SEED={seed}");
        Stage { name, place, kafka, topics, moods, front: Front::default(), given_up: AtomicBool::new(false) }
    }

    fn moods(&self, topic: usize) -> MutexGuard<'_, Moods> {
        self.moods[topic].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends until the front is over.
    fn feed(&self, mut rng: StdRng) -> Result<(), String> {
        while !self.front.is_over() {
            let topic = rng.random_range(0..2);
            // A producer for each append takes its time.
            let count = rng.random_range(1..=BATCH) * if self.kafka.is_some() { 8 } else { 1 };
            let storm = rng.random_bool(0.08);
            // They are part of the story before they are sent, so that no row is ahead of it.
            let batch: Vec<Event> = {
                let mut moods = self.moods(topic);
                (0..count).map(|_| moods.next(&mut rng, storm)).collect()
            };
            self.append(topic, &batch)?;
            sleep(Duration::from_millis(rng.random_range(0..REST)));
        }
        Ok(())
    }

    /// Appends once and no more, whatever becomes of the daemon meanwhile.
    fn append(&self, topic: usize, events: &[Event]) -> Result<(), String> {
        let name = &self.topics[topic];
        if let Some(broker) = self.kafka {
            let values: Vec<String> = events.iter().map(|event| event.value.to_string()).collect();
            let partition = |key: &str| (key.bytes().map(u32::from).sum::<u32>() % PARTITIONS) as i32;
            let puts =
                events.iter().zip(&values).map(|(event, value)| broker::put(partition(&event.key), &event.key, value));
            broker.produce(name, &puts.collect::<Vec<_>>());
            return Ok(());
        }
        let line = |event: &Event| json!({"key": event.key, "value": event.value}).to_string();
        let body = events.iter().map(line).collect::<Vec<_>>().join("\n");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let quiet = self.front.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            if self.given_up.load(Ordering::Acquire) {
                return Err("given up".to_owned());
            }
            if let Some((_, base)) = self.front.address() {
                let request = faces::agent().post(format!("{base}/v1/topics/{name}/events"));
                let answer = faces::answer(request.header("content-type", "application/x-ndjson").send(&body));
                match (answer.status, answer.body["records"].as_array().map(Vec::len)) {
                    (200, Some(count)) if count == events.len() => return Ok(()),
                    // It is starting or ending: nothing got in.
                    (503, _) => {}
                    _ => return Err(format!("an append without a clear answer: {answer:?}")),
                }
            }
            drop(quiet);
            sleep(Duration::from_millis(5));
        }
        Err("no append was acknowledged for too long".to_owned())
    }
}

/// A process that stands still until this is dropped.
struct Paused(u32);

impl Paused {
    fn new(daemon: &Daemon) -> Paused {
        let paused = Paused(daemon.child.id());
        daemon.signal("STOP");
        paused
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // If it was killed meanwhile, nobody has waited for it yet, and nobody else has its number.
        let _ = Command::new("kill").arg("-CONT").arg(self.0.to_string()).output();
    }
}

/// What the daemon's lives have said of themselves.
#[derive(Debug, Default)]
struct Count {
    pauses: usize,
    kills: usize,
    stops: usize,
    overruns: usize,
    panics: usize,
    parked: usize,
}

/// The daemon, one life after the other.
struct Life<'a> {
    stage: &'a Stage,
    rng: StdRng,
    daemon: Daemon,
    /// How long each row was when this life was last asked.
    lengths: BTreeMap<(usize, String), usize>,
    count: Count,
}

impl<'a> Life<'a> {
    fn begin(stage: &'a Stage, seed: u64) -> Life<'a> {
        let daemon = stage.place.daemon(&[]);
        stage.front.opens(&daemon.base);
        let rng = StdRng::seed_from_u64(seed);
        Life { stage, rng, daemon, lengths: BTreeMap::new(), count: Count::default() }
    }

    /// One pause, or some in quick succession; most are short.
    fn pause(&mut self) {
        for _ in 0..self.rng.random_range(1..=3) {
            let seconds = 0.1 * 100f64.powf(self.rng.random::<f64>().powi(3));
            let paused = Paused::new(&self.daemon);
            sleep(Duration::from_secs_f64(seconds));
            drop(paused);
            self.count.pauses += 1;
            sleep(Duration::from_millis(self.rng.random_range(0..400)));
        }
    }

    /// Ends this life, in one of three ways, looks at what it leaves, and begins the next.
    fn end(&mut self, which: usize) {
        let stage = self.stage;
        // Nobody is left without an answer to an append.
        let quiet = stage.front.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        stage.front.closes();
        match which % 4 {
            1 => self.stop(),
            3 => {
                let _paused = Paused::new(&self.daemon);
                sleep(Duration::from_millis(self.rng.random_range(100..1000)));
                self.kill();
            }
            _ => self.kill(),
        }
        self.remember();
        let status: Value = stage.place.run(&["status", "--json"]).ok().json();
        let books = books(&status);
        for (topic, view) in topics(&status).iter().zip(MOODY) {
            let applied: u64 = partitions(topic).iter().map(|p| p["applied"].as_u64().unwrap()).sum();
            assert_eq!(books[view]["consumed"], applied, "{}: {status}", stage.name);
        }
        self.start();
        drop(quiet);
    }

    fn kill(&mut self) {
        self.daemon.child.kill().unwrap();
        self.daemon.child.wait().unwrap();
        self.count.kills += 1;
    }

    fn stop(&mut self) {
        self.daemon.signal("TERM");
        assert_eq!(self.daemon.ended(), 0, "{}: a stop\n{}", self.stage.name, self.said());
        self.count.stops += 1;
    }

    fn start(&mut self) {
        self.daemon = self.stage.place.daemon(&[]);
        self.stage.front.opens(&self.daemon.base);
        self.lengths.clear();
    }

    /// Keeps the log of the life that is over.
    fn remember(&mut self) {
        let said = self.daemon.said();
        let times = |what: &str| said.matches(what).count();
        self.count.overruns += times("runs over its time limit");
        self.count.panics += times("a fold panicked");
        self.count.parked += times("event parked");
        let name = format!("life-{}.log", self.count.kills + self.count.stops);
        std::fs::rename(&self.daemon.log, self.stage.place.path(&name)).unwrap();
    }

    /// The last errors of this life.
    fn said(&self) -> String {
        let said = self.daemon.said();
        let of_use = |line: &&str| line.contains("ERROR") && !line.contains("a fold ");
        let errors: Vec<&str> = said.lines().filter(of_use).collect();
        errors[errors.len().saturating_sub(12)..].join("\n")
    }

    /// The status, if the daemon has not ended by itself.
    #[track_caller]
    fn status(&mut self) -> Answer {
        let status = self.daemon.get("/v1/status");
        assert_eq!(status.status, 200, "{}, after {:?}: {status:?}\n{}", self.stage.name, self.count, self.said());
        status
    }

    #[track_caller]
    fn rows(&mut self, view: &str) -> Rows {
        self.status();
        rows(&self.daemon, view)
    }

    /// At any moment a row is the beginning of its story, and within a life it does not go back.
    fn glance(&mut self) {
        let mut wrong = Vec::new();
        for (topic, view) in MOODY.into_iter().enumerate() {
            for (key, row) in self.rows(view) {
                let seen = seen(&row);
                let moods = self.stage.moods(topic);
                match beginning(&moods.story[&key], &seen) {
                    Err(why) => wrong.push(format!("{view} of {key}: {why}")),
                    Ok(length) => match self.lengths.insert((topic, key.clone()), length) {
                        Some(before) if before > length => {
                            wrong.push(format!("{view} of {key} went back from {before} events to {length}"));
                        }
                        _ => {}
                    },
                }
            }
        }
        self.nothing_is("while it lives", &wrong);
    }

    #[track_caller]
    fn nothing_is(&self, when: &str, wrong: &[String]) {
        let first = wrong.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n  ");
        let (name, count) = (&self.stage.name, &self.count);
        assert!(wrong.is_empty(), "{name}: {} are wrong {when}, after {count:?}:\n  {first}", wrong.len());
    }

    /// Waits until everything that was sent has gone in, or is parked.
    fn settle(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            let done = topics(&status.body).iter().all(at_end);
            if done && books(&status.body).values().all(|books| books["waiting"] == 0) {
                return status.body;
            }
            let (name, count, status) = (&self.stage.name, &self.count, &status.text);
            assert!(Instant::now() < deadline, "{name}: events wait for too long, after {count:?}: {status}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Every row, the books and the digests; answers the numbers of the events that are parked, by key.
    fn judge(&mut self, when: &str) -> [Parked; 2] {
        let books = books(&self.settle());
        let (stage, mut wrong) = (self.stage, Vec::new());
        let mut all_parked = [Parked::new(), Parked::new()];
        for (topic, view) in MOODY.into_iter().enumerate() {
            let rows = self.rows(view);
            let moods = stage.moods(topic);
            let (mut sent, mut applied) = (0, 0);
            for (key, events) in &moods.story {
                let seen = rows.get(key).map(seen).unwrap_or_default();
                (sent, applied) = (sent + events.len(), applied + seen.len());
                match judge(events, &seen) {
                    Err(why) => wrong.push(format!("{view} of {key}: {why}")),
                    Ok(parked) if parked.is_empty() => {}
                    Ok(parked) => _ = all_parked[topic].insert(key.clone(), parked),
                }
            }
            wrong.extend(
                rows.keys().filter(|key| !moods.story.contains_key(*key)).map(|key| format!("{key} is strange")),
            );
            drop(moods);
            let parked = sent - applied;
            let expected =
                json!({"consumed": sent, "applied": applied, "parked": parked, "waiting": 0, "skipped": 0, "dead": 0});
            if books[view] != expected {
                wrong.push(format!("the books of {view}: {} instead of {expected}", books[view]));
            }
        }
        self.judge_steady(&books[STEADY], &mut wrong);
        let verified = stage.place.run(&["verify"]);
        if verified.code != 0 {
            wrong.push(format!("{verified:?}"));
        }
        self.nothing_is(when, &wrong);
        all_parked
    }

    /// The view in whose company another one hangs and panics has everything.
    fn judge_steady(&mut self, books: &Value, wrong: &mut Vec<String>) {
        let rows = self.rows(STEADY);
        let moods = self.stage.moods(1);
        let sent: usize = moods.story.values().map(Vec::len).sum();
        for (key, events) in &moods.story {
            let expected = steady(events, events.len());
            if rows.get(key) != Some(&expected) {
                wrong.push(format!("{STEADY} of {key}: {:?} instead of {expected}", rows.get(key)));
            }
        }
        if books["applied"] != sent || rows.len() != moods.story.len() {
            wrong.push(format!("{STEADY}: {} rows of {}, {books}", rows.len(), moods.story.len()));
        }
    }

    /// After a stop in good order: what the store holds as set aside are the events that are to be parked, and no others.
    fn judge_set_aside(&self, expected: &[Parked; 2]) {
        let store = Store::read_only(&self.stage.place.path("data")).unwrap();
        let mut found = [Parked::new(), Parked::new()];
        let mut wrong = Vec::new();
        for at in store.partitions().unwrap() {
            let generation = store.generation(&at).unwrap();
            let topic = usize::from(*at.topic == *self.stage.topics[1]);
            for queue in generation.held_keys().unwrap() {
                let key = String::from_utf8(queue.key.clone()).unwrap();
                let view = generation.views().iter().find(|view| view.tag == queue.view).unwrap();
                if view.name != MOODY[topic] {
                    wrong.push(format!("{key} is set aside for {}", view.name));
                }
                for held in generation.held_of(queue.view, &queue.key, Offset(0), usize::MAX).unwrap() {
                    let event: Value = serde_json::from_slice(&held.value.unwrap_or_default()).unwrap();
                    if held.standing != Standing::Parked {
                        wrong.push(format!("{key}: {event} is {:?}", held.standing));
                    }
                    found[topic].entry(key.clone()).or_default().push(event["payload"]["n"].as_u64().unwrap());
                }
            }
            let dead = generation.dead(Offset(0), 10).unwrap();
            wrong.extend(dead.iter().map(|held| format!("dead: {held:?}")));
        }
        for (found, expected) in found.iter().zip(expected) {
            let keys = found.keys().chain(expected.keys());
            let differs = keys.filter(|key| found.get(*key) != expected.get(*key));
            wrong.extend(
                differs
                    .map(|key| format!("set aside of {key}: {:?} instead of {:?}", found.get(key), expected.get(key))),
            );
        }
        self.nothing_is("in the store", &wrong);
    }

    /// Nothing more is sent: all must be right, also after one event more for each key, and after a stop and a start.
    fn close(&mut self) {
        self.judge("when all is sent");
        for topic in 0..2 {
            let words = self.stage.moods(topic).last_words();
            self.stage.append(topic, &words).unwrap();
        }
        let parked = self.judge("after one more event for every key");
        self.stop();
        self.remember();
        self.judge_set_aside(&parked);
        let verified = self.stage.place.run(&["verify"]);
        assert_eq!(verified.code, 0, "{}: {verified:?}", self.stage.name);
        self.start();
        let again = self.judge("after a stop and a start");
        assert_eq!(again, parked, "{}", self.stage.name);
        self.stop();
        self.remember();
        assert!(parked.iter().any(|parked| !parked.is_empty()), "{}: nothing was parked", self.stage.name);
    }

    /// A test in which no fold hung and nobody was killed proves nothing.
    fn proves_something(&self) {
        let sent: usize = [0, 1].map(|topic| self.stage.moods(topic).story.values().map(Vec::len).sum()).iter().sum();
        println!("{}: {sent} events, {:?}", self.stage.name, self.count);
        let Count { pauses, kills, stops, overruns, panics, .. } = &self.count;
        let all = [pauses, kills, stops, overruns, panics];
        let (name, count) = (&self.stage.name, &self.count);
        assert!(all.iter().all(|count| **count > 0) && sent > 300, "{name}: {sent} events, {count:?}");
    }
}

/// The numbers of events, by key.
type Parked = BTreeMap<String, Vec<u64>>;

/// What is in a moody row.
fn seen(row: &Value) -> Vec<u64> {
    row["seen"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}
