//! The running node behind the faces' handle: status, reads, appends, probes, and the stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ractor::ActorRef;
use tokio::sync::{oneshot, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

use super::flusher::Flushers;
use super::handle::{
    AppendError, Bound, BoxFuture, Check, Health, Node, NodeState, Page, PartitionState, ReadError, Reading, Receipt,
    Row, Status, TopicStatus, ViewInfo, ViewStatus,
};
use super::partition::published::Published;
use super::plan::{Fatal, StopReport};
use super::reads;
use super::supervisor::SupervisorMessage;
use crate::position::PositionVector;
use crate::record::NewRecord;
use crate::state::{Generation, ViewIdent};
use crate::streams::{self, Log};

/// A topic of the node, as its handle needs it.
pub struct TopicShared {
    pub name: String,
    pub views: Vec<ViewIdent>,
    /// In the order of their numbers.
    pub partitions: Vec<Arc<Published>>,
}

impl TopicShared {
    fn generations(&self) -> Vec<Arc<Generation>> {
        self.partitions.iter().map(|partition| partition.setting().generation.clone()).collect()
    }
}

/// What the actors and the faces share.
pub struct NodeShared {
    name: String,
    log: Arc<dyn Log>,
    topics: Vec<TopicShared>,
    failed: watch::Receiver<Option<Fatal>>,
    /// What is wrong with the log's storage, as the last append found it: no append goes in until that is repaired.
    log_broken: watch::Sender<Option<String>>,
    ready: AtomicBool,
    stopping: AtomicBool,
    since: Instant,
}

impl NodeShared {
    pub fn new(
        name: String,
        log: Arc<dyn Log>,
        topics: Vec<TopicShared>,
        failed: watch::Receiver<Option<Fatal>>,
    ) -> Self {
        let (ready, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
        let log_broken = watch::Sender::new(None);
        NodeShared { name, log, topics, failed, log_broken, ready, stopping, since: Instant::now() }
    }

    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub fn partitions(&self) -> impl Iterator<Item = &Arc<Published>> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    /// Stops everything in good order, within a bound. The log stays open: it is its owner's to close.
    pub async fn stop(
        self: Arc<Self>,
        supervisor: ActorRef<SupervisorMessage>,
        flushers: Flushers,
        within: Duration,
    ) -> StopReport {
        self.stopping.store(true, Ordering::Release);
        drop(flushers);
        let mut report = StopReport::default();
        let (reply, answer) = oneshot::channel();
        // A supervisor that is gone drops the reply; that is reported below.
        let _ = supervisor.cast(SupervisorMessage::Stop { within, reply });
        match answer.await {
            Ok(stopped) => {
                for partition in stopped {
                    match partition.durable {
                        Ok(position) => report.durable.push((partition.at, position)),
                        Err(problem) => report.problems.push(format!("{}: {problem}", partition.at)),
                    }
                }
            }
            Err(_) => report.problems.push("the supervisor of the node had ended before".to_owned()),
        }
        report
    }

    fn state(&self) -> (NodeState, Option<String>) {
        if let Some(fatal) = &*self.failed.borrow() {
            return (NodeState::Failed, Some(fatal.to_string()));
        }
        if self.stopping.load(Ordering::Acquire) {
            return (NodeState::Stopping, None);
        }
        match self.ready.load(Ordering::Acquire) {
            true => (NodeState::Ready, None),
            false => (NodeState::Starting, None),
        }
    }

    /// Says once that the log's storage has failed, and that it works again.
    fn note(&self, topic: &str, error: Option<&streams::Error>) {
        let broken = match error {
            None => None,
            Some(error @ streams::Error::Storage { .. }) => Some(error.to_string()),
            // Of these the caller is told; they say nothing about the next append.
            Some(_) => return,
        };
        let before = self.log_broken.borrow().is_some();
        match &broken {
            Some(reason) if !before => tracing::error!(
                topic,
                "appends fail, and reads go on: {reason}; make room or repair the disk, then start the node again"
            ),
            None if before => tracing::info!(topic, "appends work again"),
            _ => return,
        }
        self.log_broken.send_replace(broken);
    }

    fn topic_of(&self, view: &str) -> Result<&TopicShared, ReadError> {
        let has = |topic: &&TopicShared| topic.views.iter().any(|known| known.name == view);
        self.topics.iter().find(has).ok_or_else(|| ReadError::NoSuchView {
            name: view.to_owned(),
            known: self.topics.iter().flat_map(|topic| topic.views.iter().map(|view| view.name.clone())).collect(),
        })
    }

    /// Waits until the topic has applied everything below the bound.
    async fn wait(&self, topic: &TopicShared, bound: Option<Bound>) -> Result<(), ReadError> {
        let Some(Bound { at_least: want, wait }) = bound else { return Ok(()) };
        if want.topic != topic.name {
            return Err(ReadError::OtherTopic { want, topic: topic.name.clone() });
        }
        let deadline = tokio::time::Instant::now() + wait;
        for (partition, position) in &want.positions {
            let Some(published) = topic.partitions.get(partition.0 as usize) else {
                return Err(ReadError::NoSuchPartition {
                    topic: topic.name.clone(),
                    partition: *partition,
                    partitions: topic.partitions.len() as u32,
                });
            };
            let mut applied = WatchStream::new(published.applied.subscribe());
            let reached = async { while applied.next().await.is_some_and(|applied| applied < *position) {} };
            if tokio::time::timeout_at(deadline, reached).await.is_err() {
                let mut have = PositionVector::new(topic.name.clone());
                for published in &topic.partitions {
                    have.raise(published.setting().at.partition, *published.applied.borrow());
                }
                return Err(ReadError::Behind { have, want });
            }
        }
        Ok(())
    }
}

impl Node for NodeShared {
    fn status(&self) -> Status {
        let now = jiff::Timestamp::now().as_millisecond();
        let (state, reason) = self.state();
        let topic_status = |topic: &TopicShared| TopicStatus {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|partition| partition.status(now)).collect(),
            views: view_status(topic),
        };
        Status {
            node: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            reason,
            log: self.log.kind().to_owned(),
            uptime_seconds: self.since.elapsed().as_secs_f64(),
            topics: self.topics.iter().map(topic_status).collect(),
        }
    }

    fn views(&self) -> Vec<ViewInfo> {
        let info = |topic: &TopicShared, view: &ViewIdent| ViewInfo {
            name: view.name.clone(),
            version: view.version,
            topic: topic.name.clone(),
        };
        self.topics.iter().flat_map(|topic| topic.views.iter().map(move |view| info(topic, view))).collect()
    }

    fn topics(&self) -> Vec<String> {
        self.topics.iter().map(|topic| topic.name.clone()).collect()
    }

    fn get(
        &self,
        view: &str,
        key: Vec<u8>,
        bound: Option<Bound>,
    ) -> BoxFuture<'_, Result<Reading<Option<Row>>, ReadError>> {
        let view = view.to_owned();
        Box::pin(async move {
            let topic = self.topic_of(&view)?;
            self.wait(topic, bound).await?;
            let (name, generations) = (topic.name.clone(), topic.generations());
            blocking(move || reads::get(&name, &generations, &view, &key)).await
        })
    }

    fn list(
        &self,
        view: &str,
        prefix: Vec<u8>,
        cursor: Option<String>,
        limit: usize,
        bound: Option<Bound>,
    ) -> BoxFuture<'_, Result<Reading<Page>, ReadError>> {
        let view = view.to_owned();
        Box::pin(async move {
            let topic = self.topic_of(&view)?;
            self.wait(topic, bound).await?;
            let (name, generations) = (topic.name.clone(), topic.generations());
            blocking(move || reads::list(&name, &generations, &view, &prefix, cursor.as_deref(), limit)).await
        })
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        let topic = topic.to_owned();
        Box::pin(async move {
            if self.stopping.load(Ordering::Acquire) {
                return Err(AppendError::Stopping);
            }
            if !self.topics.iter().any(|known| known.name == topic) {
                return Err(AppendError::NoSuchTopic { name: topic, known: self.topics() });
            }
            let (log, name) = (self.log.clone(), topic.clone());
            let appended = tokio::task::spawn_blocking(move || log.append(&name, records)).await;
            let appended = appended.map_err(|_| AppendError::Stopping)?;
            self.note(&topic, appended.as_ref().err());
            Ok(Receipt::of(&topic, appended?))
        })
    }

    fn live(&self) -> Health {
        // The answer itself shows that the runtime turns; a hanging fold is the partition's business, not a reason to
        // kill the process.
        Health::of(vec![Check { name: "process".to_owned(), ok: true, detail: "answers".to_owned() }])
    }

    fn ready(&self) -> Health {
        let (state, reason) = self.state();
        let detail = reason.unwrap_or_else(|| state.to_string());
        let mut checks = vec![Check { name: "node".to_owned(), ok: state == NodeState::Ready, detail }];
        if let Some(broken) = &*self.log_broken.borrow() {
            checks.push(Check { name: "log".to_owned(), ok: false, detail: broken.clone() });
        }
        for partition in self.partitions() {
            let (state, reason) = partition.state();
            let detail = reason.unwrap_or_else(|| state.to_string());
            let name = partition.setting().at.to_string();
            checks.push(Check { name, ok: state == PartitionState::Running, detail });
        }
        Health::of(checks)
    }

    fn started(&self) -> Health {
        let started = self.ready.load(Ordering::Acquire);
        let detail = if started { "every partition is open" } else { "opening the partitions" };
        Health::of(vec![Check { name: "start".to_owned(), ok: started, detail: detail.to_owned() }])
    }
}

/// Sums the views of a topic over its partitions.
fn view_status(topic: &TopicShared) -> Vec<ViewStatus> {
    let totals: Vec<_> = topic.partitions.iter().map(|p| p.setting().generation.view_totals()).collect();
    let sum = |(index, view): (usize, &ViewIdent)| {
        let (mut rows, mut digest, mut books) = (0, 0u128, crate::state::Books::default());
        for totals in totals.iter().filter_map(|partition| partition.get(index)) {
            rows += totals.rows;
            digest = digest.wrapping_add(totals.digest);
            books += totals.books;
        }
        ViewStatus {
            view: view.name.clone(),
            version: view.version,
            rows: rows.max(0) as u64,
            digest: format!("{digest:032x}"),
            books,
        }
    };
    topic.views.iter().enumerate().map(sum).collect()
}

/// Reads from the store, away from the runtime's threads.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(ReadError::Stopping))
}
