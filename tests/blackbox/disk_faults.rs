//! Disks that refuse, fill up or lie. Mounts are made in a mount namespace of the test's own, as root or in a user
//! namespace, so nothing has to be cleaned up, whatever happens.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faces::{CONFIG, Daemon, Place, Ran};
use crate::harness::*;

/// A mount namespace that lives as long as this value.
struct Mounts {
    holder: Child,
    enter: Vec<String>,
}

impl Mounts {
    /// Runs `mount` (a shell command in the place's directory) in a new namespace.
    fn new(place: &Place, mount: &str) -> Mounts {
        let mut said = String::new();
        for flags in ["-m", "-Urm"] {
            let script = format!("{mount} && echo mounted && exec cat");
            let mut command = Command::new("unshare");
            command.args([flags, "sh", "-c", &script]).current_dir(place.dir.path());
            let mut holder =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("unshare");
            let mut line = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
            if line.trim() == "mounted" {
                let target = holder.id().to_string();
                let mut enter = vec!["nsenter", "-t", &target, "-m"];
                if flags != "-m" {
                    enter.extend(["-U", "--preserve-credentials"]);
                }
                return Mounts { holder, enter: enter.into_iter().map(str::to_owned).collect() };
            }
            let _ = holder.kill();
            said += &format!("unshare {flags}: {:?}; ", holder.wait());
        }
        panic!("neither root's mounts nor those of a user namespace work here, so `{mount}` cannot be tested: {said}");
    }

    /// A command in the namespace, in the place's directory.
    fn command(&self, place: &Place, program: &[&str]) -> Command {
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]).args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(place.dir.path());
        command.args(program).env("HOME", place.dir.path());
        command
    }

    fn run(&self, place: &Place, args: &[&str]) -> Ran {
        let all = [&[env!("CARGO_BIN_EXE_segno")], args].concat();
        Ran::of(self.command(place, &all).stdin(Stdio::null()).output().unwrap())
    }

    /// Starts the daemon in the namespace, where its address file is not seen from outside: the port is chosen here.
    fn daemon(&self, place: &Place, args: &[&str]) -> Daemon {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = format!("http.listen={address}");
        let all = [&[env!("CARGO_BIN_EXE_segno"), "run", "--set", &listen], args].concat();
        let log = place.path("daemon.log");
        let stderr = std::fs::File::create(&log).unwrap();
        let child = self.command(place, &all).stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
        let mut daemon = Daemon { child, base: format!("http://{address}"), token: None, log };
        daemon.until("it is ready", |daemon| daemon.get("/readyz").status == 200);
        daemon
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_read_only_data_directory_is_refused_by_name() {
    let place = Place::new(CONFIG);
    std::fs::create_dir(place.path("data")).unwrap();
    let mounts = Mounts::new(&place, "mount --bind data data && mount -o remount,ro,bind data");
    let ran = mounts.run(&place, &["run", "--set", "http.listen=127.0.0.1:0"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("data/LOCK") && ran.err.contains("Read-only file system"), "{ran:?}");

    // A store that has become read-only under its data: refused as well, and unharmed.
    let place = Place::new(CONFIG);
    let mut daemon = place.daemon(&[]);
    let events = accounts(50);
    let answer = post(&daemon, &events);
    assert_eq!(answer.0, 200, "{answer:?}");
    settled(&mut daemon);
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0);
    let mounts = Mounts::new(&place, "mount --bind data data && mount -o remount,ro,bind data");
    let ran = mounts.run(&place, &["run", "--set", "http.listen=127.0.0.1:0"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    drop(mounts);
    let mut daemon = place.daemon(&[]);
    settled(&mut daemon);
    assert_eq!(rows(&daemon, "account").len(), 50);
}

#[test]
fn a_full_disk_is_said_and_what_was_acknowledged_is_there_when_there_is_room() {
    let _alone = alone();
    let place = Place::new(CONFIG);
    std::fs::create_dir(place.path("data")).unwrap();
    // 12 MiB are free, and more as soon as the ballast goes: a user namespace does not let a mount be changed.
    let mount = "mount -t tmpfs -o size=64m segno-test data && head -c 52M /dev/zero >data/ballast";
    let mounts = Mounts::new(&place, mount);
    let mut daemon = mounts.daemon(&place, &["--set", "state.flush-interval=50ms"]);
    // Each batch is acknowledged whole or not at all.
    let (mut acknowledged, mut refusal) = (0u64, None);
    let pad = "x".repeat(1000);
    let deadline = Instant::now() + Duration::from_secs(90);
    while refusal.is_none() {
        assert!(Instant::now() < deadline, "{acknowledged} records went onto a disk of 12 MiB");
        let lines: String = (0..100)
            .map(|i| {
                let n = acknowledged + i;
                format!("{{\"key\":\"k{}\",\"value\":{{\"event_type\":\"Deposited\",\"payload\":{{\"amount\":1,\"pad\":\"{pad}{n}\"}}}}}}\n", n % 500)
            })
            .collect();
        match post(&daemon, &lines) {
            (200, _) => acknowledged += 100,
            other => refusal = Some(other),
        }
    }
    let (status, body) = refusal.unwrap();
    let ready = daemon.get("/readyz");
    println!("{acknowledged} acknowledged, then {status} {body}; ready: {ready:?}; the daemon said: {}", daemon.said());
    assert!(acknowledged >= 1000, "{acknowledged}");
    let full = |text: &str| text.to_lowercase().contains("no space left") || text.contains("is full");
    // Either it still serves, and says so, or it ended by itself with one clear line.
    match daemon.get("/livez").status {
        200 => {
            assert_eq!(status, 500, "{body}");
            assert!(full(&body["error"]["message"].to_string()), "{body}");
            let errors = daemon.said().lines().filter(|line| line.contains("\"ERROR\"") && full(line)).count();
            assert_eq!(errors, 1, "one clear line in the log: {}", daemon.said());
            assert_eq!((ready.status, full(&ready.text)), (503, true), "{ready:?}");
            assert_eq!(daemon.get("/v1/views/account?limit=1").status, 200, "reads go on: {}", daemon.said());
        }
        _ => {
            assert_eq!(daemon.ended(), 1, "{}", daemon.said());
            assert!(full(daemon.said().lines().last().unwrap_or_default()), "{}", daemon.said());
        }
    }
    drop(daemon);
    // No room: it does not start, or it serves what it has; in any case it does not lose anything. Then there is room.
    assert!(mounts.command(&place, &["rm", "data/ballast"]).status().unwrap().success());
    let mut daemon = mounts.daemon(&place, &[]);
    let settled = settled(&mut daemon);
    let held = books(&settled)["account"]["applied"].as_u64().unwrap();
    // The batch that was refused may be in, in part or whole.
    assert!((acknowledged..=acknowledged + 100).contains(&held), "{acknowledged} acknowledged, {held} there");
    let sum: u64 = rows(&daemon, "account").values().map(|row| row["balance"].as_u64().unwrap()).sum();
    assert_eq!(sum, held);
    assert_eq!(post(&daemon, &accounts(1)).0, 200, "it goes on");
}

/// Live shares the disk: it is the replay that gives way, before there is no room for live.
#[test]
fn a_disk_that_fills_up_ends_the_replay_and_not_live() {
    let _alone = alone();
    let place = Place::new(CONFIG);
    std::fs::create_dir(place.path("data")).unwrap();
    let mounts = Mounts::new(&place, "mount -t tmpfs -o size=160m segno-test data");
    let mut daemon = mounts.daemon(&place, &[]);
    assert_eq!(post(&daemon, &accounts(2000)).0, 200);
    settled(&mut daemon);
    // Half of the 20 MiB that a replay leaves on such a disk.
    let fill = "head -c $(($(df --output=avail -B1 data | tail -n 1) - 10485760)) /dev/zero >data/ballast";
    assert!(mounts.command(&place, &["sh", "-c", fill]).status().unwrap().success());
    let body = br#"{"from": "beginning", "base": "genesis"}"#;
    let started = daemon.post("/v1/replays", "application/json", body);
    assert_eq!(started.status, 202, "{started:?}");
    let ended = |daemon: &Daemon| daemon.get("/v1/replays/latest").body;
    daemon.until("the replay has ended", |daemon| ended(daemon)["phase"] == "failed");
    let failed = ended(&daemon);
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("bytes are free on the disk") && reason.contains("resume"), "{reason}");
    let errors = daemon.said().lines().filter(|line| line.contains("\"ERROR\"")).count();
    assert_eq!(errors, 1, "one clear line in the log: {}", daemon.said());
    let left = mounts.command(&place, &["sh", "-c", "ls -d data/bank.accounts/*/gen-*"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).lines().count(), 2, "nothing of it is left: {left:?}");
    // Live goes on in what is left, and the replay when there is room.
    assert_eq!(post(&daemon, &accounts(2100)).0, 200);
    settled(&mut daemon);
    assert_eq!(rows(&daemon, "account").len(), 2100);
    assert!(mounts.command(&place, &["rm", "data/ballast"]).status().unwrap().success());
    assert_eq!(daemon.post("/v1/replays/latest/resume", "application/json", b"").status, 202);
    daemon.until("the replay is done", |daemon| ended(daemon)["phase"] == "done");
    assert_eq!(rows(&daemon, "account").len(), 2100);
}

#[test]
fn a_corrupted_table_is_an_error_and_never_a_wrong_row_and_the_log_makes_it_new() {
    let place = Place::new(CONFIG);
    let mut daemon = place.daemon(&[]);
    assert_eq!(post(&daemon, &accounts(2000)).0, 200);
    settled(&mut daemon);
    let good = rows(&daemon, "account");
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0);

    let generation = place.path("data/bank.accounts/0/gen-0");
    let tables = std::fs::read_dir(&generation).unwrap().map(|entry| entry.unwrap().path());
    let mut largest: Vec<_> = tables.filter(|path| path.extension().is_some_and(|name| name == "sst")).collect();
    largest.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
    let table = largest.last().expect("a table");
    let mut bytes = std::fs::read(table).unwrap();
    // A stretch within the first data block.
    bytes[100..140].iter_mut().for_each(|byte| *byte ^= 0x5a);
    std::fs::write(table, bytes).unwrap();

    let names_it = |text: &str| {
        let directory = generation.to_str().unwrap().trim_start_matches('/');
        text.contains(directory) || text.contains("bank.accounts/0")
    };
    let ran = place.command(&["run", "--set", "http.listen=127.0.0.1:0"]);
    let said = match starts(ran, &place) {
        Err(ran) => {
            assert_eq!(ran.code, 1, "{ran:?}");
            ran.err
        }
        Ok(mut daemon) => {
            let mut told = String::new();
            for (key, row) in &good {
                let answer = daemon.get(&format!("/v1/views/account/{key}"));
                match answer.status {
                    200 => assert_eq!(answer.body["value"], *row, "{key}"),
                    500 => told = answer.text,
                    0 => break,
                    _ => panic!("{key}: {answer:?}"),
                }
            }
            assert!(!told.is_empty(), "no row was unreadable: {}", daemon.said());
            // Events for rows that cannot be read are not guessed at: the node ends, with one clear line.
            post(&daemon, &accounts(2000));
            assert_eq!(daemon.ended(), 1, "{}", daemon.said());
            let last = daemon.said().lines().last().unwrap_or_default().to_owned();
            assert!(names_it(&last) && last.starts_with("segno: ") && last.contains("damaged"), "{last}");
            told
        }
    };
    assert!(names_it(&said) && said.to_lowercase().contains("corrupt"), "{said}");

    // The log is whole, and the rows come back from it.
    std::fs::remove_dir_all(place.path("data/bank.accounts")).unwrap();
    std::fs::remove_dir_all(place.path("data/control")).unwrap();
    let mut daemon = place.daemon(&[]);
    settled(&mut daemon);
    assert_eq!(rows(&daemon, "account"), good);
}

/// The daemon, or how it ended instead of starting.
fn starts(mut command: Command, place: &Place) -> Result<Daemon, Ran> {
    let ready = std::cell::Cell::new(false);
    let log = place.path("daemon.log");
    let stderr = std::fs::File::create(&log).unwrap();
    let _ = std::fs::remove_file(place.path("data/http~"));
    let child = command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
    let mut daemon = Daemon { child, base: String::new(), token: None, log };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready.get() {
        if let Some(status) = daemon.child.try_wait().unwrap() {
            return Err(Ran { code: status.code().unwrap_or(-1), out: String::new(), err: daemon.said() });
        }
        if let Ok(text) = std::fs::read_to_string(place.path("data/http~")) {
            daemon.base = format!("http://{}", text.trim());
            ready.set(daemon.get("/readyz").status == 200);
        }
        assert!(Instant::now() < deadline, "{}", daemon.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(daemon)
}

fn accounts(count: u32) -> String {
    (0..count)
        .map(|i| format!("{{\"key\":\"account-{i:05}\",\"value\":{{\"event_type\":\"Opened\",\"payload\":{{\"owner\":\"Owner number {i}\"}}}}}}\n"))
        .collect()
}

/// Status and body of an append.
fn post(daemon: &Daemon, lines: &str) -> (u16, Value) {
    let answer = daemon.post("/v1/topics/bank.accounts/events", "application/x-ndjson", lines.as_bytes());
    (answer.status, answer.body)
}
