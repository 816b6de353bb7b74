//! What the node answers an operator.

use std::sync::Arc;

use super::base;
use super::cut;
use super::footing;
use super::job::now;
use super::plan::{self, KnownPart, KnownSnapshot, LivePartition, PlanContext, TopicContext};
use super::record::{JobRecord, ancestors};
use super::rollback;
use super::since::Since;
use super::snapshots;
use super::words::{JobAction, JobKind, JobStatus, Phase, ReplayError, ReplayPlan, ReplayRequest};
use crate::actors::admin::{Admin, AsOf, Changes, Explain, Explanation, PeekError, SnapshotInfo, ViewCheck};
use crate::actors::handle::{BoxFuture, ReadError, Reading, Row};
use crate::actors::node::NodeShared;
use crate::actors::reads;
use crate::actors::serving::{TopicShared, idents};
use crate::actors::travel::Travel;
use crate::actors::travel::watched::{Watch, watched};
use crate::actors::waiting;
use crate::position::{PositionVector, TopicPartition};
use crate::state::{self, Books, Generation, Snapshot};
use crate::views::{Definitions, guard};

/// Rows of a snapshot that are tried before it is called compatible; all of them are when it is taken over.
const TRIED: usize = 1000;

impl NodeShared {
    /// Plans a replay. Blocks.
    pub(super) fn plan(&self, request: &ReplayRequest) -> Result<ReplayPlan, ReplayError> {
        let failed = |error: state::Error| ReplayError::Failed(error.to_string());
        let store = &self.parts.store;
        let known = store.snapshots().map_err(failed)?;
        let compatible = |snapshot: u64, at: &TopicPartition| self.compatible(snapshot, at);
        let jobs: Vec<JobRecord> = self.jobs.all().iter().map(|job| job.record()).collect();
        let context = PlanContext {
            log: &*self.parts.log,
            now: now(),
            topics: self.topics.iter().map(|topic| topic_context(topic, &jobs)).collect(),
            snapshots: known.iter().map(known_snapshot).collect(),
            compatible: &compatible,
            disk_free: store.free_bytes().map_err(failed)?,
            rate: self.measured_rate(),
        };
        let mut plan = plan::plan(&context, request)?;
        if plan.seconds.is_none() {
            plan.seconds = self.tried_rate(&plan).map(|rate| plan.seconds_at(rate));
        }
        Ok(plan)
    }

    /// Whether the wanted definitions can read what a snapshot holds; looks at the first rows of every view.
    fn compatible(&self, snapshot: u64, at: &TopicPartition) -> Result<(), String> {
        let generation = self.parts.store.open_snapshot(snapshot, at).map_err(|error| error.to_string())?;
        let topic = self.topic(&at.topic).ok_or_else(|| format!("topic `{}` is not configured", at.topic))?;
        readable(&generation, &topic.parts.wanted)
    }

    /// Records a second of the newest replay that ran long enough to tell.
    fn measured_rate(&self) -> Option<f64> {
        self.jobs.all().iter().find_map(|job| job.record().rate)
    }

    /// What a text such as `--at` means for one topic. Blocks.
    fn resolve(&self, topic: &TopicShared, text: &str) -> Result<PositionVector, ReplayError> {
        let since = Since::parse(text, now())?;
        let partitions = topic.serving().partitions.len() as u32;
        let cuts = cut::resolve(&*self.parts.log, topic.name(), partitions, &since, now())?;
        let mut vector = PositionVector::new(topic.name());
        cuts.iter().for_each(|cut| vector.raise(cut.partition, cut.cut));
        Ok(vector)
    }

    /// The history of a topic, for questions; they end when the node stops.
    fn travel<'a>(&'a self, topic: &'a TopicShared, watch: &Arc<Watch>) -> Travel<'a> {
        let (log, store, serving) = (&*self.parts.log, &self.parts.store, topic.serving());
        Travel::new(log, store, &topic.parts, &serving, self.questions_end.clone(), watch.clone())
    }

    /// Runs a question that folds.
    fn asking_the_past<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&NodeShared, &Arc<Watch>) -> Result<T, ReplayError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, ReplayError>> {
        self.asking(move |node| {
            let (node, watch) = (node.clone(), Arc::<Watch>::default());
            let watching = watch.clone();
            watched(&watching, move || ask(&node, &watch))
        })
    }

    fn arc(&self) -> Result<Arc<NodeShared>, ReplayError> {
        self.me.upgrade().ok_or(ReplayError::Stopping)
    }

    /// Runs `ask` away from the runtime's threads.
    pub(super) fn asking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Arc<NodeShared>) -> Result<T, ReplayError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, ReplayError>> {
        let node = self.arc();
        Box::pin(async move {
            let node = node?;
            tokio::task::spawn_blocking(move || ask(&node)).await.unwrap_or(Err(ReplayError::Stopping))
        })
    }
}

fn topic_context(topic: &Arc<TopicShared>, jobs: &[JobRecord]) -> TopicContext {
    let live = |generation: Arc<Generation>| {
        let mut books = Books::default();
        generation.view_totals().iter().for_each(|totals| books += totals.books);
        LivePartition {
            identity: generation.identity().clone(),
            number: generation.number(),
            ancestors: ancestors(jobs, generation.at(), generation.number()),
            position: generation.applied(),
            lineage: generation.lineage(),
            began: generation.began(),
            last: generation.last(),
            views: generation.views().to_vec(),
            books,
            bytes: generation.bytes(),
        }
    };
    TopicContext {
        name: topic.name().into(),
        history: topic.parts.history,
        wanted: idents(&topic.parts.wanted),
        partitions: topic.serving().generations().into_iter().map(live).collect(),
    }
}

fn known_snapshot(snapshot: &Snapshot) -> KnownSnapshot {
    let part = |part: &state::SnapshotPart| KnownPart {
        identity: part.identity.clone(),
        generation: part.generation,
        position: part.position,
        lineage: part.lineage,
        began: part.began,
        last: part.last,
        views: part.views.clone(),
    };
    KnownSnapshot {
        id: snapshot.id,
        topic: snapshot.topic.clone(),
        parts: snapshot.parts.iter().map(part).collect(),
        damaged: snapshot.damaged.clone(),
    }
}

/// Whether the first rows of each view can be read by the definition of its name.
fn readable(generation: &Generation, definitions: &Definitions) -> Result<(), String> {
    let read = generation.snapshot_read();
    for definition in definitions.iter() {
        let Some(view) = base::stored(generation.views(), definition.name()) else { continue };
        // The text of a view in Rust is its type's name, which a newer version usually keeps.
        if view.version == definition.version() && view.text == definition.text() {
            continue;
        }
        let page = read.list(view.tag, b"", None, TRIED).map_err(|error| error.to_string())?;
        for (key, row) in page.rows {
            guard::decode(&**definition, &row.json).map_err(|why| {
                format!(
                    "view `{}`, key \"{}\": version {} cannot read its row: {why}",
                    view.name,
                    key.escape_ascii(),
                    definition.version()
                )
            })?;
        }
    }
    Ok(())
}

impl Admin for NodeShared {
    fn plan_replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<ReplayPlan, ReplayError>> {
        self.asking(move |node| node.plan(&request))
    }

    fn start_replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        Box::pin(async move { self.arc()?.start_job(request, JobKind::Replay).await })
    }

    fn replays(&self) -> Vec<JobStatus> {
        self.jobs.all().iter().map(|job| job.status()).collect()
    }

    fn replay(&self, id: Option<u64>) -> Result<JobStatus, ReplayError> {
        self.jobs.find(id).map(|job| job.status())
    }

    fn act(&self, id: Option<u64>, action: JobAction) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        Box::pin(async move { self.arc()?.act_on(id, action).await })
    }

    fn roll_back(&self, id: Option<u64>) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        self.asking(move |node| {
            let done = |job: &Arc<super::job::Job>| job.phase() == Phase::Done;
            let of = match id {
                Some(id) => node.jobs.find(Some(id))?,
                None => node.jobs.all().into_iter().find(done).ok_or_else(|| {
                    ReplayError::NotNow("no replay has cut over yet: there is nothing to roll back".to_owned())
                })?,
            };
            let of = of.record();
            let next = node.parts.store.new_job_id().map_err(|error| ReplayError::Failed(error.to_string()))?;
            node.begin_job(rollback::plan(node, &of, next)?)
        })
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>> {
        self.asking(|node| {
            let known = node.parts.store.snapshots().map_err(|error| ReplayError::Failed(error.to_string()))?;
            Ok(known.iter().map(snapshots::info).collect())
        })
    }

    fn take_snapshot(&self, topics: Vec<String>) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>> {
        Box::pin(async move {
            let node = self.arc()?;
            let unknown = topics.iter().find(|name| node.topic(name).is_none());
            if let Some(unknown) = unknown {
                return Err(ReplayError::Bad(format!("topic `{unknown}` is not processed here")));
            }
            let mut taken = Vec::new();
            for topic in
                node.topics.iter().filter(|topic| topics.is_empty() || topics.iter().any(|t| t == topic.name()))
            {
                taken.push(snapshots::info(&snapshots::take(&node, topic, state::OPERATOR).await?));
            }
            Ok(taken)
        })
    }

    fn verify_snapshot(&self, id: u64) -> BoxFuture<'_, Result<SnapshotInfo, ReplayError>> {
        self.asking(move |node| {
            let verified = node.parts.store.verify_snapshot(id).map_err(|error| snapshot_error(id, error))?;
            Ok(snapshots::info(&verified))
        })
    }

    fn delete_snapshot(&self, id: u64) -> BoxFuture<'_, Result<(), ReplayError>> {
        self.asking(move |node| {
            let _alone = node.alone();
            if let Some(job) = footing::held_by(&node.jobs, id) {
                return Err(ReplayError::NotNow(format!(
                    "job {job} has yet to take its rows from snapshot {id}: delete it after that, or cancel the job with \
                     `segno replay cancel {job}`"
                )));
            }
            node.parts.store.delete_snapshot(id).map_err(|error| snapshot_error(id, error))
        })
    }

    fn verify(&self) -> BoxFuture<'_, Result<Vec<ViewCheck>, ReplayError>> {
        self.asking(|node| {
            let mut checks = Vec::new();
            for topic in &node.topics {
                checks.extend(node.travel(topic, &Arc::default()).verify()?);
            }
            Ok(checks)
        })
    }

    fn get_at(&self, view: &str, key: Vec<u8>, at: String) -> BoxFuture<'_, Result<AsOf, ReplayError>> {
        let view = view.to_owned();
        self.asking_the_past(move |node, watch| {
            let topic = node.topic_of(&view).map_err(no_view)?;
            let cut = node.resolve(topic, &at)?;
            node.travel(topic, watch).get_at(&view, &key, &cut)
        })
    }

    fn explain(&self, question: Explain) -> BoxFuture<'_, Result<Explanation, ReplayError>> {
        self.asking_the_past(move |node, watch| {
            let topic = node.topic_of(&question.view).map_err(no_view)?;
            let resolve = |text: &Option<String>| text.as_deref().map(|text| node.resolve(topic, text)).transpose();
            let from = resolve(&question.from)?;
            let to = resolve(&question.to)?.unwrap_or_else(|| waiting::applied(topic.name(), &topic.serving()));
            let limit = question.limit;
            node.travel(topic, watch).explain(&question.view, &question.key, from.as_ref(), &to, limit)
        })
    }

    fn changes(&self, view: &str, from: String, to: String) -> BoxFuture<'_, Result<Changes, ReplayError>> {
        let view = view.to_owned();
        self.asking_the_past(move |node, watch| {
            let topic = node.topic_of(&view).map_err(no_view)?;
            let (from, to) = (node.resolve(topic, &from)?, node.resolve(topic, &to)?);
            node.travel(topic, watch).changes(&view, &from, &to)
        })
    }

    fn peek(
        &self,
        view: &str,
        key: Vec<u8>,
        id: Option<u64>,
    ) -> BoxFuture<'_, Result<Reading<Option<Row>>, PeekError>> {
        let view = view.to_owned();
        Box::pin(async move {
            let topic = self.topic_of(&view)?.name().to_owned();
            let job = self.jobs.find(id)?;
            let generations = job.generations(&topic);
            if generations.is_empty() {
                let why = format!("job {} is {} and is not building `{topic}`", job.id(), job.phase());
                return Err(ReplayError::NotNow(why).into());
            }
            let read = tokio::task::spawn_blocking(move || reads::get(&topic, &generations, &view, &key));
            Ok(read.await.unwrap_or(Err(ReadError::Stopping))?)
        })
    }
}

fn no_view(error: ReadError) -> ReplayError {
    ReplayError::Bad(error.to_string())
}

fn snapshot_error(id: u64, error: state::Error) -> ReplayError {
    match error {
        state::Error::NoSnapshot { .. } => ReplayError::NoSuchSnapshot { id },
        error => ReplayError::Failed(error.to_string()),
    }
}
