//! A daemon that replays, switches and rolls back while it is fed, read and killed; and the account of it at the end.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::faces::{Daemon, Place};
use crate::feeding::{Feeder, Log};
use crate::harness::*;
use crate::readers::{EndsWith, Front, Readers};

/// Flushes and epochs are short, so that a kill finds something durable and something that is not.
const BUSY: [&str; 8] = [
    "--set",
    "state.flush-interval=100ms",
    "--set",
    "replay.epoch-records=3000",
    "--set",
    "replay.epoch-time=100ms",
    "--set",
    "snapshots.interval=5s",
];
const READERS: usize = 3;
const PARTITIONS: i32 = 4;
/// How long a job may take that is not killed any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of it: events before the replays begin, events in all, accounts, kills during replays, kills during rollbacks.
pub struct Size {
    pub first: usize,
    pub events: usize,
    pub accounts: usize,
    pub kills: usize,
    pub rollback_kills: usize,
}

impl Size {
    /// SEGNO_TEST_SCALE times as many events and kills.
    pub fn scaled(self) -> Size {
        let scale: usize = std::env::var("SEGNO_TEST_SCALE").map_or(1, |scale| scale.parse().expect("a number"));
        let Size { first, events, accounts, kills, rollback_kills } = self;
        Size {
            first: first * scale,
            events: events * scale,
            accounts,
            kills: kills * scale,
            rollback_kills: rollback_kills * scale,
        }
    }
}

/// The bank's configuration with the second edition of `account_balance`: a withdrawal costs a fee of one cent.
pub fn with_fees(first: &str) -> String {
    let edits = [
        ("name = \"account_balance\"\nversion = 1", "name = \"account_balance\"\nversion = 2"),
        ("state.balance < event.payload.amount\"", "state.balance < event.payload.amount + 1\""),
        ("state.balance - event.payload.amount\"", "state.balance - event.payload.amount - 1\""),
    ];
    edits.iter().fold(first.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

/// A daemon, and what kills it.
pub struct Stage<'a> {
    pub place: &'a Place,
    pub front: Arc<Front>,
    pub daemon: Option<Daemon>,
    pub rng: StdRng,
    /// How many kills came in each phase, as it was seen last before them.
    pub kills: BTreeMap<String, usize>,
}

impl<'a> Stage<'a> {
    pub fn new(place: &'a Place, front: Arc<Front>, seed: u64) -> Self {
        Stage { place, front, daemon: None, rng: StdRng::seed_from_u64(seed), kills: BTreeMap::new() }
    }

    pub fn start(&mut self) {
        let daemon = self.place.daemon(&BUSY);
        books(&daemon.get("/v1/status").body);
        self.front.opens(&daemon.base);
        self.daemon = Some(daemon);
    }

    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    /// In good order.
    pub fn stop(&mut self) {
        self.front.closes();
        let front = self.front.clone();
        let _quiet = front.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal("TERM");
        assert_eq!(daemon.ended(), 0, "{}", daemon.said());
    }

    /// SIGKILL.
    fn kill(&mut self, phase: &str) {
        let front = self.front.clone();
        let _quiet = front.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        self.front.closes();
        let mut daemon = self.daemon.take().unwrap();
        assert!(daemon.child.try_wait().unwrap().is_none(), "it ended before it was killed: {}", daemon.said());
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        *self.kills.entry(phase.to_owned()).or_default() += 1;
    }

    /// A command that answers with JSON.
    #[track_caller]
    pub fn order(&self, args: &[&str]) -> Value {
        self.place.run(&[args, &["--json"]].concat()).ok().json()
    }

    pub fn job(&mut self, id: u64) -> Value {
        let answer = self.daemon().get(&format!("/v1/replays/{id}"));
        assert_eq!(answer.status, 200, "job {id}: {answer:?}");
        answer.body
    }

    /// Waits until a job is in a phase, or over, and tells the phase.
    fn until(&mut self, id: u64, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let job = self.job(id);
            let phase = job["phase"].as_str().unwrap().to_owned();
            assert!(phase != "failed" && phase != "cancelled", "{job:#}\n{}", self.daemon().said());
            if phase == wanted || phase == "done" {
                return phase;
            }
            assert!(Instant::now() < deadline, "it does not get to {wanted}: {job:#}\n{}", self.daemon().said());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the daemon again and again during jobs that `begin` starts, each of which goes on by itself after every
    /// kill and comes to its end. `building` is how many milliseconds a kill may wait in that phase. When a job is done
    /// before it was killed often enough, another begins, if `again`. Answers the last job.
    pub fn jobs(&mut self, kills: usize, building: u64, again: bool, mut begin: impl FnMut(&Self) -> Value) -> Value {
        let mut killed = 0;
        loop {
            let id = begin(self)["id"].as_u64().unwrap();
            let mut done = false;
            while killed < kills && !done {
                let (wanted, longest) =
                    [("building", building), ("verifying", 30), ("cutting-over", 8), ("done", 60)][killed % 4];
                let mut phase = self.until(id, wanted);
                std::thread::sleep(Duration::from_millis(self.rng.random_range(0..longest)));
                if phase != "done" {
                    phase = self.job(id)["phase"].as_str().unwrap().to_owned();
                }
                self.kill(&phase);
                killed += 1;
                self.start();
                done = phase == "done";
                if done {
                    assert_eq!(self.job(id)["phase"], "done", "a decision was taken back");
                }
            }
            self.until(id, "done");
            let job = self.job(id);
            println!("job {id}, a {}, is done; kills so far: {:?}", job["kind"], self.kills);
            if killed == kills || !again {
                return job;
            }
        }
    }

    /// The version of `account_balance` that is live.
    fn version(&mut self) -> u64 {
        let views = self.daemon().get("/v1/views").body;
        let mut all = views["views"].as_array().unwrap().iter();
        let view = all.find(|view| view["name"] == "account_balance");
        view.unwrap_or_else(|| panic!("{views}"))["version"].as_u64().unwrap()
    }
}

/// The whole of it, on a log of either kind.
pub fn replays_and_kills(place: &Place, log: impl Log, front: Arc<Front>, size: &Size, seed: u64) {
    let begun = Instant::now();
    let at = |what: &str| println!("{:5.1} s: {what}", begun.elapsed().as_secs_f64());
    let Size { first, events, accounts, kills, rollback_kills } = *size;
    let mut feeder = Feeder::new(events, accounts, 30, PARTITIONS, seed);
    let mut stage = Stage::new(place, front.clone(), seed);
    stage.start();
    let _end = EndsWith(front.clone());
    feeder.first(&log, first);
    settled(stage.daemon());
    at("the first events are in");
    let readers = Readers::begin(&front, READERS, accounts, seed);
    feeder.go_on(log, &front, Duration::from_millis(100));
    let early = feeder.time(first / 3).to_owned();

    // From the beginning, and once there is a snapshot from there. The same definitions: the same rows.
    let replay = |from: &str, rate: &str| {
        let (from, rate) = (from.to_owned(), rate.to_owned());
        move |stage: &Stage<'_>| stage.order(&["replay", "--from", &from, "--rate", &rate, "--yes", "--detach"])
    };
    let slow = (first / 3).to_string();
    let job = stage.jobs(kills / 2, 900, true, replay(&early, &slow));
    assert_eq!(job["verification"]["identical"], true, "{job:#}");
    let snapshot = stage.order(&["snapshot", "create"]);
    at(&format!("a snapshot: {}", snapshot["snapshots"][0]["id"]));
    let late = feeder.time(feeder.appended() - 1).to_owned();
    std::thread::sleep(Duration::from_millis(1500));
    let job = stage.jobs(kills - kills / 2, 900, true, replay(&late, "4000"));
    assert_eq!(job["verification"]["identical"], true, "{job:#}");
    assert!(job.to_string().contains("\"snapshot\":{"), "it does not begin at a snapshot: {job:#}");
    readers.seen.nothing_wrong();
    at("the replays of the same definitions are through");

    // Another definition. Live goes on as it was made, until somebody says from when the new one counts.
    stage.stop();
    let config = fs::read_to_string(place.path("segno.toml")).unwrap();
    fs::write(place.path("segno.toml"), with_fees(&config)).unwrap();
    stage.start();
    let changed = stage.jobs(2, 40, false, replay(&late, "4000"));
    let base: Vec<String> = changed["plan"]["topics"][0]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| format!("{}:{}", partition["partition"], partition["from"]))
        .collect();
    let base = base.join(",");
    at(&format!("the second edition is live, from {base}"));
    std::thread::sleep(Duration::from_secs(2));
    let back = |stage: &Stage<'_>| stage.order(&["replay", "rollback", "--yes", "--detach"]);
    let job = stage.jobs(rollback_kills, 60, true, back);
    assert_eq!(job["kind"], "rollback");
    // One that was killed after its end was followed by another, which undid it.
    if stage.version() == 2 {
        stage.jobs(0, 1, true, back);
    }
    assert_eq!(stage.version(), 1);
    at("rolled back");
    std::thread::sleep(Duration::from_millis(500));
    readers.seen.nothing_wrong();
    stage.jobs(1, 60, false, back);
    assert_eq!(stage.version(), 2);
    at("forward again");

    std::thread::sleep(Duration::from_millis(500));
    front.over.store(true, std::sync::atomic::Ordering::Release);
    let seen = readers.end();
    let log = place.path("log.jsonl");
    assert!(!feeder.is_through(), "the producer ended before the replays did: {} events are too few", events);
    let records = feeder.end(&log);
    let status = settled(stage.daemon());
    assert_eq!(total(&status, "log_end"), records as u64, "every event is one record");
    let oracle = script_json("bank.py", &["oracle", log.to_str().unwrap(), "--fees-from", &base]);
    assert_oracle(stage.daemon(), &status, &oracle);
    at(&format!("{records} records, and every row is right"));
    seen.nothing_wrong();
    let answers = place.path("answers.jsonl");
    fs::write(&answers, seen.take()).unwrap();
    let args = ["answers", log.to_str().unwrap(), answers.to_str().unwrap(), "--fees-from", &base];
    let judged = script_json("bank.py", &args);
    println!("{}\nof these {}, {} told apart", seen.told(), judged["checked"], judged["told_apart"]);
    assert_eq!(judged["wrong"], 0, "{judged:#}");
    assert!(judged["checked"].as_u64().unwrap() > 1000, "{judged}");
    // No reader has seen an edition again that another had replaced, but as the switches have ordered it.
    let jobs = stage.order(&["replay", "list"]);
    let switches = jobs["replays"].as_array().unwrap().iter().filter(|job| job["kind"] == "rollback").count() + 1;
    for turns in judged["turns"].as_object().unwrap().values() {
        let turns = turns.as_array().unwrap();
        assert!(turns.len() <= switches + 1 && turns[0] == 1 && *turns.last().unwrap() == 2, "{judged:#}");
    }
    at(&format!("and every answer was; kills: {:?}", stage.kills));
    assert!(stage.kills.values().sum::<usize>() >= kills + rollback_kills);
    stage.stop();
}
