//! Asks how a topic is configured.

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
    of_topic(options, topic, "max.message.bytes").ok()?.parse().ok()
}

/// One setting of a topic. The error says why the cluster does not tell: most often the `DescribeConfigs` permission on
/// the topic is missing.
pub(super) fn of_topic(options: &KafkaOptions, topic: &str, name: &str) -> Result<String, String> {
    let hidden = |error: &dyn std::fmt::Display| properties::without_secrets(&options.properties, &error.to_string());
    let admin: AdminClient<DefaultClientContext> =
        properties::asking(options).create().map_err(|error| hidden(&error))?;
    let patience = AdminOptions::new().request_timeout(Some(options.request_timeout.min(Duration::from_secs(5))));
    let asked = wait(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &patience));
    let answer = asked.map_err(|error| hidden(&error))?.into_iter().next();
    let config = answer.ok_or("the cluster answered nothing")?.map_err(|code| hidden(&code))?;
    let value = config.get(name).and_then(|entry| entry.value.clone());
    value.ok_or_else(|| format!("the cluster does not name `{name}`"))
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
