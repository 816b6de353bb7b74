//! Law *Atomic* under a real SIGKILL: a process that commits and flushes all the time is killed again and again.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use segno::position::Offset;
use segno::state::{Delta, Durability, HeldChange, Standing};

use crate::harness::*;

/// Set for the process that is to be killed: durability and data directory.
const VICTIM: &str = "SEGNO_TEST_VICTIM";

/// What the process says after each flush.
const FLUSHED: &str = "flushed";

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
        generation.commit(&generation.take_writer(), &commit(vec![delta], now)).unwrap();
        if now.is_multiple_of(7) {
            assert_eq!(generation.flush().unwrap().0, now);
            // Past the test harness, which keeps what `println!` prints.
            let mut out = std::io::stdout();
            writeln!(out, "{FLUSHED}").unwrap();
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

/// A running child; killed and waited for whatever becomes of the test.
struct Victim(Child);

impl Victim {
    fn start(name: &str, root: &Path) -> Victim {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::atomic_victim"])
            .env(VICTIM, format!("{name}:{}", root.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Victim(child.unwrap())
    }

    /// Waits for the first flush. From then on somebody reads what the child says, so that it never waits.
    fn wait_for_flush(&mut self) {
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(FLUSHED)), "the child ended before it had flushed");
        std::thread::spawn(move || lines.all(|line| line.is_ok()));
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn kill_and_look(name: &str, durability: Durability) {
    let directory = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0u64..12 {
        let mut child = Victim::start(name, directory.path());
        // Some die while they open the store, some while they write.
        let writes = round % 3 != 0;
        if writes {
            child.wait_for_flush();
        }
        std::thread::sleep(Duration::from_micros(round * round * 7_919 % 40_000));
        drop(child);

        let generation = open(directory.path(), durability).unwrap();
        let now = generation.applied().0;
        assert!(now >= before + u64::from(writes), "position {now} after {before}");
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
}

#[test]
fn atomic_under_sigkill_without_a_write_ahead_log() {
    kill_and_look("log", Durability::Log);
}

#[test]
fn atomic_under_sigkill_with_a_write_ahead_log() {
    kill_and_look("wal", Durability::Wal);
}
