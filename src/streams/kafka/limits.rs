//! Asks for the limit that a topic puts on its records. Only an error message needs it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Waiting, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::{KafkaOptions, properties};

/// The topic's `max.message.bytes`, or nothing when the cluster does not tell.
pub(super) fn most_message_bytes(options: &KafkaOptions, topic: &str) -> Option<usize> {
    let admin: AdminClient<DefaultClientContext> = properties::asking(options).create().ok()?;
    let patience = AdminOptions::new().request_timeout(Some(options.request_timeout.min(Duration::from_secs(5))));
    let answers = wait(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &patience)).ok()?;
    let config = answers.into_iter().next()?.ok()?;
    config.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

/// Waits for a future that another thread completes: rdkafka's admin answers come from a thread of its own.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut waiting = Waiting::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut waiting) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
