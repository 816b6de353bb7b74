//! Rounds of the storm over live.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segno::actors::handle::NodeState;
use segno::actors::interleave::{Lost, lose};
use segno::actors::plan::Placement;

use crate::stage::{Setup, Stage};
use crate::troubled::{self, Act, DEFAULTS_THAT_PANIC, Expected, Sent};

/// Folds that take longer hang.
const LIMIT: Duration = Duration::from_millis(60);

fn setup(random: &mut StdRng) -> Setup {
    Setup {
        partitions: random.random_range(1..=2),
        placement: if random.random() { Placement::Shared } else { Placement::Own },
        shards: random.random_range(1..=3),
        batch: random.random_range(2..=16),
        credits: random.random_range(16..=128),
        residency: if random.random() { 1 << 10 } else { 1 << 20 },
        fold_time_limit: LIMIT,
        // So many that what can go in does, however often it is given up by mistake: their waits take half a second.
        attempts: 14,
        retry: Duration::from_millis(6),
        own_shards: random.random_range(1..=16),
        flush: Duration::from_millis(random.random_range(1..=40)),
        view: troubled::view,
        ..Setup::default()
    }
}

/// What is sent in a round, and by what names.
struct Script {
    random: StdRng,
    seed: u64,
    keys: usize,
    n: u64,
    sent: Sent,
}

impl Script {
    fn send(&mut self, stage: &Stage, key: &str, act: Act) {
        stage.send_raw(Some(key.as_bytes()), Some(&serde_json::to_vec(&act).unwrap()));
        self.sent.0.entry(key.to_owned()).or_default().push(act);
        self.n += 1;
    }

    /// A handful of events.
    fn burst(&mut self, stage: &Stage) {
        for _ in 0..self.random.random_range(1..=24) {
            let key = format!("key-{}", self.random.random_range(0..self.keys));
            let name = format!("{}/{}", self.seed, self.n);
            let act = troubled::random(&mut self.random, self.n, &name, LIMIT);
            self.send(stage, &key, act);
        }
    }
}

pub fn round(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut stage = Stage::new(setup(&mut random));
    let keys = random.random_range(3..=12);
    let mut script = Script { random, seed, keys, n: 0, sent: Sent::default() };
    for _ in 0..script.random.random_range(4..=10) {
        script.burst(&stage);
        match script.random.random_range(0..10) {
            0 => {
                stage.stop();
                script.burst(&stage);
                stage.start();
            }
            1 => {
                script.burst(&stage);
                stage.crash();
            }
            2 => drop(DEFAULTS_THAT_PANIC.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
            3 => lose(stage.data(), if script.random.random() { Lost::Home } else { Lost::Own }, 1),
            4..8 => std::thread::sleep(Duration::from_millis(script.random.random_range(0..40))),
            _ => {}
        }
        still_well(&stage);
    }
    if script.random.random_range(0..8) == 0 {
        the_end(&mut stage, &mut script);
    }
    settle(&stage);
    judge(&stage, &script.sent.expected());
    // What is in the store is what was shown.
    stage.restart();
    settle(&stage);
    judge(&stage, &script.sent.expected());
}

/// Loses shards until the partition ends, under traffic. What it had committed is right, and the next start goes on.
fn the_end(stage: &mut Stage, script: &mut Script) {
    let patience = Instant::now() + Duration::from_secs(60);
    while stage.node().status().state != NodeState::Failed {
        // One at a time: the shards that a partition might start after its end are well.
        lose(stage.data(), Lost::Home, 1);
        script.burst(stage);
        assert!(Instant::now() < patience, "the partition does not end: {:?}", stage.node().status().topics[0]);
        std::thread::sleep(Duration::from_millis(10));
    }
    lose(stage.data(), Lost::Home, 0);
    script.burst(stage);
    std::thread::sleep(Duration::from_millis(20));
    stage.crash();
}

fn still_well(stage: &Stage) {
    if let Some(reason) = stage.node().status().reason {
        panic!("the node fails: {reason}");
    }
}

/// Waits until nothing is left to be done: as long as it takes, if only something moves.
fn settle(stage: &Stage) {
    let (mut before, mut moved) = (stage.books(), Instant::now());
    loop {
        still_well(stage);
        let status = stage.node().status();
        let log_end = |partition: u32| {
            let at = segno::position::TopicPartition::new(crate::stage::TOPIC, partition);
            segno::streams::Log::watermarks(&stage.log, &at).unwrap().end
        };
        let behind = |p: &segno::actors::handle::PartitionStatus| p.applied < log_end(p.partition.0) || p.waiting > 0;
        if !status.topics[0].partitions.iter().any(behind) {
            return;
        }
        let books = status.topics[0].views[0].books;
        if std::mem::replace(&mut before, books) != books {
            moved = Instant::now();
        }
        assert!(moved.elapsed() < Duration::from_secs(30), "nothing moves any more: {:?}", status.topics[0]);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn judge(stage: &Stage, expected: &Expected) {
    let parse = |(key, row): (String, segno::actors::handle::Row)| (key, troubled::seen(row.json.get().as_bytes()));
    let rows = stage.rows().into_iter().map(parse).collect();
    let books = stage.books();
    let found = Expected { rows, applied: books.applied, parked: books.parked };
    found.compare(expected);
    assert_eq!(books.consumed, books.applied + books.parked, "{books:?}");
    let view = &stage.node().status().topics[0].views[0];
    assert_eq!(view.rows, found.rows.len() as u64, "rows in the books");
    stage.verify();
}
