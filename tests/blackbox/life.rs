//! A daemon's life as its users see it: reads of one's own writes while it works, answers that say *behind*, a stop
//! within its bound under load, and lists that cover every key once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::faces::{CONFIG, Daemon, Place};
use crate::harness::*;

fn deposits(keys: std::ops::Range<u32>) -> String {
    keys.map(|i| {
        format!("{{\"key\":\"k{i:04}\",\"value\":{{\"event_type\":\"Deposited\",\"payload\":{{\"amount\":1}}}}}}\n")
    })
    .collect()
}

fn append(daemon: &Daemon, lines: &str) -> Option<String> {
    let answer = daemon.post("/v1/topics/bank.accounts/events", "application/x-ndjson", lines.as_bytes());
    (answer.status == 200).then(|| answer.body["token"].as_str().unwrap().to_owned())
}

#[test]
fn every_write_is_read_back_at_its_token_while_others_write() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                append(&daemon, &deposits(0..500)).expect("an append");
            }
        });
        for n in 1..=60 {
            let token = append(&daemon, &deposits(9999..10000)).expect("an append");
            let read = daemon.get(&format!("/v1/views/account/k9999?at-least={token}"));
            assert_eq!((read.status, &read.body["value"]["balance"]), (200, &json!(n)), "{token}: {read:?}");
        }
        done.store(true, Ordering::Release);
    });
    // The same with the command line, and with a token that the log has not reached.
    let args = ["append", "bank.accounts", "-", "--key", "id"];
    let input = "{\"id\":\"k9999\",\"event_type\":\"Deposited\",\"payload\":{\"amount\":40}}\n";
    let appended = place.run_with(&args, input).ok();
    let token = appended.out.trim();
    let read = place.run(&["get", "account", "k9999", "--at-least", token, "--json"]).ok().json();
    assert_eq!(read["value"]["balance"], 100);
    let far = "bank.accounts@0:999999999";
    let read = daemon.get(&format!("/v1/views/account/k9999?at-least={far}&wait=100ms"));
    assert_eq!((read.status, read.code(), &read.body["error"]["want"]), (409, "behind", &json!(far)), "{read:?}");
    assert!(read.body["error"]["have"].as_str().unwrap().starts_with("bank.accounts@0:"), "{read:?}");
    let read = place.run(&["get", "account", "k9999", "--at-least", far, "--wait", "100ms"]);
    assert_eq!(read.code, 4, "{read:?}");
    assert!(read.err.contains(far) && read.err.contains("behind"), "{read:?}");
}

#[test]
fn a_stop_under_load_ends_with_0_within_its_bound_and_leaves_all_durable() {
    let place = Place::new(CONFIG);
    for signal in ["TERM", "INT"] {
        let mut daemon = place.daemon(&["--set", "node.stop-timeout=10s"]);
        let other = another(&daemon);
        let stopping = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Until the daemon takes no more.
                while append(&other, &deposits(0..500)).is_some() {}
                assert!(stopping.load(Ordering::Acquire), "an append failed before the stop");
            });
            std::thread::sleep(Duration::from_millis(700));
            stopping.store(true, Ordering::Release);
            let begin = Instant::now();
            daemon.signal(signal);
            assert_eq!(daemon.ended(), 0, "{}", daemon.said());
            assert!(begin.elapsed() < Duration::from_secs(11), "{:?}", begin.elapsed());
        });
        let status = place.run(&["status", "--json"]).ok().json();
        assert_eq!(total(&status, "applied"), total(&status, "durable"));
        assert_eq!(books(&status)["account"]["consumed"], total(&status, "applied"), "{status}");
    }
    let mut daemon = place.daemon(&[]);
    let status = settled(&mut daemon);
    let sum: u64 = rows(&daemon, "account").values().map(|row| row["balance"].as_u64().unwrap()).sum();
    assert_eq!(sum, total(&status, "log_end"), "each event is in a row, once");
}

/// Another client of the same daemon, while the first one is busy stopping it.
fn another(daemon: &Daemon) -> Daemon {
    let child = std::process::Command::new("true").spawn().unwrap();
    Daemon { child, base: daemon.base.clone(), token: None, log: daemon.log.clone() }
}

#[test]
fn a_list_in_pages_has_every_key_once_and_status_has_every_field() {
    let place = Place::new(CONFIG);
    let mut daemon = place.daemon(&[]);
    append(&daemon, &deposits(0..1234)).expect("an append");
    let status = settled(&mut daemon);
    let (mut keys, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let mut args = vec!["list", "account", "--limit", "100", "--json"];
        if let Some(cursor) = &cursor {
            args.extend(["--cursor", cursor]);
        }
        let page = place.run(&args).ok().json();
        keys.extend(page["rows"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert!(pages >= 13, "{pages}");
    let once: BTreeSet<_> = keys.iter().cloned().collect();
    assert_eq!(once.len(), keys.len(), "a key came twice");
    assert_eq!(once, (0..1234).map(|i| format!("k{i:04}")).collect());

    assert_eq!(
        (&status["node"], &status["state"], &status["log"]),
        (&json!("segno"), &json!("ready"), &json!("embedded"))
    );
    let fields = [
        "applied",
        "durable",
        "log_end",
        "lag_records",
        "lag_seconds",
        "resident",
        "batch_records",
        "in_flight",
        "waiting",
        "parked",
        "dead",
        "generation",
        "partition",
    ];
    for partition in partitions(&topics(&status)[0]) {
        for field in fields {
            assert!(partition[field].is_number(), "{field} in {partition}");
        }
        assert_eq!(partition["state"], "running");
    }
    let cli = place.run(&["status", "--json"]).ok().json();
    assert_eq!(books(&cli), books(&status));
}

#[test]
fn completions_parse_and_know_the_commands() {
    let place = Place::new("");
    let script = place.run(&["completions", "bash"]).ok().out;
    std::fs::write(place.path("completion.bash"), &script).unwrap();
    let asked = "source \"$0\"; COMP_WORDS=(segno st); COMP_CWORD=1; COMP_LINE='segno st'; _segno segno st segno; echo \"${COMPREPLY[@]}\"";
    let output = std::process::Command::new("bash").args(["-c", asked]).arg(place.path("completion.bash")).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "status", "{}", String::from_utf8_lossy(&output.stderr));
}
