//! The same against a real broker, whose look-ups, ends and counts are its own.

use segno::actors::plan::History;
use segno::actors::replay::plan::{LivePartition, PlanContext, TopicContext, plan};
use segno::actors::replay::words::{BaseChoice, ReplayError, ReplayPlan, ReplayRequest};
use segno::position::{Position, Timestamp, TopicPartition};
use segno::state::{Books, Fingerprint, Identity, Lineage};
use segno::streams::Log;
use segno::streams::kafka::{Kafka, KafkaOptions};

use super::common::broker::{Put, put, shared};
use super::stage::*;

/// A plan for a node that has read all of the topic.
fn planned(log: &Kafka, topic: &str, request: ReplayRequest) -> Result<ReplayPlan, ReplayError> {
    let info = log.topic(topic).unwrap();
    let live = |partition| {
        let at = TopicPartition::new(topic, partition);
        LivePartition {
            lineage: Lineage::default(),
            position: log.watermarks(&at).unwrap().end,
            identity: Identity { at, cluster: info.cluster.clone(), partitions: info.partitions },
            number: 0,
            last: None,
            views: vec![view("a", 1)],
            books: Books::default(),
            bytes: 1000,
        }
    };
    let context = PlanContext {
        log,
        now: Timestamp(T0 + 3_600_000),
        topics: vec![TopicContext {
            name: topic.into(),
            history: History::Complete,
            wanted: vec![want("a", 1)],
            partitions: (0..info.partitions).map(live).collect(),
        }],
        snapshots: Vec::new(),
        compatible: &|_, _| Ok(()),
        disk_free: 1 << 40,
        rate: Some(100.0),
    };
    plan(&context, &request)
}

fn from(from: String, base: BaseChoice) -> ReplayRequest {
    ReplayRequest { from, base, ..ReplayRequest::default() }
}

#[test]
fn a_plan_on_a_real_broker() {
    let topic = shared().topic_with("plan", 3, &[("retention.ms", "-1")]);
    let timed =
        |partition, seconds: i64| Put { timestamp: Some(T0 + seconds * 1000), ..put(partition, "key", "0000000") };
    let many: Vec<_> = (0..1000).map(|i| timed(0, i)).chain([9, 5, 7].map(|seconds| timed(1, seconds))).collect();
    shared().produce(&topic, &many);
    let log = Kafka::connect(KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() }).unwrap();

    let plan = planned(&log, &topic, from(s(100), BaseChoice::Empty)).unwrap();
    assert_eq!(shape(&plan), [row(100, 100, "empty"), row(3, 3, "empty"), row(0, 0, "empty")]);
    assert_eq!(parts(&plan)[0].cut_time, Some(Timestamp(T0 + 100_000)));
    assert_eq!((plan.records, plan.bytes, plan.exact, plan.seconds), (900, Some(9000), false, Some(9.0)));
    let plan = planned(&log, &topic, from(s(6), BaseChoice::Auto)).unwrap();
    assert_eq!(shape(&plan), [row(6, 0, "genesis"), row(0, 0, "genesis"), row(0, 0, "genesis")]);
    assert_eq!(plan.warnings, <[String; 0]>::default(), "the broker tells that the topic is not compacted");

    shared().delete_records(&topic, 0, 40);
    let Err(ReplayError::Refused(why)) = planned(&log, &topic, from(s(30), BaseChoice::Empty)) else {
        panic!("a plan")
    };
    let hole = "/0: 2023-11-14T22:13:50.000Z lies in a retention gap: the log begins at 40 with a record of \
                2023-11-14T22:14:00.000Z, and the 40 offsets before it are gone";
    assert!(why.contains(hole), "{why}");
    let Err(ReplayError::Refused(why)) = planned(&log, &topic, from(s(50), BaseChoice::Auto)) else { panic!("a plan") };
    assert!(why.contains("the log begins at 40 and not at 0"), "{why}");
    shared().delete_records(&topic, 1, 3);
    let plan = planned(&log, &topic, from("beginning".into(), BaseChoice::Empty)).unwrap();
    assert_eq!(shape(&plan), [row(40, 40, "empty"), row(3, 3, "empty"), row(0, 0, "empty")]);
}

#[test]
fn refuse_a_topic_of_a_real_broker_that_was_created_anew() {
    let topic = shared().topic("plan-anew", 1);
    shared().produce(&topic, &[put(0, "key", "0000000")]);
    let log = Kafka::connect(KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() }).unwrap();
    let info = log.topic(&topic).unwrap();
    let at = TopicPartition::new(topic.as_str(), 0);
    let live = LivePartition {
        lineage: Lineage::default(),
        identity: Identity { at: at.clone(), cluster: info.cluster, partitions: 1 },
        number: 0,
        position: Position(1),
        last: Some(Fingerprint { hash: 7, ..print(0, T0) }),
        views: vec![view("a", 1)],
        books: Books::default(),
        bytes: 1000,
    };
    let topics = vec![TopicContext {
        name: topic.as_str().into(),
        history: History::Complete,
        wanted: vec![want("a", 1)],
        partitions: vec![live],
    }];
    let compatible = |_, _: &TopicPartition| Ok(());
    let (now, snapshots) = (NOW, Vec::new());
    let context =
        PlanContext { log: &log, now, topics, snapshots, compatible: &compatible, disk_free: 1 << 40, rate: None };
    let Err(ReplayError::Refused(why)) = plan(&context, &from(s(0), BaseChoice::Auto)) else { panic!("a plan") };
    assert!(why.starts_with(&format!("{at}: the last record applied was offset 0")), "{why}");
}
