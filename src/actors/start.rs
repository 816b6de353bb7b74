//! From a plan to a running node: asks the log, opens the generations, checks that the two fit, and starts the actors.

use std::sync::Arc;

use ractor::Actor;
use tokio::sync::watch;

use super::node::{NodeParts, NodeShared};
use super::opening;
use super::plan::{FlowOptions, NodePlan, Running, StartError};
use super::serving::{Mode, Serving, TopicParts, TopicShared, idents};
use super::supervisor::{NodeStart, Supervisor};
use crate::state::Store;
use crate::streams::{Log, Reader, TopicInfo};

/// A topic that has been opened and checked.
struct Opened {
    topic: TopicShared,
    /// At the positions of the generations; none when nothing is consumed.
    readers: Vec<Box<dyn Reader>>,
}

/// Starts a node. When it answers an error nothing has been changed but, perhaps, new and empty generations.
pub async fn start(plan: NodePlan) -> Result<Running, StartError> {
    let NodePlan { name, log, store, topics, flow, retry, flush, .. } = plan;
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
            flow: FlowOptions { residency: flow.residency / partitions.max(1), ..flow.clone() },
            retry,
            flush,
        };
        let (log, store) = (log.clone(), store.clone());
        opened.push(blocking(move || open(&*log, &store, &info, parts)).await?);
    }
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
    let parts = NodeParts { name, log, store, supervisor, failed };
    let node = Arc::new(NodeShared::new(parts, topics, watching.clone()));
    node.begin();
    let stopping = node.clone();
    Ok(Running::new(node, watching, move |within| Box::pin(stopping.stop(within))))
}

/// The shape of every topic.
fn ask(log: &dyn Log, names: Vec<String>) -> Result<Vec<TopicInfo>, StartError> {
    let ask = |name: String| log.topic(&name).map_err(|source| StartError::Log { topic: name, source });
    names.into_iter().map(ask).collect()
}

/// Opens a topic's generations, and the log where they stand.
fn open(log: &dyn Log, store: &Arc<Store>, info: &TopicInfo, parts: TopicParts) -> Result<Opened, StartError> {
    let definitions = parts.wanted.clone();
    let generations = opening::open_topic(log, store, info, &idents(&definitions), parts.history)?;
    let readers = opening::readers(log, &parts.name, &generations, parts.flow.prefetch);
    let readers = readers.map_err(|source| StartError::Log { topic: parts.name.clone(), source })?;
    let serving = Serving::new(&parts, definitions, generations, Mode::Running, Vec::new());
    Ok(Opened { topic: TopicShared::new(parts, serving), readers })
}

/// Asks log and store, away from the runtime's threads.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(ask).await.map_err(|error| StartError::Actors(error.to_string()))?
}
