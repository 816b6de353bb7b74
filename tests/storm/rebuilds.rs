//! Rounds of the storm over a rebuild.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segno::actors::replay::rebuild::{Arrival, RebuildOptions, RunEnd};
use segno::position::Position;
use segno::record::NewRecord;
use segno::streams::memory::Memory;
use segno::streams::{Log, Prefetch};

use crate::stage::{Setup, TOPIC};
use crate::troubled::{self, Act, Sent};
use crate::workshop::{Workshop, facts, options};

const LIMIT: Duration = Duration::from_millis(60);

/// The events of a round, and a log that has them.
fn script(random: &mut StdRng, seed: u64) -> (Memory, Sent, u64) {
    let log = Memory::new();
    log.create_topic(TOPIC, 1);
    let mut sent = Sent::default();
    let (keys, events) = (random.random_range(1..=6), random.random_range(5..=60));
    for n in 0..events {
        let key = format!("key-{}", random.random_range(0..keys));
        let name = format!("rebuild {seed}/{n}");
        let act = match troubled::random(random, n, &name, LIMIT) {
            // A key that has no row yet and waits: what a rebuild takes for an empty generation may not be one.
            _ if n < 3 && random.random() => Act::NotBefore { n, name, ms: 60 },
            act => act,
        };
        let record = NewRecord {
            key: Some(key.clone().into_bytes()),
            value: Some(serde_json::to_vec(&act).unwrap()),
            timestamp: Some(1_700_000_000_000),
            ..NewRecord::default()
        };
        log.append(TOPIC, vec![record]).unwrap();
        sent.0.entry(key).or_default().push(act);
    }
    (log, sent, events)
}

pub fn round(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (log, sent, events) = script(&mut random, seed);
    let setup = Setup { attempts: 200, retry: Duration::from_millis(1), view: troubled::view, ..Setup::default() };
    let mut shop = Workshop::new(&setup);
    let options = RebuildOptions {
        epoch_records: random.random_range(1..=40),
        memory: if random.random() { 1 << 10 } else { 1 << 20 },
        fold_time_limit: LIMIT,
        prefetch: Prefetch { bytes: 1 << 20 },
        ..options()
    };
    let mut rebuild = shop.rebuild(options.clone());
    let mut target = 0;
    while target < events {
        target = random.random_range(target + 1..=events);
        loop {
            let stop_after = random.random_bool(0.5).then(|| Duration::from_millis(random.random_range(0..30)));
            let gate = shop.gate.clone();
            let end = std::thread::scope(|scope| {
                let run = scope.spawn(|| rebuild.run_to(&log, Position(target), Arrival::Durable));
                if let Some(wait) = stop_after {
                    std::thread::sleep(wait);
                    gate.stop();
                }
                run.join().unwrap().unwrap()
            });
            if gate.stopped() {
                drop(rebuild);
                if random.random() {
                    shop.crash();
                }
                rebuild = shop.rebuild(options.clone());
            }
            if end == RunEnd::Reached {
                break;
            }
        }
    }
    let expected = sent.expected();
    let facts = facts(shop.generation());
    let parse = |(key, row): &(Vec<u8>, segno::state::Row)| {
        (String::from_utf8(key.clone()).unwrap(), troubled::seen(&row.json))
    };
    let rows = facts.rows.iter().map(parse).collect();
    let books = facts.totals[0].books;
    troubled::Expected { rows, applied: books.applied, parked: books.parked }.compare(&expected);
    assert_eq!((books.consumed, facts.position), (events as i64, Position(events)));
}
