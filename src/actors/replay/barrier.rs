//! Live's side of a switch: what is told to stop, and what is started again when it is over, whatever came of it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedRwLockWriteGuard, oneshot};

use super::drive::Halt;
use crate::actors::node::NodeShared;
use crate::actors::opening;
use crate::actors::serving::{Mode, Serving, TopicShared};
use crate::actors::supervisor::SupervisorMessage;
use crate::state::Generation;
use crate::streams::Reader;

/// What serves a topic next, to be started.
pub type Next = (Arc<TopicShared>, Arc<Serving>);

/// The topics of a switch. As long as it lives their live may stand still, and that is as it should be; whoever drops it
/// has started them again.
pub struct Barrier {
    pub topics: Vec<Arc<TopicShared>>,
    /// Of each topic that was told to stop, whether it has stopped or not: the readers that it has given back, each where
    /// its generation stands. What is not in here runs on, and must never be started a second time.
    told: HashMap<String, Vec<Box<dyn Reader>>>,
    /// For each topic: nobody makes its live durable until this goes. `None`: somebody is at it, and ends in his own time.
    still: Vec<Option<OwnedRwLockWriteGuard<()>>>,
}

impl Barrier {
    pub fn begin(topics: Vec<Arc<TopicShared>>) -> Barrier {
        for topic in &topics {
            topic.set_switching(true);
            topic.end_flushing();
        }
        let still = topics.iter().map(|topic| topic.keep_unflushed()).collect();
        Barrier { topics, told: HashMap::new(), still }
    }

    /// Live may be made durable while it stands still, by somebody who was at it before.
    pub fn may_be_flushed(&self) -> bool {
        self.still.iter().any(Option::is_none)
    }

    /// Live consumes in one of the topics at least: somebody waits for its end.
    pub fn is_waited_for(&self) -> bool {
        self.topics.iter().any(|topic| topic.serving().mode == Mode::Running)
    }

    /// Stops the live partitions of every topic in good order; they are then at one exact position each, which need not be
    /// durable. The first topic that cannot be stopped ends it, and those after it are not told.
    pub async fn stop(&mut self, node: &NodeShared) -> Result<(), Halt> {
        for topic in self.topics.clone() {
            if topic.serving().mode == Mode::Running {
                self.stop_one(node, &topic).await?;
            }
        }
        Ok(())
    }

    async fn stop_one(&mut self, node: &NodeShared, topic: &TopicShared) -> Result<(), Halt> {
        let (name, within) = (topic.name().to_owned(), node.parts.replay.patience);
        let readers = self.told.entry(name.clone()).or_default();
        let (reply, answer) = oneshot::channel();
        // A supervisor that is gone drops the reply.
        let _ = node.parts.supervisor.cast(SupervisorMessage::StopTopic { name, within, reply });
        let stopped = answer.await.map_err(|_| Halt::Stopping)?;
        let ended = |why| Halt::Failed(format!("topic `{}`: {why}, so there is nothing to switch", topic.name()));
        let stopped = stopped.ok_or_else(|| ended("its live does not run"))?;
        for stopped in stopped.await.map_err(|_| ended("its live has failed"))? {
            if let Err(problem) = stopped.durable {
                let at = stopped.at;
                return Err(Halt::Failed(format!("{at}: live could not be stopped for the cut-over: {problem}")));
            }
            readers.extend(stopped.reader);
        }
        Ok(())
    }

    /// The old generations where they stand, for the topics that were told to stop. The others have never stopped.
    pub async fn as_it_was(&mut self) -> Vec<Next> {
        let mut next = Vec::new();
        for topic in &self.topics {
            let old = topic.serving();
            if !self.told.contains_key(topic.name()) {
                topic.begin_flushing();
                continue;
            }
            stand_still(&old).await;
            let (definitions, pending) = (old.definitions.clone(), old.pending.clone());
            let serving = Serving::new(&topic.parts, definitions, old.generations(), Mode::Running, pending);
            next.push((topic.clone(), Arc::new(serving)));
        }
        TopicShared::switch_all(&next);
        next
    }

    /// Starts them all; one that cannot be started does not keep the others from it. Answers the first reason.
    pub async fn go_on(&mut self, node: &Arc<NodeShared>, next: Vec<Next>) -> Result<(), String> {
        self.still.clear();
        let mut begun = Ok(());
        for (topic, serving) in next {
            let readers = self.told.remove(topic.name()).unwrap_or_default();
            begun = begun.and(begin(node, &topic, &serving, readers).await);
        }
        begun
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        for topic in &self.topics {
            topic.set_switching(false);
        }
    }
}

/// Takes the right to write from whoever did not stop in time. A commit that is under way is waited for, so that the
/// positions stand still from here on.
async fn stand_still(serving: &Serving) {
    let generations = serving.generations();
    let take = move || {
        for generation in generations {
            let _ = generation.take_writer();
        }
    };
    // It fails only when the runtime shuts down.
    let _ = tokio::task::spawn_blocking(take).await;
}

/// Starts the actors of a topic, unless the node stops: then the next start does.
async fn begin(
    node: &Arc<NodeShared>,
    topic: &Arc<TopicShared>,
    serving: &Arc<Serving>,
    readers: Vec<Box<dyn Reader>>,
) -> Result<(), String> {
    if serving.mode != Mode::Running || node.stopping() {
        return Ok(());
    }
    let generations = serving.generations();
    let readers = match fit(&readers, &generations) {
        true => readers,
        false => {
            let (log, name, prefetch) = (node.parts.log.clone(), topic.name().to_owned(), topic.parts.flow.prefetch);
            let open = move || {
                drop(readers);
                opening::readers(&*log, &name, &generations, prefetch)
            };
            let opened = tokio::task::spawn_blocking(open).await;
            opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
        }
    };
    let start = serving.start(&topic.parts, readers, &node.parts.failed);
    let (reply, answer) = oneshot::channel();
    // A supervisor that is gone drops the reply.
    let _ = node.parts.supervisor.cast(SupervisorMessage::StartTopic { start, reply });
    answer.await.map_err(|_| "the node's supervisor is gone".to_owned())??;
    topic.begin_flushing();
    Ok(())
}

/// Whether the readers are those that the generations need: one for each, in their order, each where its generation
/// stands.
fn fit(readers: &[Box<dyn Reader>], generations: &[Arc<Generation>]) -> bool {
    let positions = readers.iter().map(|reader| (reader.partition(), reader.position()));
    let needed = generations.iter().map(|generation| (generation.at().partition, generation.applied()));
    positions.eq(needed)
}
