//! The running node behind the faces' handle: status, reads, appends, probes, and the stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ractor::ActorRef;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::handle::{
    AppendError, Bound, BoxFuture, Check, Health, Node, NodeState, Page, PartitionState, ReadError, Reading, Receipt,
    Row, Status, TopicStatus, ViewInfo, ViewStatus,
};
use super::plan::{AuditOptions, Fatal, ReplayOptions, SnapshotOptions, StopReport};
use super::reads;
use super::replay::jobs::Jobs;
use super::replay::record::JobRecord;
use super::replay::snapshots;
use super::serving::{Serving, TopicShared};
use super::supervisor::SupervisorMessage;
use super::travel::audit::{AuditState, Audited, audit};
use super::waiting;
use crate::position::TopicPartition;
use crate::record::NewRecord;
use crate::state::{Generation, Store, ViewIdent};
use crate::streams::{self, Log};

/// What a node is made of, whatever it does.
pub struct NodeParts {
    /// `node.name`.
    pub name: String,
    pub log: Arc<dyn Log>,
    pub store: Arc<Store>,
    pub supervisor: ActorRef<SupervisorMessage>,
    pub replay: ReplayOptions,
    pub snapshots: SnapshotOptions,
    pub audit: AuditOptions,
    /// Live consumes; when not, a command works on the store while no daemon runs.
    pub consume: bool,
    /// Where the end of the node is told.
    pub failed: Arc<watch::Sender<Option<Fatal>>>,
}

/// What the actors and the faces share.
pub struct NodeShared {
    /// For what outlives the call that begins it.
    pub(super) me: Weak<NodeShared>,
    pub(super) parts: NodeParts,
    pub(super) jobs: Jobs,
    /// Held while a job is begun, resumed or ended by an operator, so that there is one at a time.
    pub(super) beginning: Mutex<()>,
    /// Set when whoever reads the log for a question has to end.
    pub(super) questions_end: Arc<AtomicBool>,
    pub(super) audited: Arc<AuditState>,
    /// Ends with the node.
    companions: Mutex<Vec<JoinHandle<()>>>,
    pub(super) topics: Vec<Arc<TopicShared>>,
    failed: watch::Receiver<Option<Fatal>>,
    /// What is wrong with the log's storage, as the last append found it: no append goes in until that is repaired.
    log_broken: watch::Sender<Option<String>>,
    ready: AtomicBool,
    stopping: AtomicBool,
    since: Instant,
}

impl NodeShared {
    pub fn new(
        parts: NodeParts,
        topics: Vec<Arc<TopicShared>>,
        jobs: Jobs,
        failed: watch::Receiver<Option<Fatal>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| NodeShared {
            me: me.clone(),
            parts,
            jobs,
            beginning: Mutex::new(()),
            questions_end: Arc::default(),
            audited: Arc::default(),
            companions: Mutex::default(),
            topics,
            failed,
            log_broken: watch::Sender::new(None),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            since: Instant::now(),
        })
    }

    /// The actors run: begins what accompanies them.
    pub fn begin(self: &Arc<Self>) {
        for topic in &self.topics {
            topic.begin_flushing();
        }
        self.resume_jobs();
        let mut companions = self.companions.lock().unwrap_or_else(PoisonError::into_inner);
        if self.parts.consume {
            companions.push(tokio::spawn(snapshots::keep(self.clone())));
            let audited = Audited {
                log: self.parts.log.clone(),
                store: self.parts.store.clone(),
                topics: self.topics.clone(),
                stop: self.questions_end.clone(),
            };
            companions.push(tokio::spawn(audit(audited, self.audited.clone(), self.parts.audit)));
        }
        drop(companions);
        self.ready.store(true, Ordering::Release);
    }

    /// The topic of that name.
    pub(super) fn topic(&self, name: &str) -> Option<Arc<TopicShared>> {
        self.topics.iter().find(|topic| topic.name() == name).cloned()
    }

    /// The topics of a job.
    pub(super) fn topics_of(&self, record: &JobRecord) -> Vec<Arc<TopicShared>> {
        record.topics.iter().filter_map(|topic| self.topic(&topic.topic)).collect()
    }

    /// The generation that serves a partition.
    pub(super) fn live_generation(&self, at: &TopicPartition) -> Option<Arc<Generation>> {
        let serving = self.topic(&at.topic)?.serving();
        let found = serving.partitions.get(at.partition.0 as usize)?;
        Some(found.setting().generation.clone())
    }

    /// The node cannot go on.
    pub(super) fn fail(&self, fault: streams::Fault, reason: String) {
        let next = "nothing that was committed is lost: start again".to_owned();
        let fatal = Fatal { at: None, fault, reason, next };
        tracing::error!(%fatal, "the node fails");
        self.parts.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(fatal);
            first
        });
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Stops everything in good order, within a bound. The log stays open: it is its owner's to close.
    pub async fn stop(self: Arc<Self>, within: Duration) -> StopReport {
        self.stopping.store(true, Ordering::Release);
        self.questions_end.store(true, Ordering::Release);
        let companions = std::mem::take(&mut *self.companions.lock().unwrap_or_else(PoisonError::into_inner));
        for companion in companions {
            companion.abort();
            // It has ended, by itself or by that.
            let _ = companion.await;
        }
        let mut report = StopReport::default();
        if tokio::time::timeout(within, self.suspend_jobs()).await.is_err() {
            report.problems.push("the replay under way did not stop in time; it goes on at the next start".to_owned());
        }
        for topic in &self.topics {
            topic.end_flushing();
        }
        let (reply, answer) = oneshot::channel();
        // A supervisor that is gone drops the reply; that is reported below.
        let _ = self.parts.supervisor.cast(SupervisorMessage::Stop { within, reply });
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
        for topic in &self.topics {
            let serving = topic.serving();
            match tokio::task::spawn_blocking(move || serving.flush()).await {
                Ok(failed) => report.problems.extend(failed.iter().map(|(at, error)| format!("{at}: {error}"))),
                Err(error) => report.problems.push(format!("topic `{}`: {error}", topic.name())),
            }
        }
        report
    }

    fn state(&self) -> (NodeState, Option<String>) {
        if let Some(fatal) = &*self.failed.borrow() {
            return (NodeState::Failed, Some(fatal.to_string()));
        }
        if self.stopping() {
            return (NodeState::Stopping, None);
        }
        match self.ready.load(Ordering::Acquire) {
            true => (NodeState::Ready, None),
            false => (NodeState::Starting, None),
        }
    }

    /// Says once that the log's storage has failed, and that it works again.
    fn note(&self, topic: &str, error: Option<&streams::Error>) {
        let broken = match error.map(streams::Error::cause) {
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

    /// The topic that has the view, and what serves it now.
    pub(super) fn topic_of(&self, view: &str) -> Result<&Arc<TopicShared>, ReadError> {
        let has = |topic: &&Arc<TopicShared>| topic.serving().views.iter().any(|known| known.name == view);
        self.topics.iter().find(has).ok_or_else(|| ReadError::NoSuchView {
            name: view.to_owned(),
            known: self.views().into_iter().map(|view| view.name).collect(),
        })
    }
}

impl Node for NodeShared {
    fn status(&self) -> Status {
        let now = jiff::Timestamp::now().as_millisecond();
        let (state, reason) = self.state();
        let topic_status = |topic: &Arc<TopicShared>| TopicStatus {
            name: topic.name().to_owned(),
            partitions: topic.serving().partitions.iter().map(|partition| partition.status(now)).collect(),
            views: view_status(&topic.serving()),
            pending: topic.serving().pending.clone(),
        };
        Status {
            node: self.parts.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            reason,
            log: self.parts.log.kind().to_owned(),
            uptime_seconds: self.since.elapsed().as_secs_f64(),
            topics: self.topics.iter().map(topic_status).collect(),
            replay: self.jobs.under_way().map(|job| job.brief()),
        }
    }

    fn views(&self) -> Vec<ViewInfo> {
        let mut views = Vec::new();
        for topic in &self.topics {
            let info = |view: &ViewIdent| ViewInfo {
                name: view.name.clone(),
                version: view.version,
                topic: topic.name().to_owned(),
            };
            views.extend(topic.serving().views.iter().map(info));
        }
        views
    }

    fn topics(&self) -> Vec<String> {
        self.topics.iter().map(|topic| topic.name().to_owned()).collect()
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
            let generations = waiting::reached(topic, bound).await?.generations();
            let name = topic.name().to_owned();
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
            let generations = waiting::reached(topic, bound).await?.generations();
            let name = topic.name().to_owned();
            blocking(move || reads::list(&name, &generations, &view, &prefix, cursor.as_deref(), limit)).await
        })
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        let topic = topic.to_owned();
        Box::pin(async move {
            if self.stopping() {
                return Err(AppendError::Stopping);
            }
            if !self.topics.iter().any(|known| known.name() == topic) {
                return Err(AppendError::NoSuchTopic { name: topic, known: self.topics() });
            }
            let (log, name, count) = (self.parts.log.clone(), topic.clone(), records.len());
            let appended = match tokio::task::spawn_blocking(move || log.append(&name, records)).await {
                Ok(appended) => appended,
                Err(lost) if lost.is_panic() => {
                    let went_in = streams::WentIn { in_doubt: (0..count).collect(), ..streams::WentIn::default() };
                    Err(streams::Error::halfway(streams::Error::Other("the append panicked".to_owned()), went_in))
                }
                Err(_) => return Err(AppendError::Stopping),
            };
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
        if let Some(diverged) = self.audited.diverged() {
            // Told, and no reason to be taken out of service: the other rows are as right as before.
            checks.push(Check { name: "audit".to_owned(), ok: true, detail: diverged });
        }
        for topic in &self.topics {
            for partition in &topic.serving().partitions {
                let (state, reason) = partition.state();
                let name = partition.setting().at.to_string();
                // For the moment of a cut-over a partition is stopped and answers reads.
                let switching = topic.switching() && state == PartitionState::Stopped;
                let ok = switching || matches!(state, PartitionState::Running | PartitionState::Frozen);
                checks.push(Check { name, ok, detail: reason.unwrap_or_else(|| state.to_string()) });
            }
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
fn view_status(serving: &Serving) -> Vec<ViewStatus> {
    let totals: Vec<_> = serving.partitions.iter().map(|p| p.setting().generation.view_totals()).collect();
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
    serving.views.iter().enumerate().map(sum).collect()
}

/// Reads from the store, away from the runtime's threads.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(ReadError::Stopping))
}
