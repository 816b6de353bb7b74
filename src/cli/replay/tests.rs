//! The texts of a replay, and following one, against a scripted API.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use super::progress::{self, Screen};
use super::watch::{self, Left};
use super::*;
use crate::cli::operator::{Reply, Transport};

/// A plan as the node answers it.
fn plan() -> Value {
    let partition = |partition: u32, base: Value, cut: u64, records: u64| {
        json!({ "partition": partition, "log_start": 0, "log_end": 50, "cut": cut,
            "cut_time": if cut < 50 { json!(1_763_640_000_000_i64) } else { Value::Null }, "base": base, "from": 9,
            "base_time": null, "live": 49, "records": records, "bytes": 2048 })
    };
    json!({
        "request": { "from": "-PT2H" }, "time": 1_763_640_000_000_i64,
        "topics": [{ "topic": "bank", "compacted": false,
            "views": [{ "view": "account", "live": 1, "wanted": 2, "change": "changed" },
                { "view": "daily", "live": null, "wanted": 1, "change": "added" }],
            "partitions": [partition(0, json!({ "snapshot": { "snapshot": 3, "position": 9 } }), 17, 1200),
                partition(1, json!("genesis"), 50, 34)] }],
        "records": 1234, "bytes": 4096, "exact": true, "seconds": 185.0, "disk_needed": 1 << 30, "disk_free": 1 << 20,
        "warnings": ["bank/1: nothing lies at or after that time"],
    })
}

fn job(phase: &str) -> Value {
    json!({
        "id": 7, "kind": "replay", "phase": phase, "plan": plan(), "created": 0, "rate": 1500.4, "eta_seconds": 65.0,
        "losing": false, "live_lag_records": 12, "live_lag_seconds": 0.31, "approved": false,
        "topics": [{ "topic": "bank", "done": 999, "total": 1000, "partitions": [
            { "partition": 0, "generation": 2, "from": 9, "position": 40, "durable": 30, "target": 49 }] }],
    })
}

fn verification(change: &str) -> Value {
    json!({
        "at": ["bank@0:49,1:50"], "identical": false, "changed_share": 0.0012,
        "views": [{ "topic": "bank", "view": "account", "change": change, "live_digest": "aa", "new_digest": "bb",
            "added": 1, "removed": 1, "changed": 12, "unchanged": 10_000, "samples": [
                { "partition": 0, "key": "acc-7", "live": { "balance": 10 }, "new": { "balance": 15, "open": true },
                  "fields": [{ "field": "balance", "live": 10, "new": 15 }, { "field": "open", "live": null, "new": true }] },
                { "partition": 1, "key": "acc-8", "live": null, "new": { "balance": 1 }, "fields": [] },
                { "partition": 1, "key": "acc-9", "live": { "balance": 2 }, "new": null, "fields": [] }] }],
    })
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    // Columns are as wide as they need to be.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    parts.iter().for_each(|part| assert!(words.contains(part), "{part:?} is not in\n{text}"));
}

#[test]
fn a_plan_says_what_is_read_and_what_happens_to_live() {
    let text = plan_table::show(&read(plan()));
    has(
        &text,
        &[
            "Replay from 2025-11-20T12:00:00.000Z",
            "0 17 2025-11-20T12:00:00.000Z snapshot 3 - 9 49 0..50 1,200 2.0 KiB",
            "1 50 none: the end genesis - 9 49 0..50 34 2.0 KiB",
            "total 1,234 4.0 KiB",
            "account v1 v2 changed",
            "daily - v1 new",
            "reads 1,234 records, 4.0 KiB (counted)",
            "time about 3 min 5 s",
            "disk needs 1.0 GiB, 1.0 MiB free NOT ENOUGH",
            "warning: bank/1: nothing lies",
            "nothing it has changes before the cut-over",
            "nothing is switched without a yes",
            "segno replay rollback",
        ],
    );
    let mut same = plan();
    same["topics"][0]["views"] = json!([{ "view": "account", "live": 1, "wanted": 1, "change": "same" }]);
    has(
        &plan_table::show(&read(same)),
        &["every row must come out the same, and if one does not, nothing is switched"],
    );
    let mut gate = plan();
    gate["request"]["max_changed"] = json!(0.001);
    (gate["exact"], gate["seconds"], gate["bytes"]) = (json!(false), Value::Null, Value::Null);
    has(
        &plan_table::show(&read(gate.clone())),
        &["if at most 0.10 % of the rows differ", "1,234 records (estimated)", "too little is read to measure a rate"],
    );
    gate["request"]["yes"] = json!(true);
    has(&plan_table::show(&read(gate)), &["switched however much differs"]);
}

#[test]
fn progress_has_rate_time_left_and_the_lag_of_live() {
    let building: JobStatus = read(job("building"));
    assert_eq!(progress::line(&building), "building, 1,500 records/s, 1 min 5 s left; live lag 12 records (0.3 s)");
    assert_eq!(progress::share(&building), "99.9 %");
    let losing = JobStatus { losing: true, live_lag_records: None, ..building.clone() };
    has(&progress::line(&losing), &["live lag 0.3 s", "SLOWER THAN THE INPUT"]);
    has(&jobs::one(&building), &["Job 7, replay of bank", "bank 0 2 9 40 30 49", "segno replay cancel 7"]);
    has(&jobs::list(&[building]), &["7 replay building -PT2H 99.9 %"]);
    has(&jobs::list(&[]), &["no job yet"]);
}

#[test]
fn a_verdict_names_the_rows_and_fields_that_differ() {
    let text = verdict::show(&read(verification("changed")));
    has(
        &text,
        &[
            "both at bank@0:49,1:50",
            "account bank changed 10,000 12 1 1 differ",
            "0.12 % of the rows differ.",
            "acc-7 (partition 0) balance: 10 -> 15 open: (none) -> true",
            "acc-8 (partition 1): only in new {\"balance\":1}",
            "acc-9 (partition 1): only in live",
            "and 11 rows more",
        ],
    );
    has(&verdict::show(&read(verification("same"))), &["also where the definition is that of live: account"]);
    let mut equal = verification("same");
    equal["identical"] = json!(true);
    equal["views"][0]["samples"] = json!([]);
    has(&verdict::show(&read(equal)), &["byte for byte"]);
}

#[test]
fn the_end_of_a_job_has_its_own_code_and_the_way_back() {
    let mut status = job("done");
    has(&verdict::end(&read(status.clone())).unwrap(), &["bank/0 generation 2", "Undo: `segno replay rollback 7`"]);
    (status["kind"], status["of"]) = (json!("rollback"), json!(5));
    has(&verdict::end(&read(status)).unwrap(), &["what job 5 had replaced is live again"]);
    let mut failed = job("failed");
    failed["reason"] = json!("the disk is full");
    let failure = verdict::end(&read(failed.clone())).unwrap_err();
    assert_eq!(failure.code, Code::Failed);
    has(&failure.to_string(), &["the disk is full", "live is as it was", "segno replay resume 7"]);
    // A changed definition may differ; one that is that of live may not.
    failed["verification"] = verification("changed");
    assert_eq!(verdict::end(&read(failed.clone())).unwrap_err().code, Code::Failed);
    failed["verification"] = verification("same");
    assert_eq!(verdict::end(&read(failed)).unwrap_err().code, Code::Differs);
    assert_eq!(verdict::end(&read(job("cancelled"))).unwrap_err().code, Code::Failed);
}

/// Answers in turn; the last one again and again.
struct Script(RefCell<VecDeque<Result<Value, Code>>>);

impl Transport for Script {
    fn request(&self, method: Method, path: &str, _: Option<&Value>) -> Result<Reply, Failure> {
        assert_eq!((method, path), (Method::Get, "/v1/replays/7"));
        let mut script = self.0.borrow_mut();
        let next = if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() };
        let body = next.map_err(|code| Failure::new(code, "nobody answers"))?;
        let status = if body.get("error").is_some() { 503 } else { 200 };
        Ok(Reply { status, body: body.to_string().into_bytes() })
    }

    fn whom(&self) -> String {
        "a script".to_owned()
    }
}

#[derive(Default)]
struct Heard(Vec<String>);

impl Screen for Heard {
    fn show(&mut self, status: &JobStatus) -> Result<(), Failure> {
        self.0.push(status.phase.to_string());
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

fn follow(script: &[Result<Value, Code>], pauses: usize, patience: Duration) -> (Result<Left, Failure>, Vec<String>) {
    let operator = Operator::with(Script(RefCell::new(script.iter().cloned().collect())), false);
    let (mut heard, mut left) = (Heard::default(), pauses);
    let ended = watch::follow(&operator, 7, &mut heard, patience, || {
        left = left.saturating_sub(1);
        left == 0
    });
    (ended, heard.0)
}

#[test]
fn a_daemon_that_starts_again_is_waited_for() {
    let starting = json!({ "error": { "code": "starting", "message": "the node is starting", "next": "wait" } });
    let script = [Ok(job("building")), Err(Code::Unreachable), Err(Code::Unreachable), Ok(starting), Ok(job("done"))];
    let (ended, heard) = follow(&script, 100, Duration::from_secs(60));
    assert!(matches!(ended, Ok(Left::Ended(status)) if status.id == 7));
    assert_eq!((heard.len(), &*heard[0], &*heard[3]), (4, "building", "done"), "{heard:?}");
    has(&heard[1], &["nobody answers", "trying again for 1 min 0 s", "kept on disk"]);
    has(&heard[2], &["answers again"]);
    // Not for ever.
    let (ended, _) = follow(&[Err(Code::Unreachable)], 100, Duration::ZERO);
    let failure = ended.unwrap_err();
    assert_eq!(failure.code, Code::Unreachable);
    has(&failure.to_string(), &["the job is kept", "segno replay watch 7"]);
}

#[test]
fn watching_ends_at_a_question_or_when_somebody_goes() {
    let (ended, _) = follow(&[Ok(job("building")), Ok(job("waiting"))], 100, Duration::ZERO);
    assert!(matches!(ended, Ok(Left::NeedsYes(_))));
    let mut approved = job("waiting");
    approved["approved"] = json!(true);
    let (ended, heard) = follow(&[Ok(approved), Ok(job("cutting-over")), Ok(job("done"))], 100, Duration::ZERO);
    assert!(matches!(ended, Ok(Left::Ended(_))));
    assert_eq!(heard, ["waiting", "cutting over", "done"]);
    assert_eq!(follow(&[Ok(job("building"))], 3, Duration::ZERO).0, Ok(Left::Interrupted));
    assert_eq!(follow(&[Err(Code::NotFound)], 3, Duration::ZERO).0.unwrap_err().code, Code::NotFound);
}

#[test]
fn a_job_that_waits_says_how_to_go_on() {
    let operator = Operator::with(Script(RefCell::default()), false);
    let failure = verdict::needs_yes(&read(job("waiting")), &operator);
    assert_eq!(failure.code, Code::NeedsYes);
    has(&failure.to_string(), &["segno replay approve 7", "segno replay diff 7", "segno replay cancel 7"]);
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    replay: Replay,
}

#[test]
fn flags_become_a_request() {
    let parse = |args: &[&str]| Line::try_parse_from([&["replay"], args].concat()).map(|line| line.replay);
    let replay = parse(&[
        "--from",
        "-PT2H",
        "--topic",
        "a",
        "--topic",
        "b",
        "--base",
        "3",
        "--rate",
        "9",
        "--max-changed",
        "0.1%",
        "--yes",
        "--compacted",
        "b",
    ]);
    let expected = json!({ "from": "-PT2H", "topics": ["a", "b"], "base": { "snapshot": 3 }, "rate": 9,
        "max_changed": 0.001, "yes": true, "compacted": ["b"] });
    assert_eq!(json!(replay.unwrap().start.request()), expected);
    let bare = parse(&["--from", "@bank@0:1"]).unwrap().start.request();
    assert_eq!(bare, ReplayRequest { from: "@bank@0:1".to_owned(), ..ReplayRequest::default() });
    for wrong in [
        &[][..],
        &["--from", "x", "--base", "newest"],
        &["--from", "x", "--rate", "0"],
        &["--from", "x", "--max-changed", "200%"],
        &["--from", "x", "--plan", "--detach"],
        &["status", "first"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    assert!(matches!(parse(&["status"]).unwrap().action, Some(Action::Status(Which { id: None }))));
    assert!(matches!(
        parse(&["rollback", "4", "--yes"]).unwrap().action,
        Some(Action::Rollback(Rollback { id: Some(4), .. }))
    ));
}
