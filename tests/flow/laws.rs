//! Property tests, one a law: random events, batch sizes, credits, shards, placements and crashes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use segno::actors::plan::{Decision, Placement};

use crate::oracle::expect;
use crate::stage::{Entry, Setup, Stage, on_reject};

/// Makes the names of flaky events unlike those of every other case.
static CASE: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Debug)]
enum Kind {
    Add(i64),
    Take(i64),
    Flaky(u32),
    Panics(u32),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        20 => (1i64..100).prop_map(Kind::Add),
        8 => (1i64..120).prop_map(Kind::Take),
        1 => (2u32..6).prop_map(Kind::Flaky),
        1 => (2u32..6).prop_map(Kind::Panics),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    (1u32..3, any::<bool>(), 1usize..4, 1usize..40, 40usize..200, prop_oneof![Just(1usize), Just(1 << 20)], 0usize..3)
        .prop_map(|(partitions, own, shards, batch, credits, residency, rejected)| Setup {
            partitions,
            placement: if own { Placement::Own } else { Placement::Shared },
            shards,
            batch,
            credits,
            residency,
            attempts: 3,
            policy: on_reject([Decision::Park, Decision::DeadLetter, Decision::Skip][rejected]),
            ..Setup::default()
        })
}

fn events(kinds: Vec<(u8, Kind)>) -> Vec<(String, Entry)> {
    let case = CASE.fetch_add(1, Ordering::Relaxed);
    let entry = |(n, (key, kind)): (usize, (u8, Kind))| {
        let (n, name) = (n as u64, format!("{case}/{n}"));
        let entry = match kind {
            Kind::Add(amount) => Entry::Add { n, amount },
            Kind::Take(amount) => Entry::Take { n, amount },
            Kind::Flaky(times) => Entry::Flaky { n, name, times },
            Kind::Panics(times) => Entry::Panics { n, name, times },
        };
        (format!("key-{key}"), entry)
    };
    kinds.into_iter().enumerate().map(entry).collect()
}

/// Checks rows and books against the oracle.
fn check(stage: &Stage, events: &[(String, Entry)]) -> Result<(), TestCaseError> {
    let expected = expect(events, stage.setup.policy.rejected, stage.setup.attempts);
    prop_assert_eq!(&stage.ledgers(), &expected.rows);
    let books = stage.books();
    prop_assert!(books.balanced(), "Accounted: {books:?}");
    prop_assert_eq!(books.consumed, events.len() as i64);
    prop_assert_eq!((books.applied, books.skipped), (expected.applied, expected.skipped));
    prop_assert_eq!((books.parked, books.dead, books.waiting), (expected.parked, expected.dead, 0));
    Ok(())
}

/// `SEGNO_CASES=10` tries ten times as many.
pub fn cases(number: u32) -> ProptestConfig {
    let times = std::env::var("SEGNO_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    ProptestConfig {
        cases: number * times,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(24))]

    /// Every event of an aggregate is applied in offset order, whatever the batches, shards and retries; the row lists
    /// the events in the order in which they went in.
    #[test]
    fn order_events_of_an_aggregate_are_applied_in_offset_order(
        setup in setup(), kinds in proptest::collection::vec((0u8..24, kind()), 1..150),
    ) {
        let (stage, events) = (Stage::new(setup), events(kinds));
        for (key, entry) in &events {
            stage.send(key, entry);
        }
        stage.settle();
        check(&stage, &events)?;
        for (key, ledger) in stage.ledgers() {
            prop_assert!(ledger.seen.is_sorted(), "Order: {key}: {:?}", ledger.seen);
        }
    }
}

proptest! {
    #![proptest_config(cases(16))]

    /// A crash at any moment loses nothing and doubles nothing: rows and books are as if there had been none.
    #[test]
    fn once_and_accounted_hold_over_crashes_and_restarts(
        setup in setup(),
        kinds in proptest::collection::vec((0u8..6, kind()), 20..150),
        cuts in proptest::collection::vec((0usize..150, any::<bool>(), 0u64..30), 1..4),
    ) {
        let (mut stage, events) = (Stage::new(setup), events(kinds));
        for (at, (key, entry)) in events.iter().enumerate() {
            for (_, crash, wait) in cuts.iter().filter(|(cut, ..)| *cut % events.len() == at) {
                std::thread::sleep(Duration::from_millis(*wait));
                if *crash { stage.crash() } else { stage.restart() }
            }
            stage.send(key, entry);
        }
        stage.settle();
        // A crash forgets attempts that were not committed, so an event may be tried more often than configured, never
        // less: what the oracle parks may therefore have gone in. Without crashes the books are exact.
        let tried_more = events.iter().any(|(_, e)| matches!(e, Entry::Flaky { times, .. } | Entry::Panics { times, .. } if *times > stage.setup.attempts));
        if !tried_more {
            check(&stage, &events)?;
        }
        let books = stage.books();
        prop_assert!(books.balanced() && books.consumed == events.len() as i64 && books.waiting == 0, "{books:?}");
        for (key, ledger) in stage.ledgers() {
            prop_assert!(ledger.seen.is_sorted_by(|a, b| a < b), "Once, Order: {key}: {:?}", ledger.seen);
        }
    }
}

proptest! {
    #![proptest_config(cases(12))]

    /// Aggregates that fail, panic and retry change nothing for the others: those are as if the sick had never been.
    #[test]
    fn isolated_the_healthy_are_as_if_there_were_no_sick(
        setup in setup(),
        healthy in proptest::collection::vec((0u8..6, 1i64..100), 1..80),
        sick in proptest::collection::vec((0usize..80, 0u8..3, kind()), 1..30),
    ) {
        let case = CASE.fetch_add(1, Ordering::Relaxed);
        let (stage, mut calm) = (Stage::new(setup), Vec::new());
        for (n, (key, amount)) in healthy.iter().enumerate() {
            let entry = Entry::Add { n: n as u64, amount: *amount };
            for (i, (_, key, kind)) in sick.iter().enumerate().filter(|(_, (at, ..))| at % healthy.len() == n) {
                let name = format!("isolated/{case}/{i}");
                let n = i as u64;
                stage.send(&format!("sick-{key}"), &match kind {
                    Kind::Add(amount) => Entry::Add { n, amount: *amount },
                    Kind::Take(amount) => Entry::Take { n, amount: *amount },
                    Kind::Flaky(times) => Entry::Flaky { n, name, times: *times },
                    Kind::Panics(times) => Entry::Panics { n, name, times: *times },
                });
            }
            stage.send(&format!("well-{key}"), &entry);
            calm.push((format!("well-{key}"), entry));
        }
        stage.settle();
        let rows: std::collections::BTreeMap<_, _> =
            stage.ledgers().into_iter().filter(|(key, _)| key.starts_with("well")).collect();
        prop_assert_eq!(rows, expect(&calm, Decision::Park, 3).rows);
    }
}

proptest! {
    #![proptest_config(cases(8))]

    /// Shared shards, own shards and a plain inline fold give the same bytes.
    #[test]
    fn pure_placements_and_inline_folds_give_the_same_bytes(
        kinds in proptest::collection::vec((0u8..8, kind()), 1..120), batch in 1usize..50,
    ) {
        let events = events(kinds);
        // Folds that fail for a while count their tries by name: each run needs names of its own.
        let plain: Vec<_> = events.into_iter().filter(|(_, e)| matches!(e, Entry::Add { .. } | Entry::Take { .. })).collect();
        let mut all = Vec::new();
        for placement in [Placement::Shared, Placement::Own] {
            let stage = Stage::new(Setup { placement, batch, ..Setup::default() });
            for (key, entry) in &plain {
                stage.send(key, entry);
            }
            stage.settle();
            let status = stage.node().status();
            let rows: Vec<_> = stage.rows().into_iter().map(|(key, row)| (key, row.json.get().to_owned(), row.offset, row.timestamp)).collect();
            all.push((rows, status.topics[0].views[0].digest.clone()));
        }
        prop_assert_eq!(&all[0], &all[1]);
        let inline = expect(&plain, Decision::Park, 3);
        let inline: Vec<_> = inline.rows.iter().map(|(key, row)| (key.clone(), serde_json::to_string(row).unwrap())).collect();
        let folded: Vec<_> = all[0].0.iter().map(|(key, json, ..)| (key.clone(), json.clone())).collect();
        prop_assert_eq!(folded, inline);
    }
}

/// The position that readers see never goes back, not over a crash either beyond what was durable.
#[test]
fn forward_a_position_never_goes_back() {
    let mut stage = Stage::new(Setup { partitions: 1, batch: 7, ..Setup::default() });
    let mut last = 0;
    for n in 0..400u64 {
        stage.send(&format!("key-{}", n % 5), &Entry::Add { n, amount: 1 });
        let partition = &stage.node().status().topics[0].partitions[0];
        assert!(partition.applied.0 >= last, "Forward: {} after {last}", partition.applied);
        assert!(partition.durable <= partition.applied);
        last = partition.applied.0;
        if n == 200 {
            let durable = partition.durable;
            stage.crash();
            let partition = &stage.node().status().topics[0].partitions[0];
            assert!(partition.applied >= durable, "Forward: {} below the durable {durable}", partition.applied);
            last = partition.applied.0;
        }
    }
    stage.settle();
    assert_eq!(stage.books().consumed, 400);
}

/// State and position are one: at every moment the row holds exactly the events below the position of the same read.
#[test]
fn atomic_a_read_sees_exactly_the_events_below_its_position() {
    let stage = Stage::new(Setup { partitions: 1, batch: 5, ..Setup::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for n in 0..2000u64 {
        stage.send("one", &Entry::Add { n, amount: 1 });
        if n % 3 == 0 {
            let reading = runtime.block_on(stage.node().get("ledger", b"one".to_vec(), None)).unwrap();
            let position = reading.position.positions.values().next().unwrap().0;
            let seen = reading.value.map_or(0, |row| {
                let ledger: crate::stage::Ledger = serde_json::from_str(row.json.get()).unwrap();
                ledger.seen.len() as u64
            });
            assert_eq!(seen, position, "Atomic: {seen} events in the row at position {position}");
        }
    }
    stage.settle();
}

/// With the writer's work piling up, no more than the credits is ever in flight, and everything still arrives.
#[test]
fn bounded_work_in_flight_stays_within_the_credits() {
    let stage = Stage::new(Setup { partitions: 1, batch: 50, credits: 100, ..Setup::default() });
    for n in 0..5000u64 {
        stage.send(&format!("key-{}", n % 50), &Entry::Add { n, amount: 1 });
        let status = stage.node().status();
        let partition = &status.topics[0].partitions[0];
        assert!(partition.in_flight <= 100, "Bounded: {} in flight", partition.in_flight);
        assert!(partition.batch_records <= 50, "Bounded: a batch of {}", partition.batch_records);
    }
    stage.settle();
    assert_eq!(stage.books().applied, 5000);
    assert_eq!(stage.node().status().topics[0].partitions[0].in_flight, 0);
}
