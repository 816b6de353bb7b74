//! Kafka: killed again and again while events arrive, and in the end every row is what the oracle says.

use std::fs;

use crate::common::broker;
use crate::harness::*;
use crate::killing::{KILLS, Killer};

const EVENTS: &str = "210000";
const ACCOUNTS: &str = "5500";
const BAD: &str = "60";

#[test]
fn on_kafka_no_kill_changes_a_row() {
    let _alone = alone();
    let seed = seed("crash_kafka");
    let broker = broker::shared();
    let topic = broker.topic("bank", 4);
    let place = bank(&topic, &format!("[node]\nlog = \"kafka\"\n[kafka]\nbrokers = \"{}\"\n", broker.plaintext));
    let args = ["generate", "--events", EVENTS, "--accounts", ACCOUNTS, "--bad", BAD, "--records", "--seed"];
    let workload = script("bank.py", &[&args[..], &[&seed.to_string()]].concat());
    let all = place.path("all.jsonl");
    fs::write(&all, &workload).unwrap();
    let lines: Vec<&str> = workload.lines().collect();
    let portions: Vec<_> = lines.chunks(lines.len().div_ceil(KILLS)).collect();

    let mut killer = Killer::new(&place, seed);
    for portion in &portions {
        let file = place.path("portion.jsonl");
        fs::write(&file, portion.join("\n")).unwrap();
        let mut append = place.command(&["append", &topic, file.to_str().unwrap(), "--json"]);
        // The events of this round go in while the daemon starts, works, and dies.
        let mut append = append.stdout(std::process::Stdio::null()).spawn().unwrap();
        killer.kill_once(portion.len(), |_| ());
        assert!(append.wait().unwrap().success());
    }
    killer.proves_something();

    let mut daemon = place.daemon(&[]);
    let status = settled(&mut daemon);
    assert_eq!(total(&status, "log_end"), lines.len() as u64, "every line is one record, and Kafka adds none");
    let oracle = script_json("bank.py", &["oracle", all.to_str().unwrap()]);
    assert_oracle(&daemon, &status, &oracle);
    let books = books(&status);
    assert!(books["account_balance"]["parked"].as_u64().unwrap() > 0, "nothing was parked");
    assert_eq!(books["account_balance"]["dead"], BAD.parse::<u64>().unwrap());
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
}
