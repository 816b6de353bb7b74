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

/// The phases of a job, in their order.
const PHASES: [&str; 5] = ["building", "verifying", "waiting", "cutting-over", "done"];
/// Of them, those in each of which some kill has to come.
const STRUCK: [&str; 3] = ["building", "verifying", "cutting-over"];

/// What of it: events before the replays begin, events in all, accounts, and how many kills have to come before the end
/// of a replay, and before that of a rollback.
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

/// What goes on one after the other, the editions that an answer may be of then, and of which some must be.
const ERAS: [(&str, &[&str], &[&str]); 8] = [
    ("replaying", &["1"], &[]),
    ("replayed", &["1"], &[]),
    ("changing", &["1", "2"], &[]),
    ("changed", &["2"], &["2"]),
    ("rolling-back", &["1", "2"], &[]),
    ("rolled-back", &["1"], &["1"]),
    ("rolling-forward", &["1", "2"], &[]),
    ("forward", &["2"], &["2"]),
];
/// So many answers are given in an era before the next begins.
const ANSWERS: usize = 300;

/// How jobs are killed: so many times before their end, and so many in each phase that is to be struck, always the one
/// that was struck least, at a random moment of it, `building` milliseconds after its begin at the latest.
pub struct Kills {
    inside: usize,
    each: usize,
    building: u64,
    /// Another job begins where one is done before it was killed often enough.
    again: bool,
}

/// A daemon, and what kills it.
pub struct Stage<'a> {
    pub place: &'a Place,
    pub front: Arc<Front>,
    pub daemon: Option<Daemon>,
    pub rng: StdRng,
    /// How many kills came in each phase of each kind of job, as it was seen last before them.
    pub kills: BTreeMap<(String, String), usize>,
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

    /// SIGKILL, during a job. Answers the phase that it was in a moment before.
    fn kill(&mut self, id: u64) -> String {
        let front = self.front.clone();
        let _quiet = front.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        self.front.closes();
        let job = self.job(id);
        let mut daemon = self.daemon.take().unwrap();
        assert!(daemon.child.try_wait().unwrap().is_none(), "it ended before it was killed: {}", daemon.said());
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        let [kind, phase] = [&job["kind"], &job["phase"]].map(|word| word.as_str().unwrap().to_owned());
        *self.kills.entry((kind, phase.clone())).or_default() += 1;
        phase
    }

    /// How many kills came before the end of jobs of this kind: in this phase, or in any.
    fn killed(&self, kind: &str, phase: Option<&str>) -> usize {
        let counts = self
            .kills
            .iter()
            .filter(|((of, seen), _)| of == kind && seen != "done" && phase.is_none_or(|phase| phase == seen));
        counts.map(|(_, count)| count).sum()
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

    /// Waits until a job is in a phase, or in a later one, and tells it.
    fn until(&mut self, id: u64, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let place = |phase: &str| PHASES.iter().position(|known| *known == phase);
        loop {
            let job = self.job(id);
            let phase = job["phase"].as_str().unwrap();
            let now = place(phase).unwrap_or_else(|| panic!("{job:#}\n{}", self.daemon().said()));
            if Some(now) >= place(wanted) {
                return phase.to_owned();
            }
            assert!(Instant::now() < deadline, "it does not get to {wanted}: {job:#}\n{}", self.daemon().said());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the daemon again and again during jobs that `begin` starts, each of which goes on by itself after every
    /// kill and comes to its end. Answers the last job.
    pub fn jobs(&mut self, wanted: Kills, mut begin: impl FnMut(&Self) -> Value) -> Value {
        let Kills { inside, each, building, again } = wanted;
        let mut killed = 0;
        for _ in 0..=2 * (inside + STRUCK.len() * each) {
            let begun = begin(self);
            let (id, kind) = (begun["id"].as_u64().unwrap(), begun["kind"].as_str().unwrap().to_owned());
            let enough = |stage: &Self, killed: usize| {
                killed >= inside && STRUCK.iter().all(|phase| stage.killed(&kind, Some(*phase)) >= each)
            };
            while !enough(self, killed) {
                let (place, least) =
                    STRUCK.into_iter().enumerate().min_by_key(|(_, phase)| self.killed(&kind, Some(*phase))).unwrap();
                self.until(id, least);
                std::thread::sleep(Duration::from_millis(self.rng.random_range(0..[building, 30, 8][place])));
                let phase = self.kill(id);
                self.start();
                if phase == "done" {
                    assert_eq!(self.job(id)["phase"], "done", "a decision was taken back");
                    break;
                }
                killed += 1;
            }
            self.until(id, "done");
            let job = self.job(id);
            println!("job {id}, a {kind}, is done; kills so far: {:?}", self.kills);
            if !again || enough(self, killed) {
                return job;
            }
        }
        panic!(
            "{inside} kills before the end, {each} in each of {STRUCK:?}: these there were instead: {:?}",
            self.kills
        )
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
    front.era("replaying");
    let early = feeder.time(first / 3).to_owned();

    // From the beginning, and once there is a snapshot from there. The same definitions: the same rows.
    let replay = |from: &str, rate: &str| {
        let (from, rate) = (from.to_owned(), rate.to_owned());
        move |stage: &Stage<'_>| stage.order(&["replay", "--from", &from, "--rate", &rate, "--yes", "--detach"])
    };
    let slow = (first / 3).to_string();
    let job = stage.jobs(Kills { inside: kills / 2, each: 0, building: 900, again: true }, replay(&early, &slow));
    assert_eq!(job["verification"]["identical"], true, "{job:#}");
    let snapshot = stage.order(&["snapshot", "create"]);
    at(&format!("a snapshot: {}", snapshot["snapshots"][0]["id"]));
    let late = feeder.time(feeder.appended() - 1).to_owned();
    std::thread::sleep(Duration::from_millis(1500));
    let rest = Kills { inside: kills - kills / 2, each: 1, building: 900, again: true };
    let job = stage.jobs(rest, replay(&late, "4000"));
    assert_eq!(job["verification"]["identical"], true, "{job:#}");
    assert!(job.to_string().contains("\"snapshot\":{"), "it does not begin at a snapshot: {job:#}");
    front.era("replayed");
    readers.go_on(ANSWERS);
    readers.seen.nothing_wrong();
    at("the replays of the same definitions are through");

    // Another definition. Live goes on as it was made, until somebody says from when the new one counts.
    stage.stop();
    let config = fs::read_to_string(place.path("segno.toml")).unwrap();
    fs::write(place.path("segno.toml"), with_fees(&config)).unwrap();
    stage.start();
    front.era("changing");
    let changed = stage.jobs(Kills { inside: 2, each: 0, building: 40, again: false }, replay(&late, "4000"));
    front.era("changed");
    let base: Vec<String> = changed["plan"]["topics"][0]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| format!("{}:{}", partition["partition"], partition["from"]))
        .collect();
    let base = base.join(",");
    at(&format!("the second edition is live, from {base}"));
    readers.go_on(ANSWERS);
    let back = |stage: &Stage<'_>| stage.order(&["replay", "rollback", "--yes", "--detach"]);
    front.era("rolling-back");
    let job = stage.jobs(Kills { inside: rollback_kills, each: 0, building: 60, again: true }, back);
    assert_eq!(job["kind"], "rollback");
    // One that was killed after its end was followed by another, which undid it.
    if stage.version() == 2 {
        stage.jobs(Kills { inside: 0, each: 0, building: 1, again: false }, back);
    }
    assert_eq!(stage.version(), 1);
    front.era("rolled-back");
    at("rolled back");
    readers.go_on(ANSWERS);
    readers.seen.nothing_wrong();
    front.era("rolling-forward");
    stage.jobs(Kills { inside: 1, each: 0, building: 60, again: false }, back);
    assert_eq!(stage.version(), 2);
    front.era("forward");
    at("forward again");

    readers.go_on(ANSWERS);
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
    // Answers were judged all along, and between the switches those of one edition alone.
    for (era, may, must) in ERAS {
        let count = |what: &str| judged["eras"][era][what].as_u64().unwrap_or(0);
        let told = |edition: &&str| count(edition) > 0;
        let right = ["1", "2"].iter().filter(|edition| told(edition)).all(|edition| may.contains(edition));
        assert!(count("checked") > 0 && right && must.iter().all(told), "answers of {era}: {:#}", judged["eras"]);
    }
    // No reader has seen an edition again that another had replaced, but as the switches have ordered it.
    let jobs = stage.order(&["replay", "list"]);
    let switches = jobs["replays"].as_array().unwrap().iter().filter(|job| job["kind"] == "rollback").count() + 1;
    for turns in judged["turns"].as_object().unwrap().values() {
        let turns = turns.as_array().unwrap();
        assert!(turns.len() <= switches + 1 && turns[0] == 1 && *turns.last().unwrap() == 2, "{judged:#}");
    }
    at(&format!("and every answer was; kills: {:?}", stage.kills));
    assert!(stage.killed("replay", None) >= kills && stage.killed("rollback", None) >= rollback_kills);
    assert!(STRUCK.iter().all(|phase| stage.killed("replay", Some(*phase)) > 0), "{:?}", stage.kills);
    stage.stop();
}
