//! What the node answers an operator.

use crate::actors::admin::{Admin, AsOf, Changes, Explain, Explanation, SnapshotInfo, ViewCheck};
use crate::actors::handle::{BoxFuture, ReadError, Reading, Row};
use crate::actors::node::NodeShared;
use crate::actors::replay::words::{JobAction, JobStatus, ReplayError, ReplayPlan, ReplayRequest};

fn not_now<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, ReplayError>> {
    Box::pin(async { Err(ReplayError::NotNow("replays are not part of this build".to_owned())) })
}

impl Admin for NodeShared {
    fn plan_replay(&self, _: ReplayRequest) -> BoxFuture<'_, Result<ReplayPlan, ReplayError>> {
        not_now()
    }

    fn start_replay(&self, _: ReplayRequest) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        not_now()
    }

    fn replays(&self) -> Vec<JobStatus> {
        Vec::new()
    }

    fn replay(&self, id: Option<u64>) -> Result<JobStatus, ReplayError> {
        Err(id.map_or(ReplayError::NoJob, |id| ReplayError::NoSuchJob { id }))
    }

    fn act(&self, _: Option<u64>, _: JobAction) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        not_now()
    }

    fn roll_back(&self, _: Option<u64>) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        not_now()
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn take_snapshot(&self, _: Vec<String>) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>> {
        not_now()
    }

    fn verify_snapshot(&self, id: u64) -> BoxFuture<'_, Result<SnapshotInfo, ReplayError>> {
        Box::pin(async move { Err(ReplayError::NoSuchSnapshot { id }) })
    }

    fn delete_snapshot(&self, id: u64) -> BoxFuture<'_, Result<(), ReplayError>> {
        Box::pin(async move { Err(ReplayError::NoSuchSnapshot { id }) })
    }

    fn verify(&self) -> BoxFuture<'_, Result<Vec<ViewCheck>, ReplayError>> {
        not_now()
    }

    fn get_at(&self, _: &str, _: Vec<u8>, _: String) -> BoxFuture<'_, Result<AsOf, ReplayError>> {
        not_now()
    }

    fn explain(&self, _: Explain) -> BoxFuture<'_, Result<Explanation, ReplayError>> {
        not_now()
    }

    fn changes(&self, _: &str, _: String, _: String) -> BoxFuture<'_, Result<Changes, ReplayError>> {
        not_now()
    }

    fn peek(&self, _: &str, _: Vec<u8>, _: Option<u64>) -> BoxFuture<'_, Result<Reading<Option<Row>>, ReadError>> {
        Box::pin(async { Err(ReadError::Store("replays are not part of this build".to_owned())) })
    }
}
