//! *Unmixed*: whoever reads while a replay with changed definitions is built, cut over and rolled back sees the rows of
//! one definition, all events below the token of the answer in them, and tokens that never go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use segno::actors::handle::{Bound, Node, ReadError, Row};
use segno::actors::replay::words::{BaseChoice, ReplayRequest};
use segno::position::{PartitionId, Position, PositionVector};

use crate::drama::cases;
use crate::logs::On;
use crate::stage::{Setup, Stage};
use crate::tape::Pen;
use crate::views::{TALLY, Tally, What};

const KEYS: u64 = 13;

fn key(number: u64) -> String {
    format!("key-{:02}", number % KEYS)
}

/// What a reader remembers.
struct Reader {
    pen: Pen,
    node: Arc<dyn Node>,
    token: PositionVector,
    /// The version that it has seen in turn, each once: 1, 2, 1 at the most.
    versions: Vec<u64>,
}

impl Reader {
    fn new(stage: &Stage) -> Reader {
        let token = PositionVector::new(&*stage.pen.topic);
        Reader { pen: stage.pen.clone(), node: stage.node().clone(), token, versions: Vec::new() }
    }

    /// Tokens never go back, and reach what was asked for.
    fn position(&mut self, position: PositionVector) -> Result<(), String> {
        if !position.reaches(&self.token) {
            return Err(format!("at {position} after {}", self.token));
        }
        self.token = position;
        Ok(())
    }

    /// A row holds exactly the events of its key below the position of the answer, folded by one version.
    fn row(&mut self, row: &Row, position: &PositionVector) -> Result<u64, String> {
        let json: serde_json::Value = serde_json::from_str(row.json.get()).unwrap();
        let number = |field: &str| json[field].as_u64().unwrap();
        let key = String::from_utf8(row.key.clone()).unwrap();
        let end = position.positions[&row.partition].0;
        let tracks = self.pen.tracks();
        let track = &tracks[row.partition.0 as usize];
        let events = track.between(0, end).filter(|record| record.key == key).count() as u64;
        let version = number("by");
        // An event adds one, times the version.
        if (number("n"), number("total")) != (events, events * version) {
            return Err(format!("{json} of {key} at {position}, where there are {events} events"));
        }
        Ok(version)
    }

    fn version(&mut self, version: u64) {
        if self.versions.last() != Some(&version) {
            self.versions.push(version);
        }
    }

    /// One row, at least as new as anything read before.
    async fn get(&mut self, number: u64) -> Result<(), String> {
        let bound = Bound { at_least: self.token.clone(), wait: Duration::from_secs(30) };
        let reading = self.node.get(TALLY, key(number).into_bytes(), Some(bound)).await.map_err(|e| e.to_string())?;
        let position = reading.position.clone();
        self.position(position)?;
        if let Some(row) = &reading.value {
            let version = self.row(row, &reading.position)?;
            self.version(version);
        }
        Ok(())
    }

    /// All rows, page by page: of one version, unless the list ends with the error that says why.
    async fn list(&mut self, limit: usize, cut_short: &AtomicU64) -> Result<(), String> {
        let (mut cursor, mut version, mut last) = (None, None, None);
        loop {
            let reading = match self.node.list(TALLY, Vec::new(), cursor, limit, None).await {
                Ok(reading) => reading,
                Err(ReadError::BadCursor(why)) if why.contains("replaced by a cut-over") => {
                    cut_short.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => return Err(error.to_string()),
            };
            self.position(reading.position.clone())?;
            for row in &reading.value.rows {
                let this = (row.partition, row.key.clone());
                if last.as_ref().is_some_and(|last| *last >= this) {
                    return Err(format!("the list goes back: {this:?} after {last:?}"));
                }
                last = Some(this);
                let by = self.row(row, &reading.position)?;
                if version.is_some_and(|version| version != by) {
                    return Err(format!("Unmixed: version {by} after {version:?} in one list"));
                }
                version = Some(by);
                self.version(by);
            }
            match reading.value.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
            // Some readers are slow.
            if limit == 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Reads until it is told to stop, what is there and what it has just written, and answers the versions that it saw.
fn read(stage: &Stage, stop: &Arc<AtomicBool>, limit: usize, cut_short: &Arc<AtomicU64>) -> Task<Vec<u64>> {
    let (mut reader, stop, cut_short) = (Reader::new(stage), stop.clone(), cut_short.clone());
    stage.spawn(async move {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            reader.get(number).await?;
            number += 1;
            if number % 4 == 0 {
                reader.list(limit, &cut_short).await?;
            }
            // Leaves the cores to those who are read.
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(reader.versions)
    })
}

type Task<T> = tokio::task::JoinHandle<Result<T, String>>;

/// Appends until it is told to stop, asks for each event what it has made, and answers how many of those waits began
/// under one generation and ended under another.
fn write(stage: &Stage, stop: &Arc<AtomicBool>, events: u64) -> Task<u64> {
    let (mut reader, stop) = (Reader::new(stage), stop.clone());
    stage.spawn(async move {
        let (mut across, mut number) = (0, events);
        while !stop.load(Ordering::Relaxed) {
            let (pen, before) = (reader.pen.clone(), generations(&*reader.node));
            let send = move || pen.send(&key(number), number as i64, &What::Add { n: number, amount: 1 });
            let token = tokio::task::spawn_blocking(send).await.unwrap();
            token.positions.iter().for_each(|(partition, position)| reader.token.raise(*partition, *position));
            reader.get(number).await?;
            across += u64::from(generations(&*reader.node) != before);
            number += 1;
        }
        Ok(across)
    })
}

fn generations(node: &dyn Node) -> Vec<u64> {
    node.status().topics[0].partitions.iter().map(|partition| partition.generation).collect()
}

/// Asks for the first key at a position that the log will have after `events` more of that key.
fn wait_for(stage: &Stage, events: u64) -> Task<u64> {
    let mut reader = Reader::new(stage);
    let mut token = stage.pen.end();
    let home = stage.pen.tracks().iter().position(|track| track.records.iter().any(|record| record.key == key(0)));
    let home = PartitionId(home.unwrap() as u32);
    token.raise(home, Position(token.positions[&home].0 + events));
    reader.token = token;
    stage.spawn(async move {
        reader.get(0).await?;
        Ok(reader.versions[0])
    })
}

/// What a list that has come to its first row gives then; the cursor that it was given, or what it was told.
fn page(stage: &Stage, cursor: Option<String>) -> Result<(Option<String>, u64), ReadError> {
    let mut reader = Reader::new(stage);
    let page = stage.block(stage.node().list(TALLY, Vec::new(), cursor, 1, None))?;
    let version = reader.row(&page.value.rows[0], &page.position).unwrap_or_else(|wrong| panic!("{wrong}"));
    Ok((page.value.next, version))
}

fn replaced<T: std::fmt::Debug>(answer: Result<T, ReadError>) -> bool {
    matches!(answer, Err(ReadError::BadCursor(why)) if why.contains("replaced by a cut-over"))
}

/// What all cases together have seen.
#[derive(Default)]
struct Counts {
    /// Lists that a switch has cut short.
    cut_short: Arc<AtomicU64>,
    /// Reads that have waited across a switch.
    across: AtomicU64,
}

#[derive(Clone, Debug)]
struct Run {
    partitions: u32,
    events: u64,
    base: BaseChoice,
    rate: Option<u64>,
    producing: bool,
}

fn run() -> impl Strategy<Value = Run> {
    let base = prop_oneof![Just(BaseChoice::Genesis), Just(BaseChoice::Auto)];
    let rate = proptest::option::of(1000u64..4000);
    (1u32..4, 20u64..150, base, rate, any::<bool>()).prop_map(|(partitions, events, base, rate, producing)| Run {
        partitions,
        events,
        base,
        rate,
        producing,
    })
}

fn case(on: On, run: Run, counts: &Counts) -> Result<(), TestCaseError> {
    let Run { partitions, events, base, rate, producing } = run;
    let of = |version: u32| Tally { version, factor: i64::from(version), floor: None }.definition();
    let mut stage = Stage::new(Setup { on, partitions, batch: 7, ..Setup::of(&[of(1)]) });
    let send = |stage: &Stage, key_of: u64, number: u64| {
        stage.pen.send(&key(key_of), number as i64, &What::Add { n: number, amount: 1 });
    };
    (0..events).for_each(|number| send(&stage, number, number));
    stage.settle();
    stage.restart_with(|setup| setup.views = vec![of(2)]);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [1, 2, 5, 1000].map(|limit| read(&stage, &stop, limit, &counts.cut_short)).into();
    let writers: Vec<_> = (0..if producing { 3 } else { 0 }).map(|_| write(&stage, &stop, events)).collect();
    let (of_the_first, version) = page(&stage, None).unwrap();
    prop_assert_eq!(version, 1);
    // Where nothing else is appended, what waits for an event surely waits across the switch.
    let waits = |stage: &Stage| (!producing).then(|| wait_for(stage, 3));
    let waited = |stage: &Stage, task: Option<Task<u64>>, version: u64| {
        let Some(task) = task else { return Ok(()) };
        prop_assert!(!task.is_finished(), "an answer from before its position");
        (0..3).for_each(|number| send(stage, 0, events + number));
        let seen = stage.block(task).unwrap().map_err(TestCaseError::fail)?;
        counts.across.fetch_add(1, Ordering::Relaxed);
        prop_assert_eq!(seen, version, "the version that a wait across the switch has seen");
        Ok(())
    };
    let waiting = waits(&stage);
    let request = ReplayRequest { from: "beginning".to_owned(), base, rate, yes: true, ..ReplayRequest::default() };
    let begun = stage.replay(&request).unwrap();
    stage.done(begun.id);
    waited(&stage, waiting, 2)?;
    prop_assert!(replaced(page(&stage, of_the_first.clone())), "a cursor of before goes on after the cut-over");
    let (of_the_second, version) = page(&stage, None).unwrap();
    prop_assert_eq!(version, 2);
    let waiting = waits(&stage);
    let back = stage.roll_back().unwrap();
    stage.done(back.id);
    waited(&stage, waiting, 1)?;
    prop_assert!(replaced(page(&stage, of_the_second)), "a cursor of before goes on after the rollback");
    // The one that is older yet may go on, in the generation that it has begun in.
    match page(&stage, of_the_first) {
        Ok((_, version)) => prop_assert_eq!(version, 1),
        answer => prop_assert!(replaced(answer)),
    }
    prop_assert_eq!(page(&stage, None).unwrap().1, 1);
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        let versions = stage.block(reader).unwrap().map_err(TestCaseError::fail)?;
        prop_assert!(
            [&[1, 2, 1][..], &[1], &[1, 2]].contains(&&*versions),
            "the versions that a reader saw: {:?}",
            versions
        );
    }
    for writer in writers {
        let across = stage.block(writer).unwrap().map_err(TestCaseError::fail)?;
        counts.across.fetch_add(across, Ordering::Relaxed);
    }
    stage.settle();
    Ok(())
}

fn unmixed(on: On, number: u32) {
    let counts = Counts::default();
    let found = TestRunner::new(cases(number)).run(&run(), |run| case(on, run, &counts));
    found.unwrap_or_else(|found| panic!("{found}"));
    let [cut_short, across] = [&counts.cut_short, &counts.across].map(|count| count.load(Ordering::Relaxed));
    println!("{cut_short} lists were cut short, {across} reads waited across a switch");
    assert!(cut_short > 0 && across > 0, "nobody read while it was switched");
}

#[test]
fn unmixed_readers_see_one_definition_and_never_go_back() {
    unmixed(On::Memory, 60);
}

#[test]
fn unmixed_readers_see_one_definition_and_never_go_back_on_the_embedded_log() {
    unmixed(On::Embedded, 10);
}

#[test]
fn unmixed_readers_see_one_definition_and_never_go_back_on_kafka() {
    unmixed(On::Kafka, 6);
}
