//! Kill -9 while appends run: what the embedded log has acknowledged is there, where it said, and offsets go on
//! exactly after the last record.
//!
//! The test starts this very binary again as a child (`SEGNO_CRASH_DIR` says where) and kills it at random moments.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::{Rng, SeedableRng, rngs::StdRng};
use segno::position::{PartitionId, Position, Timestamp, TopicPartition};
use segno::record::NewRecord;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Fsync, Timestamps};
use segno::streams::{Error, Limit, Log, Prefetch, TimeLookup};

const DIR: &str = "SEGNO_CRASH_DIR";
const FSYNC: &str = "SEGNO_CRASH_FSYNC";
const ROUND: &str = "SEGNO_CRASH_ROUND";
const TOPIC: &str = "bank.accounts";
const PARTITIONS: u32 = 3;
const APPENDERS: u32 = 3;

/// Kills the child when the test ends early.
struct Doomed(Child);

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(dir: &Path, fsync: Fsync) -> Embedded {
    // Little memory, so that flushes, new write-ahead logs and compactions happen between the kills, too.
    let options =
        EmbeddedOptions { fsync, cache_bytes: 2 << 20, index_records: 64, ..EmbeddedOptions::new(dir.join("log")) };
    let log = Embedded::open(options).unwrap();
    log.create_topic(TOPIC, PARTITIONS, Timestamps::Create).unwrap();
    log
}

fn fsync_of(name: &str) -> Fsync {
    match name {
        "always" => Fsync::Always,
        "interval" => Fsync::Interval(Duration::from_millis(20)),
        _ => Fsync::Never,
    }
}

/// The child: appends from several threads until it is killed, and prints each acknowledgement as
/// `ack <partition> <offset> <value>`.
#[test]
fn child_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let round = std::env::var(ROUND).unwrap();
    let log = Arc::new(open(Path::new(&dir), fsync_of(&std::env::var(FSYNC).unwrap())));
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|thread| {
            let (log, round) = (log.clone(), round.clone());
            thread::spawn(move || append_for_ever(&log, &format!("{round}-{thread}")))
        })
        .collect();
    appenders.into_iter().for_each(|appender| appender.join().unwrap());
}

fn append_for_ever(log: &Embedded, who: &str) {
    for n in 0.. {
        let count = 1 + n % 5;
        let records: Vec<_> = (0..count).map(|i| new_record(who, n, i)).collect();
        let appended = log.append(TOPIC, records.clone()).unwrap();
        let mut text = String::new();
        for (record, appended) in records.iter().zip(appended) {
            let value = String::from_utf8_lossy(&record.value.as_ref().unwrap()[..64]).trim_end().to_owned();
            text.push_str(&format!("ack {} {} {value}\n", appended.partition, appended.offset));
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

/// A name in the first 64 bytes, then filler of varying length.
fn new_record(who: &str, n: u64, i: u64) -> NewRecord {
    let mut value = format!("{:<64}", format!("{who}-{n}-{i}")).into_bytes();
    value.resize(64 + (n as usize * 37) % 700, b'.');
    NewRecord {
        key: Some(format!("{who}-{}", n % 11).into_bytes()),
        value: Some(value),
        timestamp: Some(1_700_000_000_000 + n as i64),
        ..NewRecord::default()
    }
}

/// Lets the child live for a random while after its first acknowledgement; answers all that it acknowledged.
fn run_and_kill(dir: &Path, fsync: &str, round: u32, random: &mut StdRng) -> Vec<(u32, u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_appends_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(FSYNC, fsync)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .map(Doomed)
        .unwrap();
    let out = BufReader::new(child.0.stdout.take().unwrap());
    let started = Arc::new(AtomicBool::new(false));
    let reader = thread::spawn({
        let started = started.clone();
        move || {
            let mut acks = Vec::new();
            for line in out.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8(line).unwrap();
                let words: Vec<_> = line.split(' ').collect();
                // The line that the kill tore is not an acknowledgement; a name is complete only with all its parts.
                if let ["ack", partition, offset, name] = words[..]
                    && name.split('-').count() == 4
                {
                    acks.push((partition.parse().unwrap(), offset.parse().unwrap(), name.to_owned()));
                    started.store(true, Ordering::Relaxed);
                }
            }
            acks
        }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while !started.load(Ordering::Relaxed) {
        assert!(Instant::now() < deadline, "the child acknowledges nothing");
        assert!(child.0.try_wait().unwrap().is_none(), "the child ended by itself");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_micros(random.random_range(0..400_000)));
    child.0.kill().unwrap();
    let _ = child.0.wait();
    let mut acks = reader.join().unwrap();
    // The last line may have lost its last digits to the kill.
    acks.pop();
    acks
}

fn name_of(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..64]).trim_end().to_owned()
}

/// Everything in the log, by partition and offset; checks that offsets are dense and that time look-ups agree.
fn contents(log: &Embedded) -> BTreeMap<(u32, u64), String> {
    let mut all = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new(TOPIC, partition);
        let end = log.watermarks(&at).unwrap().end;
        let start = [(PartitionId(partition), Position::ZERO)];
        let mut reader = log.readers(TOPIC, &start, Prefetch { bytes: 1 << 20 }).unwrap().remove(0);
        let mut newest = i64::MIN;
        let mut middle = None;
        while reader.position() < end {
            let batch = reader.drain(Limit { records: 1000, bytes: 8 << 20 }).unwrap();
            for record in batch.iter() {
                assert_eq!(record.offset.0, all.range((partition, 0)..=(partition, u64::MAX)).count() as u64);
                if record.timestamp.0 > newest {
                    newest = record.timestamp.0;
                    if record.offset.0 <= end.0 / 2 {
                        middle = Some((record.offset.next().0 - 1, record.timestamp));
                    }
                }
                all.insert((partition, record.offset.0), name_of(record.value.unwrap()));
            }
        }
        if let Some((offset, timestamp)) = middle {
            let found = log.positions_at(TOPIC, &[PartitionId(partition)], timestamp).unwrap()[0].1;
            assert_eq!(found, TimeLookup::Found { position: Position(offset), timestamp: Some(timestamp) });
        }
    }
    all
}

fn nothing_acknowledged_is_lost(fsync: &str, rounds: u32) {
    let dir = tempfile::tempdir().unwrap();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut acknowledged: BTreeMap<(u32, u64), String> = BTreeMap::new();
    for round in 0..rounds {
        let acks = run_and_kill(dir.path(), fsync, round, &mut random);
        for (partition, offset, name) in acks {
            let before = acknowledged.insert((partition, offset), name.clone());
            assert_eq!(before, None, "{partition}/{offset} was acknowledged twice, now for {name}");
        }
        let log = open(dir.path(), fsync_of(fsync));
        let stored = contents(&log);
        for (place, name) in &acknowledged {
            assert_eq!(stored.get(place), Some(name), "seed {seed}, round {round}, {place:?}");
        }
        let mut names: Vec<_> = stored.values().collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a record is there twice");
        // The log goes on exactly where it ends.
        let at = TopicPartition::new(TOPIC, 0);
        let end = log.watermarks(&at).unwrap().end;
        let mut marker = new_record("between", u64::from(round), 0);
        marker.partition = Some(0);
        let appended = log.append(TOPIC, vec![marker.clone()]).unwrap();
        assert_eq!(appended[0].offset.next(), Position(end.0 + 1));
        acknowledged.insert((0, end.0), name_of(marker.value.as_ref().unwrap()));
        log.close(Duration::from_secs(5));
    }
    println!("{} acknowledged in {rounds} rounds", acknowledged.len());
    assert!(acknowledged.len() > rounds as usize * 10, "the children did too little: {}", acknowledged.len());
}

#[test]
fn a_kill_loses_nothing_acknowledged_with_fsync_always() {
    nothing_acknowledged_is_lost("always", 10);
}

#[test]
fn a_kill_loses_nothing_acknowledged_with_fsync_at_an_interval() {
    nothing_acknowledged_is_lost("interval", 4);
}

#[test]
fn a_kill_loses_nothing_acknowledged_without_fsync() {
    nothing_acknowledged_is_lost("never", 4);
}

/// The start that retention moved stays where it was, whatever happens after it.
#[test]
fn a_start_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    run_and_kill(dir.path(), "always", 0, &mut random);
    let at = TopicPartition::new(TOPIC, 1);
    let log = open(dir.path(), Fsync::Always);
    let end = log.watermarks(&at).unwrap().end;
    log.truncate_before(&at, end).unwrap();
    log.close(Duration::from_secs(5));
    run_and_kill(dir.path(), "always", 1, &mut random);
    let log = open(dir.path(), Fsync::Always);
    let now = log.watermarks(&at).unwrap();
    assert_eq!(now.start, end);
    assert!(now.end >= now.start);
    let below = [(at.partition, Position(end.0 - 1))];
    let refused = log.readers(TOPIC, &below, Prefetch { bytes: 1 << 20 }).err();
    assert!(matches!(refused, Some(Error::OutOfRange { .. })));
    let found = log.positions_at(TOPIC, &[at.partition], Timestamp(0)).unwrap()[0].1;
    let (TimeLookup::Found { position, .. } | TimeLookup::AtEnd { position }) = found;
    assert_eq!(position, end);
}

/// What a kill leaves behind of a log with `records` records, each of them acknowledged and on the disk: a copy of the
/// files as they are while the log is open, and in it the write-ahead log.
fn left_by_a_kill(records: u64) -> (tempfile::TempDir, PathBuf) {
    let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(dir.path(), Fsync::Always);
    for n in 0..records {
        log.append(TOPIC, vec![new_record("rest", n, 0)]).unwrap();
    }
    let copy = |name: &str| {
        let (from, to) = (dir.path().join("log").join(name), left.path().join("log").join(name));
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    };
    copy("");
    copy("db");
    let largest = write_ahead_logs(left.path()).into_iter().max_by_key(|file| fs::metadata(file).unwrap().len());
    (left, largest.unwrap())
}

fn write_ahead_logs(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("log/db")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

#[test]
fn damage_in_the_write_ahead_log_is_refused_and_takes_nothing_with_it() {
    const RECORDS: u64 = 600;
    let (left, file) = left_by_a_kill(RECORDS);
    let sound = fs::read(&file).unwrap();
    assert!(sound.len() > 200_000, "{} bytes", sound.len());
    for eighth in 0..8 {
        let mut bytes = sound.clone();
        let place = bytes.len() / 8 * eighth + 20;
        bytes[place] ^= 1;
        fs::write(&file, &bytes).unwrap();
        for _ in 0..2 {
            let refused = Embedded::open(EmbeddedOptions::new(left.path().join("log"))).err();
            let told = refused.unwrap_or_else(|| panic!("opened with a bad byte at {place}")).to_string();
            assert!(told.contains("from a copy") && told.contains("damaged at byte"), "{told}");
            assert_eq!(fs::read(&file).unwrap(), bytes, "a refusal changes nothing");
        }
    }
    fs::write(&file, &sound).unwrap();
    assert_eq!(contents(&open(left.path(), Fsync::Always)).len() as u64, RECORDS);
}

#[test]
fn a_torn_end_of_the_write_ahead_log_is_cut_off() {
    const RECORDS: u64 = 600;
    let (left, file) = left_by_a_kill(RECORDS);
    let sound = fs::read(&file).unwrap();
    fs::write(&file, &sound[..sound.len() / 2]).unwrap();
    let log = open(left.path(), Fsync::Always);
    let stored = contents(&log).len() as u64;
    assert!(stored > RECORDS / 3 && stored < RECORDS, "{stored}");
    log.append(TOPIC, vec![new_record("after", 1, 0)]).unwrap();
    assert_eq!(contents(&log).len() as u64, stored + 1);
}

#[test]
fn a_log_that_was_closed_has_nothing_in_its_write_ahead_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Fsync::Always);
    log.append(TOPIC, (0..50).map(|n| new_record("rest", n, 0)).collect()).unwrap();
    log.close(Duration::from_secs(5));
    drop(log);
    let waiting: u64 = write_ahead_logs(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(waiting, 0, "damage at the end of it would look like a tear");
    assert_eq!(contents(&open(dir.path(), Fsync::Always)).len(), 50);
}
