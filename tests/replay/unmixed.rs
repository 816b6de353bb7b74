//! *Unmixed*: whoever reads while a replay with changed definitions is built, cut over and rolled back sees the rows of
//! one definition, all events below the token of the answer in them, and tokens that never go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use segno::actors::handle::{Bound, Node, ReadError, Row};
use segno::actors::replay::words::{BaseChoice, ReplayRequest};
use segno::position::PositionVector;

use crate::drama::cases;
use crate::stage::{Setup, Stage};
use crate::tape::{Pen, TOPIC};
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
        let bound = Bound { at_least: self.token.clone(), wait: Duration::from_secs(10) };
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

/// The share of a run that is read while nothing but the replay happens, so that cut-overs hit lists.
fn read(stage: &Stage, stop: Arc<AtomicBool>, limit: usize, cut_short: Arc<AtomicU64>) -> ReaderTask {
    let (pen, node) = (stage.pen.clone(), stage.node().clone());
    let mut reader = Reader { pen, node, token: PositionVector::new(TOPIC), versions: Vec::new() };
    let handle = stage.spawn(async move {
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
    });
    ReaderTask { handle }
}

struct ReaderTask {
    handle: tokio::task::JoinHandle<Result<Vec<u64>, String>>,
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn unmixed_readers_see_one_definition_and_never_go_back(
        partitions in 1u32..4,
        events in 20u64..150,
        base in prop_oneof![Just(BaseChoice::Genesis), Just(BaseChoice::Auto)],
        rate in proptest::option::of(1000u64..4000),
        producing in any::<bool>(),
    ) {
        let of = |version: u32| Tally { version, factor: i64::from(version), floor: None }.definition();
        let mut stage = Stage::new(Setup { partitions, batch: 7, ..Setup::of(&[of(1)]) });
        for number in 0..events {
            stage.pen.send(&key(number), number as i64, &What::Add { n: number, amount: 1 });
        }
        stage.settle();
        stage.restart_with(|setup| setup.views = vec![of(2)]);
        let (stop, cut_short) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let readers: Vec<_> = [1, 2, 5, 1000].map(|limit| read(&stage, stop.clone(), limit, cut_short.clone())).into();
        let producer = producing.then(|| {
            let (pen, stop) = (stage.pen.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut number = events;
                while !stop.load(Ordering::Relaxed) {
                    pen.send(&key(number), number as i64, &What::Add { n: number, amount: 1 });
                    number += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        });
        std::thread::sleep(Duration::from_millis(5));
        let from = "beginning".to_owned();
        let request = ReplayRequest { from, base, rate, yes: true, ..ReplayRequest::default() };
        let done = stage.replay(&request).and_then(|begun| {
            stage.done(begun.id);
            std::thread::sleep(Duration::from_millis(5));
            stage.roll_back()
        });
        let back = done.unwrap();
        stage.done(back.id);
        std::thread::sleep(Duration::from_millis(5));
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            let versions = stage.block(reader.handle).unwrap();
            let versions = versions.map_err(TestCaseError::fail)?;
            prop_assert!(
                [&[1, 2, 1][..], &[1], &[1, 2]].contains(&&*versions),
                "the versions that a reader saw: {:?}", versions
            );
        }
        if let Some(producer) = producer {
            producer.join().unwrap();
        }
        stage.settle();
    }
}
