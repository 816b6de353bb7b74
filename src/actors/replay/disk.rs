//! How much the new generations are expected to take on the disk, and what they have to leave.

use super::plan::{LivePartition, TopicContext};
use super::words::{Base, PartitionReplay, ReplayError, TopicReplay};
use crate::state::Store;

/// Where the log does not tell its bytes: rows still to come are taken for at most so many times those that are there.
const GROWTH: u64 = 10;

/// So much is left for live, which shares the disk, and on a small disk an eighth of it.
const LEFT: u64 = 256 << 20;

/// Says so when the disk is as good as full.
pub(super) fn full(store: &Store) -> Option<String> {
    let (free, whole) = (store.free_bytes().ok()?, store.disk_bytes().ok()?);
    let left = LEFT.min(whole / 8);
    (free < left).then(|| {
        format!(
            "{free} bytes are free on the disk that holds {}, and a replay leaves {left} for live to go on: what was built is \
             thrown away; make room, and resume the job",
            store.path().display()
        )
    })
}

/// What is needed, summed up.
#[derive(Default)]
pub(super) struct Disk {
    /// By generations that are folded from nothing.
    fresh: u64,
    /// By generations that begin as hard links to a snapshot: less at first, this much once it is rewritten.
    linked: u64,
}

impl Disk {
    pub fn add(&mut self, topic: &TopicContext, planned: &TopicReplay) {
        for (live, partition) in topic.partitions.iter().zip(&planned.partitions) {
            let bytes = expected(topic.wanted.len() as u64, live, partition);
            let sum = if matches!(partition.base, Base::Snapshot { .. }) { &mut self.linked } else { &mut self.fresh };
            *sum = sum.saturating_add(bytes);
        }
    }

    pub fn needed(&self) -> u64 {
        self.fresh.saturating_add(self.linked)
    }

    /// Refuses what cannot fit; what may not fit is a warning.
    pub fn check(&self, free: u64, warnings: &mut Vec<String>) -> Result<(), ReplayError> {
        let needed = self.needed();
        let room = "make room, or delete snapshots that are not needed (`segno snapshot list`)";
        if self.fresh > free {
            return Err(ReplayError::Refused(format!(
                "the new generations are expected to take {needed} bytes, and {free} are free on the disk: {room}"
            )));
        }
        if needed > free {
            warnings.push(format!(
                "the new generations may come to take {needed} bytes, and {free} are free on the disk: {room}"
            ));
        }
        Ok(())
    }
}

/// As much as live takes, and more as views are added or live has still to read on.
fn expected(wanted: u64, live: &LivePartition, partition: &PartitionReplay) -> u64 {
    let had = live.views.iter().filter(|view| view.left_at.is_none()).count().max(1) as u64;
    let now = scaled(live.bytes, wanted.max(had), had);
    let read = live.position.0.max(1);
    let then = scaled(now, partition.log_end.0.max(read), read);
    // A store that has hardly begun says little of what is to come; the rows rarely take more than their events.
    let most = partition.bytes.map_or(now.saturating_mul(GROWTH), |bytes| now.saturating_add(bytes));
    then.min(most)
}

fn scaled(bytes: u64, by: u64, of: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(by) / u128::from(of)).unwrap_or(u64::MAX)
}
