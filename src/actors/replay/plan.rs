//! What a replay would do, or why a correct one cannot be had (law *Refuse*). Asks the log and changes nothing.

use std::sync::Arc;
use std::thread;

use super::base::{self, Chosen, Seeking};
use super::cut::{self, Cut, log_failed};
use super::disk::Disk;
use super::since::Since;
use super::standing::{check_compaction, check_identity, check_live};
use super::words::{
    Base, BaseChoice, DefinitionChange, PartitionReplay, ReplayError, ReplayPlan, ReplayRequest, TopicReplay,
    ViewReplay,
};
use crate::actors::plan::History;
use crate::position::{PartitionId, Position, PositionVector, Timestamp, TopicPartition};
use crate::state::{Books, Fingerprint, Identity, Lineage, StoredView, ViewIdent};
use crate::streams::{Log, Volume};

/// Partitions that are asked for side by side: enough to hide the waits for the log.
const AT_ONCE: usize = 8;

/// What a plan is made from.
pub struct PlanContext<'a> {
    pub log: &'a dyn Log,
    pub now: Timestamp,
    /// All topics of the node.
    pub topics: Vec<TopicContext>,
    /// Of any topic, in any order.
    pub snapshots: Vec<KnownSnapshot>,
    /// Whether the rows that a snapshot holds of a partition can be read under the wanted definitions; the error says
    /// which row cannot. Asked last, and only of snapshots that fit in everything else.
    pub compatible: &'a (dyn Fn(u64, &TopicPartition) -> Result<(), String> + Sync),
    /// Bytes free where the data directory lies.
    pub disk_free: u64,
    /// Records a second of the last replay; `None` when none has been measured.
    pub rate: Option<f64>,
}

/// A topic of the node.
pub struct TopicContext {
    pub name: Arc<str>,
    pub history: History,
    /// The definitions of the new generations.
    pub wanted: Vec<ViewIdent>,
    /// All partitions, from 0.
    pub partitions: Vec<LivePartition>,
}

/// The live generation of a partition.
pub struct LivePartition {
    pub identity: Identity,
    pub number: u64,
    /// The generations that it was made of by snapshots, each with the position up to which the two have one past.
    pub ancestors: Vec<(u64, Position)>,
    /// What is applied.
    pub position: Position,
    pub lineage: Lineage,
    /// It has seen nothing below it.
    pub began: Position,
    /// The record before the position, as far as it is known.
    pub last: Option<Fingerprint>,
    /// The views that it has, those that left it included or not.
    pub views: Vec<StoredView>,
    /// The sum over its views.
    pub books: Books,
    /// What it takes on the disk, or will when it is flushed.
    pub bytes: u64,
}

/// A snapshot, as far as a plan has to know it.
pub struct KnownSnapshot {
    pub id: u64,
    pub topic: String,
    pub parts: Vec<KnownPart>,
    /// Why it may not be used.
    pub damaged: Option<String>,
}

/// One partition of a snapshot.
pub struct KnownPart {
    pub identity: Identity,
    pub generation: u64,
    pub position: Position,
    pub lineage: Lineage,
    /// It has seen nothing below it.
    pub began: Position,
    /// The last record in it.
    pub last: Option<Fingerprint>,
    pub views: Vec<StoredView>,
}

/// Says what a replay would do. Blocks; the log and the snapshots are read, nothing is changed.
pub fn plan(context: &PlanContext<'_>, request: &ReplayRequest) -> Result<ReplayPlan, ReplayError> {
    let mut warnings = Vec::new();
    let since = Since::read(&request.from, context.now, &mut warnings)?;
    let chosen = chosen_topics(context, request, &since)?;
    check_numbers(request)?;
    check_snapshot(context, request, &chosen)?;
    let mut topics = Vec::with_capacity(chosen.len());
    let mut disk = Disk::default();
    let mut exact = true;
    for topic in chosen {
        let planned = plan_topic(context, request, topic, &since, &mut warnings)?;
        disk.add(topic, &planned.topic);
        exact &= planned.exact;
        topics.push(planned.topic);
    }
    disk.check(context.disk_free, &mut warnings)?;
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let records = partitions().map(|partition| partition.records).sum();
    let bytes = partitions().map(|partition| partition.bytes).sum();
    let mut plan = ReplayPlan {
        time: match since {
            Since::Time(time) => Some(time),
            Since::Positions(_) | Since::Beginning => None,
        },
        request: request.clone(),
        topics,
        records,
        bytes,
        exact,
        seconds: None,
        disk_needed: disk.needed(),
        disk_free: context.disk_free,
        warnings,
    };
    plan.seconds = context.rate.filter(|rate| *rate > 0.0).map(|rate| plan.seconds_at(rate));
    Ok(plan)
}

/// The topics that the request is about, in the order of the node.
fn chosen_topics<'c>(
    context: &'c PlanContext<'_>,
    request: &ReplayRequest,
    since: &Since,
) -> Result<Vec<&'c TopicContext>, ReplayError> {
    let known = |name: &str| context.topics.iter().any(|topic| &*topic.name == name);
    let positions: &[PositionVector] = match since {
        Since::Positions(vectors) => vectors,
        Since::Time(_) | Since::Beginning => &[],
    };
    let tokens = positions.iter().map(|vector| &vector.topic);
    if let Some(name) = request.topics.iter().chain(tokens.clone()).chain(&request.compacted).find(|name| !known(name))
    {
        let names: Vec<_> = context.topics.iter().map(|topic| format!("`{}`", topic.name)).collect();
        return Err(ReplayError::Bad(format!("there is no topic `{name}` here; there are {}", names.join(", "))));
    }
    let asked: Vec<&String> =
        if request.topics.is_empty() { tokens.clone().collect() } else { request.topics.iter().collect() };
    if let Some(name) = tokens.clone().find(|name| !asked.contains(name)) {
        let why = format!("`--from` has positions of topic `{name}`, which is not among the topics to replay");
        return Err(ReplayError::Bad(why));
    }
    let is_asked = |topic: &&TopicContext| asked.is_empty() || asked.iter().any(|name| **name == *topic.name);
    Ok(context.topics.iter().filter(is_asked).collect())
}

fn check_numbers(request: &ReplayRequest) -> Result<(), ReplayError> {
    if request.rate == Some(0) {
        return Err(ReplayError::Bad("`--rate 0` would never end: name a number of records a second".to_owned()));
    }
    match request.max_changed {
        Some(share) if !(0.0..=1.0).contains(&share) => {
            let why = format!("`--max-changed` is a share of the rows, from 0 to 1 (0 % to 100 %), and not {share}");
            Err(ReplayError::Bad(why))
        }
        _ => Ok(()),
    }
}

/// A snapshot that is named is there, and is of every topic that is replayed.
fn check_snapshot(
    context: &PlanContext<'_>,
    request: &ReplayRequest,
    chosen: &[&TopicContext],
) -> Result<(), ReplayError> {
    let BaseChoice::Snapshot(id) = request.base else { return Ok(()) };
    let Some(snapshot) = context.snapshots.iter().find(|snapshot| snapshot.id == id) else {
        return Err(ReplayError::NoSuchSnapshot { id });
    };
    match chosen.iter().find(|topic| *topic.name != *snapshot.topic) {
        None => Ok(()),
        Some(other) => Err(ReplayError::Bad(format!(
            "snapshot {id} is of topic `{}`, and topic `{}` is to be replayed, too: name the one topic, or use \
             `--base auto`",
            snapshot.topic, other.name
        ))),
    }
}

struct PlannedTopic {
    topic: TopicReplay,
    exact: bool,
}

fn plan_topic(
    context: &PlanContext<'_>,
    request: &ReplayRequest,
    topic: &TopicContext,
    since: &Since,
    warnings: &mut Vec<String>,
) -> Result<PlannedTopic, ReplayError> {
    let name = &*topic.name;
    let info = context.log.topic(name).map_err(|source| log_failed(name, &source))?;
    check_identity(topic, &info.cluster, info.partitions)?;
    let compacted = check_compaction(context, request, name, warnings)?;
    let views = changes(topic);
    let with = |change| views.iter().filter(move |view| view.change == change).map(|view| view.view.as_str());
    let added: Vec<&str> = with(DefinitionChange::Added).collect();
    let changed: Vec<&str> = with(DefinitionChange::Changed).collect();
    let same = views.iter().all(|view| view.change == DefinitionChange::Same);
    let cuts = cut::resolve(context.log, name, info.partitions, since, context.now)?;
    let each = |(live, cut): (&LivePartition, &Cut)| -> Result<PlannedPartition, ReplayError> {
        check_live(context.log, live, cut)?;
        let seeking = Seeking { context, topic, live, cut, added: &added, same };
        let chosen = seeking.choose(request.base)?;
        let at = &live.identity.at;
        let volume = context.log.volume(at, chosen.from, cut.log_end).map_err(|source| log_failed(name, &source))?;
        Ok(planned(live, cut, chosen, volume, topic, &changed))
    };
    let pairs: Vec<_> = topic.partitions.iter().zip(&cuts).collect();
    let partitions = in_parallel(&pairs, each)?;
    if request.base == BaseChoice::Auto && !added.is_empty() {
        let from = "every partition is folded from the beginning of the log, so that it misses nothing";
        warnings.push(format!("topic `{name}`: view `{}` is new: {from}", added.join("`, `")));
    }
    if request.base == BaseChoice::Empty {
        warnings.push(format!("topic `{name}`: with `--base empty`, nothing before the cut is in the new rows"));
    }
    if !changed.is_empty() {
        warnings.push(effective(name, &changed, &partitions));
    }
    warn_of_books(topic, warnings);
    let exact = partitions.iter().all(|partition| partition.exact);
    let mut replays = Vec::with_capacity(partitions.len());
    for partition in partitions {
        warnings.extend(partition.warnings);
        replays.push(partition.replay);
    }
    Ok(PlannedTopic { topic: TopicReplay { topic: name.to_owned(), views, partitions: replays, compacted }, exact })
}

struct PlannedPartition {
    replay: PartitionReplay,
    exact: bool,
    /// Rows that a definition made which has changed are taken over from the base.
    old_rows: bool,
    warnings: Vec<String>,
}

fn planned(
    live: &LivePartition,
    cut: &Cut,
    chosen: Chosen<'_>,
    volume: Volume,
    topic: &TopicContext,
    changed: &[&str],
) -> PlannedPartition {
    let Chosen { base, from, time, part, mut warnings } = chosen;
    if let (Some(last), Some(found)) = (live.last, cut.time)
        && Position(last.offset.0) > cut.cut
        && last.timestamp >= Timestamp(0)
        && last.timestamp < found
    {
        warnings.push(format!(
            "{}: timestamps are out of order: the record at the cut is of {found}, and a later one, at offset {}, of {}; \
             whatever lies above the cut is folded again, late records too",
            live.identity.at, last.offset, last.timestamp
        ));
    }
    let stale = |want: &&ViewIdent| {
        changed.contains(&want.name.as_str())
            && part.and_then(|part| base::stored(&part.views, &want.name)).is_some_and(|view| !base::is(view, want))
    };
    let replay = PartitionReplay {
        partition: cut.partition,
        log_start: cut.log_start,
        log_end: cut.log_end,
        cut: cut.cut,
        cut_time: cut.time,
        base,
        from,
        base_time: time,
        base_generation: part.map(|part| part.generation),
        live: live.position,
        live_generation: live.number,
        records: volume.records,
        bytes: volume.bytes,
    };
    PlannedPartition { replay, exact: volume.exact, old_rows: topic.wanted.iter().any(|want| stale(&want)), warnings }
}

/// Does `each` for a few at a time; the first error in the order of `all` is the answer.
fn in_parallel<T: Copy + Send, R: Send>(
    all: &[T],
    each: impl Fn(T) -> Result<R, ReplayError> + Sync,
) -> Result<Vec<R>, ReplayError> {
    let mut done = Vec::with_capacity(all.len());
    for some in all.chunks(AT_ONCE) {
        let each = &each;
        let answers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|&one| scope.spawn(move || each(one))).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for answer in answers {
            done.push(answer.map_err(|_| ReplayError::Failed("planning a partition panicked".to_owned()))??);
        }
    }
    Ok(done)
}

/// How the wanted definitions relate to those that made live's rows, in the order of the configuration; views that go
/// come last.
fn changes(topic: &TopicContext) -> Vec<ViewReplay> {
    let mut views = Vec::with_capacity(topic.wanted.len());
    for want in &topic.wanted {
        let made: Vec<_> = topic.partitions.iter().map(|live| base::stored(&live.views, &want.name)).collect();
        let change = if made.iter().any(Option::is_none) {
            DefinitionChange::Added
        } else if made.iter().flatten().all(|view| base::is(view, want)) {
            DefinitionChange::Same
        } else {
            DefinitionChange::Changed
        };
        let live = made.iter().flatten().map(|view| view.version).min();
        views.push(ViewReplay { view: want.name.clone(), live, wanted: Some(want.version), change });
    }
    for view in topic.partitions.iter().flat_map(|live| &live.views).filter(|view| view.left_at.is_none()) {
        if !views.iter().any(|known| known.view == view.name) {
            let (view, live) = (view.name.clone(), Some(view.version));
            views.push(ViewReplay { view, live, wanted: None, change: DefinitionChange::Removed });
        }
    }
    views
}

/// From where on new definitions count.
fn effective(topic: &str, changed: &[&str], partitions: &[PlannedPartition]) -> String {
    let names = changed.join("`, `");
    let old: Vec<_> =
        partitions.iter().filter(|partition| partition.old_rows).map(|partition| &partition.replay).collect();
    let empty = partitions.iter().any(|partition| partition.replay.base == Base::Empty);
    if old.is_empty() {
        let from = if empty { "the cut on" } else { "the first event on" };
        return format!("topic `{topic}`: the new definition of `{names}` counts from {from}");
    }
    let place = |partition: &&PartitionReplay| {
        let (PartitionId(number), from) = (partition.partition, partition.from);
        match partition.base_time {
            Some(time) => format!("partition {number} from position {from} (after {time})"),
            None => format!("partition {number} from position {from}"),
        }
    };
    let places: Vec<_> = old.iter().map(place).collect();
    format!(
        "topic `{topic}`: the new definition of `{names}` counts from the base on, and what older events made of the rows \
         stays: {}",
        places.join(", ")
    )
}

fn warn_of_books(topic: &TopicContext, warnings: &mut Vec<String>) {
    let sum = |column: fn(&Books) -> i64| topic.partitions.iter().map(|live| column(&live.books)).sum::<i64>();
    let columns = [
        (sum(|books| books.dead), "dead letters"),
        (sum(|books| books.parked), "parked"),
        (sum(|books| books.waiting), "waiting"),
        (sum(|books| books.skipped), "skipped"),
    ];
    let told: Vec<_> =
        columns.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !told.is_empty() {
        warnings.push(format!(
            "topic `{}`: live has not applied some events ({}, summed over the views); those after the base are decided \
             again, by the definitions and the policy of now",
            topic.name,
            told.join(", ")
        ));
    }
}
