//! Digests against all rows.

use super::{Travel, store_failed};
use crate::actors::admin::ViewCheck;
use crate::actors::replay::words::ReplayError;
use crate::state::{Generation, ViewTotals};
use std::sync::atomic::Ordering;

impl Travel<'_> {
    /// Recomputes what is kept of every live view: digest, number of rows, and the records set aside. Both are of one
    /// commit, while live goes on. Reads all rows once and nothing of the log; a partition at a time, nothing in memory.
    pub fn verify(&self) -> Result<Vec<ViewCheck>, ReplayError> {
        let mut checks = Vec::new();
        for generation in &self.live {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ReplayError::Stopping);
            }
            check(&self.topic.name, generation, &mut checks)?;
        }
        Ok(checks)
    }
}

/// Checks every view of a generation.
fn check(topic: &str, generation: &Generation, checks: &mut Vec<ViewCheck>) -> Result<(), ReplayError> {
    let partition = generation.at().partition;
    let read = generation.snapshot_read();
    let position = read.position().map_err(store_failed)?;
    for view in generation.views() {
        let kept = read.totals(view.tag).map_err(store_failed)?;
        let found = read.recompute(view.tag).map_err(store_failed)?;
        let ok = kept == found;
        if !ok {
            tracing::error!(at = %generation.at(), view = view.name, position = position.0, ?kept, ?found, "what is kept of the view is not what its rows give: replay the topic");
        }
        checks.push(ViewCheck {
            topic: topic.to_owned(),
            partition,
            view: view.name.clone(),
            position,
            rows: u64::try_from(found.rows).unwrap_or_default(),
            kept: digest(&kept),
            found: digest(&found),
            ok,
        });
    }
    Ok(())
}

fn digest(totals: &ViewTotals) -> String {
    format!("{:032x}", totals.digest)
}
