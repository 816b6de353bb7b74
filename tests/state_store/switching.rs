//! Which generation is live, which was before, and which are removed: also when the process is killed at it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use segno::position::{Position, Timestamp, TopicPartition};
use segno::state::{Durability, Error, Identity, LiveInfo, Previous, Source, Store, Switch};

use crate::harness::*;
use crate::shadows::{same, same_of, store};

pub const NOTHING: Source = Source::Nothing { position: Position(7) };

fn to(number: u64) -> Switch {
    Switch { at: at(), to: number }
}

fn live(store: &Store) -> (u64, Option<Previous>) {
    let LiveInfo { number, previous, .. } = store.live(&at()).unwrap().unwrap();
    (number, previous)
}

fn previous(number: u64, since: i64) -> Option<Previous> {
    Some(Previous { number, since: Timestamp(since) })
}

fn switch(store: &Store, number: u64, now: i64) -> Result<(), Error> {
    store.cut_over(&[to(number)], Timestamp(now), (1, format!("at {now}").as_bytes()))
}

fn dir(root: &Path, number: u64) -> PathBuf {
    root.join(format!("bank.accounts/3/gen-{number}"))
}

/// A partition with a live generation, closed.
fn started(root: &Path) -> Arc<Store> {
    let store = store(root);
    drop(store.open_generation(&identity(), &views()).unwrap());
    store
}

#[test]
fn what_was_live_is_previous_and_can_be_live_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = started(directory.path());
    assert_eq!(live(&store), (0, None));
    drop(same(&store, &NOTHING).unwrap());
    switch(&store, 1, 10).unwrap();
    assert_eq!(live(&store), (1, previous(0, 10)));
    // The way back, and forth again: the two change places, and nothing is for the sweep.
    switch(&store, 0, 20).unwrap();
    assert_eq!(live(&store), (0, previous(1, 20)));
    drop(store);
    store = crate::shadows::store(directory.path());
    assert_eq!(live(&store), (0, previous(1, 20)));
    assert_eq!(store.sweep(&[]).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(store.open_generation(&identity(), &views()).unwrap().number(), 0);

    let third = same(&store, &NOTHING).unwrap();
    assert_eq!(third.number(), 2);
    switch(&store, 2, 30).unwrap();
    assert_eq!(live(&store), (2, previous(0, 30)));
    // What is replaced as the previous one cannot come back.
    assert!(matches!(switch(&store, 1, 40), Err(Error::NotSwitched { number: 1, .. })));
    assert!(store.open_numbered(&identity(), 1, &views()).unwrap().is_none());
    assert_eq!(store.sweep(&[(at(), 1)]).unwrap(), [dir(directory.path(), 1)]);
    assert!(!dir(directory.path(), 1).exists());

    store.forget_previous(&at()).unwrap();
    assert_eq!(live(&store), (2, None));
    assert!(!dir(directory.path(), 0).exists() && dir(directory.path(), 2).exists());
    store.forget_previous(&at()).unwrap();
    assert_eq!(store.jobs().unwrap(), [(1, b"at 30".to_vec())]);
    assert_eq!(third.applied(), Position(7));
    drop(third);
    assert_eq!(store.open_generation(&identity(), &views()).unwrap().number(), 2);
}

#[test]
fn the_live_one_is_shown_whether_it_is_open_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    assert_eq!(store.live(&at()).unwrap(), None);
    let generation = store.open_generation(&identity(), &views()).unwrap();
    generation.commit(&generation.take_writer(), &first_row(&generation, "a", "1", 1)).unwrap();
    let open = store.live(&at()).unwrap().unwrap();
    assert_eq!((open.position, open.views.as_slice()), (Position(1), generation.views()));
    drop(generation);
    assert_eq!(store.live(&at()).unwrap().unwrap(), open);

    // Views that left are not shown, and asking changes nothing.
    drop(store.open_generation(&identity(), &views()[..1]).unwrap());
    let names = || -> Vec<_> { store.live(&at()).unwrap().unwrap().views.into_iter().map(|view| view.name).collect() };
    let before = files(directory.path());
    assert_eq!(names(), ["balance"]);
    assert_eq!(files(directory.path()), before);
    fs::remove_dir_all(generation_dir(directory.path())).unwrap();
    assert!(matches!(store.live(&at()), Err(Error::GenerationMissing { number: 0, .. })));
}

/// Readers of the live one, while it is opened and closed all the time: neither is ever refused.
#[test]
fn asking_never_keeps_a_generation_from_being_opened() {
    let directory = tempfile::tempdir().unwrap();
    let store = started(directory.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(live(&store), (0, None));
                asked += 1;
            }
            asked
        });
        for n in 0..20 {
            let generation = store.open_generation(&identity(), &views()).unwrap();
            generation.commit(&generation.take_writer(), &first_row(&generation, &n.to_string(), "1", n + 1)).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
    assert_eq!(store.live(&at()).unwrap().unwrap().position, Position(20));
}

#[test]
fn refuse_a_switch_to_what_cannot_serve_and_switch_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = started(directory.path());
    drop(same(&store, &NOTHING).unwrap());
    drop(same(&store, &NOTHING).unwrap());
    let other = TopicPartition::new("bank.accounts", 2);
    let refused = |switches: &[Switch], part: &str| {
        let error = store.cut_over(switches, Timestamp(1), (1, b"done")).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!((live(&store), store.jobs().unwrap()), ((0, None), vec![]));
    };
    refused(&[to(1), to(2)], "named twice");
    refused(&[to(0)], "live already");
    refused(&[to(9)], "not finished, or it is gone");
    refused(&[to(1), Switch { at: other.clone(), to: 1 }], "no generation");
    store.drop_numbered(&at(), 2).unwrap();
    refused(&[to(2)], "not finished, or it is gone");
    fs::remove_dir_all(dir(directory.path(), 1)).unwrap();
    refused(&[to(1)], "gen-1");
}

#[test]
fn a_generation_is_removed_only_by_its_number_and_when_nobody_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = started(directory.path());
    let shadow = same(&store, &NOTHING).unwrap();
    let open = Error::GenerationOpen { at: at(), number: 1 };
    assert_eq!(store.drop_numbered(&at(), 1), Err(open.clone()));
    assert_eq!(store.open_numbered(&identity(), 1, &views()).err(), Some(open.clone()));
    assert!(open.retryable());
    assert_eq!(store.sweep(&[]).unwrap(), Vec::<PathBuf>::new());
    drop(shadow);
    let kept = |number, role| Err(Error::GenerationKept { at: at(), number, role });
    assert_eq!(store.drop_numbered(&at(), 0), kept(0, "live"));
    assert_eq!(store.open_numbered(&identity(), 0, &views()).map(|_| ()), kept(0, "live"));
    switch(&store, 1, 5).unwrap();
    assert_eq!(store.drop_numbered(&at(), 0), kept(0, "previous"));
    assert_eq!(store.drop_numbered(&at(), 1), kept(1, "live"));

    let reader = store.open_numbered(&identity(), 0, &views()).unwrap().unwrap();
    assert_eq!(store.forget_previous(&at()), Err(Error::GenerationOpen { at: at(), number: 0 }));
    assert_eq!(live(&store).1, previous(0, 5));
    drop(reader);
    store.forget_previous(&at()).unwrap();

    drop(same(&store, &NOTHING).unwrap());
    store.drop_numbered(&at(), 2).unwrap();
    assert!(!dir(directory.path(), 2).exists());
    assert_eq!((store.drop_numbered(&at(), 2), store.drop_numbered(&at(), 99)), (Ok(()), Ok(())));
    assert!(store.open_numbered(&identity(), 2, &views()).unwrap().is_none());
    assert_eq!(same(&store, &NOTHING).unwrap().number(), 3);
}

/// What crashes leave, made by hand: entries of the control store at each step.
#[test]
fn sweep_removes_what_crashes_left_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = started(directory.path());
    for _ in 0..6 {
        drop(same(&store, &NOTHING).unwrap());
    }
    switch(&store, 1, 5).unwrap();
    drop(store);
    let control = rocksdb::DB::open_default(directory.path().join("control")).unwrap();
    let state = |number: u8, state: u8| {
        let mut key = vec![3, 0, 0, 0, 13];
        key.extend(b"bank.accounts");
        key.extend([0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, number]);
        assert_eq!(control.get(&key).unwrap().unwrap(), [1, 2], "complete");
        control.put(&key, [1, state]).unwrap();
    };
    // Begun with a directory, begun without one, and on its way out with half of its files.
    state(3, 1);
    state(4, 1);
    fs::remove_dir_all(dir(directory.path(), 4)).unwrap();
    state(5, 3);
    fs::remove_file(dir(directory.path(), 5).join("CURRENT")).unwrap();
    drop(control);
    // Not the store's own.
    fs::create_dir(dir(directory.path(), 77)).unwrap();

    store = crate::shadows::store(directory.path());
    for number in 3..6 {
        assert!(store.open_numbered(&identity(), number, &views()).unwrap().is_none());
    }
    let keep = [3, 5, 6].map(|number| (at(), number));
    assert_eq!(store.sweep(&keep).unwrap(), [2, 3, 4, 5].map(|n| dir(directory.path(), n)));
    assert_eq!(store.sweep(&keep).unwrap(), Vec::<PathBuf>::new());
    for (number, there) in [(0, true), (1, true), (2, false), (3, false), (4, false), (5, false), (6, true), (77, true)]
    {
        assert_eq!(dir(directory.path(), number).exists(), there, "{number}");
    }
    assert_eq!(live(&store), (1, previous(0, 5)));
    assert_eq!(store.open_generation(&identity(), &views()).unwrap().applied(), Position(7));
    assert_eq!(store.open_numbered(&identity(), 6, &views()).unwrap().unwrap().applied(), Position(7));
    assert_eq!(store.open_numbered(&identity(), 0, &views()).unwrap().unwrap().applied(), Position(0));
}

#[test]
fn jobs_are_kept_and_their_numbers_given_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    assert_eq!([store.new_job_id().unwrap(), store.new_job_id().unwrap()], [1, 2]);
    store.put_job(2, b"second").unwrap();
    store.put_job(1, b"first").unwrap();
    store.put_job(300, b"").unwrap();
    store.put_job(2, b"again").unwrap();
    drop(store);
    store = crate::shadows::store(directory.path());
    assert_eq!(store.jobs().unwrap(), [(1, b"first".to_vec()), (2, b"again".to_vec()), (300, Vec::new())]);
    assert_eq!(store.new_job_id().unwrap(), 3);
    assert!(store.free_bytes().unwrap() > 1 << 20);
}

/// Set for the process that is to be killed: the data directory.
const VICTIM: &str = "SEGNO_TEST_SWITCHING_VICTIM";

const SWITCHED: &str = "switched";

pub const PARTITIONS: u32 = 3;

pub fn of(partition: u32) -> Identity {
    Identity { at: TopicPartition::new("bank.accounts", partition), ..identity() }
}

/// Makes a shadow of each partition's live generation, one row longer, and switches all of them: for ever. The job's
/// record says what is live afterwards. Every third switch goes back, and every fourth time the way back is given up.
fn switch_for_ever(root: &Path) {
    let store = store(root);
    let partitions = 0..PARTITIONS;
    for partition in partitions.clone() {
        drop(store.open_generation(&of(partition), &views()).unwrap());
    }
    for round in 0u64.. {
        // A kill may have left some with a way back and some without.
        let way_back = |partition| store.live(&of(partition).at).unwrap().unwrap().previous.is_some();
        let back = round % 3 == 2 && partitions.clone().all(way_back);
        let switches: Vec<Switch> = partitions.clone().map(|partition| next(&store, partition, back)).collect();
        let record = switches.iter().map(|switch| switch.to.to_string()).collect::<Vec<_>>().join(",");
        store.cut_over(&switches, Timestamp(round as i64), (1, record.as_bytes())).unwrap();
        let mut past_the_harness = std::io::stdout();
        writeln!(past_the_harness, "{SWITCHED}").unwrap();
        if round % 4 == 3 {
            partitions.clone().for_each(|partition| store.forget_previous(&of(partition).at).unwrap());
        }
        store.sweep(&[]).unwrap();
    }
}

fn next(store: &Store, partition: u32, back: bool) -> Switch {
    let at = of(partition).at;
    let live = store.live(&at).unwrap().unwrap();
    if let Some(previous) = live.previous.filter(|_| back) {
        return Switch { at, to: previous.number };
    }
    let path = store.path().join(format!("bank.accounts/{partition}/gen-{}", live.number));
    let made = same_of(store, &of(partition), &Source::Checkpoint { path }).unwrap();
    let position = made.applied().0;
    made.commit(&made.take_writer(), &first_row(&made, &format!("{position:05}"), "1", position + 1)).unwrap();
    made.flush().unwrap();
    Switch { at, to: made.number() }
}

/// The body of the child process; in an ordinary test run there is nothing for it to do.
#[test]
fn switching_victim() {
    if let Ok(root) = std::env::var(VICTIM) {
        switch_for_ever(Path::new(&root));
    }
}

#[test]
fn a_switch_is_atomic_under_sigkill_and_what_is_left_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let mut switched = 0;
    for round in 0u64..12 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "switching::switching_victim"])
            .env(VICTIM, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let alive = lines.any(|line| line.unwrap().contains(SWITCHED));
        let reading = std::thread::spawn(move || lines.all(|line| line.is_ok()));
        std::thread::sleep(Duration::from_micros(round * round * 7_919 % 150_000));
        child.kill().unwrap();
        child.wait().unwrap();
        reading.join().unwrap();
        assert!(alive, "the child ended before it had switched");

        let store = store(directory.path());
        let jobs = store.jobs().unwrap();
        let [(1, record)] = jobs.as_slice() else { panic!("{jobs:?}") };
        let lives: Vec<_> = (0..PARTITIONS).map(|p| store.live(&of(p).at).unwrap().unwrap()).collect();
        let numbers: Vec<_> = lives.iter().map(|live| live.number.to_string()).collect();
        assert_eq!(std::str::from_utf8(record).unwrap(), numbers.join(","), "torn in round {round}");
        let rows: Vec<_> = lives.iter().map(|live| live.position.0).collect();
        assert!(rows.iter().all(|n| *n == rows[0]), "partitions apart: {rows:?}");
        switched = switched.max(rows[0]);

        store.sweep(&[]).unwrap();
        for (partition, live) in (0..PARTITIONS).zip(&lives) {
            let mut want: Vec<_> =
                live.previous.iter().map(|p| p.number).chain([live.number]).map(|n| format!("gen-{n}")).collect();
            want.sort();
            let entries = fs::read_dir(directory.path().join(format!("bank.accounts/{partition}"))).unwrap();
            let mut found: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            found.sort();
            assert_eq!(found, want);
            let generation = store.open_generation(&of(partition), &views()).unwrap();
            assert_eq!(generation.applied(), live.position);
            for (tag, totals) in generation.tags().iter().zip(generation.view_totals()) {
                assert_eq!(generation.recompute(*tag).unwrap(), totals);
            }
            if let Some(previous) = live.previous {
                store.open_numbered(&of(partition), previous.number, &views()).unwrap().unwrap();
            }
        }
    }
    assert!(switched > 3, "{switched}");
}

/// Shadows of several partitions are made at the same time, and a sweep meanwhile takes none of them.
#[test]
fn shadows_are_made_in_parallel_and_not_swept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options(Durability::Log)).unwrap();
    for partition in 0..4 {
        drop(store.open_generation(&of(partition), &views()).unwrap());
    }
    std::thread::scope(|scope| {
        let store = &store;
        let made: Vec<_> = (0..4)
            .map(|partition| {
                scope.spawn(move || {
                    (0..3).map(|_| same_of(store, &of(partition), &NOTHING).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        while made.iter().any(|thread| !thread.is_finished()) {
            assert_eq!(store.sweep(&[]).unwrap(), Vec::<PathBuf>::new());
        }
        for thread in made {
            let numbers: Vec<_> = thread.join().unwrap().iter().map(|one| (one.number(), one.applied())).collect();
            assert_eq!(numbers, [1, 2, 3].map(|number| (number, Position(7))));
        }
    });
    // Now nobody has them, and no job names them.
    assert_eq!(store.sweep(&[(of(1).at, 2)]).unwrap().len(), 11);
}
