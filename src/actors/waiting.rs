//! Waiting until a topic has applied what a reader asks for.

use std::sync::Arc;

use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

use super::handle::{Bound, ReadError};
use super::serving::{Serving, TopicShared};
use crate::position::PositionVector;

/// What serves the topic once it has applied everything below the bound. Whatever is read then is read from it, also
/// when a cut-over happens meanwhile.
pub async fn reached(topic: &TopicShared, bound: Option<Bound>) -> Result<Arc<Serving>, ReadError> {
    let Some(Bound { at_least: want, wait }) = bound else { return Ok(topic.serving()) };
    if want.topic != topic.name() {
        return Err(ReadError::OtherTopic { want, topic: topic.name().to_owned() });
    }
    let deadline = tokio::time::Instant::now() + wait;
    let mut watching = topic.watch();
    loop {
        let serving = watching.borrow_and_update().clone();
        tokio::select! {
            // What is reached at the deadline is reached.
            biased;
            reached = reach(topic.name(), &serving, &want) => return reached.map(|()| serving),
            // Another generation goes on where this one stands: wait there.
            _ = watching.changed() => {}
            () = tokio::time::sleep_until(deadline) => {
                return Err(ReadError::Behind { have: applied(topic.name(), &serving), want });
            }
        }
    }
}

/// Waits until every partition has applied what lies below its bound.
async fn reach(topic: &str, serving: &Serving, want: &PositionVector) -> Result<(), ReadError> {
    for (partition, position) in &want.positions {
        let Some(published) = serving.partitions.get(partition.0 as usize) else {
            return Err(ReadError::NoSuchPartition {
                topic: topic.to_owned(),
                partition: *partition,
                partitions: serving.partitions.len() as u32,
            });
        };
        let mut applied = WatchStream::new(published.applied.subscribe());
        while applied.next().await.is_some_and(|applied| applied < *position) {}
    }
    Ok(())
}

/// What readers see.
pub fn applied(topic: &str, serving: &Serving) -> PositionVector {
    let mut have = PositionVector::new(topic);
    for published in &serving.partitions {
        have.raise(published.setting().at.partition, *published.applied.borrow());
    }
    have
}
