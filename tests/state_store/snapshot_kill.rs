//! A process that takes and deletes snapshots while it commits is killed again and again.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use segno::state::Generation;

use crate::harness::*;
use crate::snapshots::*;

/// Set for the process that is to be killed: the data directory.
const VICTIM: &str = "SEGNO_TEST_SNAPSHOT_VICTIM";

/// What the process says after each snapshot, with its number.
const TAKEN: &str = "taken";

fn parts(store: &segno::state::Store) -> Vec<Arc<Generation>> {
    (0..2).map(|p| store.open_generation(&of_partition(p), &views()).unwrap()).collect()
}

/// The body of the child process; in an ordinary test run there is nothing for it to do.
#[test]
fn snapshot_victim() {
    let Ok(root) = std::env::var(VICTIM) else { return };
    let store = store(&PathBuf::from(root));
    let parts = parts(&store);
    for part in parts.clone() {
        std::thread::spawn(move || {
            loop {
                overwrite(&part);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
    }
    for round in 0.. {
        let taken = store.take_snapshot(&parts, "time", now(round)).unwrap();
        // Past the test harness, which keeps what `println!` prints.
        writeln!(std::io::stdout(), "{TAKEN} {}", taken.id).unwrap();
        if round % 3 == 2 {
            let all = store.snapshots().unwrap();
            store.delete_snapshot(all.last().unwrap().id).unwrap();
        }
    }
}

/// Starts the child, and kills it some time after it has taken a snapshot. Answers the number of the last one of which it
/// spoke.
fn run_and_kill(root: &Path, after: Duration) -> u64 {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "snapshot_kill::snapshot_victim"])
        .env(VICTIM, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut numbers = lines.filter_map(|line| line.split_once("taken ").and_then(|(_, id)| id.parse::<u64>().ok()));
    let first = numbers.next();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let first = first.expect("the child ended before it had taken a snapshot");
    numbers.last().unwrap_or(first)
}

#[test]
fn atomic_snapshots_under_sigkill() {
    let root = tempfile::tempdir().unwrap();
    let mut unfinished = 0;
    for round in 0u64..12 {
        let last = run_and_kill(root.path(), Duration::from_micros(round * round * 7_919 % 60_000));
        let store = store(root.path());
        let listed = store.snapshots().unwrap();
        assert!(listed.iter().any(|snapshot| snapshot.id >= last), "{last} is gone: {listed:?}");
        for snapshot in &listed {
            match &snapshot.damaged {
                None => {
                    assert_eq!(store.verify_snapshot(snapshot.id).unwrap(), *snapshot);
                    for part in &snapshot.parts {
                        is_whole(&store.open_snapshot(snapshot.id, &part.at).unwrap());
                    }
                }
                Some(reason) => {
                    unfinished += 1;
                    assert!(reason.contains("when the process ended"), "{reason}");
                    let at = of_partition(0).at;
                    assert!(
                        store.snapshot_source(snapshot.id, &at).is_err()
                            && store.open_snapshot(snapshot.id, &at).is_err()
                    );
                }
            }
        }
        // The next one sweeps what is left over: every directory belongs to a snapshot that is whole.
        let parts = parts(&store);
        parts.iter().for_each(|part| overwrite(part));
        let next = store.take_snapshot(&parts, "time", now(0)).unwrap();
        assert!(listed.iter().all(|snapshot| snapshot.id < next.id), "numbers are not given twice");
        let listed = store.snapshots().unwrap();
        assert!(listed.iter().all(|snapshot| snapshot.damaged.is_none()), "{listed:?}");
        for partition in 0..2usize {
            let mut owned: Vec<_> = listed.iter().map(|one| one.parts[partition].path.clone()).collect();
            owned.sort();
            owned.dedup();
            let home = root.path().join(format!("bank.accounts/{partition}/snapshots"));
            let mut found: Vec<_> =
                snapshot_dirs(root.path(), partition as u32).into_iter().map(|name| home.join(name)).collect();
            found.sort();
            assert_eq!(found, owned);
        }
    }
    assert!(unfinished > 0, "no kill came in between: the test shows nothing");
}
