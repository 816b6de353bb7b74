//! From a plan to a running node: asks the log, opens the generations, checks that the two fit, and starts the actors.

use std::sync::Arc;

use ractor::Actor;
use tokio::sync::watch;

use super::inheritance::{Inheritance, LiveViews, inherit};
use super::node::{NodeParts, NodeShared};
use super::opening;
use super::plan::{FlowOptions, NodePlan, OnChange, Running, StartError};
use super::progress::VIEWS_MAX;
use super::replay::jobs::Jobs;
use super::serving::{self, Mode, Serving, TopicParts, TopicShared, idents};
use super::supervisor::{NodeStart, Supervisor};
use crate::position::TopicPartition;
use crate::state::{Store, ViewIdent};
use crate::streams::{Log, Reader, TopicInfo};

/// A topic that has been opened and checked.
struct Opened {
    topic: TopicShared,
    /// At the positions of the generations; none when nothing is consumed.
    readers: Vec<Box<dyn Reader>>,
}

/// Starts a node. When it answers an error nothing has been changed but, perhaps, new and empty generations.
pub async fn start(plan: NodePlan) -> Result<Running, StartError> {
    let NodePlan { name, log, store, topics, flow, retry, flush, replay, snapshots, audit, consume } = plan;
    if let Some(topic) = topics.iter().find(|topic| topic.views.len() > VIEWS_MAX) {
        return Err(StartError::TooManyViews { topic: topic.name.clone(), views: topic.views.len() });
    }
    let (asking, names) = (log.clone(), topics.iter().map(|topic| topic.name.clone()).collect());
    let infos = blocking(move || ask(&*asking, names)).await?;
    let partitions: usize = infos.iter().map(|info| info.partitions as usize).sum();
    let mut opened = Vec::with_capacity(topics.len());
    for (topic, info) in topics.into_iter().zip(infos) {
        let parts = TopicParts {
            name: topic.name,
            decoder: topic.decoder,
            policy: topic.policy,
            history: topic.history,
            wanted: topic.views,
            previous: topic.previous,
            flow: FlowOptions { residency: flow.residency / partitions.max(1), ..flow.clone() },
            retry,
            flush,
        };
        let (log, store, on_change) = (log.clone(), store.clone(), replay.on_change);
        opened.push(blocking(move || open(&*log, &store, &info, parts, consume, on_change)).await?);
    }
    let finding = store.clone();
    let jobs = blocking(move || find_jobs(&finding)).await?;
    let (failed, watching) = watch::channel(None);
    let failed = Arc::new(failed);
    let (mut starts, mut topics) = (Vec::new(), Vec::new());
    for Opened { topic, readers } in opened {
        if !readers.is_empty() {
            starts.push(topic.serving().start(&topic.parts, readers, &failed));
        }
        topics.push(Arc::new(topic));
    }
    let node_start = NodeStart { topics: starts, failed: failed.clone() };
    let (supervisor, _) =
        Actor::spawn(None, Supervisor, node_start).await.map_err(|e| StartError::Actors(e.to_string()))?;
    let parts = NodeParts { name, log, store, supervisor, failed, replay, snapshots, audit, consume };
    let node = NodeShared::new(parts, topics, jobs, watching.clone());
    node.begin();
    let stopping = node.clone();
    Ok(Running::new(node, watching, move |within| Box::pin(stopping.stop(within))))
}

/// The shape of every topic.
fn ask(log: &dyn Log, names: Vec<String>) -> Result<Vec<TopicInfo>, StartError> {
    let ask = |name: String| log.topic(&name).map_err(|source| StartError::Log { topic: name, source });
    names.into_iter().map(ask).collect()
}

/// Opens a topic's generations under the definitions that go with them, and the log where they stand.
fn open(
    log: &dyn Log,
    store: &Arc<Store>,
    info: &TopicInfo,
    parts: TopicParts,
    consume: bool,
    on_change: OnChange,
) -> Result<Opened, StartError> {
    let mut live = Vec::with_capacity(info.partitions as usize);
    for partition in 0..info.partitions {
        let at = TopicPartition::new(&*info.name, partition);
        let found = store.live(&at).map_err(|source| StartError::Store { at, source })?;
        live.push(found.map(|live| LiveViews { position: live.position, views: live.views }));
    }
    let (idents, definitions, frozen, pending) =
        match inherit(&parts.name, &live, &parts.wanted, &parts.previous, on_change)? {
            Inheritance::Same => (idents(&parts.wanted), parts.wanted.clone(), None, Vec::new()),
            Inheritance::Runs { definitions, changes } => (idents(&definitions), definitions, None, changes),
            Inheritance::Frozen { changes, missing } => (stored(&live), Arc::from([]), Some(missing), changes),
        };
    let generations = opening::open_topic(log, store, info, &idents, parts.history)?;
    let mode = match frozen {
        Some(why) => Mode::Frozen(why),
        None if !consume => Mode::Offline,
        None => Mode::Running,
    };
    let readers = match mode {
        Mode::Running => opening::readers(log, &parts.name, &generations, parts.flow.prefetch),
        Mode::Frozen(_) | Mode::Offline => Ok(Vec::new()),
    };
    let readers = readers.map_err(|source| StartError::Log { topic: parts.name.clone(), source })?;
    let serving = Serving::new(&parts, definitions, generations, mode, pending);
    Ok(Opened { topic: TopicShared::new(parts, serving), readers })
}

/// The views of a topic as its most advanced partition has them.
fn stored(live: &[Option<LiveViews>]) -> Vec<ViewIdent> {
    let newest = live.iter().flatten().max_by_key(|live| live.position);
    newest.map(|live| live.views.iter().map(serving::ident_of).collect()).unwrap_or_default()
}

/// The jobs that the store knows. What no job needs and a crash has left behind goes.
fn find_jobs(store: &Store) -> Result<Jobs, StartError> {
    let failed = |error: crate::state::Error| StartError::Actors(format!("the replay jobs cannot be read: {error}"));
    let jobs = Jobs::load(store).map_err(failed)?;
    for path in jobs.sweep(store).map_err(failed)? {
        tracing::info!(path = %path.display(), "removed a generation that nothing needs");
    }
    Ok(jobs)
}

/// Asks log and store, away from the runtime's threads.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(ask).await.map_err(|error| StartError::Actors(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::actors::plan::{
        AuditOptions, FlushOptions, History, Placement, Policy, ReplayOptions, RetryOptions, SnapshotOptions, TopicPlan,
    };
    use crate::state::{Compression, Durability, StoreOptions};
    use crate::streams::decode::{DecodeOptions, Format};
    use crate::streams::memory::Memory;
    use crate::streams::{Limit, Prefetch};
    use crate::views::{Definition, Row};

    struct Named(String);

    impl Definition for Named {
        fn name(&self) -> &str {
            &self.0
        }

        fn version(&self) -> u32 {
            1
        }

        fn text(&self) -> String {
            self.0.clone()
        }

        fn initial(&self) -> Box<dyn Row> {
            panic!("nothing is folded")
        }

        fn decode(&self, _: &[u8]) -> Result<Box<dyn Row>, String> {
            Err("nothing is stored".to_owned())
        }
    }

    fn plan(views: usize, store: Arc<Store>) -> NodePlan {
        let log = Memory::new();
        log.create_topic("t", 1);
        let views = (0..views).map(|number| Arc::new(Named(format!("v{number}"))) as Arc<dyn Definition>);
        let topic = TopicPlan {
            name: "t".to_owned(),
            decoder: DecodeOptions { format: Format::Json, max_key_bytes: 1024 },
            policy: Policy::default(),
            history: History::Complete,
            views: views.collect(),
            previous: Arc::default(),
        };
        let (batch, prefetch) = (Limit { records: 1, bytes: 1 << 20 }, Prefetch { bytes: 1 << 20 });
        let (initial, max) = (Duration::from_millis(2), Duration::from_millis(20));
        NodePlan {
            name: "n".to_owned(),
            log: Arc::new(log),
            store,
            topics: vec![topic],
            flow: FlowOptions {
                placement: Placement::Shared,
                shards_per_partition: 1,
                batch,
                credit_records: 1,
                credit_bytes: 1 << 20,
                fold_time_limit: Duration::from_secs(2),
                own_shard_limit: 1,
                residency: 1 << 20,
                prefetch,
            },
            retry: RetryOptions { attempts: 1, initial, factor: 2.0, max },
            flush: FlushOptions { interval: Duration::from_secs(1), size: 1 << 20 },
            replay: ReplayOptions::default(),
            snapshots: SnapshotOptions::default(),
            audit: AuditOptions::default(),
            consume: true,
        }
    }

    /// A fold that hangs is known by its view's number, which has eight bits.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_has_no_more_views_than_can_be_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            durability: Durability::Log,
            block_cache: 8 << 20,
            memtables: 16 << 20,
            compression: Compression::Lz4,
            max_open_files: 64,
        };
        let store = Store::open(dir.path(), options).unwrap();
        let refused = start(plan(VIEWS_MAX + 1, store.clone())).await.err().unwrap();
        assert!(matches!(&refused, StartError::TooManyViews { topic, views: 257 } if topic == "t"), "{refused}");
        assert!(refused.to_string().contains("topic `t` has 257 views, and at most 256 are possible. Leave some out"));
        let running = start(plan(VIEWS_MAX, store)).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(running.stop(Duration::from_secs(10)).await.clean());
    }
}
