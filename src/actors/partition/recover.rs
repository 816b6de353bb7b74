//! Starting all home shards of a partition anew, from the committed state: the answer to a fold that hangs and to a
//! shard that is lost. It is what happens after a crash, without the crash.

use std::time::{Duration, Instant};

use super::flow::{Flow, actors_failed};
use super::homes::Homes;
use crate::actors::interleave;
use crate::actors::plan::Fatal;
use crate::actors::shard::Suspect;
use crate::actors::shard::activate::store_failed;
use crate::actors::shard::held::held_cells;
use crate::actors::writer::{Committed, WriterMessage};
use crate::streams::Limit;

/// So many losses of a shard within [`WINDOW`] are the end of the partition.
const LOSSES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Where a recovery stands.
#[derive(Default)]
pub struct Recovery {
    /// The incarnation that the writer has to confirm before the shards start.
    awaited: Option<u64>,
    due: bool,
    suspects: Vec<Suspect>,
    losses: Vec<Instant>,
}

impl Recovery {
    /// What the shards were started anew for is set apart when it comes again.
    pub fn suspect(&mut self, suspect: Suspect) {
        if !self.suspects.contains(&suspect) {
            self.suspects.push(suspect);
        }
    }

    /// Counts the loss of a shard; false when there were too many.
    pub fn count(&mut self) -> bool {
        let now = Instant::now();
        self.losses.retain(|at| now.duration_since(*at) < WINDOW);
        self.losses.push(now);
        self.losses.len() <= LOSSES
    }

    /// False while the writer has not confirmed that it has forgotten the old shards.
    pub fn done(&mut self, committed: &Committed) -> bool {
        match self.awaited {
            Some(incarnation) if committed.incarnation < incarnation => false,
            Some(_) => {
                self.awaited = None;
                self.due = true;
                true
            }
            None => true,
        }
    }

    /// Whether there are no shards at the moment.
    pub fn pending(&self) -> bool {
        self.awaited.is_some() || self.due
    }

    pub fn restart_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }
}

impl Flow {
    /// Gives up all home shards and asks the writer to forget what they were about to hand over.
    pub(super) fn begin_recovery(&mut self) {
        self.homes.give_up();
        self.nursery.setting.meter.restart();
        self.nursery.incarnation += 1;
        let incarnation = self.nursery.incarnation;
        self.recovery.awaited = Some(incarnation);
        let _ = self.nursery.writer.cast(WriterMessage::Reset { incarnation });
    }

    /// Starts new home shards and deals the kept batches again.
    pub(super) async fn restart(&mut self, committed: &Committed) -> Result<(), Fatal> {
        let setting = self.nursery.setting.clone();
        setting.count_residents_anew();
        let cells = tokio::task::block_in_place(|| held_cells(&setting));
        let (held, waiting) = cells.map_err(|error| store_failed(&setting.at, &error))?;
        tracing::trace!(at = %setting.at, ?held, ?waiting, "what the store holds back");
        interleave::step_async().await;
        self.recovery.suspects.retain(|suspect| !suspect.is_past(committed.position));
        let homes = Homes::start(&self.nursery, &self.options, held, self.recovery.suspects.clone()).await;
        self.homes = homes.map_err(|error| actors_failed(&setting.at, &error.to_string()))?;
        self.apart.look_again();
        // A cell whose shard reported to a home that is gone is known to the store only.
        for cell in waiting {
            let admitted = self.apart.admit(&self.nursery, cell).await;
            admitted.map_err(|error| actors_failed(&setting.at, &error.to_string()))?;
        }
        self.void_to = self.epoch;
        self.dealt_to = committed.position;
        self.collected_to = committed.position;
        self.uncollected = Limit { records: 0, bytes: 0 };
        let kept: Vec<_> = self.in_flight.iter().map(|in_flight| in_flight.batch.clone()).collect();
        tracing::info!(at = %setting.at, batches = kept.len(), from = committed.position.0, "shards started anew");
        for batch in kept {
            self.deal(&batch).await?;
        }
        Ok(())
    }
}
