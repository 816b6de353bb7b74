//! What a job stands on, and what nobody may take from under it: the live generation that it was planned against, the
//! snapshot that it begins with, the previous generation that it brings back.

use super::jobs::Jobs;
use super::record::{JobRecord, ShadowRecord};
use super::words::{Base, JobKind, ReplayError};
use crate::state::Store;

/// Whether the job would still come to something right. [`ReplayError::NotNow`] when it never will: live is another
/// than the one that it is to be compared with, or what it begins with is gone. Blocks.
pub fn check(store: &Store, record: &JobRecord) -> Result<(), ReplayError> {
    let failed = |error: crate::state::Error| ReplayError::Failed(error.to_string());
    let lost = |why: String| ReplayError::NotNow(format!("job {} cannot go on: {why}; start a new one", record.id));
    for shadow in &record.shadows {
        let at = shadow.at();
        let live = store.live(&at).map_err(failed)?;
        let live = live.ok_or_else(|| lost(format!("{at} has no live generation")))?;
        if live.number != shadow.live {
            return Err(lost(format!(
                "{at}: generation {} is live, and the job was planned against generation {}",
                live.number, shadow.live
            )));
        }
        if record.kind == JobKind::Rollback {
            let previous = live.previous.map(|previous| previous.number);
            if previous.is_none() || previous != shadow.generation {
                return Err(lost(format!("{at}: the previous generation is not kept any more (`replay.keep`)")));
            }
        } else if let Some(snapshot) = needs(record, shadow) {
            let usable = store.snapshot_source(snapshot, &at);
            usable.map_err(|error| lost(format!("{at}: snapshot {snapshot}, which it begins with: {error}")))?;
        }
    }
    Ok(())
}

/// The snapshot that a generation is yet to be made of.
fn needs(record: &JobRecord, shadow: &ShadowRecord) -> Option<u64> {
    match (shadow.generation, record.planned(shadow)?.base) {
        (None, Base::Snapshot { snapshot, .. }) => Some(snapshot),
        _ => None,
    }
}

/// The job under way that is yet to take rows from the snapshot, or may be. The answer holds while `NodeShared::alone` is
/// held.
pub fn held_by(jobs: &Jobs, snapshot: u64) -> Option<u64> {
    if let Some(id) = jobs.unread() {
        return Some(id);
    }
    let record = jobs.under_way()?.record();
    record.shadows.iter().any(|shadow| needs(&record, shadow) == Some(snapshot)).then_some(record.id)
}
