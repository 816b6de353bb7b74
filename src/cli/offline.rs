//! Reads while no daemon runs: straight from the store, which stays as it is.

use std::sync::Arc;

use super::assemble;
use super::exit::{Code, Failure};
use crate::actors::handle::{
    NodeState, Page, PartitionState, PartitionStatus, ReadError, Reading, Row, Status, TopicStatus, ViewStatus,
};
use crate::actors::reads;
use crate::config::{Config, LogKind};
use crate::position::{Position, PositionVector};
use crate::state::{Books, Generation, ReadOnlyStore};
use crate::streams::Log;

/// The stored topics, and nobody who changes them.
pub struct Offline {
    /// With the generations of all its partitions, in order.
    topics: Vec<(String, Vec<Arc<Generation>>)>,
    _store: ReadOnlyStore,
}

impl Offline {
    pub fn open(store: ReadOnlyStore) -> Result<Offline, Failure> {
        let mut topics: Vec<(String, Vec<Arc<Generation>>)> = Vec::new();
        let mut partitions = store.partitions()?;
        partitions.sort();
        for at in partitions {
            let generation = store.generation(&at)?;
            match topics.last_mut().filter(|(topic, _)| **topic == *at.topic) {
                Some((_, generations)) => generations.push(generation),
                None => topics.push((at.topic.to_string(), vec![generation])),
            }
        }
        Ok(Offline { topics, _store: store })
    }

    fn topic_of(&self, view: &str) -> Result<&(String, Vec<Arc<Generation>>), ReadError> {
        let views = |generations: &[Arc<Generation>]| {
            let views = generations.first().map_or(&[][..], |generation| generation.views());
            views.iter().map(|view| view.name.clone()).collect::<Vec<_>>()
        };
        let found = self.topics.iter().find(|(_, generations)| views(generations).iter().any(|name| name == view));
        found.ok_or_else(|| {
            let known = self.topics.iter().flat_map(|(_, generations)| views(generations)).collect();
            ReadError::NoSuchView { name: view.to_owned(), known }
        })
    }

    pub fn get(
        &self,
        view: &str,
        key: &[u8],
        at_least: Option<&PositionVector>,
    ) -> Result<Reading<Option<Row>>, Failure> {
        let (topic, generations) = self.topic_of(view)?;
        check(topic, generations, at_least)?;
        Ok(reads::get(topic, generations, view, key)?)
    }

    pub fn list(
        &self,
        view: &str,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        at_least: Option<&PositionVector>,
    ) -> Result<Reading<Page>, Failure> {
        let (topic, generations) = self.topic_of(view)?;
        check(topic, generations, at_least)?;
        Ok(reads::list(topic, generations, view, prefix, cursor, limit)?)
    }

    /// What the store says, and how far the log goes where it can be asked. The second value says why it could not.
    pub fn status(&self, config: &Config) -> (Status, Option<Failure>) {
        let exists = config.node.log == LogKind::Kafka || assemble::log_dir(config).is_dir();
        let (log, mut trouble) = match exists.then(|| assemble::log(config)) {
            None => (None, None),
            Some(Ok(log)) => (Some(log.log()), None),
            Some(Err(failure)) => (None, Some(failure)),
        };
        let mut topics = Vec::new();
        for (name, generations) in &self.topics {
            let mut partitions = Vec::new();
            for generation in generations {
                // One question that fails is enough: the next would wait as long.
                let end = match log.as_ref().filter(|_| trouble.is_none()).map(|log| end(log, generation)) {
                    Some(Err(failure)) => {
                        trouble = Some(failure);
                        None
                    }
                    Some(Ok(end)) => Some(end),
                    None => None,
                };
                partitions.push(partition_status(generation, end));
            }
            topics.push(TopicStatus {
                name: name.clone(),
                partitions,
                views: view_status(generations),
                pending: Vec::new(),
            });
        }
        let status = Status {
            node: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: NodeState::Offline,
            reason: Some("no daemon runs; this is what its store holds".to_owned()),
            log: match config.node.log {
                LogKind::Embedded => "embedded".to_owned(),
                LogKind::Kafka => "kafka".to_owned(),
            },
            uptime_seconds: 0.0,
            topics,
            replay: None,
        };
        (status, trouble)
    }
}

/// Without a daemon a position moves for nobody: what is not reached now is behind.
fn check(topic: &str, generations: &[Arc<Generation>], at_least: Option<&PositionVector>) -> Result<(), Failure> {
    let Some(want) = at_least else { return Ok(()) };
    if want.topic != topic {
        return Err(ReadError::OtherTopic { want: want.clone(), topic: topic.to_owned() }.into());
    }
    let mut have = PositionVector::new(topic);
    generations.iter().for_each(|generation| have.raise(generation.at().partition, generation.applied()));
    if have.reaches(want) {
        return Ok(());
    }
    let behind = Failure::from(ReadError::Behind { have, want: want.clone() });
    Err(Failure { code: Code::Behind, ..behind }.next("no daemon runs: start one with `segno run`"))
}

fn end(log: &Arc<dyn Log>, generation: &Generation) -> Result<Position, Failure> {
    Ok(log.watermarks(generation.at())?.end)
}

fn partition_status(generation: &Generation, log_end: Option<Position>) -> PartitionStatus {
    let applied = generation.applied();
    let totals = generation.view_totals();
    let sum =
        |column: fn(&Books) -> i64| totals.iter().map(|view| column(&view.books).max(0).unsigned_abs()).sum::<u64>();
    let lag_records = log_end.map(|end| applied.lag_to(end));
    PartitionStatus {
        partition: generation.at().partition,
        state: PartitionState::Offline,
        reason: None,
        applied,
        durable: generation.durable(),
        log_end,
        lag_records,
        lag_seconds: lag_records.filter(|lag| *lag == 0).map(|_| 0.0),
        resident: 0,
        batch_records: 0,
        in_flight: 0,
        waiting: sum(|books| books.waiting),
        parked: sum(|books| books.parked),
        dead: sum(|books| books.dead),
        generation: generation.number(),
    }
}

fn view_status(generations: &[Arc<Generation>]) -> Vec<ViewStatus> {
    let views = generations.first().map_or(&[][..], |generation| generation.views());
    let status = |view: &crate::state::StoredView| {
        let (mut digest, mut rows, mut books) = (0u128, 0i64, Books::default());
        for generation in generations {
            let tag = generation.views().iter().find(|stored| stored.name == view.name).map(|stored| stored.tag);
            for totals in generation.view_totals().into_iter().filter(|totals| Some(totals.view) == tag) {
                digest = digest.wrapping_add(totals.digest);
                rows += totals.rows;
                books += totals.books;
            }
        }
        ViewStatus {
            view: view.name.clone(),
            version: view.version,
            rows: rows.max(0).unsigned_abs(),
            digest: format!("{digest:032x}"),
            books,
        }
    };
    views.iter().map(status).collect()
}
