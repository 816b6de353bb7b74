//! `on-change = "replay"`: a definition changes, the program starts again, and reads are answered from then on, first with
//! the rows of the old definition and then with those of the new one, and never with something between.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::feeding::{Embedded, Feeder};
use crate::harness::*;
use crate::readers::{EndsWith, Front, Readers};
use crate::replaying::{Stage, with_fees};

const FIRST: usize = 40_000;
const ACCOUNTS: usize = 2_000;

#[test]
fn an_upgrade_of_a_declared_view_answers_all_the_time() {
    let _alone = alone();
    let seed = seed("upgrade");
    let place = bank("bank.accounts", "[replay]\non-change = \"replay\"\n");
    let front: Arc<Front> = Arc::default();
    let mut stage = Stage::new(&place, front.clone(), seed);
    stage.start();
    let _end = EndsWith(front.clone());
    let mut feeder = Feeder::new(FIRST + 40_000, ACCOUNTS, 20, 4, seed);
    let log = Embedded(front.clone());
    feeder.first(&log, FIRST);
    settled(stage.daemon());
    let readers = Readers::begin(&front, 3, ACCOUNTS, seed);
    feeder.go_on(log, &front, Duration::from_millis(100));
    std::thread::sleep(Duration::from_millis(500));
    stage.stop();
    let config = fs::read_to_string(place.path("segno.toml")).unwrap();
    fs::write(place.path("segno.toml"), with_fees(&config)).unwrap();
    // From here on every read must be answered: the readers count what is not as wrong.
    stage.start();
    let before = readers.seen.answers.load(Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(60);
    let job: Value = loop {
        let answer = stage.daemon().get("/v1/replays/latest");
        if answer.body["phase"] == "done" {
            break answer.body;
        }
        assert!(answer.status == 404 || answer.body["phase"] != "failed", "{answer:?}");
        assert!(Instant::now() < deadline, "no upgrade: {answer:?}\n{}", stage.daemon().said());
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(job["kind"], "upgrade", "{job:#}");
    std::thread::sleep(Duration::from_millis(500));
    front.over.store(true, Ordering::Release);
    let seen = readers.end();
    seen.nothing_wrong();
    assert!(seen.answers.load(Ordering::Relaxed) > before + 50, "nobody read: {}", seen.told());
    let log = place.path("log.jsonl");
    feeder.end(&log);
    let status = settled(stage.daemon());
    let from = ["--fees-from", "0:0,1:0,2:0,3:0"];
    let oracle = script_json("bank.py", &[&["oracle", log.to_str().unwrap()], &from[..]].concat());
    assert_oracle(stage.daemon(), &status, &oracle);
    let answers = place.path("answers.jsonl");
    fs::write(&answers, seen.take()).unwrap();
    let args = ["answers", log.to_str().unwrap(), answers.to_str().unwrap()];
    let judged = script_json("bank.py", &[&args[..], &from[..]].concat());
    println!("{} answers judged, told apart: {}", judged["checked"], judged["told_apart"]);
    assert_eq!(judged["wrong"], 0, "{judged:#}");
    for turns in judged["turns"].as_object().unwrap().values() {
        assert_eq!(turns, &serde_json::json!([1, 2]), "{judged:#}");
    }
    stage.stop();
}
