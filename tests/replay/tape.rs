//! What was written to the log, kept apart from it: the oracle folds this and asks nobody.

use std::sync::{Arc, Mutex, MutexGuard};

use segno::position::{PartitionId, Position, PositionVector, TopicPartition};
use segno::record::NewRecord;
use segno::streams::Log;
use segno::streams::memory::Memory;

use crate::logs::{Home, On};
use crate::views::What;

/// What the topic is called on the logs that a stage has for itself.
pub const TOPIC: &str = "ledger";

/// Timestamps count from here, in milliseconds.
pub const EPOCH: i64 = 1_700_000_000_000;

/// One record.
#[derive(Clone, Debug)]
pub struct Written {
    pub offset: u64,
    pub time: i64,
    pub key: String,
    pub what: What,
}

/// One partition.
#[derive(Clone, Debug, Default)]
pub struct Track {
    pub records: Vec<Written>,
    pub end: u64,
}

impl Track {
    /// The first position, in offset order, whose record is of `time` or later; else the end.
    pub fn cut(&self, time: i64) -> u64 {
        self.records.iter().find(|record| record.time >= time).map_or(self.end, |record| record.offset)
    }

    /// The records of the positions from `from` on and below `to`.
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Written> {
        self.records.iter().filter(move |record| (from..to).contains(&record.offset))
    }
}

/// Writes to the log and to the tape. Clones write to the same.
#[derive(Clone)]
pub struct Pen {
    pub log: Arc<dyn Log>,
    pub topic: Arc<str>,
    home: Arc<Home>,
    tracks: Arc<Mutex<Vec<Track>>>,
}

/// Tapes on which nothing is written yet.
fn blank(partitions: usize) -> Arc<Mutex<Vec<Track>>> {
    Arc::new(Mutex::new(vec![Track::default(); partitions]))
}

impl Pen {
    pub fn new(on: On, partitions: u32) -> Pen {
        let home = Home::new(on, partitions);
        let (log, topic) = (home.log(), home.topic());
        Pen { log, topic, home: Arc::new(home), tracks: blank(partitions as usize) }
    }

    /// For another topic of the same log, which is there and has as many partitions.
    pub fn beside(&self, topic: &str) -> Pen {
        Pen { topic: topic.into(), tracks: blank(self.tracks().len()), ..self.clone() }
    }

    /// The log as a script bends it: only the one in memory can be bent.
    pub fn script(&self) -> &Memory {
        self.home.script()
    }

    pub fn tracks(&self) -> MutexGuard<'_, Vec<Track>> {
        self.tracks.lock().unwrap()
    }

    pub fn at(&self, partition: u32) -> TopicPartition {
        TopicPartition::new(&*self.topic, partition)
    }

    /// Appends; answers the token of the record. Nobody sees the record before it is on the tape.
    pub fn send(&self, key: &str, after: i64, what: &What) -> PositionVector {
        let mut tracks = self.tracks();
        let time = EPOCH + after;
        let record = NewRecord {
            key: Some(key.as_bytes().to_vec()),
            value: what.bytes(),
            timestamp: Some(time),
            ..NewRecord::default()
        };
        let appended = self.log.append(&self.topic, vec![record]).unwrap()[0];
        let track = &mut tracks[appended.partition.0 as usize];
        let offset = appended.offset.0;
        assert!(offset >= track.end);
        track.end = offset + 1;
        track.records.push(Written { offset, time, key: key.to_owned(), what: what.clone() });
        let mut token = PositionVector::new(&*self.topic);
        token.raise(appended.partition, appended.offset.next());
        token
    }

    /// Offsets without records, where the log has such.
    pub fn gap(&self, partition: u32, offsets: u64) {
        let mut tracks = self.tracks();
        let partition = partition % tracks.len() as u32;
        let at = self.at(partition);
        if self.home.gap(&at, offsets) {
            tracks[partition as usize].end = self.log.watermarks(&at).unwrap().end.0;
        }
    }

    /// The ends as a token.
    pub fn end(&self) -> PositionVector {
        self.token(|track| track.end)
    }

    pub fn token(&self, mut position: impl FnMut(&Track) -> u64) -> PositionVector {
        let mut token = PositionVector::new(&*self.topic);
        for (number, track) in (0u32..).zip(self.tracks().iter()) {
            token.raise(PartitionId(number), Position(position(track)));
        }
        token
    }
}
