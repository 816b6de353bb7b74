//! What serves a topic at one moment: its definitions and its generations. A cut-over puts another one in its place, and
//! whoever reads takes one and keeps it to the end of the read, so that no answer mixes two generations.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::board::Board;
use super::flusher::{self, Flushers};
use super::handle::PartitionState;
use super::inheritance::relate;
use super::meter::Meter;
use super::partition::PartitionStart;
use super::partition::published::Published;
use super::plan::{Fatal, FlowOptions, FlushOptions, History, Policy, RetryOptions};
use super::replay::words::{DefinitionChange, ViewReplay};
use super::shard::Setting;
use super::topic::TopicStart;
use crate::position::TopicPartition;
use crate::state::{self, Generation, StoredView, ViewIdent, ViewTag, digest};
use crate::streams::Reader;
use crate::streams::decode::{DecodeOptions, Decoder};
use crate::views::{Definition, Definitions};

/// What stays the same for a topic, whatever serves it.
pub struct TopicParts {
    pub name: String,
    pub decoder: DecodeOptions,
    pub policy: Policy,
    pub history: History,
    /// The definitions of the configuration.
    pub wanted: Definitions,
    /// Older ones that the program still has.
    pub previous: Definitions,
    pub flow: FlowOptions,
    pub retry: RetryOptions,
    pub flush: FlushOptions,
}

impl TopicParts {
    /// What the shards of a partition share, over one generation that was opened with `definitions`.
    pub fn setting(&self, definitions: &Definitions, generation: Arc<Generation>) -> Setting {
        let at = generation.at().clone();
        Setting {
            meter: Meter::new(&at),
            at,
            definitions: definitions.clone(),
            tags: generation.tags().to_vec(),
            decoder: Decoder::new(self.decoder.clone()),
            policy: self.policy,
            retry: self.retry,
            generation,
            board: Arc::new(Board::default()),
            residency: self.flow.residency / self.flow.shards_per_partition.max(1),
            committed: AtomicU64::new(0),
            resident: Mutex::default(),
        }
    }
}

/// What a replay would change of what serves, view by view; empty when there is nothing to do. A view that is not wanted
/// any more is nothing to act upon.
pub fn pending(serving: &Definitions, wanted: &Definitions) -> Vec<ViewReplay> {
    let stored: Vec<StoredView> = idents(serving).iter().map(stored).collect();
    let mut changes = relate(&stored, wanted);
    changes.retain(|view| matches!(view.change, DefinitionChange::Changed | DefinitionChange::Added));
    changes
}

/// A view as a generation would store it.
pub fn stored(ident: &ViewIdent) -> StoredView {
    StoredView {
        tag: ViewTag(0),
        name: ident.name.clone(),
        version: ident.version,
        text: ident.text.clone(),
        fingerprint: digest::text(&ident.text),
        left_at: None,
    }
}

/// The views as a store knows them.
pub fn idents(definitions: &Definitions) -> Vec<ViewIdent> {
    let ident = |view: &Arc<dyn Definition>| ViewIdent {
        name: view.name().to_owned(),
        version: view.version(),
        text: view.text(),
    };
    definitions.iter().map(ident).collect()
}

/// Whether a topic's partitions are fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Running,
    /// The definitions that made the rows are not at hand: they can be read, and do not move. Says why, and what to do.
    Frozen(String),
    /// Nobody consumes: a command works on the store while no daemon runs.
    Offline,
}

/// One set of generations, one a partition, and what made them.
pub struct Serving {
    pub definitions: Definitions,
    pub views: Vec<ViewIdent>,
    /// In the order of their numbers.
    pub partitions: Vec<Arc<Published>>,
    pub mode: Mode,
    /// How the configuration's definitions differ from these; empty when they do not.
    pub pending: Vec<ViewReplay>,
}

impl Serving {
    /// Over generations that are open, in the order of their partitions.
    pub fn new(
        parts: &TopicParts,
        definitions: Definitions,
        generations: Vec<Arc<Generation>>,
        mode: Mode,
        pending: Vec<ViewReplay>,
    ) -> Serving {
        // A generation that is read and not fed may be of definitions that the program does not have.
        let views = match generations.first() {
            Some(first) => first.views().iter().map(ident_of).collect(),
            None => idents(&definitions),
        };
        let publish = |generation: Arc<Generation>| {
            let published = Published::new(Arc::new(parts.setting(&definitions, generation)));
            match &mode {
                Mode::Running => {}
                Mode::Frozen(why) => published.set(PartitionState::Frozen, Some(why.clone())),
                Mode::Offline => published.set(PartitionState::Offline, None),
            }
            Arc::new(published)
        };
        let partitions = generations.into_iter().map(publish).collect();
        Serving { views, partitions, definitions, mode, pending }
    }

    pub fn generations(&self) -> Vec<Arc<Generation>> {
        self.partitions.iter().map(|partition| partition.setting().generation.clone()).collect()
    }

    /// Makes durable what is committed: what no partition does when it stops, after a cut-over and where nothing is
    /// consumed. Blocks. Of a partition that failed there is nothing to be saved.
    pub fn flush(&self) -> Vec<(TopicPartition, state::Error)> {
        let failed = |partition: &&Arc<Published>| partition.state().0 == PartitionState::Failed;
        let generations = self.partitions.iter().filter(|partition| !failed(partition));
        let flush = |partition: &Arc<Published>| {
            let generation = &partition.setting().generation;
            generation.flush().err().map(|error| (generation.at().clone(), error))
        };
        generations.filter_map(flush).collect()
    }

    /// What the topic's actors start with; `readers` in the order of the partitions, each at its generation's position.
    pub fn start(
        &self,
        parts: &TopicParts,
        readers: Vec<Box<dyn Reader>>,
        failed: &Arc<watch::Sender<Option<Fatal>>>,
    ) -> TopicStart {
        let start = |(published, reader): (&Arc<Published>, Box<dyn Reader>)| PartitionStart {
            setting: published.setting().clone(),
            flow: parts.flow.clone(),
            reader,
            published: published.clone(),
            failed: failed.clone(),
        };
        let partitions = self.partitions.iter().zip(readers).map(start).collect();
        TopicStart { name: parts.name.clone(), partitions, failed: failed.clone() }
    }
}

/// A stored view, for comparison and for opening.
pub fn ident_of(stored: &StoredView) -> ViewIdent {
    ViewIdent { name: stored.name.clone(), version: stored.version, text: stored.text.clone() }
}

/// A topic of the node.
pub struct TopicShared {
    pub parts: TopicParts,
    serving: watch::Sender<Arc<Serving>>,
    flushers: Mutex<Option<Flushers>>,
    /// Live stands still for a cut-over: its partitions are stopped, and that is as it should be.
    switching: AtomicBool,
}

impl TopicShared {
    pub fn new(parts: TopicParts, serving: Serving) -> TopicShared {
        let serving = watch::Sender::new(Arc::new(serving));
        TopicShared { parts, serving, flushers: Mutex::new(None), switching: AtomicBool::new(false) }
    }

    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// What serves now. Taken once a read.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.borrow().clone()
    }

    /// What serves, now and later.
    pub fn watch(&self) -> watch::Receiver<Arc<Serving>> {
        self.serving.subscribe()
    }

    /// Puts another set of generations in the place of the one that serves.
    pub fn switch_to(&self, serving: Arc<Serving>) {
        self.serving.send_replace(serving);
    }

    /// Puts other sets of generations in the place of those that serve some topics. Nobody who has seen one of them sees
    /// an old one of another topic after that: each topic's readers wait until those behind it are switched.
    pub fn switch_all(next: &[(Arc<TopicShared>, Arc<Serving>)]) {
        let Some(((topic, serving), rest)) = next.split_first() else { return };
        topic.serving.send_modify(|served| {
            TopicShared::switch_all(rest);
            *served = serving.clone();
        });
    }

    /// Begins to make durable what is applied.
    pub fn begin_flushing(&self) {
        let serving = self.serving();
        let flushers = (serving.mode == Mode::Running).then(|| flusher::start(&serving.partitions, self.parts.flush));
        *self.flushers.lock().unwrap_or_else(PoisonError::into_inner) = flushers;
    }

    /// Ends the flush tasks.
    pub fn end_flushing(&self) {
        self.flushers.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub fn set_switching(&self, switching: bool) {
        self.switching.store(switching, Ordering::Release);
    }

    pub fn switching(&self) -> bool {
        self.switching.load(Ordering::Acquire)
    }
}
