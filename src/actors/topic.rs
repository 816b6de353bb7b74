//! A topic: supervises its partitions. It decides nothing about records; it says who ended, and ends with them.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{oneshot, watch};

use super::partition::{Ended, Ending, Partition, PartitionMessage, PartitionStart};
use super::plan::Fatal;
use crate::position::{Position, TopicPartition};
use crate::streams::{Fault, Reader};

/// How long a partition that has not stopped in time may take to end the commit that is under way. What comes after that
/// the generation refuses: its right to write goes to the next writer.
const ABANDON_WITHIN: Duration = Duration::from_secs(10);

/// What a topic is told.
pub enum TopicMessage {
    /// Stop every partition in good order; answers what became of each.
    Stop { within: Duration, ending: Ending, reply: oneshot::Sender<Vec<Stopped>> },
}

/// How one partition stopped.
pub struct Stopped {
    pub at: TopicPartition,
    pub durable: Result<Position, String>,
    /// Given back by [`Ending::HandOver`].
    pub reader: Option<Box<dyn Reader>>,
}

/// The actor of a topic.
pub struct Topic;

/// What a topic starts with.
pub struct TopicStart {
    pub name: String,
    pub partitions: Vec<PartitionStart>,
    pub failed: Arc<watch::Sender<Option<Fatal>>>,
}

/// The running partitions.
pub struct TopicState {
    partitions: Vec<(TopicPartition, ActorRef<PartitionMessage>)>,
    failed: Arc<watch::Sender<Option<Fatal>>>,
}

impl Actor for Topic {
    type Msg = TopicMessage;
    type State = TopicState;
    type Arguments = TopicStart;

    async fn pre_start(
        &self,
        myself: ActorRef<TopicMessage>,
        start: TopicStart,
    ) -> Result<TopicState, ActorProcessingErr> {
        let mut partitions = Vec::with_capacity(start.partitions.len());
        for partition in start.partitions {
            let at = partition.setting.at.clone();
            let (actor, _) = Partition::spawn_linked(None, Partition, partition, myself.get_cell()).await?;
            partitions.push((at, actor));
        }
        Ok(TopicState { partitions, failed: start.failed })
    }

    async fn handle(
        &self,
        myself: ActorRef<TopicMessage>,
        message: TopicMessage,
        state: &mut TopicState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TopicMessage::Stop { within, ending, reply } => {
                let _ = reply.send(stop(&state.partitions, within, ending).await);
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<TopicMessage>,
        event: SupervisionEvent,
        state: &mut TopicState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                let at = state.partitions.iter().find(|(_, actor)| actor.get_id() == cell.get_id());
                let fatal = Fatal {
                    at: at.map(|(at, _)| at.clone()),
                    fault: Fault::Internal,
                    reason: format!("the partition's actor failed: {error}"),
                    next: "nothing that was committed is lost: start again, and report it".to_owned(),
                };
                tracing::error!(%fatal, "a partition failed");
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

/// Stops all partitions side by side.
async fn stop(
    partitions: &[(TopicPartition, ActorRef<PartitionMessage>)],
    within: Duration,
    ending: Ending,
) -> Vec<Stopped> {
    let mut answers = Vec::with_capacity(partitions.len());
    for (at, actor) in partitions {
        let (reply, answer) = oneshot::channel();
        // A partition that is gone drops the reply, which reads as "did not answer" below.
        let _ = actor.cast(PartitionMessage::Stop { ending, reply });
        answers.push((at, actor, answer));
    }
    let deadline = tokio::time::Instant::now() + within;
    let mut stopped = Vec::with_capacity(answers.len());
    for (at, actor, answer) in answers {
        let (durable, reader) = match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Ok(Ended { durable, reader }))) => (Ok(durable), reader),
            Ok(Ok(Err(fatal))) => (Err(fatal.to_string()), None),
            Ok(Err(_)) => (Err("it had ended before".to_owned()), None),
            Err(_) => (Err(abandon(actor, within).await), None),
        };
        actor.stop(None);
        stopped.push(Stopped { at: at.clone(), durable, reader });
    }
    stopped
}

/// Ends a partition that has not stopped in time: whoever goes on with its generation must find that nothing more is
/// written. Says how it ended.
async fn abandon(actor: &ActorRef<PartitionMessage>, within: Duration) -> String {
    let (reply, answer) = oneshot::channel();
    let _ = actor.cast(PartitionMessage::Abandon { reply });
    match tokio::time::timeout(ABANDON_WITHIN, answer).await {
        // A partition that is gone drops the reply.
        Ok(_) => format!("it did not finish within {within:?}; what was in flight will be read again"),
        Err(_) => format!(
            "it did not finish within {within:?}, and {ABANDON_WITHIN:?} later a commit was still under way: look at the \
             disk; what was in flight will be read again"
        ),
    }
}
