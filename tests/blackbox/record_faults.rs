//! Records that are wrong in every way we know, on Kafka and on the embedded log: each is found where it belongs, with
//! the right reason, and the events before and after it are applied.

use std::collections::BTreeMap;

use segno::record::NewRecord;
use segno::streams::Log;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Timestamps};
use serde_json::json;

use crate::common::broker::{self, Put, put};
use crate::faces::{CONFIG, Daemon, Place};
use crate::harness::*;

/// What becomes of a record, for the one view of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Applied,
    Dead(&'static str),
    Parked(&'static str),
}

use Fate::{Applied, Dead, Parked};

struct Case {
    name: &'static str,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Option<i64>,
    fate: Fate,
}

fn case(name: &'static str, key: &str, value: impl Into<Vec<u8>>, fate: Fate) -> Case {
    Case { name, key: Some(key.into()), value: Some(value.into()), timestamp: None, fate }
}

fn deposit(amount: &str) -> String {
    format!("{{\"event_type\":\"Deposited\",\"payload\":{{\"amount\":{amount}}}}}")
}

const YEAR_2200: i64 = 7_258_118_400_000;

fn cases() -> Vec<Case> {
    let large = format!("{{\"event_type\":\"Opened\",\"payload\":{{\"owner\":\"{}\"}}}}", "o".repeat(900 << 10));
    let deep = format!(
        "{{\"event_type\":\"Deposited\",\"payload\":{{\"amount\":1,\"deep\":{}1{}}}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let newer = "{\"event_type\":\"Deposited\",\"event_version\":2,\"payload\":{\"amount\":5}}";
    let at = |name, key, timestamp| Case { timestamp: Some(timestamp), ..case(name, key, deposit("3"), Applied) };
    vec![
        Case { key: None, ..case("a null key", "", deposit("1"), Dead("null-key")) },
        Case { value: None, ..case("a null value", "good-0", "", Dead("null-value")) },
        Case { key: Some(b"\xff\xfe\x00key".to_vec()), ..case("a key that is not UTF-8", "", deposit("7"), Applied) },
        case("no JSON", "good-1", "so long, and thanks", Dead("undecodable")),
        case("bytes that are no text", "good-1", b"{\"event_type\":\"\xff\"}".to_vec(), Dead("undecodable")),
        case("truncated JSON", "good-2", &deposit("1").as_bytes()[..40], Dead("undecodable")),
        case("an empty value", "good-2", "", Dead("undecodable")),
        case("10,000 levels", "good-3", deep, Dead("undecodable")),
        case("900 KiB", "large", large, Applied),
        case("a key of 20 KB", &"k".repeat(20_000), deposit("1"), Dead("key-too-large")),
        case(
            "a type that is given twice",
            "good-4",
            "{\"event_type\":\"Deposited\",\"event_type\":\"Opened\",\"payload\":{\"amount\":1}}",
            Dead("undecodable"),
        ),
        case(
            "an amount that is given twice",
            "twice",
            "{\"event_type\":\"Deposited\",\"payload\":{\"amount\":1,\"amount\":1000}}",
            Dead("undecodable"),
        ),
        case("an amount as a string", "text", deposit("\"5\""), Parked("rejected")),
        case("behind it", "text", deposit("5"), Parked("behind")),
        case("an unknown type behind it", "text", "{\"event_type\":\"Teleported\",\"payload\":{}}", Parked("behind")),
        case("an amount beyond 64 bits behind it", "text", deposit("9223372036854775808"), Parked("behind")),
        case("no event behind it", "text", "{}", Dead("undecodable")),
        case("1e400", "good-5", deposit("1e400"), Dead("undecodable")),
        case("beyond 64 bits", "good-6", deposit("9223372036854775808"), Dead("undecodable")),
        case("below 64 bits", "good-6", deposit("-9223372036854775809"), Dead("undecodable")),
        case("the largest amount", "largest", deposit("9223372036854775807"), Applied),
        case("an unknown type", "good-7", "{\"event_type\":\"Teleported\",\"payload\":{}}", Dead("unknown-type")),
        case("no type", "good-7", "{\"payload\":{\"amount\":1}}", Dead("undecodable")),
        case("a version too new", "newer", newer, Parked("version-too-new")),
        case("behind the newer one", "newer", deposit("5"), Parked("behind")),
        at("timestamp -1", "before", -1),
        at("timestamp 0", "epoch", 0),
        at("the year 2200", "later", YEAR_2200),
    ]
}

/// Ten good keys, each with one event before all that is wrong and one after it.
fn good(owner: &str) -> Vec<(String, String)> {
    let value = |i| format!("{{\"event_type\":\"Opened\",\"payload\":{{\"owner\":\"{owner} {i}\"}}}}");
    (0..10).map(|i| (format!("good-{i}"), value(i))).collect()
}

fn place(topic: &str, log: &str) -> Place {
    let config = CONFIG.replace("\"bank.accounts\"", &format!("\"{topic}\"")).replace("name = \"account\"", VIEW);
    Place::new(&format!("{config}\n[node]\nlog = \"{log}\"\n"))
}

const VIEW: &str = "name = \"account\"\nmax-event-version = 1";

/// What the daemon makes of them. `extra` records were applied besides, and are nobody's account.
fn check(daemon: &mut Daemon, topic: &str, cases: &[Case], timestamps: bool) {
    let status = settled(daemon);
    let mut counts: BTreeMap<Fate, u64> = BTreeMap::new();
    for case in cases {
        *counts.entry(case.fate).or_default() += 1;
    }
    let sum = |of: fn(&Fate) -> bool| counts.iter().filter(|(fate, _)| of(fate)).map(|(_, count)| count).sum::<u64>();
    let expected = json!({
        "consumed": cases.len() as u64 + 20, "applied": sum(|fate| *fate == Applied) + 20, "skipped": 0,
        "waiting": 0, "parked": sum(|fate| matches!(fate, Parked(_))), "dead": sum(|fate| matches!(fate, Dead(_))),
    });
    let metrics = daemon.get("/metrics").text;
    let of_reasons: Vec<&str> = metrics.lines().filter(|line| line.starts_with("segno_held_total{")).collect();
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(books(&status)["account"], expected, "of {names:?}: {of_reasons:#?}");
    for (fate, count) in &counts {
        let (Dead(reason) | Parked(reason)) = fate else { continue };
        let line = format!("segno_held_total{{topic=\"{topic}\",reason=\"{reason}\"}} {count}");
        assert!(of_reasons.contains(&line.as_str()), "{line} is not in {of_reasons:#?}");
    }

    let mut found = BTreeMap::new();
    let page = daemon.get("/v1/views/account?limit=1000");
    for row in page.body["rows"].as_array().unwrap() {
        found.insert(row["key"].to_string(), row.clone());
    }
    for (key, _) in good("") {
        let number = &key["good-".len()..];
        let row = found.remove(&json!(key).to_string()).unwrap_or_else(|| panic!("no {key} in {page:?}"));
        assert_eq!(row["value"], json!({ "owner": format!("After {number}"), "balance": 0 }));
    }
    let mut take = |key: serde_json::Value| found.remove(&key.to_string()).unwrap_or_else(|| panic!("no row {key}"));
    assert_eq!(take(json!("large"))["value"]["owner"].as_str().unwrap().len(), 900 << 10);
    assert_eq!(take(json!("largest"))["value"]["balance"], i64::MAX);
    assert_eq!(take(json!({ "base64": "//4Aa2V5" }))["value"]["balance"], 7);
    let (before, epoch, later) = (take(json!("before")), take(json!("epoch")), take(json!("later")));
    assert_eq!(later["timestamp"], YEAR_2200);
    assert_eq!(later["time"], "2200-01-01T00:00:00.000Z");
    assert_eq!(before["timestamp"], -1);
    assert_eq!(before["time"], "1969-12-31T23:59:59.999Z");
    if timestamps {
        assert_eq!(epoch["timestamp"], 0);
        assert_eq!(epoch["time"], "1970-01-01T00:00:00.000Z");
    }
    assert!(found.is_empty(), "rows that nobody made: {found:?}");
    for probe in ["/livez", "/readyz"] {
        assert_eq!(daemon.get(probe).status, 200, "{probe}");
    }
}

#[test]
fn on_the_embedded_log_each_bad_record_is_set_aside_with_its_reason() {
    let place = place("bank.accounts", "embedded");
    let cases = cases();
    // The API takes only JSON, so the log is written directly before the daemon has it.
    let log = Embedded::open(EmbeddedOptions::new(place.path("data/log"))).unwrap();
    log.create_topic("bank.accounts", 2, Timestamps::Create).unwrap();
    let plain = |(key, value): (String, String)| record(Some(key.into()), Some(value.into()), None);
    log.append("bank.accounts", good("Before").into_iter().map(plain).collect()).unwrap();
    for case in &cases {
        log.append("bank.accounts", vec![record(case.key.clone(), case.value.clone(), case.timestamp)])
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
    log.append("bank.accounts", good("After").into_iter().map(plain).collect()).unwrap();
    log.close(std::time::Duration::from_secs(5));
    drop(log);

    let mut daemon = place.daemon(&[]);
    check(&mut daemon, "bank.accounts", &cases, true);
    // What was set aside is still there, and counted, after a kill and a start.
    let before = books(&settled(&mut daemon));
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let mut daemon = place.daemon(&[]);
    assert_eq!(books(&settled(&mut daemon)), before);
}

fn record(key: Option<Vec<u8>>, value: Option<Vec<u8>>, timestamp: Option<i64>) -> NewRecord {
    NewRecord { key, value, timestamp, ..NewRecord::default() }
}

#[test]
fn on_kafka_each_bad_record_is_set_aside_with_its_reason_and_aborted_ones_are_never_seen() {
    let broker = broker::shared();
    let config = [("max.message.bytes", "2000000"), ("message.timestamp.after.max.ms", "9223372036854775807")];
    let topic = broker.topic_with("faults", 1, &config);
    let cases = cases();
    let plain = |good: &[(String, String)]| {
        let records: Vec<Put<'_>> = good.iter().map(|(key, value)| put(0, key, value)).collect();
        broker.produce(&topic, &records);
    };
    let poison =
        [put(0, "good-1", "{\"event_type\":\"Opened\",\"payload\":{\"owner\":\"aborted\"}}"), put(0, "ghost", "{}")];
    plain(&good("Before"));
    broker.aborted(&topic, &poison);
    let records: Vec<Put<'_>> = cases
        .iter()
        .map(|case| Put {
            key: case.key.as_deref(),
            value: case.value.as_deref(),
            timestamp: case.timestamp,
            ..Put::default()
        })
        .collect();
    broker.produce(&topic, &records);
    let after = good("After");
    let after: Vec<Put<'_>> = after.iter().map(|(key, value)| put(0, key, value)).collect();
    broker.committed(&topic, &after);
    // The log ends with records that nobody will ever see, and the lag is still to reach 0.
    broker.aborted(&topic, &poison);

    let place = place(&topic, "kafka");
    let mut daemon = place.daemon(&["--brokers", &broker.plaintext]);
    // The client library takes timestamp 0 for "now".
    check(&mut daemon, &topic, &cases, false);
    let status = settled(&mut daemon);
    let (end, seen) = (total(&status, "log_end"), books(&status)["account"]["consumed"].as_u64().unwrap());
    // Two aborted transactions with two records and a marker each, and the marker of the committed one.
    assert_eq!(end, seen + 7, "{status}");
    // A start in the gap works as well.
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
    let mut daemon = place.daemon(&["--brokers", &broker.plaintext]);
    assert_eq!(total(&settled(&mut daemon), "applied"), end);
}
