//! What an operator does to a job: cancel, resume, approve. One at a time, so that a job is driven by one at most, and
//! whatever is answered is so.

use std::sync::Arc;

use super::build;
use super::footing;
use super::job::{Job, now};
use super::words::{JobAction, JobStatus, Phase, ReplayError};
use crate::actors::node::NodeShared;
use crate::state;

fn failed(error: state::Error) -> ReplayError {
    ReplayError::Failed(error.to_string())
}

impl NodeShared {
    /// Does what an operator asks of a job.
    pub(super) async fn act_on(self: &Arc<Self>, id: Option<u64>, action: JobAction) -> Result<JobStatus, ReplayError> {
        let id = self.jobs.find(id)?.id();
        match action {
            JobAction::Cancel => self.cancel_job(id).await,
            JobAction::Resume => {
                let job = self.jobs.find(Some(id))?;
                if job.phase() == Phase::Failed {
                    // Whoever has driven it says that it has failed a moment before he lets go of it.
                    job.released().await;
                }
                self.asking(move |node| node.resume_job(id)).await
            }
            JobAction::Approve => self.asking(move |node| node.approve_job(id)).await,
        }
    }

    async fn cancel_job(self: &Arc<Self>, id: u64) -> Result<JobStatus, ReplayError> {
        let mut stopped = false;
        loop {
            let job = self.jobs.find(Some(id))?;
            if job.driven() {
                stopped = true;
                job.cancel();
                job.released().await;
            }
            if let Some(status) = self.asking(move |node| node.end_job(id, stopped)).await? {
                return Ok(status);
            }
        }
    }

    /// Ends a job that nobody drives; `None` when somebody drives it again. `stopped`: it was driven, and told to end.
    fn end_job(&self, id: u64, stopped: bool) -> Result<Option<JobStatus>, ReplayError> {
        let _alone = self.alone();
        let (job, store) = (self.jobs.find(Some(id))?, &self.parts.store);
        match job.phase() {
            _ if job.driven() => return Ok(None),
            Phase::Cancelled if stopped => {}
            Phase::Cancelled => return Err(ReplayError::NotNow(format!("job {id} is cancelled already"))),
            Phase::Done => {
                let is = if stopped { "had cut over before" } else { "is done" };
                let why = format!("job {id} {is}; `segno replay rollback {id}` brings the previous rows back");
                return Err(ReplayError::NotNow(why));
            }
            _ => {
                build::discard(store, &job);
                let cancelled = job.change(store, |record| {
                    (record.phase, record.ended) = (Phase::Cancelled, Some(now()));
                });
                cancelled.map_err(failed)?;
            }
        }
        Ok(Some(job.status()))
    }

    fn resume_job(self: &Arc<Self>, id: u64) -> Result<JobStatus, ReplayError> {
        let _alone = self.alone();
        let (job, store) = (self.jobs.find(Some(id))?, &self.parts.store);
        let phase = job.phase();
        if matches!(phase, Phase::Done | Phase::Cancelled) || job.driven() {
            let why = format!("job {id} is {phase}; one that failed, or was interrupted, can be resumed");
            return Err(ReplayError::NotNow(why));
        }
        self.free_but_for(Some(id))?;
        let stands = footing::check(store, &job.record());
        if let Err(ReplayError::NotNow(_)) = stands {
            // It never will again, and what it has made takes room.
            build::discard(store, &job);
        }
        stands?;
        let again = Arc::new(Job::new(job.record()));
        let changed = again.change(store, |record| {
            (record.phase, record.ended, record.reason) = (Phase::Building, None, None);
        });
        changed.map_err(failed)?;
        self.jobs.put(again.clone());
        self.drive(again.clone());
        Ok(again.status())
    }

    fn approve_job(&self, id: u64) -> Result<JobStatus, ReplayError> {
        let _alone = self.alone();
        let job = self.jobs.find(Some(id))?;
        let mut over = None;
        let changed = job.change(&self.parts.store, |record| match record.phase.ended() {
            true => over = Some(record.phase),
            false => record.approved = true,
        });
        changed.map_err(failed)?;
        if let Some(phase) = over {
            return Err(ReplayError::NotNow(format!("job {id} is {phase}: there is nothing to say yes to")));
        }
        job.prodded.notify_waiters();
        Ok(job.status())
    }

    /// Interrupts the job under way so that the node can stop; it goes on at the next start.
    pub(in crate::actors) async fn suspend_jobs(&self) {
        let under_way = self.asking(|node| {
            // Whoever is beginning a job has begun it then, and the next one hears that the node stops.
            let _alone = node.alone();
            Ok(node.jobs.under_way())
        });
        if let Ok(Some(job)) = under_way.await {
            job.gate.stop();
            job.prodded.notify_waiters();
            job.released().await;
        }
    }
}
