//! The shards of single cells: one at a time, one chain of attempts, and the home decides who is back.

use std::time::Duration;

use segno::actors::plan::Placement;

use crate::stage::{Entry, Setup, Stage, UNCOPYABLE, let_in, tries, until};

fn add(n: u64) -> Entry {
    Entry::Add { n, amount: 1 }
}

/// Each of the rows `sick-0`… has all events in their order.
fn all_have(stage: &Stage, keys: u64, events: u64) {
    let rows = stage.ledgers();
    let want: Vec<u64> = (0..events).collect();
    for key in 0..keys {
        let seen = &rows[&format!("sick-{key}")].seen;
        assert_eq!(*seen, want, "Once: sick-{key}; {:?}", stage.books());
    }
    stage.verify();
}

#[test]
fn once_a_start_with_waiting_cells_loses_nothing_of_what_is_read_meanwhile() {
    for round in 0..6 {
        let placement = Placement::Own;
        let setup =
            Setup { partitions: 1, placement, attempts: 1_000_000, batch: 8, credits: 4096, ..Setup::default() };
        let mut stage = Stage::new(setup);
        let name = |key: u64| format!("start/{round}/{key}");
        for key in 0..60 {
            stage.send(&format!("sick-{key}"), &Entry::Flaky { n: 0, name: name(key), times: 1_000_000 });
        }
        until("all wait", Duration::from_secs(5), || stage.books().waiting == 60);
        stage.stop();
        (0..60).for_each(|key| let_in(&name(key)));
        for n in 1..40 {
            for key in 0..60 {
                stage.send(&format!("sick-{key}"), &add(n));
            }
        }
        stage.start();
        stage.settle();
        all_have(&stage, 60, 40);
    }
}

#[test]
fn once_a_recovery_with_waiting_cells_loses_nothing_of_what_is_read_meanwhile() {
    for round in 0..6 {
        let stage = Stage::new(Setup {
            partitions: 1,
            attempts: 1_000_000,
            batch: 8,
            credits: 4096,
            fold_time_limit: Duration::from_millis(60),
            ..Setup::default()
        });
        let name = |key: u64| format!("recovery/{round}/{key}");
        for key in 0..40 {
            stage.send(&format!("sick-{key}"), &Entry::Flaky { n: 0, name: name(key), times: 1_000_000 });
        }
        until("all wait", Duration::from_secs(5), || stage.books().waiting == 40);
        let hangs = format!("recovery/{round}/hangs");
        stage.send("other", &Entry::Slow { n: 0, name: hangs, times: 2, ms: 100 });
        std::thread::sleep(Duration::from_millis(100));
        for n in 1..60 {
            for key in 0..40 {
                stage.send(&format!("sick-{key}"), &add(n));
                if n == 5 {
                    let_in(&name(key));
                }
            }
        }
        stage.settle();
        all_have(&stage, 40, 60);
    }
}

#[test]
fn isolated_folds_that_hang_elsewhere_give_a_waiting_cell_no_more_attempts() {
    let stage = Stage::new(Setup {
        partitions: 1,
        attempts: 1_000_000,
        fold_time_limit: Duration::from_millis(60),
        retry: Duration::from_millis(40),
        ..Setup::default()
    });
    let name = "one-chain".to_owned();
    stage.send("sick", &Entry::Flaky { n: 0, name: name.clone(), times: 1_000_000 });
    let in_a_while = || {
        let before = tries(&name);
        std::thread::sleep(Duration::from_secs(3));
        tries(&name) - before
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = in_a_while();
    for n in 0..4 {
        stage.send(&format!("hangs-{n}"), &Entry::Slow { n: 0, name: format!("chain/{n}"), times: 2, ms: 200 });
        std::thread::sleep(Duration::from_millis(250));
    }
    let after = in_a_while();
    assert!(after <= before * 2, "{before} attempts in a while, and {after} after four recoveries");
}

#[test]
fn isolated_a_row_that_cannot_be_copied_costs_its_own_events_their_attempts_and_no_shard() {
    let stage = Stage::new(Setup { partitions: 1, shards: 1, attempts: 3, ..Setup::default() });
    stage.send("sick", &Entry::Flaky { n: 0, name: "uncopyable".into(), times: 2 });
    stage.send("sick", &Entry::Add { n: 1, amount: UNCOPYABLE });
    stage.send("bad", &Entry::Add { n: 0, amount: UNCOPYABLE });
    // Copies are taken once a batch.
    stage.settle();
    for n in 2..40 {
        stage.send("sick", &add(n));
        stage.send("bad", &add(n));
        stage.send("well", &add(n));
    }
    stage.settle();
    let rows = stage.ledgers();
    assert_eq!((rows["sick"].seen.clone(), rows["bad"].seen.clone()), (vec![0, 1], vec![0]));
    assert_eq!(rows["well"].seen.len(), 38);
    assert_eq!(stage.books().parked, 76);
    assert!(tries("uncopyable") < 20, "{} tries", tries("uncopyable"));
    stage.verify();
}
