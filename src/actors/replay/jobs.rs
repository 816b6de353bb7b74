//! The jobs of a node: begun, and found again after a start.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::build;
use super::drive::{Driver, drive};
use super::footing;
use super::job::{Job, now};
use super::record::{JobRecord, ShadowRecord, TopicRecord, ViewText};
use super::words::{BaseChoice, JobKind, JobStatus, Phase, ReplayError, ReplayPlan, ReplayRequest};
use crate::actors::node::NodeShared;
use crate::actors::plan::OnChange;
use crate::actors::serving::{TopicShared, idents};
use crate::position::TopicPartition;
use crate::state::{self, Store};

/// All jobs that the control store knows, the oldest first.
#[derive(Default)]
pub struct Jobs {
    known: Mutex<Vec<Arc<Job>>>,
    /// A job that is not over and whose record cannot be read, and why. As long as there is one, nothing that it may need
    /// is removed, and no other begins.
    unread: Option<(u64, String)>,
}

impl Jobs {
    /// Reads the records. One that cannot be read is left alone, and told.
    pub fn load(store: &Store) -> Result<Jobs, state::Error> {
        let (mut jobs, mut unread) = (Vec::new(), None);
        for (id, stored) in store.jobs()? {
            match JobRecord::decode(&stored) {
                Ok(record) => jobs.push(Arc::new(Job::new(record))),
                Err(why) => {
                    tracing::warn!(job = id, why, "the record of a replay cannot be read; it is left alone");
                    if !JobRecord::is_over(&stored) {
                        unread = Some((id, why));
                    }
                }
            }
        }
        jobs.sort_by_key(|job| job.id());
        Ok(Jobs { known: Mutex::new(jobs), unread })
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Arc<Job>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job that is not over and of which nothing is known but its number.
    pub fn unread(&self) -> Option<u64> {
        self.unread.as_ref().map(|(id, _)| *id)
    }

    /// Refuses what would get in the way of a job of which nothing is known.
    fn all_read(&self) -> Result<(), ReplayError> {
        let Some((id, why)) = &self.unread else { return Ok(()) };
        Err(ReplayError::NotNow(format!(
            "job {id} is not over, and its record cannot be read: {why}. Start the program that has written it, and wait \
             for the job or cancel it there"
        )))
    }

    /// Removes the generations that nothing needs any more, if that can be told. Answers the directories that are gone.
    pub fn sweep(&self, store: &Store) -> Result<Vec<PathBuf>, state::Error> {
        if self.unread.is_some() { Ok(Vec::new()) } else { store.sweep(&self.generations()) }
    }

    /// The newest first.
    pub fn all(&self) -> Vec<Arc<Job>> {
        self.locked().iter().rev().cloned().collect()
    }

    /// `None`: the newest.
    pub fn find(&self, id: Option<u64>) -> Result<Arc<Job>, ReplayError> {
        let jobs = self.all();
        match id {
            None => jobs.first().cloned().ok_or(ReplayError::NoJob),
            Some(id) => {
                if self.unread() == Some(id) {
                    self.all_read()?;
                }
                jobs.into_iter().find(|job| job.id() == id).ok_or(ReplayError::NoSuchJob { id })
            }
        }
    }

    /// The one that is not over.
    pub fn under_way(&self) -> Option<Arc<Job>> {
        self.locked().iter().find(|job| !job.phase().ended()).cloned()
    }

    /// Generations that belong to a job and are not to be swept away.
    fn generations(&self) -> Vec<(TopicPartition, u64)> {
        let mut kept = Vec::new();
        for job in self.all() {
            let record = job.record();
            if !matches!(record.phase, Phase::Done | Phase::Cancelled) {
                let of = |shadow: &ShadowRecord| shadow.generation.map(|number| (shadow.at(), number));
                kept.extend(record.shadows.iter().filter_map(of));
            }
        }
        kept
    }

    /// Puts a job in the place of the one with its number, or behind all.
    pub(super) fn put(&self, job: Arc<Job>) {
        let mut jobs = self.locked();
        match jobs.iter_mut().find(|known| known.id() == job.id()) {
            Some(known) => *known = job,
            None => jobs.push(job),
        }
    }
}

impl NodeShared {
    /// The job that is not over.
    pub fn job_under_way(&self) -> Option<Arc<Job>> {
        self.jobs.under_way()
    }

    /// Goes on with what a stop or a crash has interrupted, and starts what a change of the definitions asks for.
    pub fn resume_jobs(self: &Arc<Self>) {
        if !self.parts.consume {
            // A command that only looks must not begin to work.
            return;
        }
        if let Some(job) = self.jobs.under_way() {
            tracing::info!(job = job.id(), phase = %job.phase(), "going on with a replay");
            // Whatever it had come to, it has to catch up and be compared again; nobody is to see the old result.
            let again = job.change(&self.parts.store, |record| {
                (record.phase, record.reason, record.verification) = (Phase::Building, None, None);
            });
            if let Err(error) = again {
                tracing::warn!(job = job.id(), %error, "the replay's record cannot be written");
            }
            self.drive(job);
            return;
        }
        let changed = self.topics.iter().filter(|topic| !topic.serving().pending.is_empty());
        let names =
            |topics: &[&Arc<TopicShared>]| topics.iter().map(|topic| topic.name().to_owned()).collect::<Vec<_>>();
        let (declined, changed): (Vec<_>, Vec<_>) = match self.parts.replay.on_change {
            OnChange::Wait => (Vec::new(), changed.collect()),
            OnChange::Replay => changed.partition(|topic| self.declined(topic)),
        };
        if !declined.is_empty() {
            tracing::warn!(
                topics = names(&declined).join(", "),
                "these definitions were rolled back before and are not built again by themselves; `segno replay` does it"
            );
        }
        if changed.is_empty() {
            return;
        }
        let names = names(&changed);
        if self.parts.replay.on_change == OnChange::Wait {
            tracing::warn!(
                topics = names.join(", "),
                "definitions have changed: live goes on as it was made until `segno replay --from <time>` has built the new rows"
            );
            return;
        }
        let node = self.clone();
        tokio::spawn(async move {
            let request = ReplayRequest {
                from: "beginning".to_owned(),
                topics: names,
                base: BaseChoice::Genesis,
                yes: true,
                ..ReplayRequest::default()
            };
            if let Err(error) = node.start_job(request, JobKind::Upgrade).await {
                tracing::error!(%error, "the replay into the changed definitions could not be started");
            }
        });
    }

    /// An operator has rolled back from exactly the topic's definitions, and nothing has cut over in it since.
    fn declined(&self, topic: &TopicShared) -> bool {
        let wanted = texts(&topic.parts.wanted);
        let done = self.jobs.all().into_iter().map(|job| job.record()).filter(|record| record.phase == Phase::Done);
        let mut of_it = done.filter_map(|record| Some((record.kind, record.topic(topic.name())?.live.clone())));
        of_it.next().is_some_and(|(kind, replaced)| kind == JobKind::Rollback && replaced == wanted)
    }

    /// Plans and begins a replay.
    pub(super) async fn start_job(
        self: &Arc<Self>,
        request: ReplayRequest,
        kind: JobKind,
    ) -> Result<JobStatus, ReplayError> {
        self.free()?;
        let node = self.clone();
        let begun = tokio::task::spawn_blocking(move || {
            let plan = node.plan(&request)?;
            let id = node.parts.store.new_job_id().map_err(|error| ReplayError::Failed(error.to_string()))?;
            node.begin_job(record_of(&node, plan, id, kind))
        });
        begun.await.map_err(|_| ReplayError::Stopping)?
    }

    /// Keeps jobs from being begun, resumed or ended by an operator, and what they stand on from being taken away, until
    /// it is dropped.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.beginning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a job and drives it. Blocks.
    pub(super) fn begin_job(self: &Arc<Self>, record: JobRecord) -> Result<JobStatus, ReplayError> {
        let _alone = self.alone();
        self.free()?;
        let store = &self.parts.store;
        // Since it was planned another may have cut over, or a snapshot may have gone.
        footing::check(store, &record)?;
        // What failed jobs have left takes room, and nobody has asked for it since.
        for job in self.jobs.all() {
            if job.phase() == Phase::Failed {
                build::discard(store, &job);
            }
        }
        let stored = store.put_job(record.id, &record.encode());
        stored.map_err(|error| ReplayError::Failed(error.to_string()))?;
        let job = Arc::new(Job::new(record));
        self.jobs.put(job.clone());
        self.drive(job.clone());
        Ok(job.status())
    }

    /// For whoever holds [`NodeShared::alone`].
    pub(super) fn drive(self: &Arc<Self>, job: Arc<Job>) {
        tokio::spawn(drive(self.clone(), Driver::of(job)));
    }

    /// No job is under way, and the node may begin one.
    fn free(&self) -> Result<(), ReplayError> {
        self.free_but_for(None)
    }

    /// No job but this one is under way, and the node may begin one.
    pub(super) fn free_but_for(&self, id: Option<u64>) -> Result<(), ReplayError> {
        if self.stopping() {
            return Err(ReplayError::Stopping);
        }
        self.jobs.all_read()?;
        match self.jobs.under_way().filter(|job| Some(job.id()) != id) {
            Some(job) => Err(ReplayError::Busy { id: job.id(), phase: job.phase() }),
            None => Ok(()),
        }
    }
}

/// The definitions as the record keeps them.
fn texts(definitions: &crate::views::Definitions) -> Vec<ViewText> {
    idents(definitions).iter().map(ViewText::from).collect()
}

fn record_of(node: &NodeShared, plan: ReplayPlan, id: u64, kind: JobKind) -> JobRecord {
    let mut topics = Vec::with_capacity(plan.topics.len());
    let mut shadows = Vec::new();
    for topic in &plan.topics {
        let Some(shared) = node.topic(&topic.topic) else { continue };
        let serving = shared.serving();
        let live = serving.views.iter().map(ViewText::from).collect();
        topics.push(TopicRecord { topic: topic.topic.clone(), new: texts(&shared.parts.wanted), live });
        for partition in &topic.partitions {
            shadows.push(ShadowRecord {
                topic: topic.topic.clone(),
                partition: partition.partition,
                generation: None,
                from: partition.from,
                target: partition.live,
                live: partition.live_generation,
            });
        }
    }
    JobRecord {
        id,
        kind,
        of: None,
        phase: Phase::Building,
        reason: None,
        approved: plan.request.yes,
        plan,
        created: now(),
        ended: None,
        verification: None,
        rate: None,
        topics,
        shadows,
    }
}
