//! The audit: now and then some rows of live are folded again from their records and compared, byte for byte.
//!
//! It finds what no digest can: a fold that is not a function of its events (it reads a clock, random numbers, a map
//! without order), code that was changed under the same version, and a row that was changed outside of the flow.
//!
//! A step picks a random view and partition and a handful of random rows, and reads the log once for all of them, over at
//! most a million records, from a snapshot of the same generation (or the beginning of the log, for the first one). Of rows that cannot be compared (too far from every base,
//! an event waiting, or set aside for something that may pass) it counts why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};

use super::fold::{Fold, Keys};
use super::sample::{Picked, Random, pick};
use super::watched::{Watch, watched};
use super::{Served, Travel, base::Candidate};
use crate::actors::plan::AuditOptions;
use crate::actors::replay::words::ReplayError;
use crate::actors::serving::{Mode, Serving, TopicShared};
use crate::position::{Offset, Position, TopicPartition};
use crate::state::{Generation, Row, Store};
use crate::streams::Log;
use crate::telemetry::names;

/// Rows of one step: they share one reading of the log.
const KEYS: usize = 16;
/// The most records of one step.
const RECORDS: u64 = 1_000_000;
/// The audit works at most one part in so many of the time, whatever its rate.
const SHARE: u32 = 20;
/// So long it rests when there is nothing to compare.
const REST: Duration = Duration::from_secs(5);

/// What the audit needs of the node. Cloned into its thread.
#[derive(Clone)]
pub struct Audited {
    pub log: Arc<dyn Log>,
    pub store: Arc<Store>,
    pub topics: Vec<Arc<TopicShared>>,
    /// Ends the audit.
    pub stop: Arc<AtomicBool>,
}

/// What the audit has found so far. Shared with `/readyz` and `status`.
#[derive(Debug, Default)]
pub struct AuditState {
    first: Mutex<Option<Divergence>>,
    keys: AtomicU64,
    diverged: AtomicU64,
    skipped: AtomicU64,
}

impl AuditState {
    /// The first divergence, in words, as long as the generation that it was found in serves.
    pub fn diverged(&self) -> Option<String> {
        self.first().as_ref().map(Divergence::to_string)
    }

    /// Rows that were compared, those of them that differ, and rows that could not be compared.
    pub fn counts(&self) -> (u64, u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.keys), count(&self.diverged), count(&self.skipped))
    }

    fn first(&self) -> std::sync::MutexGuard<'_, Option<Divergence>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a divergence of a generation that no longer serves.
    fn look_again(&self, topic: &str, serving: &Serving) {
        let generations = serving.generations();
        let serves = |found: &Divergence| {
            &*found.at.topic != topic
                || generations.iter().any(|live| *live.at() == found.at && live.number() == found.generation)
        };
        let mut first = self.first();
        if let Some(gone) = first.take_if(|found| !serves(found)) {
            gone.gauge(f64::NAN);
        }
    }

    /// Keeps the first divergence of all.
    fn found(&self, divergence: &Divergence) {
        self.first().get_or_insert_with(|| {
            divergence.gauge(divergence.offset.0 as f64);
            divergence.clone()
        });
    }
}

/// A row that is not what its records give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    pub at: TopicPartition,
    pub generation: u64,
    pub view: String,
    pub key: Vec<u8>,
    /// The last record that is folded into live's row: it differs after this record, or after an earlier one.
    pub offset: Offset,
    /// What the fold began with.
    pub base: String,
    /// Two folds of the same records differ from each other: the fold is not a function of its events.
    pub impure: bool,
}

impl Divergence {
    fn gauge(&self, value: f64) {
        let Divergence { at, view, key, .. } = self;
        let (partition, key) = (at.partition.to_string(), super::difference::text(key));
        let labels = [
            ("topic", at.topic.to_string()),
            ("view", view.clone()),
            ("partition", partition),
            ("key", key.to_string()),
        ];
        gauge!(names::AUDIT_FIRST, &labels).set(value);
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { at, view, key, offset, base, .. } = self;
        let key = super::difference::text(key);
        write!(
            f,
            "{at}: view `{view}`, key \"{key}\", up to offset {offset}: live has another row than its records give "
        )?;
        write!(f, "(folded from {base}); ")?;
        f.write_str(if self.impure {
            "two folds of the same records differ too: the view's code reads something beside its events (a clock, random \
             numbers, a map without order); correct it, raise its version, and replay the topic"
        } else {
            "folds of the same records agree with each other: the view's code, the topic's format or its policy was changed \
             under the same version since, or the row was changed outside of the flow; `segno replay` rebuilds it"
        })
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// There is no row to compare.
    Nothing,
    /// No row of this step could be compared.
    Skipped(Skip),
    /// So many rows are what their records give.
    Agreed { keys: usize },
    /// So many rows were compared, and this is the first that differs.
    Diverged { keys: usize, first: Divergence },
}

/// Why a row is not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// More records than a step may read lie between every base and live.
    TooFar,
    /// There is no base: history is gone, or cannot be had.
    NoBase,
    /// Its result may depend on when an event was tried: one waits, or was set aside for a reason that may pass.
    SetAside,
    /// The definitions that made the rows are not at hand.
    Frozen,
}

impl Skip {
    pub fn name(self) -> &'static str {
        match self {
            Skip::TooFar => "too-far",
            Skip::NoBase => "no-base",
            Skip::SetAside => "set-aside",
            Skip::Frozen => "frozen",
        }
    }
}

/// Compares some rows at a time.
pub struct Auditor {
    audited: Audited,
    state: Arc<AuditState>,
    random: Random,
    watch: Arc<Watch>,
    /// The most records of a step.
    pub records: u64,
    /// The most rows of a step.
    pub keys: usize,
}

impl Auditor {
    /// `seed` decides which rows are picked.
    pub fn new(audited: Audited, state: Arc<AuditState>, seed: u64) -> Auditor {
        Auditor { audited, state, random: Random(seed), watch: Arc::default(), records: RECORDS, keys: KEYS }
    }

    /// The topics whose rows are compared.
    pub fn topics(&self) -> &[Arc<TopicShared>] {
        &self.audited.topics
    }

    /// Picks some rows of one view and partition and compares them with a fold of their records. Blocks.
    pub fn step(&mut self) -> Result<AuditOutcome, ReplayError> {
        if self.audited.topics.is_empty() {
            return Ok(AuditOutcome::Nothing);
        }
        let audited = self.audited.clone();
        let topic = &audited.topics[self.random.below(audited.topics.len())];
        let serving = topic.serving();
        self.state.look_again(topic.name(), &serving);
        let (log, stop) = (&*audited.log, audited.stop.clone());
        let travel = Travel::new(log, &audited.store, &topic.parts, &serving, stop, self.watch.clone());
        if travel.live.is_empty() || travel.definitions.is_empty() {
            return Ok(AuditOutcome::Nothing);
        }
        if matches!(serving.mode, Mode::Frozen(_)) {
            return Ok(self.skip(topic.name(), Skip::Frozen, 1));
        }
        let view = travel.definitions[self.random.below(travel.definitions.len())].clone();
        let served = travel.served(view.name())?;
        let live = travel.live[self.random.below(travel.live.len())].clone();
        let picked = pick(&live, served.tag(&live)?, self.keys, &mut self.random)?;
        if picked.set_aside > 0 {
            self.skip(topic.name(), Skip::SetAside, picked.set_aside);
        }
        if picked.rows.is_empty() {
            return Ok(match picked.set_aside {
                0 => AuditOutcome::Nothing,
                _ => AuditOutcome::Skipped(Skip::SetAside),
            });
        }
        let mut candidates = travel.candidates(&served, live.at(), picked.position)?;
        candidates.retain(|candidate| candidate.of_its_own(&live));
        let candidate = match self.choose(candidates, picked.position) {
            Ok(candidate) => candidate,
            Err(skip) => return Ok(self.skip(topic.name(), skip, picked.rows.len())),
        };
        self.compare(&travel, &served, &live, candidate, &picked)
    }

    /// The newest base, and now and then any other: what is wrong in the newest is seen from an older one only.
    fn choose(&mut self, all: Vec<Candidate>, position: Position) -> Result<Candidate, Skip> {
        let near: Vec<Candidate> =
            all.iter().filter(|base| base.position.lag_to(position) <= self.records).copied().collect();
        let index = if self.random.below(4) == 0 { self.random.below(near.len().max(1)) } else { 0 };
        near.get(index).copied().ok_or(if all.is_empty() { Skip::NoBase } else { Skip::TooFar })
    }

    fn compare(
        &mut self,
        travel: &Travel<'_>,
        served: &Served,
        live: &Generation,
        candidate: Candidate,
        picked: &Picked,
    ) -> Result<AuditOutcome, ReplayError> {
        let topic = &travel.topic.name;
        let keys: Vec<&[u8]> = picked.rows.keys().map(|key| &**key).collect();
        let Some(first) = again(travel, served, live, candidate, &keys, picked.position)? else {
            return Ok(self.skip(topic, Skip::NoBase, keys.len()));
        };
        let comparable: Vec<_> = picked.rows.iter().filter(|(key, _)| !first.fickle.contains(*key)).collect();
        let fickle = picked.rows.len() - comparable.len();
        if fickle > 0 {
            self.skip(topic, Skip::SetAside, fickle);
        }
        if comparable.is_empty() {
            return Ok(AuditOutcome::Skipped(Skip::SetAside));
        }
        let compared = comparable.len();
        let labels = [("topic", topic.clone()), ("view", served.ident.name.clone())];
        counter!(names::AUDIT_KEYS, &labels).increment(compared as u64);
        self.state.keys.fetch_add(compared as u64, Ordering::Relaxed);
        let mut found = Vec::new();
        for (key, row) in comparable {
            if first.rows.get(key).is_none_or(|folded| folded != row) {
                found.push((key, row));
            }
        }
        if found.is_empty() {
            return Ok(AuditOutcome::Agreed { keys: compared });
        }
        let [topic_label, view_label] = labels;
        let labels = [topic_label, view_label, ("partition", live.at().partition.to_string())];
        counter!(names::AUDIT_DIVERGED, &labels).increment(found.len() as u64);
        self.state.diverged.fetch_add(found.len() as u64, Ordering::Relaxed);
        let differing: Vec<&[u8]> = found.iter().map(|(key, _)| &***key).collect();
        let second = again(travel, served, live, candidate, &differing, picked.position)?;
        let base = match candidate.snapshot {
            Some(id) => format!("snapshot {id}"),
            None => "genesis".to_owned(),
        };
        let divergences: Vec<Divergence> = found
            .into_iter()
            .map(|(key, row)| Divergence {
                at: live.at().clone(),
                generation: live.number(),
                view: served.ident.name.clone(),
                key: key.to_vec(),
                offset: row.offset,
                base: base.clone(),
                impure: second.as_ref().is_some_and(|second| second.rows.get(key) != first.rows.get(key)),
            })
            .collect();
        for found in &divergences {
            tracing::error!(at = %found.at, view = found.view, key = super::difference::text(&found.key), offset = found.offset.0, impure = found.impure, "the audit found a row that its records do not give: {found}");
        }
        let first = divergences[0].clone();
        self.state.found(&first);
        Ok(AuditOutcome::Diverged { keys: compared, first })
    }

    fn skip(&self, topic: &str, why: Skip, rows: usize) -> AuditOutcome {
        counter!(names::AUDIT_SKIPPED, "topic" => topic.to_owned(), "reason" => why.name()).increment(rows as u64);
        self.state.skipped.fetch_add(rows as u64, Ordering::Relaxed);
        AuditOutcome::Skipped(why)
    }
}

/// A second fold of some rows.
struct Folded {
    rows: BTreeMap<Box<[u8]>, Row>,
    fickle: Vec<Box<[u8]>>,
}

/// Folds the keys from the base to `to`; `None` when the base cannot be opened.
fn again(
    travel: &Travel<'_>,
    served: &Served,
    live: &Generation,
    candidate: Candidate,
    keys: &[&[u8]],
    to: Position,
) -> Result<Option<Folded>, ReplayError> {
    let Some(base) = travel.open(live.at(), candidate) else { return Ok(None) };
    let set: Keys = keys.iter().map(|key| ((*key).into(), 0)).collect();
    let mut fold = Fold::begin(travel, served, live, &base, set)?;
    let mut scan = travel.scan(live.at(), base.position(), to)?;
    while let Some((batch, below)) = scan.next()? {
        fold.take(batch, below)?;
    }
    let mut rows = BTreeMap::new();
    for key in keys {
        if let Some(row) = fold.row(key)? {
            rows.insert((*key).into(), row);
        }
    }
    Ok(Some(Folded { rows, fickle: std::mem::take(&mut fold.fickle) }))
}

/// Audits until `audited.stop` is set or the future is dropped; a step that is under way then ends by itself soon after.
/// A step that fails (the log does not answer) is logged, and the next one comes later.
pub async fn audit(audited: Audited, state: Arc<AuditState>, options: AuditOptions) {
    if options.keys_per_minute == 0 {
        return;
    }
    let stop = audited.stop.clone();
    let seed = jiff::Timestamp::now().as_nanosecond() as u64;
    let mut auditor = Auditor::new(audited, state, seed);
    // At a low rate a step takes fewer rows, so that the first does not come after minutes.
    auditor.keys = KEYS.min(options.keys_per_minute.div_ceil(2) as usize);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let step = tokio::task::spawn_blocking(move || {
            let watch = auditor.watch.clone();
            watched(&watch, move || {
                let outcome = auditor.step();
                Ok((auditor, outcome))
            })
        });
        let (back, outcome) = match step.await {
            Ok(Ok(stepped)) => stepped,
            // The same row would hang again, and leave another thread behind.
            Ok(Err(error)) => {
                tracing::error!(%error, "the audit ends until the node starts again; live is not touched by it");
                return;
            }
            // The runtime is shutting down.
            Err(_) => return,
        };
        auditor = back;
        let keys = match &outcome {
            Ok(AuditOutcome::Agreed { keys } | AuditOutcome::Diverged { keys, .. }) => *keys,
            Ok(AuditOutcome::Nothing | AuditOutcome::Skipped(_)) => 0,
            Err(ReplayError::Stopping) => return,
            Err(error) => {
                tracing::warn!(%error, "the audit could not compare rows; it tries again later");
                0
            }
        };
        let pace = Duration::from_secs_f64(60.0 * keys as f64 / f64::from(options.keys_per_minute));
        let rest = if keys == 0 { REST } else { Duration::ZERO };
        let share = began.elapsed() * (SHARE - 1);
        tokio::time::sleep(pace.saturating_sub(began.elapsed()).max(share).max(rest)).await;
    }
}
