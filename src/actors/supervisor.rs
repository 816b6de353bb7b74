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
    /// Stop one topic for a cut-over: in good order, with nothing flushed, and its readers given back. Answers at once
    /// where to hear what became of its partitions; `None` when no topic of that name runs.
    StopTopic { name: String, within: Duration, reply: oneshot::Sender<Option<oneshot::Receiver<Vec<Stopped>>>> },
    /// Start a topic that is not running. One that runs is left alone, and the answer is an error: a second set of actors
    /// would fold the same records into the same generations once more.
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
                    let _ = reply.send(None);
                    return Ok(());
                };
                let (_, topic) = state.topics.remove(index);
                let (tell, stopped) = oneshot::channel();
                // A topic that is gone drops the reply; whoever waits learns of it so.
                let _ = topic.cast(TopicMessage::Stop { within, ending: Ending::HandOver, reply: tell });
                let _ = reply.send(Some(stopped));
            }
            SupervisorMessage::StartTopic { start, reply } => {
                let name = start.name.clone();
                if state.topics.iter().any(|(known, _)| *known == name) {
                    let _ = reply.send(Err(format!("topic `{name}` runs already")));
                    return Ok(());
                }
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
            SupervisionEvent::ActorFailed(cell, error) => {
                state.topics.retain(|(_, topic)| topic.get_id() != cell.get_id());
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
            SupervisionEvent::ActorTerminated(cell, ..) => {
                state.topics.retain(|(_, topic)| topic.get_id() != cell.get_id());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(1);

    fn start(name: &str) -> TopicStart {
        TopicStart { name: name.to_owned(), partitions: Vec::new(), failed: Arc::new(watch::channel(None).0) }
    }

    async fn start_topic(supervisor: &ActorRef<SupervisorMessage>, name: &str) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        supervisor.cast(SupervisorMessage::StartTopic { start: start(name), reply }).unwrap();
        answer.await.unwrap()
    }

    /// Whether a topic of that name ran, and was stopped.
    async fn stop_topic(supervisor: &ActorRef<SupervisorMessage>, name: &str) -> bool {
        let (reply, answer) = oneshot::channel();
        let message = SupervisorMessage::StopTopic { name: name.to_owned(), within: WITHIN, reply };
        supervisor.cast(message).unwrap();
        match answer.await.unwrap() {
            None => false,
            Some(stopped) => stopped.await.unwrap().is_empty(),
        }
    }

    #[tokio::test]
    async fn a_topic_that_runs_is_not_started_again_and_one_that_does_not_is_not_stopped() {
        let start = NodeStart { topics: vec![start("t")], failed: Arc::new(watch::channel(None).0) };
        let (supervisor, ended) = Actor::spawn(None, Supervisor, start).await.unwrap();
        assert_eq!(start_topic(&supervisor, "t").await, Err("topic `t` runs already".to_owned()));
        assert!(!stop_topic(&supervisor, "u").await);
        assert!(stop_topic(&supervisor, "t").await);
        assert!(!stop_topic(&supervisor, "t").await, "it was stopped before");
        assert_eq!(start_topic(&supervisor, "t").await, Ok(()));
        assert!(start_topic(&supervisor, "t").await.is_err());
        supervisor.stop(None);
        ended.await.unwrap();
    }
}
