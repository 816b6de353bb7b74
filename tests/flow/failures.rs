//! Law *Isolated*, and what failure costs: one aggregate its attempt, nobody else anything.

use std::time::Duration;

use segno::actors::handle::NodeState;
use segno::actors::plan::{Decision, Placement};

use crate::stage::{Entry, Setup, Stage, on_reject, release, tries, until};

fn add(n: u64) -> Entry {
    Entry::Add { n, amount: 1 }
}

#[test]
fn isolated_an_aggregate_that_retries_delays_no_other() {
    for placement in [Placement::Shared, Placement::Own] {
        let stage = Stage::new(Setup { partitions: 1, shards: 1, placement, attempts: 1000, ..Setup::default() });
        let name = format!("retries-{placement:?}");
        stage.send("sick", &Entry::Flaky { n: 0, name, times: 40 });
        for n in 1..200 {
            stage.send(if n % 2 == 0 { "sick" } else { "well" }, &add(n));
        }
        until("the healthy aggregate is served", Duration::from_secs(5), || {
            stage.ledgers().get("well").is_some_and(|row| row.seen.len() == 100)
        });
        assert!(stage.books().waiting > 0, "the sick one still waits");
        stage.settle();
        let sick = &stage.ledgers()["sick"];
        assert_eq!(sick.seen, std::iter::once(0).chain((2..200).step_by(2)).collect::<Vec<_>>(), "Order");
    }
}

#[test]
fn isolated_a_panic_costs_one_aggregate_its_attempt_and_nobody_else_anything() {
    let stage = Stage::new(Setup { partitions: 1, shards: 1, ..Setup::default() });
    for n in 0..50 {
        stage.send("well", &add(n));
        stage.send("sick", &add(n));
    }
    stage.send("sick", &Entry::Panics { n: 50, name: "panics-twice".into(), times: 3 });
    stage.send("sick", &add(51));
    stage.send("well", &add(52));
    stage.settle();
    let rows = stage.ledgers();
    assert_eq!(rows["sick"].seen, (0..52).collect::<Vec<_>>(), "the torn row was put back and the event went in");
    assert_eq!(rows["well"].seen.len(), 51);
    assert_eq!(tries("panics-twice"), 3);
    assert_eq!(stage.books().parked, 0);
}

#[test]
fn isolated_attempts_used_up_park_the_event_and_what_follows_it() {
    let mut stage = Stage::new(Setup { partitions: 1, attempts: 3, ..Setup::default() });
    stage.send("sick", &add(0));
    stage.send("sick", &Entry::Panics { n: 1, name: "always".into(), times: u32::MAX });
    for n in 2..10 {
        stage.send("sick", &add(n));
    }
    stage.settle();
    assert_eq!(tries("always"), 3);
    assert_eq!(stage.ledgers()["sick"].seen, [0]);
    let parked = |stage: &Stage, count| until("parked", Duration::from_secs(5), || stage.books().parked == count);
    parked(&stage, 9);
    // Later events queue behind, after a restart and a crash too, and the parked one is not tried again.
    stage.send("sick", &add(10));
    stage.settle();
    parked(&stage, 10);
    stage.restart();
    stage.send("sick", &add(11));
    stage.send("well", &add(12));
    stage.settle();
    parked(&stage, 11);
    stage.crash();
    stage.send("sick", &add(13));
    stage.settle();
    parked(&stage, 12);
    assert_eq!((tries("always"), stage.ledgers()["sick"].seen.clone()), (3, vec![0]));
    assert_eq!(stage.ledgers()["well"].seen, [12]);
}

#[test]
fn isolated_a_fold_that_hangs_delays_the_others_by_its_time_limit_once() {
    let limit = Duration::from_millis(300);
    let setup = Setup { partitions: 1, shards: 1, fold_time_limit: limit, attempts: 2, ..Setup::default() };
    let stage = Stage::new(setup);
    for n in 0..20 {
        stage.send("well", &add(n));
        stage.send("sick", &add(n));
    }
    stage.settle();
    // Hangs for 20 s each time it is tried: far longer than the test may take.
    stage.send("sick", &Entry::Slow { n: 20, name: "hangs".into(), times: u32::MAX, ms: 20_000 });
    for n in 21..60 {
        stage.send(if n % 2 == 0 { "sick" } else { "well" }, &add(n));
    }
    let delay =
        until("the healthy aggregate is served", Duration::from_secs(10), || stage.ledgers()["well"].seen.len() == 40);
    assert!(delay < limit * 8, "Isolated: {delay:?} for a limit of {limit:?}");
    until("the hanging event is parked", Duration::from_secs(10), || stage.books().parked == 20);
    assert_eq!(stage.ledgers()["sick"].seen, (0..20).collect::<Vec<_>>());
    // The second attempt hung too, and after that the others went on as ever.
    stage.send("well", &add(60));
    until("life goes on", Duration::from_secs(2), || stage.ledgers()["well"].seen.len() == 41);
    assert_eq!(stage.books().consumed, 81);
    release("hangs");
}

#[test]
fn isolated_a_fold_that_hangs_once_goes_in_at_the_next_attempt() {
    let setup = Setup { partitions: 1, fold_time_limit: Duration::from_millis(200), attempts: 3, ..Setup::default() };
    let stage = Stage::new(setup);
    stage.send("sick", &add(0));
    stage.send("sick", &Entry::Slow { n: 1, name: "hangs-once".into(), times: 2, ms: 5_000 });
    stage.send("sick", &add(2));
    stage.settle();
    assert_eq!(stage.ledgers()["sick"].seen, [0, 1, 2]);
    release("hangs-once");
}

#[test]
fn a_rejected_event_follows_its_policy() {
    for (decision, seen, column) in
        [(Decision::Park, vec![0], 3), (Decision::DeadLetter, vec![0, 2, 3], 1), (Decision::Skip, vec![0, 2, 3], 1)]
    {
        let stage = Stage::new(Setup { partitions: 1, policy: on_reject(decision), ..Setup::default() });
        stage.send("a", &add(0));
        stage.send("a", &Entry::Take { n: 1, amount: 100 });
        stage.send("a", &add(2));
        stage.send("a", &add(3));
        stage.settle();
        let (row, books) = (stage.ledgers()["a"].clone(), stage.books());
        assert_eq!((row.seen.clone(), row.balance), (seen.clone(), seen.len() as i64), "{decision:?}: torn row");
        let counted = match decision {
            Decision::Park => books.parked,
            Decision::DeadLetter => books.dead,
            _ => books.skipped,
        };
        assert_eq!(counted, column, "{decision:?}: {books:?}");
    }
}

#[test]
fn halt_stops_the_partition_before_the_event_and_says_where() {
    let mut stage = Stage::new(Setup { partitions: 1, policy: on_reject(Decision::Halt), ..Setup::default() });
    stage.send("a", &add(0));
    until("the first event is durable", Duration::from_secs(5), || {
        stage.node().status().topics[0].partitions[0].durable.0 == 1
    });
    stage.send("a", &Entry::Take { n: 1, amount: 100 });
    until("the node fails", Duration::from_secs(5), || stage.node().status().state == NodeState::Failed);
    let status = stage.node().status();
    let reason = status.reason.unwrap();
    assert!(reason.contains("ledger/0") && reason.contains("offset 1") && reason.contains("insufficient"), "{reason}");
    assert!(!stage.node().ready().ok);
    assert_eq!(status.topics[0].partitions[0].applied.0, 1, "nothing of the batch is committed");
    stage.crash();
    until("it fails again", Duration::from_secs(5), || stage.node().status().state == NodeState::Failed);
    assert_eq!(stage.ledgers()["a"].seen, [0]);
}

#[test]
fn a_reader_that_fails_for_a_while_is_asked_again() {
    // Soon, however long a fold may take.
    let stage = Stage::new(Setup { partitions: 1, fold_time_limit: Duration::from_secs(600), ..Setup::default() });
    let at = stage.send("a", &add(0));
    stage.settle();
    let broken = segno::streams::Error::Unreachable { brokers: "x:1".into(), reason: "gone".into() };
    stage.log.fail_drains(&at, 2, &broken);
    stage.send("a", &add(1));
    stage.settle();
    assert_eq!(stage.ledgers()["a"].seen, [0, 1]);
}

#[test]
fn once_a_stop_that_is_out_of_time_leaves_nothing_half_done() {
    let limit = Duration::from_secs(60);
    let mut stage = Stage::new(Setup { partitions: 1, shards: 1, fold_time_limit: limit, ..Setup::default() });
    stage.send("a", &add(0));
    stage.settle();
    stage.send("a", &Entry::Slow { n: 1, name: "stopped".into(), times: 2, ms: 60_000 });
    until("it is being folded", Duration::from_secs(5), || tries("stopped") == 1);
    let report = stage.stop_within(Duration::from_millis(300));
    assert!(report.problems[0].contains("did not finish within 300ms"), "{report:?}");
    // The fold comes back into a partition that is over.
    release("stopped");
    stage.start();
    stage.send("a", &add(2));
    stage.settle();
    assert_eq!(stage.ledgers()["a"].seen, [0, 1, 2]);
    stage.verify();
}
