//! Time travel: rows as they were, what made them, what changed between two cuts, and whether live is what its records
//! give.
//!
//! Everything here folds the log once more, with the same shards as live, into a generation in memory that holds nothing
//! but the keys in question. A fold begins with the newest snapshot at or before the cut whose definition of the view is
//! the one that serves (name, version and text), else with the beginning of the log.
//!
//! * [`asof`]: one row as of a cut. [`explain`]: the records that made it. [`changes`]: what differs between two cuts.
//! * [`verify`]: digests against all rows. [`audit`]: random rows against their records, for ever and slowly.
//! * [`watched`]: gives a question up whose fold hangs.
//! * `base`: what a fold begins with. `scan`: reads the log up to an exact position. `fold`: folds some keys.
//!
//! All functions block; call them away from the runtime's threads. What they cost is said at each: they read the records
//! of one partition (seldom more) from the base to the cut, and keep in memory one batch and the rows of the keys.

pub mod asof;
pub mod audit;
mod base;
pub mod changes;
mod difference;
pub mod explain;
mod fold;
mod places;
mod sample;
mod scan;
mod seed;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod watched;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::watched::Watch;
use super::plan::Fatal;
use super::replay::words::ReplayError;
use super::serving::{Serving, TopicParts};
use crate::position::{PartitionId, Position, PositionVector};
use crate::state::{self, Generation, Store, StoredView, ViewIdent, ViewTag};
use crate::streams::{self, Log};
use crate::views::{Definition, Definitions};

/// Rows of a fold, with their keys, take no more than so many bytes in memory; a question that needs more is refused.
const MEMORY: usize = 256 << 20;

/// Where a topic's history can be asked.
pub struct Travel<'a> {
    pub log: &'a dyn Log,
    pub store: &'a Store,
    pub topic: &'a TopicParts,
    /// Those that serve.
    pub definitions: Definitions,
    /// The generations that serve, in the order of their partitions.
    pub live: Vec<Arc<Generation>>,
    /// Ends every question with [`ReplayError::Stopping`].
    pub stop: Arc<AtomicBool>,
    /// Where its folds are seen from outside.
    pub watch: Arc<Watch>,
}

/// A view that serves, and how a generation must know it.
#[derive(Clone)]
struct Served {
    definition: Arc<dyn Definition>,
    ident: ViewIdent,
}

impl Served {
    /// The view in a generation, if it is there with this definition and is still fed.
    fn among<'v>(&self, views: &'v [StoredView]) -> Option<&'v StoredView> {
        let same = |view: &&StoredView| {
            view.name == self.ident.name
                && view.version == self.ident.version
                && view.text == self.ident.text
                && view.left_at.is_none()
        };
        views.iter().find(same)
    }

    fn tag(&self, generation: &Generation) -> Result<ViewTag, ReplayError> {
        let missing = || not_at_hand(&generation.at().topic, &self.ident.name);
        self.among(generation.views()).map(|view| view.tag).ok_or_else(missing)
    }
}

impl<'a> Travel<'a> {
    /// Over what serves the topic now.
    pub fn new(
        log: &'a dyn Log,
        store: &'a Store,
        topic: &'a TopicParts,
        serving: &Serving,
        stop: Arc<AtomicBool>,
        watch: Arc<Watch>,
    ) -> Travel<'a> {
        let (definitions, live) = (serving.definitions.clone(), serving.generations());
        Travel { log, store, topic, definitions, live, stop, watch }
    }

    fn served(&self, view: &str) -> Result<Served, ReplayError> {
        let found = self.definitions.iter().find(|definition| definition.name() == view);
        let definition = found.cloned().ok_or_else(|| {
            let topic = &self.topic.name;
            if self.live.iter().any(|live| live.views().iter().any(|stored| stored.name == view)) {
                return not_at_hand(topic, view);
            }
            let known: Vec<&str> = self.definitions.iter().map(|definition| definition.name()).collect();
            ReplayError::Bad(format!("topic `{topic}` has no view `{view}`; there are: {}", known.join(", ")))
        })?;
        let ident = ViewIdent { name: view.to_owned(), version: definition.version(), text: definition.text() };
        Ok(Served { definition, ident })
    }

    /// Where the history of the partition begins, as the live generation knows it.
    fn began(&self, partition: PartitionId) -> Position {
        self.live.get(partition.0 as usize).map_or(Position::ZERO, |live| live.began())
    }

    /// Refuses a cut of another topic.
    fn own_cut(&self, cut: &PositionVector) -> Result<(), ReplayError> {
        if cut.topic == self.topic.name {
            return Ok(());
        }
        let topic = &self.topic.name;
        Err(ReplayError::Bad(format!("the cut {cut} is of topic `{}`, and the view is of topic `{topic}`", cut.topic)))
    }

    /// The cut's position in one partition.
    fn position_in(&self, cut: &PositionVector, partition: PartitionId) -> Result<Position, ReplayError> {
        cut.positions.get(&partition).copied().ok_or_else(|| {
            let all = self.live.len();
            ReplayError::Bad(format!(
                "the cut {cut} does not name partition {partition} of topic `{}`, where the key may lie: name all {all} \
                 partitions, or give a time",
                self.topic.name
            ))
        })
    }
}

/// Rows that were made by another definition, which cannot fold them again.
fn not_at_hand(topic: &str, view: &str) -> ReplayError {
    ReplayError::Refused(format!(
        "topic `{topic}`: the definition that made the rows of view `{view}` is not at hand, so that its history cannot be \
         folded again: ask without a time, start with the definition that made the rows, or replay the topic first"
    ))
}

fn store_failed(error: state::Error) -> ReplayError {
    ReplayError::Failed(error.to_string())
}

fn log_failed(error: streams::Error) -> ReplayError {
    match error {
        streams::Error::Closed => ReplayError::Stopping,
        error => ReplayError::Failed(format!("the log cannot be read: {error}")),
    }
}

/// What ends a partition ends only the question here.
fn fold_failed(fatal: Fatal) -> ReplayError {
    ReplayError::Failed(format!("the fold ended: {fatal}"))
}
