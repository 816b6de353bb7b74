//! *Refuse*: what has no correct answer changes nothing, and says which numbers and which ways there are. The plan has
//! a test for every row; here some of them go through a node.

use segno::actors::replay::words::{BaseChoice, ReplayError, ReplayRequest};
use segno::position::{Offset, Position, TopicPartition};
use segno::record::NewRecord;
use segno::streams::Log;

use crate::stage::{Setup, Stage, TOPIC};
use crate::tape::EPOCH;
use crate::views::{What, ledger};

fn stage(events: u64) -> Stage {
    let stage = Stage::new(Setup { partitions: 1, ..Setup::of(&[ledger::<1>()]) });
    for n in 0..events {
        stage.pen.send("a", n as i64 * 1000, &What::Add { n, amount: 1 });
    }
    stage.settle();
    stage
}

fn from(from: &str) -> ReplayRequest {
    ReplayRequest { from: from.to_owned(), ..ReplayRequest::default() }
}

fn at(second: i64) -> ReplayRequest {
    from(&format!("{}ms", EPOCH + second * 1000))
}

/// Neither a plan nor a start gets through, the reason has all the parts, and nothing has changed.
fn refused(stage: &Stage, request: &ReplayRequest, parts: &[&str]) {
    let (rows, directories, jobs) = (stage.rows("ledger"), stage.directories(), stage.node().replays());
    let error = stage.plan(request).unwrap_err();
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    match (stage.replay(request), &error) {
        // It has the time in it at which it was asked.
        (Err(again), ReplayError::Refused(_)) => assert!(matches!(again, ReplayError::Refused(_)), "{again}"),
        (again, error) => assert_eq!(again.as_ref().unwrap_err(), error),
    }
    assert_eq!((stage.rows("ledger"), stage.directories(), stage.node().replays()), (rows, directories, jobs));
}

#[test]
fn refuse_a_time_that_has_not_been() {
    let stage = stage(10);
    refused(&stage, &from("2999-01-01T00:00:00Z"), &["2999-01-01", "in the future"]);
    refused(&stage, &from("teusday"), &["teusday", "RFC 3339"]);
    refused(&stage, &from("1700000000"), &["no unit"]);
    refused(&stage, &from("@ledger@0:11"), &["11", "10"]);
    refused(&stage, &from("@ledger@3:1"), &["partition 3"]);
    refused(&stage, &from("@other@0:1"), &["no topic `other`"]);
    let topics = vec!["nobody".to_owned()];
    refused(&stage, &ReplayRequest { topics, ..at(0) }, &["`nobody`", "`ledger`"]);
    refused(&stage, &ReplayRequest { rate: Some(0), ..at(0) }, &["--rate 0"]);
    refused(&stage, &ReplayRequest { max_changed: Some(1.5), ..at(0) }, &["1.5"]);
}

#[test]
fn refuse_what_lies_in_a_retention_gap() {
    let stage = stage(20);
    let early = stage.snapshot();
    for n in 20..30 {
        stage.pen.send("a", n as i64 * 1000, &What::Add { n, amount: 1 });
    }
    stage.settle();
    stage.pen.script().truncate_before(&TopicPartition::new(TOPIC, 0), Position(10));
    // The snapshot stands after the cut, and the log does not reach back.
    refused(&stage, &at(15), &["ledger/0", "begins at 10", "snapshot", "stands at 20", "after the cut at 15"]);
    refused(&stage, &at(5), &["ledger/0", "retention gap", "begins at 10"]);
    let genesis = ReplayRequest { base: BaseChoice::Genesis, ..at(25) };
    refused(&stage, &genesis, &["begins at 10", "--base auto"]);
    let named = ReplayRequest { base: BaseChoice::Snapshot(early), ..at(15) };
    refused(&stage, &named, &[&format!("snapshot {early}"), "after the cut"]);
    let unknown = ReplayRequest { base: BaseChoice::Snapshot(77), ..at(25) };
    refused(&stage, &unknown, &["no snapshot 77"]);
    // From the snapshot on it can be had.
    let job = stage.replay(&at(25)).unwrap();
    let job = stage.done(job.id);
    assert_eq!(job.plan.topics[0].partitions[0].from, Position(20));
    assert!(job.verification.unwrap().identical);
    assert_eq!(stage.rows("ledger")["a"].json["seen"].as_array().unwrap().len(), 30);
}

#[test]
fn refuse_a_compacted_topic_unless_it_is_named() {
    let stage = stage(10);
    stage.pen.script().set_compacted(TOPIC, Some(true));
    refused(&stage, &at(3), &["`ledger` is compacted", "--compacted ledger"]);
    let named = ReplayRequest { compacted: vec![TOPIC.to_owned()], ..at(3) };
    let job = stage.replay(&named).unwrap();
    assert!(stage.done(job.id).plan.topics[0].compacted);
}

#[test]
fn refuse_a_topic_that_was_made_anew() {
    let stage = stage(10);
    stage.pen.script().delete_topic(TOPIC);
    refused(&stage, &at(3), &["ledger"]);
    stage.pen.script().create_topic(TOPIC, 1);
    refused(&stage, &at(3), &["ledger/0", "10"]);
    for n in 0..12 {
        let value = What::Add { n, amount: 2 }.bytes();
        let record = NewRecord { key: Some(b"a".to_vec()), value, timestamp: Some(EPOCH), ..NewRecord::default() };
        stage.pen.script().append(TOPIC, vec![record]).unwrap();
    }
    refused(&stage, &from("beginning"), &["ledger/0", "offset 9"]);
    stage.pen.script().create_topic(TOPIC, 2);
    refused(&stage, &from("beginning"), &["partition"]);
}

/// Where the previous generation stands, the log has other records now.
#[test]
fn refuse_a_rollback_into_a_topic_that_was_made_anew() {
    let stage = stage(10);
    let job = stage.replay(&from("beginning")).unwrap();
    stage.done(job.id);
    let generations = stage.generations();
    stage.pen.script().delete_topic(TOPIC);
    stage.pen.script().create_topic(TOPIC, 1);
    for n in 0..12 {
        let value = What::Add { n, amount: 2 }.bytes();
        let record = NewRecord { key: Some(b"a".to_vec()), value, timestamp: Some(EPOCH), ..NewRecord::default() };
        stage.pen.script().append(TOPIC, vec![record]).unwrap();
    }
    let error = stage.roll_back().unwrap_err();
    let ReplayError::Refused(why) = &error else { panic!("{error}") };
    assert!(why.contains("ledger/0") && why.contains("offset 9") && why.contains("created anew"), "{why}");
    assert_eq!((stage.generations(), stage.node().replays().len()), (generations, 1));
}

#[test]
fn refuse_a_partition_in_which_no_record_has_a_timestamp() {
    let stage = stage(0);
    let partition = TopicPartition::new(TOPIC, 0);
    for n in 0..5 {
        let value = What::Add { n, amount: 2 }.bytes();
        let record = NewRecord { key: Some(b"a".to_vec()), value, timestamp: Some(-1), ..NewRecord::default() };
        stage.pen.script().append_at(&partition, Offset(n), record);
    }
    stage.settle();
    refused(&stage, &at(3), &["ledger/0", "timestamp"]);
    let job = stage.replay(&from("@ledger@0:2")).unwrap();
    assert!(stage.done(job.id).verification.unwrap().identical);
}

#[test]
fn what_is_before_everything_and_after_everything_has_an_answer() {
    let stage = stage(10);
    for (request, cut) in [(at(-500), 0), (at(500), 10), (from("0s"), 0), (from("-PT0S"), 10)] {
        let plan = stage.plan(&request).unwrap();
        assert_eq!(plan.topics[0].partitions[0].cut, Position(cut), "{request:?}");
        let job = stage.replay(&request).unwrap();
        assert!(stage.done(job.id).verification.unwrap().identical);
    }
    let empty = Stage::new(Setup::of(&[ledger::<1>()]));
    let job = empty.replay(&at(3)).unwrap();
    let job = empty.done(job.id);
    assert!(job.plan.records == 0 && job.verification.unwrap().identical);
}
