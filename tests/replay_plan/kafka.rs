//! The same against a real broker, whose look-ups, ends and counts are its own.

use segno::actors::plan::History;
use segno::actors::replay::plan::{LivePartition, PlanContext, TopicContext, plan};
use segno::actors::replay::words::{BaseChoice, ReplayError, ReplayPlan, ReplayRequest};
use segno::position::{Position, Timestamp, TopicPartition};
use segno::state::{Books, Identity, Lineage};
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
            began: Position::ZERO,
            position: log.watermarks(&at).unwrap().end,
            identity: Identity { at, cluster: info.cluster.clone(), partitions: info.partitions },
            number: 0,
            ancestors: Vec::new(),
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

/// Why a node refuses that has read `count` records of the one partition, a second apart.
fn refused(log: &Kafka, topic: &str, count: u64, from: &str) -> String {
    let info = log.topic(topic).unwrap();
    let live = LivePartition {
        lineage: Lineage::default(),
        began: Position::ZERO,
        identity: Identity { at: at(topic, 0), cluster: info.cluster, partitions: 1 },
        number: 0,
        ancestors: Vec::new(),
        position: Position(count),
        last: count.checked_sub(1).map(|last| print(last as i64, T0 + last as i64 * 1000)),
        views: vec![view("a", 1)],
        books: Books::default(),
        bytes: 1000,
    };
    let topics = vec![TopicContext {
        name: topic.into(),
        history: History::Complete,
        wanted: vec![want("a", 1)],
        partitions: vec![live],
    }];
    let compatible = |_, _: &TopicPartition| Ok(());
    let (now, snapshots) = (NOW, Vec::new());
    let context = PlanContext { log, now, topics, snapshots, compatible: &compatible, disk_free: 1 << 40, rate: None };
    match plan(&context, &self::from(from.to_owned(), BaseChoice::Auto)) {
        Err(ReplayError::Refused(why) | ReplayError::Bad(why)) => why,
        answer => panic!("{answer:?}"),
    }
}

const KEPT: &[(&str, &str)] = &[("retention.ms", "-1")];

fn produce(topic: &str, numbers: std::ops::Range<i64>) {
    let values: Vec<String> = numbers.map(|number| format!("{number:07}")).collect();
    let record = |(second, value)| Put { timestamp: Some(T0 + second * 1000), ..put(0, "key", value) };
    shared().produce(topic, &(0i64..).zip(values.iter().map(String::as_str)).map(record).collect::<Vec<_>>());
}

#[test]
fn refuse_a_topic_of_a_real_broker_that_was_created_anew() {
    let topic = shared().topic_with("plan-anew", 1, KEPT);
    produce(&topic, 0..3);
    let log = Kafka::connect(KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() }).unwrap();
    assert_eq!(
        refused(&log, &topic, 3, "2200-01-01T00:00:00Z"),
        "2200-01-01T00:00:00.000Z is in the future, now is 2023-11-14T22:43:20.000Z: name a time that has been"
    );
    assert_eq!(
        refused(&log, &topic, 3, &format!("@{topic}@0:4")),
        format!("{topic}/0: position 4 is outside the log, which holds 0..3: name a position from 0 to 3")
    );
    assert_eq!(refused(&log, &topic, 3, "@other@0:1"), format!("there is no topic `other` here; there are `{topic}`"));
    shared().create_anew(&topic, 1, KEPT);
    assert_eq!(
        refused(&log, &topic, 3, &s(0)),
        format!(
            "{topic}/0: the store has read up to 3, but the log ends at 0: the topic was truncated or created anew. Bring \
             the records back, or use a new data directory"
        )
    );
    // Already longer than the old one.
    produce(&topic, 10..15);
    let (stored, found) = (print(2, T0 + 2_000), print(12, T0 + 2_000));
    assert_eq!(
        refused(&log, &topic, 3, &s(0)),
        format!(
            "{topic}/0: the last record applied was offset 2 with timestamp 2023-11-14T22:13:22.000Z and hash {:016x}, but \
             the log has offset 2 with timestamp 2023-11-14T22:13:22.000Z and hash {:016x} there: the topic was created \
             anew. Bring the old topic back, or use a new data directory",
            stored.hash, found.hash
        )
    );
    shared().grow(&topic, 2);
    let moved = format!("{topic}/0: the topic had 1 partitions and now has 2, so keys have moved between partitions: ");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // The broker tells of a new partition a moment later.
    while log.topic(&topic).unwrap().partitions < 2 {
        assert!(std::time::Instant::now() < deadline, "no second partition");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(refused(&log, &topic, 3, &s(0)).starts_with(&moved), "{}", refused(&log, &topic, 3, &s(0)));
}

#[test]
fn times_of_a_real_broker_that_are_equal_or_out_of_order() {
    let topic = shared().topic_with("plan-times", 1, KEPT);
    let times = [3, 5, 5, 2, 9, 9, 1].map(|seconds| Put { timestamp: Some(T0 + seconds * 1000), ..put(0, "key", "v") });
    shared().produce(&topic, &times);
    let log = Kafka::connect(KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() }).unwrap();
    for (asked, cut, time) in [(0, 0, Some(3)), (4, 1, Some(5)), (5, 1, Some(5)), (6, 4, Some(9)), (10, 7, None)] {
        let plan = planned(&log, &topic, from(s(asked), BaseChoice::Auto)).unwrap();
        let time = time.map(|seconds: i64| Timestamp(T0 + seconds * 1000));
        assert_eq!((parts(&plan)[0].cut, parts(&plan)[0].cut_time), (Position(cut), time), "{asked}");
    }
}
