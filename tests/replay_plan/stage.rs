//! A log in memory and a node that has folded it, to be bent by each test.

use segno::actors::plan::History;
use segno::actors::replay::plan::{KnownPart, KnownSnapshot, LivePartition, PlanContext, TopicContext, plan};
use segno::actors::replay::words::{BaseChoice, PartitionReplay, ReplayError, ReplayPlan, ReplayRequest};
use segno::position::{Offset, Position, Timestamp, TopicPartition};
use segno::record::{NewRecord, RecordRef};
use segno::state::{Books, Fingerprint, Identity, Lineage, StoredView, ViewIdent, ViewTag};
use segno::streams::Log;
use segno::streams::memory::Memory;

/// 2023-11-14T22:13:20Z, where records begin; a second lies between them.
pub const T0: i64 = 1_700_000_000_000;
/// Half an hour later.
pub const NOW: Timestamp = Timestamp(T0 + 1_800_000);

/// A log of topics and a node that has folded all of it, to be bent by each test.
pub struct Stage {
    pub log: Memory,
    pub topics: Vec<TopicContext>,
    pub snapshots: Vec<KnownSnapshot>,
    pub incompatible: Option<&'static str>,
    pub disk_free: u64,
    pub rate: Option<f64>,
}

/// A time, in seconds after the first record.
pub fn s(seconds: i64) -> String {
    Timestamp(T0 + seconds * 1000).to_string()
}

pub fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub fn record(partition: u32, offset: i64, timestamp: i64) -> NewRecord {
    NewRecord {
        partition: Some(partition),
        key: Some(b"key".to_vec()),
        value: Some(format!("{offset:07}").into_bytes()),
        timestamp: Some(timestamp),
        headers: Vec::new(),
    }
}

/// What a generation remembers of the record of [`record`].
pub fn print(offset: i64, timestamp: i64) -> Fingerprint {
    let value = format!("{offset:07}");
    let (offset, timestamp) = (Offset(offset as u64), Timestamp(timestamp));
    Fingerprint::of(&RecordRef::from_parts(offset, timestamp, Some(b"key"), Some(value.as_bytes()), &[]))
}

pub fn want(name: &str, version: u32) -> ViewIdent {
    ViewIdent { name: name.to_owned(), version, text: format!("{name} {version}") }
}

pub fn view(name: &str, version: u32) -> StoredView {
    let ViewIdent { name, version, text } = want(name, version);
    StoredView { tag: ViewTag(0), name, version, text, fingerprint: 0, left_at: None }
}

pub fn identity(log: &Memory, at: &TopicPartition) -> Identity {
    let info = log.topic(&at.topic).unwrap();
    Identity { at: at.clone(), cluster: info.cluster, partitions: info.partitions }
}

impl Stage {
    /// One topic, `t`, with partitions of as many records.
    pub fn new(records: &[i64]) -> Stage {
        let mut stage = Stage {
            log: Memory::new(),
            topics: Vec::new(),
            snapshots: Vec::new(),
            incompatible: None,
            disk_free: 1 << 40,
            rate: None,
        };
        stage.add_topic("t", records);
        stage
    }

    pub fn add_topic(&mut self, name: &str, records: &[i64]) {
        self.log.create_topic(name, records.len() as u32);
        let mut partitions = Vec::new();
        for (partition, &count) in records.iter().enumerate() {
            let at = at(name, partition as u32);
            let all = (0..count).map(|i| record(partition as u32, i, T0 + i * 1000)).collect();
            self.log.append(name, all).unwrap();
            partitions.push(LivePartition {
                lineage: Lineage::default(),
                began: Position::ZERO,
                identity: identity(&self.log, &at),
                number: 0,
                ancestors: Vec::new(),
                position: Position(count as u64),
                last: (count > 0).then(|| print(count - 1, T0 + (count - 1) * 1000)),
                views: vec![view("a", 1)],
                books: Books::default(),
                bytes: 1000,
            });
        }
        let (history, wanted) = (History::Complete, vec![want("a", 1)]);
        self.topics.push(TopicContext { name: name.into(), history, wanted, partitions });
    }

    /// A snapshot of topic `t` at these positions.
    pub fn snapshot(&mut self, id: u64, positions: &[i64]) -> &mut KnownSnapshot {
        let part = |(partition, &position): (usize, &i64)| KnownPart {
            lineage: Lineage::default(),
            began: Position::ZERO,
            identity: identity(&self.log, &at("t", partition as u32)),
            generation: 0,
            position: Position(position as u64),
            last: (position > 0).then(|| print(position - 1, T0 + (position - 1) * 1000)),
            views: vec![view("a", 1)],
        };
        let parts = positions.iter().enumerate().map(part).collect();
        self.snapshots.push(KnownSnapshot { id, topic: "t".to_owned(), parts, damaged: None });
        self.snapshots.last_mut().unwrap()
    }

    pub fn truncate(&self, partition: u32, position: u64) {
        self.log.truncate_before(&at("t", partition), Position(position));
    }

    pub fn ask(&mut self, request: &ReplayRequest) -> Result<ReplayPlan, ReplayError> {
        let incompatible = self.incompatible;
        let compatible = move |_, _: &TopicPartition| incompatible.map_or(Ok(()), |why: &str| Err(why.to_owned()));
        let context = PlanContext {
            log: &self.log,
            now: NOW,
            topics: std::mem::take(&mut self.topics),
            snapshots: std::mem::take(&mut self.snapshots),
            compatible: &compatible,
            disk_free: self.disk_free,
            rate: self.rate,
        };
        let answer = plan(&context, request);
        (self.topics, self.snapshots) = (context.topics, context.snapshots);
        answer
    }

    pub fn from(&mut self, from: &str, base: BaseChoice) -> Result<ReplayPlan, ReplayError> {
        self.ask(&ReplayRequest { from: from.to_owned(), base, ..ReplayRequest::default() })
    }

    pub fn planned(&mut self, from: &str) -> ReplayPlan {
        self.from(from, BaseChoice::Auto).unwrap()
    }

    pub fn refused(&mut self, from: &str, base: BaseChoice) -> String {
        match self.from(from, base) {
            Err(ReplayError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    pub fn bad(&mut self, request: ReplayRequest) -> String {
        match self.ask(&request) {
            Err(ReplayError::Bad(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

pub fn parts(plan: &ReplayPlan) -> &[PartitionReplay] {
    &plan.topics[0].partitions
}

/// Cut, start of reading, and base of each partition.
pub fn shape(plan: &ReplayPlan) -> Vec<(u64, u64, String)> {
    parts(plan).iter().map(|p| (p.cut.0, p.from.0, p.base.to_string())).collect()
}

pub fn row(cut: u64, from: u64, base: &str) -> (u64, u64, String) {
    (cut, from, base.to_owned())
}

pub fn part(stage: &mut Stage) -> &mut LivePartition {
    &mut stage.topics[0].partitions[0]
}
