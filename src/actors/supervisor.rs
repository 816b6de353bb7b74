//! The root of the supervision tree: starts and stops the topics, and tells when one fails.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{oneshot, watch};

use super::partition::Ending;
use super::plan::Fatal;
use super::topic::{Stopped, Topic, TopicMessage, TopicStart};
use crate::streams::Fault;

/// What the root is told.
pub enum SupervisorMessage {
    /// Stop every topic in good order.
    Stop { within: Duration, reply: oneshot::Sender<Vec<Stopped>> },
    /// Stop one topic for a cut-over: in good order, with nothing flushed, and its readers given back.
    StopTopic { name: String, within: Duration, reply: oneshot::Sender<Vec<Stopped>> },
    /// Start a topic that is not running.
    StartTopic { start: TopicStart, reply: oneshot::Sender<Result<(), String>> },
}

/// The actor at the root of the tree.
pub struct Supervisor;

/// What the root starts with.
pub struct NodeStart {
    pub topics: Vec<TopicStart>,
    pub failed: Arc<watch::Sender<Option<Fatal>>>,
}

/// The running topics.
pub struct SupervisorState {
    topics: Vec<(String, ActorRef<TopicMessage>)>,
    failed: Arc<watch::Sender<Option<Fatal>>>,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = NodeStart;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        start: NodeStart,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut topics = Vec::with_capacity(start.topics.len());
        for topic in start.topics {
            let name = topic.name.clone();
            let (actor, _) = Topic::spawn_linked(None, Topic, topic, myself.get_cell()).await?;
            topics.push((name, actor));
        }
        Ok(SupervisorState { topics, failed: start.failed })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Stop { within, reply } => {
                let mut answers = Vec::with_capacity(state.topics.len());
                for (_, topic) in &state.topics {
                    let (reply, answer) = oneshot::channel();
                    // A topic that is gone drops the reply; its partitions are then missing from the report.
                    let _ = topic.cast(TopicMessage::Stop { within, ending: Ending::Durable, reply });
                    answers.push(answer);
                }
                let mut stopped = Vec::new();
                for answer in answers {
                    stopped.extend(answer.await.unwrap_or_default());
                }
                let _ = reply.send(stopped);
                myself.stop(None);
            }
            SupervisorMessage::StopTopic { name, within, reply } => {
                let Some(index) = state.topics.iter().position(|(known, _)| *known == name) else {
                    let _ = reply.send(Vec::new());
                    return Ok(());
                };
                let (_, topic) = state.topics.remove(index);
                // A topic that is gone drops the reply; whoever waits learns of it so.
                let _ = topic.cast(TopicMessage::Stop { within, ending: Ending::HandOver, reply });
            }
            SupervisorMessage::StartTopic { start, reply } => {
                let name = start.name.clone();
                let started = Topic::spawn_linked(None, Topic, start, myself.get_cell()).await;
                let _ = reply.send(match started {
                    Ok((actor, _)) => {
                        state.topics.push((name, actor));
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                });
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => {
                let fatal = Fatal {
                    at: None,
                    fault: Fault::Internal,
                    reason: format!("a topic's actor failed: {error}"),
                    next: "nothing that was committed is lost: start again, and report it".to_owned(),
                };
                state.failed.send_if_modified(|failed| {
                    let first = failed.is_none();
                    failed.get_or_insert(fatal);
                    first
                });
            }
            SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}
