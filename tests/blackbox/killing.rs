//! A daemon that is killed again and again, at random moments of its life.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::faces::{Daemon, Place};
use crate::harness::{books, partitions, topics, total};

/// How often a daemon is killed with SIGKILL.
pub const KILLS: usize = 24;

/// Commits in small steps, and flushes often, so that a kill finds every stage of the path at work and something of it
/// on the disk.
const BUSY: [&str; 6] =
    ["--set", "flow.batch-records=128", "--set", "flow.credit-records=512", "--set", "state.flush-interval=50ms"];

/// Runs and kills the daemon of a place, and looks at what each death leaves behind.
pub struct Killer<'a> {
    place: &'a Place,
    rng: StdRng,
    /// The positions that the disk had after the last kill.
    durable: Vec<u64>,
    /// After how many kills there was work left to do, some of it done.
    pub midway: usize,
    pub kills: usize,
}

impl<'a> Killer<'a> {
    pub fn new(place: &'a Place, seed: u64) -> Self {
        Killer { place, rng: StdRng::seed_from_u64(seed), durable: Vec::new(), midway: 0, kills: 0 }
    }

    /// Starts the daemon, lets it live for a while, kills it. Every fourth dies while it is still starting, every fourth
    /// after a random time, and the others after a random part of the `work` records that this life is given.
    pub fn kill_once(&mut self, work: usize, meanwhile: impl FnOnce(&Daemon)) {
        let kind = self.kills % 4;
        // An early one is killed as soon as its API answers at all, before or while the partitions open.
        let path = if kind == 3 { "/livez" } else { "/readyz" };
        let mut daemon = self.place.daemon_that(&BUSY, |daemon| daemon.get(path).status == 200);
        meanwhile(&daemon);
        let longest = if kind == 3 { 60 } else { 600 };
        let deadline = Instant::now() + Duration::from_millis(self.rng.random_range(0..longest));
        if kind < 2 {
            let before: u64 = self.durable.iter().sum();
            let enough = before + self.rng.random_range(1..work as u64);
            let patience = Instant::now() + Duration::from_secs(20);
            while total(&daemon.get("/v1/status").body, "applied") < enough && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
        } else {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        }
        assert!(daemon.child.try_wait().unwrap().is_none(), "it ended before it was killed: {}", daemon.said());
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        self.kills += 1;
        self.look(kind != 3);
    }

    /// What the store holds now, read without a daemon: books that balance, and positions that do not go back.
    fn look(&mut self, worked: bool) {
        let ran = self.place.run(&["status", "--json"]);
        if ran.code == 3 {
            // The first ones may die before there is a store.
            assert!(self.durable.is_empty(), "the store is gone: {ran:?}");
            return;
        }
        let status: Value = ran.ok().json();
        for books in books(&status).values() {
            // These topics have no gaps: a position is a number of records.
            assert_eq!(books["consumed"], total(&status, "applied"), "{status}");
        }
        let durable: Vec<u64> =
            partitions(&topics(&status)[0]).iter().map(|p| p["durable"].as_u64().unwrap()).collect();
        let forward = self.durable.iter().zip(&durable).all(|(before, now)| before <= now);
        assert!(forward, "kill {}: positions went back from {:?} to {durable:?}", self.kills, self.durable);
        if worked && total(&status, "lag_records") > 0 && durable.iter().any(|&position| position > 0) {
            self.midway += 1;
        }
        self.durable = durable;
    }

    /// A test that kills only idle daemons proves nothing.
    pub fn proves_something(&self) {
        println!("{} kills, {} of them in the middle of the work", self.kills, self.midway);
        assert!(self.kills >= 20, "{} kills", self.kills);
        assert!(self.midway >= 5, "only {} of {} kills came in the middle of the work", self.midway, self.kills);
    }
}
