//! Rebuilds: the laws *Pure* and *Identity* for folds without actors, whatever the targets, epochs, memory and crashes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use segno::actors::plan::{Decision, Policy};
use segno::actors::replay::rebuild::{Arrival, RebuildOptions, RunEnd};
use segno::position::Position;
use segno::streams::memory::Memory;
use segno::streams::{Limit, Log};

use crate::laws::cases;
use crate::stage::{Entry, Ledger, Setup, Stage, TOPIC, forget, release, tries};
use crate::workshop::{Facts, Trip, Tripping, Workshop, at, facts, gauged, options, read_only};

static CASE: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Debug)]
enum Item {
    Add(u8, i64),
    Take(u8, i64),
    Flaky(u8, u32),
    Panics(u8, u32),
    Tombstone(u8),
    Garbage(u8),
    Misfit(u8),
    NullKey,
    LongKey,
    Gap(u64),
}

/// `tries`: the most that a fold fails before it goes in, or is given up.
fn item(tries: u32) -> impl Strategy<Value = Item> {
    let key = 0u8..9;
    prop_oneof![
        20 => (key.clone(), 1i64..100).prop_map(|(key, amount)| Item::Add(key, amount)),
        8 => (key.clone(), 1i64..120).prop_map(|(key, amount)| Item::Take(key, amount)),
        1 => (key.clone(), 2..=tries).prop_map(|(key, times)| Item::Flaky(key, times)),
        1 => (key.clone(), 2..=tries).prop_map(|(key, times)| Item::Panics(key, times)),
        2 => key.clone().prop_map(Item::Tombstone),
        1 => key.clone().prop_map(Item::Garbage),
        1 => key.prop_map(Item::Misfit),
        1 => Just(Item::NullKey),
        1 => Just(Item::LongKey),
        2 => (1u64..30).prop_map(Item::Gap),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let rejected = proptest::sample::select(vec![Decision::Park, Decision::DeadLetter, Decision::Skip]);
    let null_value = proptest::sample::select(vec![Decision::Delete, Decision::DeadLetter, Decision::Skip]);
    (rejected, null_value).prop_map(|(rejected, null_value)| Policy { rejected, null_value, ..Policy::default() })
}

fn setup(policy: Policy) -> Setup {
    Setup { partitions: 1, policy, ..Setup::default() }
}

/// Puts the items into the log.
fn fill(log: &Memory, items: &[Item], case: &str) {
    for (n, item) in items.iter().enumerate() {
        let (name, n) = (format!("{case}{n}"), n as u64);
        let (key, entry) = match item {
            Item::Add(key, amount) => (key, Entry::Add { n, amount: *amount }),
            Item::Take(key, amount) => (key, Entry::Take { n, amount: *amount }),
            Item::Flaky(key, times) => (key, Entry::Flaky { n, name, times: *times }),
            Item::Panics(key, times) => (key, Entry::Panics { n, name, times: *times }),
            Item::Gap(offsets) => {
                log.push_gap(&at(), *offsets);
                continue;
            }
            Item::Tombstone(key) => {
                append(log, Some(format!("key-{key}").as_bytes()), None);
                continue;
            }
            Item::Garbage(key) => {
                append(log, Some(format!("key-{key}").as_bytes()), Some(b"not json"));
                continue;
            }
            Item::Misfit(key) => {
                let value = br#"{"event_type":"Add","payload":{"n":1,"amount":"7"}}"#;
                append(log, Some(format!("key-{key}").as_bytes()), Some(value));
                continue;
            }
            Item::NullKey => {
                append(log, None, Some(b"{}"));
                continue;
            }
            Item::LongKey => {
                append(log, Some(&[b'k'; 2000]), Some(b"{}"));
                continue;
            }
        };
        append(log, Some(format!("key-{key}").as_bytes()), Some(&serde_json::to_vec(&entry).unwrap()));
    }
}

fn append(log: &Memory, key: Option<&[u8]>, value: Option<&[u8]>) {
    let record = segno::record::NewRecord {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        timestamp: Some(1_700_000_000_000),
        ..Default::default()
    };
    log.append(TOPIC, vec![record]).unwrap();
}

/// What happens between two targets.
#[derive(Clone, Copy, Debug)]
enum Between {
    GoOn,
    /// Another rebuild on the same generation.
    Again,
    /// The process is killed.
    Crash,
}

/// How a rebuild is done.
#[derive(Clone, Debug)]
struct Course {
    options: RebuildOptions,
    /// Shares of the log, in 1/1000, at which the rebuild stops, how, and what happens then.
    targets: Vec<(u64, Arrival, Between)>,
    /// In which run, after how many drains, what happens, and whether the process is killed with it.
    trips: Vec<(usize, usize, Trip, bool)>,
    greedy: bool,
}

fn course(trips: bool) -> impl Strategy<Value = Course> {
    let memory = prop_oneof![Just(0usize), 1000usize..20_000, Just(1 << 20)];
    let between = proptest::sample::select(if trips {
        vec![Between::GoOn, Between::Again, Between::Crash]
    } else {
        vec![Between::GoOn, Between::Again]
    });
    let arrival = proptest::sample::select(vec![Arrival::Durable, Arrival::Committed, Arrival::AtOnce]);
    let what = proptest::sample::select(vec![Trip::Stop, Trip::Stop, Trip::Fail, Trip::Fail, Trip::Fail]);
    (
        (memory, 3usize..200, 1usize..60, any::<bool>()),
        proptest::collection::vec((0u64..1000, arrival, between), 0..4),
        proptest::collection::vec((0usize..5, 0usize..6, what, any::<bool>()), 0..if trips { 4 } else { 1 }),
    )
        .prop_map(move |((memory, epoch_records, records, greedy), mut targets, tripped)| {
            targets.sort_by_key(|(share, ..)| *share);
            let options =
                RebuildOptions { memory, epoch_records, batch: Limit { records, bytes: 1 << 20 }, ..options() };
            Course { options, targets, trips: if trips { tripped } else { Vec::new() }, greedy }
        })
}

/// Rebuilds as the course says, and answers what came of it.
fn follow(course: &Course, log: &Memory, setup: &Setup) -> Facts {
    let mut shop = Workshop::new(setup);
    let log = Tripping {
        log: log.clone(),
        gate: Arc::new(Mutex::new(shop.gate.clone())),
        trip: Arc::default(),
        greedy: course.greedy,
    };
    let end = log.watermarks(&at()).unwrap().end;
    let mut rebuild = shop.rebuild(course.options.clone());
    let last = (1000, Arrival::Durable, Between::GoOn);
    for (run, (share, arrival, between)) in course.targets.iter().copied().chain([last]).enumerate() {
        let target = Position(end.0 * share / 1000);
        for (_, drains, what, crash) in course.trips.iter().filter(|trip| trip.0 == run) {
            *log.trip.lock().unwrap() = Some((*drains, *what));
            match rebuild.run_to(&log, target, arrival) {
                Ok(RunEnd::Reached) => *log.trip.lock().unwrap() = None,
                Ok(RunEnd::Stopped) => {
                    assert_eq!(*what, Trip::Stop);
                    assert!(shop.generation().durable() == shop.generation().applied());
                }
                Err(fatal) => assert!(fatal.reason.contains("tripped"), "{fatal}"),
            }
            assert!(shop.generation().applied() <= target, "beyond the target");
            if *crash {
                drop(rebuild);
                shop.crash();
                rebuild = shop.rebuild(course.options.clone());
            } else if shop.gate.stopped() {
                rebuild = shop.rebuild(course.options.clone());
            }
            *log.gate.lock().unwrap() = shop.gate.clone();
        }
        let before = shop.generation().durable();
        assert_eq!(rebuild.run_to(&log, target, arrival), Ok(RunEnd::Reached));
        let generation = shop.generation();
        let durable = generation.durable();
        assert_eq!(generation.applied(), target);
        match arrival {
            Arrival::Durable => assert_eq!(durable, target),
            // By epochs, if one has ended.
            Arrival::Committed => assert!(before <= durable && durable <= target),
            // Where live stands still nothing is flushed.
            Arrival::AtOnce => assert_eq!(durable, before),
        }
        assert_eq!(gauged(&shop.gauge), (target.0, durable.0));
        assert!(generation.view_totals()[0].books.waiting == 0 || arrival == Arrival::AtOnce);
        match between {
            Between::GoOn => continue,
            Between::Again => drop(rebuild),
            Between::Crash => {
                drop(rebuild);
                shop.crash();
            }
        }
        rebuild = shop.rebuild(course.options.clone());
    }
    drop(rebuild);
    facts(shop.generation())
}

fn plain() -> Course {
    let options =
        RebuildOptions { epoch_records: 1 << 20, batch: Limit { records: 1 << 14, bytes: 8 << 20 }, ..options() };
    Course { options, targets: Vec::new(), trips: Vec::new(), greedy: false }
}

fn new_case() -> String {
    format!("rebuild/{}/", CASE.fetch_add(1, Ordering::Relaxed))
}

proptest! {
    #![proptest_config(cases(24))]

    /// A rebuild gives what live gives: digests, rows, books, what is set aside, and the fingerprint of the log.
    #[test]
    fn pure_a_rebuild_gives_what_live_gives(
        items in proptest::collection::vec(item(5), 1..150), policy in policy(), batch in 1usize..50, course in course(false),
    ) {
        let (case, setup) = (new_case(), Setup { batch, ..setup(policy) });
        let mut stage = Stage::new(setup.clone());
        fill(&stage.log, &items, &case);
        stage.settle();
        stage.stop();
        let live = facts(&read_only(stage.data()));
        forget(&case);
        prop_assert_eq!(&follow(&course, &stage.log, &setup), &live);
        forget(&case);
        prop_assert_eq!(&follow(&plain(), &stage.log, &setup), &live);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Whatever the targets, epochs, memory, stops, failures and crashes: the same bytes as in one go.
    #[test]
    fn identity_a_rebuild_that_is_interrupted_gives_what_one_in_one_go_gives(
        items in proptest::collection::vec(item(3), 1..200), policy in policy(), course in course(true),
    ) {
        let (case, setup) = (new_case(), setup(policy));
        let log = Memory::new();
        log.create_topic(TOPIC, 1);
        fill(&log, &items, &case);
        let straight = follow(&plain(), &log, &setup);
        forget(&case);
        prop_assert_eq!(&follow(&course, &log, &setup), &straight);
    }
}

fn slow(name: &str, times: u32) -> Entry {
    Entry::Slow { n: 1, name: name.to_owned(), times, ms: 20_000 }
}

/// A fold that hangs is left behind with its thread, counts as an attempt, and holds up nothing but its own aggregate;
/// once it comes back it changes nothing any more.
#[test]
fn isolated_a_fold_that_hangs_is_left_behind() {
    let limit = Duration::from_millis(80);
    let setup = Setup { fold_time_limit: limit, ..setup(Policy::default()) };
    // Goes in at the second try; at the third, which is the last; never.
    for (times, name) in [(2, "rebuild/slow/2"), (3, "rebuild/slow/3"), (9, "rebuild/slow/9")] {
        let mut stage = Stage::new(setup.clone());
        for n in 0..40u64 {
            stage.send(&format!("key-{}", n % 4), &Entry::Add { n, amount: 1 });
            if n == 20 {
                stage.send("key-1", &slow(name, times));
            }
        }
        stage.settle();
        release(name);
        stage.stop();
        let live = facts(&read_only(stage.data()));
        forget(name);

        let mut shop = Workshop::new(&setup);
        let begun = Instant::now();
        let mut rebuild = shop.rebuild(RebuildOptions { fold_time_limit: limit, epoch_records: 10, ..options() });
        assert_eq!(rebuild.run_to(&stage.log, Position(41), Arrival::Durable), Ok(RunEnd::Reached));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let rebuilt = facts(shop.generation());
        assert_eq!(rebuilt, live, "{times} times");
        assert_eq!(rebuilt.held.is_empty(), times < 9);
        assert!(tries(name) >= 2);
        // The threads that were left behind come back now.
        release(name);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(facts(shop.generation()), live);
    }
}

/// A job is stopped while no view has a row yet and an event waits. What goes on with it must see the row that the event
/// makes once it goes in.
#[test]
fn once_a_rebuild_that_goes_on_without_rows_keeps_what_had_waited() {
    let (setup, log) = (Setup { attempts: 1_000_000, ..setup(Policy::default()) }, Memory::new());
    log.create_topic(TOPIC, 1);
    fill(&log, &[Item::Flaky(1, 100)], "rebuild/rowless/");
    let mut shop = Workshop::new(&setup);
    let mut rebuild = shop.rebuild(options());
    let gate = shop.gate.clone();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| rebuild.run_to(&log, Position(1), Arrival::Durable));
        std::thread::sleep(Duration::from_millis(50));
        gate.stop();
        assert_eq!(run.join().unwrap(), Ok(RunEnd::Stopped));
    });
    drop(rebuild);
    fill(&log, &[Item::Add(1, 1), Item::Add(1, 2)], "");
    let mut rebuild = shop.rebuild(options());
    for target in [1, 3] {
        assert_eq!(rebuild.run_to(&log, Position(target), Arrival::Durable), Ok(RunEnd::Reached));
    }
    let facts = facts(shop.generation());
    let row: Ledger = serde_json::from_slice(&facts.rows[0].1.json).unwrap();
    assert_eq!((facts.rows.len(), row.seen.len()), (1, 3), "{facts:?}");
}

#[test]
fn a_log_that_fails_for_a_while_is_asked_again() {
    let (setup, log) = (setup(Policy::default()), Memory::new());
    log.create_topic(TOPIC, 1);
    fill(&log, &[Item::Add(1, 1), Item::Gap(3), Item::Add(1, 2)], "");
    let course = Course { trips: vec![(0, 0, Trip::FailOnce, false)], ..plain() };
    assert_eq!(follow(&course, &log, &setup).position, Position(5));
}

#[test]
fn a_log_that_has_lost_what_is_needed_is_said_so() {
    let (mut shop, log) = (Workshop::new(&setup(Policy::default())), Memory::new());
    log.create_topic(TOPIC, 1);
    fill(&log, &[Item::Add(1, 1), Item::Add(1, 2), Item::Add(1, 3)], "");
    log.truncate_before(&at(), Position(2));
    let fatal = shop.rebuild(options()).run_to(&log, Position(3), Arrival::Durable).unwrap_err();
    assert_eq!(
        fatal.to_string(),
        "ledger/0: the rebuild cannot read the log: ledger/0: position 0 is outside the log, which holds 2..3; the log \
         no longer holds what the rebuild has to read next: live is untouched; cancel the job, and replay from a snapshot \
         that is newer, or with another `--from`"
    );
    assert_eq!(shop.generation().applied(), Position::ZERO);
}

#[test]
fn a_target_behind_is_refused_and_one_ahead_is_waited_for() {
    let (mut shop, log) = (Workshop::new(&setup(Policy::default())), Memory::new());
    log.create_topic(TOPIC, 1);
    fill(&log, &[Item::Add(1, 1), Item::Add(1, 2)], "");
    let mut rebuild = shop.rebuild(options());
    assert_eq!(rebuild.run_to(&log, Position(2), Arrival::Durable), Ok(RunEnd::Reached));
    assert!(rebuild.run_to(&log, Position(1), Arrival::Durable).unwrap_err().reason.contains("beyond the target"));
    std::thread::scope(|scope| {
        let ahead = scope.spawn(|| rebuild.run_to(&log, Position(4), Arrival::Durable));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!ahead.is_finished());
        fill(&log, &[Item::Add(1, 3), Item::Add(1, 4), Item::Add(1, 5)], "");
        assert_eq!(ahead.join().unwrap(), Ok(RunEnd::Reached));
    });
    assert_eq!(shop.generation().applied(), Position(4));
    // Live may go on with this reader exactly where the rebuild is.
    assert_eq!(rebuild.into_reader().unwrap().position(), Position(4));
}

/// The threads of a rebuild are nice to those of live.
#[cfg(target_os = "linux")]
#[test]
fn a_rebuild_has_low_priority_and_stands_still_when_told_to() {
    let (mut shop, log) = (Workshop::new(&setup(Policy::default())), Memory::new());
    log.create_topic(TOPIC, 1);
    fill(&log, &vec![Item::Add(1, 1); 200], "");
    let mut rebuild = shop.rebuild(RebuildOptions { batch: Limit { records: 10, bytes: 1 << 20 }, ..options() });
    shop.gate.set_throttle(0.0);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| rebuild.run_to(&log, Position(200), Arrival::Durable));
        let deadline = Instant::now() + Duration::from_secs(5);
        while gauged(&shop.gauge).0 == 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(gauged(&shop.gauge), (10, 0), "it stands still after one batch");
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        // Of a thread's fields the 19th is how nice it is; the second, its name, is in parentheses.
        let nice = stats
            .filter(|stat| stat.contains("(segno-rebuild-0)"))
            .map(|stat| stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().to_owned());
        let nice: Vec<_> = nice.collect();
        assert!(nice.contains(&"10".to_owned()), "{nice:?}");
        shop.gate.set_throttle(1.0);
        assert_eq!(run.join().unwrap(), Ok(RunEnd::Reached));
    });
    assert_eq!(gauged(&shop.gauge), (200, 200));
}
