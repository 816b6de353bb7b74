//! The embedded log: killed again and again while events are appended over HTTP. No acknowledged append is lost, none
//! counts twice, and every row is what the oracle makes of what the log holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faces::Answer;
use crate::harness::*;
use crate::killing::{KILLS, Killer};

const EVENTS: &str = "205000";
const ACCOUNTS: &str = "5200";
const BAD: &str = "45";
const UNKNOWN_TYPE: &str = "\"MoneyTeleported\"";
const BATCH: usize = 200;

/// Reads the log back: where each event of a key stood, and which it was. Rejects nothing.
const JOURNAL: &str = r#"
[[topics.views]]
name = "journal"
initial = { entries = "" }
"#;

/// What the appender knows of its events.
#[derive(Default)]
struct Sent {
    /// The coordinates that an acknowledgement gave to each line.
    acknowledged: Vec<(u64, u64)>,
    /// Lines of the batches that got no answer, and may or may not be in the log.
    doubtful: Vec<usize>,
}

#[test]
fn on_the_embedded_log_no_kill_loses_an_acknowledged_append_or_changes_a_row() {
    let _alone = alone();
    let seed = seed("crash_embedded");
    let place = bank("bank.accounts", &journal());
    let args = ["generate", "--events", EVENTS, "--accounts", ACCOUNTS, "--bad", BAD, "--records", "--seed"];
    let workload = script("bank.py", &[&args[..], &[&seed.to_string()]].concat());
    // A batch that is sent twice may make any account overdraw. What becomes of an unknown type then depends on its
    // place, which the journal does not know; Kafka's test has them.
    let lines: Vec<String> = workload.lines().filter(|line| !line.contains(UNKNOWN_TYPE)).map(str::to_owned).collect();
    assert!(lines.len() >= 200_000);

    let mut killer = Killer::new(&place, seed);
    let address = Arc::new(Mutex::new(None));
    let allowed = Arc::new(AtomicUsize::new(0));
    let given_up = Arc::new(AtomicBool::new(false));
    let appender = {
        let (address, allowed, given_up, lines) = (address.clone(), allowed.clone(), given_up.clone(), lines.clone());
        std::thread::spawn(move || append_all(&lines, &address, &allowed, &given_up))
    };
    // Should a check below fail, the appender ends with it.
    let _end = OnDrop(given_up);
    for round in 1..=KILLS {
        allowed.store(lines.len() * round / KILLS, Ordering::Release);
        killer.kill_once(lines.len() / KILLS, |daemon| *address.lock().unwrap() = Some(daemon.base.clone()));
    }
    killer.proves_something();
    let mut daemon = place.daemon(&[]);
    *address.lock().unwrap() = Some(daemon.base.clone());
    let sent = appender.join().unwrap();
    println!("{} lines, {} without an answer", lines.len(), sent.doubtful.len());
    assert!(!sent.doubtful.is_empty(), "no kill ever hit an append");
    let status = settled(&mut daemon);

    // What the log holds, as the journal tells it: every entry at a place of its own, and every place below the end
    // taken, by an entry or by a dead letter.
    let journal = rows(&daemon, "journal");
    let mut found: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut oracle_lines = String::new();
    let by_id: HashMap<String, usize> = lines.iter().enumerate().map(|(i, line)| (id(line), i)).collect();
    for (key, row) in &journal {
        let mut last = None;
        for entry in row["entries"].as_str().unwrap().split_terminator(';') {
            let mut parts = entry.split('/');
            let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
            let at = (number(), number());
            let id = parts.next().unwrap();
            assert!(last < Some(at), "{key}: {at:?} after {last:?}");
            last = Some(at);
            assert!(found.insert(at, id.to_owned()).is_none(), "{at:?} was applied twice");
            oracle_lines += &lines[by_id[id]];
            oracle_lines.push('\n');
        }
    }
    let dead = books(&status)["journal"]["dead"].as_u64().unwrap();
    let end = total(&status, "log_end");
    assert_eq!(found.len() as u64 + dead, end, "records in the log");
    let ends: Vec<u64> = partitions(&topics(&status)[0]).iter().map(|p| p["log_end"].as_u64().unwrap()).collect();
    assert!(found.keys().all(|(partition, offset)| *offset < ends[*partition as usize]), "beyond {ends:?}");

    // Each acknowledged line stands where its acknowledgement said, and no two at one place.
    let places: HashSet<_> = sent.acknowledged.iter().collect();
    assert_eq!(places.len(), lines.len(), "coordinates were given out twice");
    for (line, at) in sent.acknowledged.iter().enumerate() {
        match found.get(at) {
            Some(id) => assert_eq!(*id, self::id(&lines[line]), "line {line} at {at:?}"),
            // The journal has no entry for a dead letter, but its place is taken: see the count above.
            None if is_bad(&lines[line]) && at.1 < ends[at.0 as usize] => {}
            None => panic!("line {line} was acknowledged at {at:?} and is lost: {}", lines[line]),
        }
    }
    // Whatever is there more often than once was sent more often than once.
    let extra = end - lines.len() as u64;
    assert!(extra <= sent.doubtful.len() as u64, "{extra} records that nobody sent");
    let doubtful: HashSet<&usize> = sent.doubtful.iter().collect();
    let at_acknowledged = |at: &(u64, u64), id: &str| sent.acknowledged[by_id[id]] == *at;
    for (at, id) in found.iter().filter(|(at, id)| !at_acknowledged(at, id)) {
        assert!(doubtful.contains(&by_id[id.as_str()]), "{id} at {at:?} was sent once and is there twice");
    }

    // The oracle folds what the log holds. Of what is no event for anybody only the number matters.
    let bad = lines.iter().find(|line| is_bad(line)).unwrap();
    for _ in 0..dead {
        oracle_lines += bad;
        oracle_lines.push('\n');
    }
    let file = place.path("oracle.jsonl");
    fs::write(&file, oracle_lines).unwrap();
    let oracle = script_json("bank.py", &["oracle", file.to_str().unwrap()]);
    assert_oracle(&daemon, &status, &oracle);
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
}

fn journal() -> String {
    let entry = "state.entries + string(event.partition) + '/' + string(event.offset) + '/' + string(event.id) + ';'";
    ["AccountOpened", "MoneyDeposited", "MoneyWithdrawn"]
        .iter()
        .fold(JOURNAL.to_owned(), |config, kind| format!("{config}[topics.views.on.{kind}]\nentries = \"{entry}\"\n"))
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Appends all lines in order, batch by batch, each until it is acknowledged, at whatever address there is.
fn append_all(lines: &[String], address: &Mutex<Option<String>>, allowed: &AtomicUsize, given_up: &AtomicBool) -> Sent {
    let mut sent = Sent::default();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .proxy(None)
        .build()
        .into();
    let mut last = Instant::now();
    while sent.acknowledged.len() < lines.len() && !given_up.load(Ordering::Acquire) {
        assert!(last.elapsed() < Duration::from_secs(120), "no append was acknowledged for too long");
        let from = sent.acknowledged.len();
        let to = (from + BATCH).min(allowed.load(Ordering::Acquire));
        let Some(base) = address.lock().unwrap().clone().filter(|_| from < to) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let request = agent.post(format!("{base}/v1/topics/bank.accounts/events"));
        let body = lines[from..to].join("\n");
        let answer = request.header("content-type", "application/x-ndjson").send(body);
        // Nobody listens there, so nobody has got it.
        let refused = matches!(&answer, Err(ureq::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused);
        let answer = crate::faces::answer(answer);
        match answer.status {
            200 => {
                last = Instant::now();
                sent.acknowledged.extend(coordinates(&answer, to - from));
                continue;
            }
            // No answer, though it was listening: nobody knows.
            0 if !refused => sent.doubtful.extend(from..to),
            0 => {}
            // The node is starting: it did not get in.
            status => assert_eq!(status, 503, "{answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    sent
}

fn coordinates(answer: &Answer, count: usize) -> Vec<(u64, u64)> {
    let records = answer.body["records"].as_array().unwrap();
    assert_eq!(records.len(), count, "{answer:?}");
    records.iter().map(|at| (at["partition"].as_u64().unwrap(), at["offset"].as_u64().unwrap())).collect()
}

fn id(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["value"]["event_id"].as_str().unwrap().to_owned()
}

/// Whether no event can be made of the line: it has no key, or no type.
fn is_bad(line: &str) -> bool {
    let line: Value = serde_json::from_str(line).unwrap();
    line["key"].is_null() || line["value"]["event_type"].is_null()
}
