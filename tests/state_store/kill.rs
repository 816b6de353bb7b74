//! Law *Atomic* under a real SIGKILL: a process that commits and flushes all the time is killed again and again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use segno::position::Offset;
use segno::state::{Delta, Durability, HeldChange, Standing};

use crate::harness::*;

/// Set for the process that is to be killed: durability and data directory.
const VICTIM: &str = "SEGNO_TEST_VICTIM";

const KEYS: u64 = 50;

/// Commit `n` sets every row to `n` and replaces the one parked record by one at offset `n`.
fn write_for_ever(root: &Path, durability: Durability) {
    let generation = open(root, durability).unwrap();
    let tags = generation.tags().to_vec();
    let mut now = generation.applied().0;
    loop {
        let mut delta = Delta::new(2);
        for (index, tag) in tags.iter().enumerate() {
            for key in 0..KEYS {
                let before = (now > 0).then(|| value(now - 1, &now.to_string()));
                let after = value(now, &(now + 1).to_string());
                put(&mut delta, index, *tag, &key.to_be_bytes(), before.as_deref(), Some(&after));
            }
            let books = &mut delta.views[index].books;
            (books.consumed, books.parked, books.applied) = (1, i64::from(now == 0), i64::from(now > 0));
            delta.held.push(HeldChange::Put(held(*tag, "k", now, Standing::Parked)));
            if now > 0 {
                delta.held.push(HeldChange::Remove { view: *tag, key: b"k".to_vec(), offset: Offset(now - 1) });
            }
        }
        delta.sort();
        now += 1;
        generation.commit(&commit(vec![delta], now)).unwrap();
        if now.is_multiple_of(7) {
            assert_eq!(generation.flush().unwrap().0, now);
        }
    }
}

/// The body of the child process; in an ordinary test run there is nothing for it to do.
#[test]
fn atomic_victim() {
    if let Ok(victim) = std::env::var(VICTIM) {
        let (durability, root) = victim.split_once(':').unwrap();
        let durability = if durability == "log" { Durability::Log } else { Durability::Wal };
        write_for_ever(&PathBuf::from(root), durability);
    }
}

fn kill_and_look(name: &str, durability: Durability) {
    let directory = tempfile::tempdir().unwrap();
    let mut before = 0;
    let mut progressed = 0;
    for round in 0u64..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::atomic_victim"])
            .env(VICTIM, format!("{name}:{}", directory.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !generation_dir(directory.path()).join("CURRENT").exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "the child never opened the store");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20 + round * round * 9 % 150));
        child.kill().unwrap();
        child.wait().unwrap();

        let generation = open(directory.path(), durability).unwrap();
        let now = generation.applied().0;
        assert!(now >= before, "position {now} after {before}");
        progressed += u64::from(now > before);
        before = now;
        if now == 0 {
            continue;
        }
        assert_eq!(generation.last(), Some(fingerprint(now - 1)));
        for (tag, totals) in generation.tags().iter().zip(generation.view_totals()) {
            let page = generation.snapshot_read().list(*tag, b"", None, usize::MAX).unwrap();
            assert_eq!(page.rows.len() as u64, KEYS);
            assert!(page.rows.iter().all(|(_, row)| row.json == now.to_string().as_bytes()), "torn at {now}");
            let held = generation.held_of(*tag, b"k", Offset(0), 9).unwrap();
            assert_eq!(held.iter().map(|held| held.offset.0).collect::<Vec<_>>(), [now - 1]);
            assert_eq!(generation.recompute(*tag).unwrap(), totals);
            assert_eq!(totals.books.consumed as u64, now);
        }
    }
    assert!(progressed >= 4, "the child was killed too early to show anything");
}

#[test]
fn atomic_under_sigkill_without_a_write_ahead_log() {
    kill_and_look("log", Durability::Log);
}

#[test]
fn atomic_under_sigkill_with_a_write_ahead_log() {
    kill_and_look("wal", Durability::Wal);
}
