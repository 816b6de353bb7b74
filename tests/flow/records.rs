//! Records that are not events, and logs with gaps.

use std::sync::Arc;
use std::time::Duration;

use segno::actors::plan::{Decision, History, Placement, Policy};
use segno::position::TopicPartition;
use segno::views::{Definition, Row};

use crate::stage::{Entry, Ledger, Setup, Stage, TOPIC, ledger, until};

#[test]
fn accounted_every_odd_record_goes_somewhere() {
    let stage = Stage::new(Setup { partitions: 1, ..Setup::default() });
    stage.send("a", &Entry::Add { n: 0, amount: 1 });
    stage.send_raw(None, Some(b"{}"));
    stage.send_raw(Some(b"a"), None);
    stage.send_raw(Some(b"a"), Some(b"not json"));
    stage.send_raw(Some(b"a"), Some(br#"{"event_type":"Unheard","payload":{}}"#));
    stage.send_raw(Some(b"a"), Some(br#"{"event_type":"Add","payload":{"n":1,"amount":"7"}}"#));
    stage.send_raw(Some(&[b'k'; 2000]), Some(br#"{"event_type":"Add","payload":{"n":1,"amount":7}}"#));
    stage.send("a", &Entry::Add { n: 2, amount: 1 });
    stage.settle();
    let books = stage.books();
    assert_eq!((books.consumed, books.applied, books.dead), (8, 2, 6), "{books:?}");
    assert_eq!(stage.ledgers()["a"].seen, [0, 2]);
}

#[test]
fn a_tombstone_deletes_where_the_policy_says_so() {
    let policy = Policy { null_value: Decision::Delete, ..Policy::default() };
    let mut stage = Stage::new(Setup { partitions: 1, policy, ..Setup::default() });
    stage.send("a", &Entry::Add { n: 0, amount: 1 });
    stage.send("b", &Entry::Add { n: 1, amount: 1 });
    stage.settle();
    stage.send_raw(Some(b"a"), None);
    stage.settle();
    assert_eq!(stage.ledgers().into_keys().collect::<Vec<_>>(), ["b"]);
    stage.restart();
    stage.send("a", &Entry::Add { n: 2, amount: 5 });
    stage.settle();
    assert_eq!((stage.ledgers()["a"].seen.clone(), stage.ledgers()["a"].balance), (vec![2], 5));
    assert_eq!(stage.node().status().topics[0].views[0].rows, 2);
}

/// The ledger as a program has it that cannot read every row: one of this balance, and another at which it panics.
struct Choosy(Arc<dyn Definition>);

const UNREADABLE: i64 = 777;
const PANICS: i64 = 888;

impl Definition for Choosy {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn version(&self) -> u32 {
        self.0.version()
    }

    fn text(&self) -> String {
        self.0.text()
    }

    fn initial(&self) -> Box<dyn Row> {
        self.0.initial()
    }

    fn decode(&self, json: &[u8]) -> Result<Box<dyn Row>, String> {
        let row: Ledger = serde_json::from_slice(json).unwrap();
        assert!(row.balance != PANICS, "on purpose");
        if row.balance == UNREADABLE { Err("not this one".to_owned()) } else { self.0.decode(json) }
    }
}

#[test]
fn a_row_that_cannot_be_read_parks_its_events_and_can_be_deleted() {
    let policy = Policy { null_value: Decision::Delete, ..Policy::default() };
    for placement in [Placement::Shared, Placement::Own] {
        let view = || -> Arc<dyn Definition> { Arc::new(Choosy(ledger())) };
        let setup = Setup { partitions: 1, policy, placement, view, attempts: 1_000_000, ..Setup::default() };
        let mut stage = Stage::new(setup);
        for (key, amount) in [("parks", UNREADABLE), ("goes", UNREADABLE), ("waits", UNREADABLE), ("panics", PANICS)] {
            stage.send(key, &Entry::Add { n: 0, amount });
        }
        let name = format!("unreadable/{placement:?}");
        stage.send("waits", &Entry::Flaky { n: 1, name: name.clone(), times: 1_000_000_000 });
        // The shard of its own has to read the row.
        until("it is parked", Duration::from_secs(5), || stage.books().parked == 1);
        // From here on every row has to be read.
        stage.restart();
        stage.send_raw(Some(b"goes"), None);
        stage.send("goes", &Entry::Add { n: 2, amount: 1 });
        for n in 3..5 {
            stage.send("parks", &Entry::Add { n, amount: 1 });
            stage.send("panics", &Entry::Add { n, amount: 1 });
        }
        stage.settle();
        let rows = stage.ledgers();
        let seen: Vec<_> = ["parks", "goes", "waits", "panics"].map(|key| &*rows[key].seen).into();
        assert_eq!(seen, [&[0][..], &[2], &[0], &[0]], "{placement:?}");
        let books = stage.books();
        assert_eq!((books.consumed, books.applied, books.parked), (11, 6, 5), "{placement:?}: {books:?}");
        stage.verify();
    }
}

#[test]
fn positions_move_over_gaps_to_the_end() {
    let mut stage = Stage::new(Setup { partitions: 1, ..Setup::default() });
    let at = TopicPartition::new(TOPIC, 0);
    stage.log.push_gap(&at, 3);
    stage.send("a", &Entry::Add { n: 0, amount: 1 });
    stage.log.push_gap(&at, 5);
    stage.settle();
    let partition = &stage.node().status().topics[0].partitions[0];
    assert_eq!((partition.applied.0, partition.lag_records), (9, Some(0)));
    stage.restart();
    stage.send("a", &Entry::Add { n: 1, amount: 1 });
    stage.settle();
    assert_eq!(stage.ledgers()["a"].seen, [0, 1]);
}

#[test]
fn a_log_that_is_not_the_one_that_was_read_is_refused() {
    let mut stage = Stage::new(Setup { partitions: 1, ..Setup::default() });
    let at = TopicPartition::new(TOPIC, 0);
    for n in 0..10 {
        stage.send("a", &Entry::Add { n, amount: 1 });
    }
    stage.settle();
    stage.stop();
    stage.log.delete_topic(TOPIC);
    let error = stage.try_start().unwrap_err();
    assert!(error.contains(TOPIC) && error.contains("does not exist"), "{error}");
    stage.log.create_topic(TOPIC, 1);
    let error = stage.try_start().unwrap_err();
    assert!(error.contains("ledger/0") && error.contains("10"), "shorter than what was read: {error}");
    for n in 0..12 {
        stage.send("b", &Entry::Add { n, amount: 1 });
    }
    let error = stage.try_start().unwrap_err();
    assert!(error.contains("ledger/0"), "another record stands at offset 9: {error}");
    stage.log.delete_topic(TOPIC);
    stage.log.create_topic(TOPIC, 2);
    let error = stage.try_start().unwrap_err();
    assert!(error.contains("partition"), "{error}");
    let _ = at;
}

#[test]
fn a_topic_without_its_beginning_is_refused_unless_named() {
    let mut stage = Stage::new(Setup { partitions: 1, ..Setup::default() });
    stage.stop();
    let at = TopicPartition::new(TOPIC, 0);
    for n in 0..10 {
        stage.send("a", &Entry::Add { n, amount: 1 });
    }
    stage.log.truncate_before(&at, segno::position::Position(4));
    let error = stage.try_start().unwrap_err();
    assert!(error.contains("ledger/0") && error.contains('4') && error.contains("history"), "{error}");
    stage.setup.history = History::Retained;
    stage.start();
    stage.settle();
    assert_eq!(stage.ledgers()["a"].seen, [4, 5, 6, 7, 8, 9]);
    assert_eq!(stage.books().consumed, 6);
}
