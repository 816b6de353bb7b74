//! What the tests here share: the real binary in a directory of its own, and the oracles in Python.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faces::{Daemon, Place};

/// How long a daemon that has been fed may take to get to the end of its log, on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(180);

/// The books of a view that must add up to `consumed`.
pub const COLUMNS: [&str; 5] = ["applied", "skipped", "waiting", "parked", "dead"];

pub type Rows = BTreeMap<String, Value>;

/// Held by the tests that keep both cores busy: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static BIG: Mutex<()> = Mutex::new(());
    // A test that failed has let go of the machine as well.
    BIG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The seed of this run: SEGNO_SEED, or a new one. Printed, so that a failure can be had again.
pub fn seed(test: &str) -> u64 {
    let fresh = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 % 1_000_000_007;
    let seed = std::env::var("SEGNO_SEED").map_or_else(|_| fresh(), |text| text.parse().expect("a number"));
    println!("{test}: SEGNO_SEED={seed}");
    seed
}

pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Runs a program of the repository's scripts to its end and returns what it printed.
pub fn script(program: &str, args: &[&str]) -> String {
    let (runner, script) = match program.ends_with(".py") {
        true => ("python3", vec!["-B".to_owned()]),
        false => ("bash", vec![]),
    };
    let mut command = Command::new(runner);
    command.args(script).arg(repository("scripts").join(program)).args(args).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{runner}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn script_json(program: &str, args: &[&str]) -> Value {
    serde_json::from_str(&script(program, args)).unwrap()
}

/// Asks until everything that is in the log has been seen off, and returns that status.
#[track_caller]
pub fn settled(daemon: &mut Daemon) -> Value {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let status = daemon.get("/v1/status");
        if status.status == 200 && topics(&status.body).iter().all(at_end) {
            return status.body;
        }
        assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended: {}", daemon.said());
        assert!(Instant::now() < deadline, "the daemon does not catch up: {status:?}\n{}", daemon.said());
        std::thread::sleep(Duration::from_millis(30));
    }
}

pub fn topics(status: &Value) -> &[Value] {
    status["topics"].as_array().unwrap_or_else(|| panic!("no topics in {status}"))
}

pub fn partitions(topic: &Value) -> &[Value] {
    topic["partitions"].as_array().unwrap()
}

/// Everything that is in the log of the topic has been seen off.
pub fn at_end(topic: &Value) -> bool {
    let done = |p: &Value| p["lag_records"] == 0 && p["in_flight"] == 0 && p["applied"] == p["log_end"];
    partitions(topic).iter().all(done)
}

/// The sum of a number over the partitions of the first topic.
pub fn total(status: &Value, number: &str) -> u64 {
    let all = partitions(&topics(status)[0]).iter();
    all.map(|p| p[number].as_u64().unwrap_or_else(|| panic!("{number} is not known in {p}"))).sum()
}

/// The books of every view, by name. They must balance, at any moment, after any crash.
#[track_caller]
pub fn books(status: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for view in topics(status).iter().flat_map(|topic| topic["views"].as_array().unwrap()) {
        let books = &view["books"];
        let sum: i64 = COLUMNS.iter().map(|column| books[column].as_i64().unwrap()).sum();
        assert_eq!(books["consumed"], sum, "the books do not balance: {view}");
        all.insert(view["view"].as_str().unwrap().to_owned(), books.clone());
    }
    all
}

/// Every row of a view, page by page. A key that comes twice is an error.
#[track_caller]
pub fn rows(daemon: &Daemon, view: &str) -> Rows {
    let (mut rows, mut query) = (Rows::new(), String::from("limit=1000"));
    loop {
        let page = daemon.get(&format!("/v1/views/{view}?{query}"));
        assert_eq!(page.status, 200, "{page:?}");
        for row in page.body["rows"].as_array().unwrap() {
            let key = row["key"].as_str().unwrap_or_else(|| panic!("{row}")).to_owned();
            assert!(rows.insert(key, row["value"].clone()).is_none(), "{row} was listed twice");
        }
        match page.body["next"].as_str() {
            Some(next) => query = format!("limit=1000&cursor={next}"),
            None => return rows,
        }
    }
}

/// Compares rows, and shows the first few that differ, not ten thousand.
#[track_caller]
pub fn assert_rows(view: &str, found: &Rows, expected: &Value) {
    let expected = expected.as_object().unwrap();
    let mut wrong = String::new();
    let mut count = 0;
    let mut differs = |key: &str, found: Option<&Value>, expected: Option<&Value>| {
        count += 1;
        if count <= 5 {
            let show = |row: Option<&Value>| row.map_or("no row".to_owned(), ToString::to_string);
            writeln!(wrong, "  {key}: {} instead of {}", show(found), show(expected)).unwrap();
        }
    };
    for (key, row) in expected {
        if found.get(key) != Some(row) {
            differs(key, found.get(key), Some(row));
        }
    }
    for (key, row) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
        differs(key, Some(row), None);
    }
    assert!(count == 0, "{count} rows of {view} are wrong, of {} expected:\n{wrong}", expected.len());
    assert!(!expected.is_empty(), "nothing was compared for {view}");
}

/// Rows and books of every view that an oracle knows: `{view: {rows, books}}`.
#[track_caller]
pub fn assert_oracle(daemon: &Daemon, status: &Value, oracle: &Value) {
    let books = books(status);
    for (view, expected) in oracle.as_object().unwrap() {
        assert_rows(view, &rows(daemon, view), &expected["rows"]);
        for (column, count) in expected["books"].as_object().unwrap() {
            assert_eq!(&books[view][column], count, "{column} of {view}: {} instead of {expected}", books[view]);
        }
        assert_eq!(books[view]["waiting"], 0, "{view}");
    }
}

/// A place with a topic of the bank's two views, as examples/bank.toml declares them, under another name where asked.
pub fn bank(topic: &str, more: &str) -> Place {
    let example = std::fs::read_to_string(repository("examples/bank.toml")).unwrap();
    let name = "name = \"bank.accounts\"";
    assert_eq!(example.matches(name).count(), 1);
    Place::new(&format!("{}\n{more}", example.replace(name, &format!("name = \"{topic}\""))))
}
