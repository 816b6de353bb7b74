//! What a Kafka client hears while it runs: errors, statistics, log lines.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use serde::Deserialize;
use tokio::sync::Notify;

use super::KafkaOptions;
use super::properties::without_secrets;
use crate::position::{Position, TopicPartition};
use crate::streams::Error;

/// Locks, whatever a panicking holder left: the values behind these locks are single assignments.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One partition as its reader and the client's threads share it.
#[derive(Debug)]
pub(super) struct Lane {
    pub at: TopicPartition,
    /// Fired when the partition's queue stops being empty, and when there is an error to fetch.
    pub ready: Arc<Notify>,
    /// The newest end heard of: from the assignment, from an end-of-partition mark, from statistics.
    end: AtomicU64,
    /// Bytes that wait in the client's queue, as of the last statistics.
    pub queued: AtomicU64,
    /// Set when the metadata does not name the partition: the topic may be gone. The reader asks, for here nothing may
    /// wait.
    pub doubtful: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Lane {
    pub fn new(at: TopicPartition, end: Position) -> Self {
        Lane {
            at,
            ready: Arc::new(Notify::new()),
            end: AtomicU64::new(end.0),
            queued: AtomicU64::new(0),
            doubtful: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Relaxed))
    }

    pub fn raise_end(&self, end: Position) {
        self.end.fetch_max(end.0, Ordering::Relaxed);
    }

    pub fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.ready.notify_one();
    }

    pub fn failure(&self) -> Option<Error> {
        lock(&self.failure).clone()
    }
}

/// Hears for one client. Reading clients have lanes; asking and appending ones have none.
pub(super) struct Context {
    options: Arc<KafkaOptions>,
    lanes: Vec<Arc<Lane>>,
    /// What the last connection attempt died of. A transport failure names an address and a reason, whereas the event
    /// that follows it only counts brokers.
    trouble: Mutex<Option<String>>,
    /// True once a broker has answered a question.
    answered: AtomicBool,
    /// An error that ends every use of this client.
    failure: Mutex<Option<Error>>,
    /// True from the loss of all brokers until one is back: one episode, one warning.
    lost: AtomicBool,
}

impl Context {
    pub fn new(options: Arc<KafkaOptions>, lanes: Vec<Arc<Lane>>) -> Self {
        Context {
            options,
            lanes,
            trouble: Mutex::new(None),
            answered: AtomicBool::new(false),
            failure: Mutex::new(None),
            lost: AtomicBool::new(false),
        }
    }

    pub fn failure(&self) -> Option<Error> {
        lock(&self.failure).clone()
    }

    /// Forgets what went wrong, after something went right.
    pub fn recovered(&self) {
        self.answered.store(true, Ordering::Relaxed);
        *lock(&self.failure) = None;
        *lock(&self.trouble) = None;
    }

    /// The error for "nobody answered", with the best reason there is.
    pub fn unreachable(&self, otherwise: &str) -> Error {
        let mut reason = lock(&self.trouble).clone().unwrap_or_else(|| otherwise.to_owned());
        // Somebody listens there, but speaks another protocol. librdkafka's words for it depend on when the other side
        // hung up.
        let cut_off = ["state APIVERSION", "state UP", "state SSL_HANDSHAKE"].iter().any(|s| reason.contains(s));
        if cut_off && !self.answered.load(Ordering::Relaxed) {
            reason.push_str("; the connection was cut off: does this listener want another `security.protocol`?");
        }
        Error::Unreachable { brokers: self.options.brokers.clone(), reason }
    }

    /// The typed error for librdkafka's `code`, met while working on `what` (a topic, or topic/partition).
    pub fn typed(&self, code: Code, what: &str, text: &str) -> Error {
        let reason = if text.is_empty() { code.to_string() } else { without_secrets(&self.options.properties, text) };
        match code {
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                Error::Authentication { brokers: self.options.brokers.clone(), reason }
            }
            Code::TopicAuthorizationFailed => Error::Authorization { resource: format!("topic {what}"), reason },
            Code::ClusterAuthorizationFailed => {
                Error::Authorization { resource: "the Kafka cluster".to_owned(), reason }
            }
            code if is_transport(code) => self.unreachable(&reason),
            _ => Error::Other(format!("{what}: {reason}")),
        }
    }

    /// Ends this client for a reason that is Segno's own fault.
    pub fn broken(&self, what: String) {
        self.fail(Error::Other(what));
    }

    fn fail(&self, error: Error) {
        if lock(&self.failure).replace(error).is_none() {
            for lane in &self.lanes {
                lane.ready.notify_one();
            }
        }
    }
}

/// Failures that pass when the network or the broker comes back.
pub(super) fn is_transport(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::SSL
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::NetworkException
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::WaitCache
    ) || is_moving(code)
}

/// The partition's leader changes, or has just changed: it passes, once the client has asked who leads.
pub(super) fn is_moving(code: Code) -> bool {
    matches!(
        code,
        Code::OffsetNotAvailable
            | Code::KafkaStorageError
            | Code::ReplicaNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
    )
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", "{facility} {line}");
        // Why a connection ended: most such lines come as events too, but not all.
        if facility == "FAIL" {
            let reason = line.split_once("]: ").map_or(line, |(_, reason)| reason);
            let reason = without_secrets(&self.options.properties, reason);
            lock(&self.trouble).get_or_insert(reason);
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        match serde_json::from_slice::<Statistics>(json) {
            Ok(statistics) => self.learn(&statistics),
            Err(error) => tracing::warn!("librdkafka's statistics could not be read: {error}"),
        }
    }

    fn error(&self, error: KafkaError, text: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let text = without_secrets(&self.options.properties, text);
        match code {
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::ClusterAuthorizationFailed => self.fail(self.typed(code, "", &text)),
            Code::Fatal => self.fail(Error::Other(format!("the Kafka client failed for good: {text}"))),
            Code::AllBrokersDown => {
                if !self.lanes.is_empty() && !self.lost.swap(true, Ordering::Relaxed) {
                    let Error::Unreachable { brokers, reason } = self.unreachable(&text) else { return };
                    tracing::warn!("lost the Kafka brokers at {brokers}: {reason}; reading goes on when they are back");
                }
            }
            code if is_transport(code) => *lock(&self.trouble) = Some(text),
            _ => tracing::debug!("kafka client: {code}: {text}"),
        }
    }
}

impl ConsumerContext for Context {}

/// The part of librdkafka's statistics that matters here.
#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i64,
    state: String,
}

#[derive(Deserialize)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    /// The last stable offset, −1001 before the first fetch.
    ls_offset: i64,
    fetchq_size: u64,
    /// True until the topic's metadata names the partition, and again when it no longer does.
    unknown: bool,
}

impl Context {
    fn learn(&self, statistics: &Statistics) {
        let reached = statistics.brokers.values().any(|b| b.nodeid >= 0 && b.state == "UP");
        if reached {
            *lock(&self.trouble) = None;
            if self.lost.swap(false, Ordering::Relaxed) {
                tracing::info!("the Kafka brokers at {} are back", self.options.brokers);
            }
        }
        for lane in &self.lanes {
            let topic = statistics.topics.get(&*lane.at.topic);
            if let Some(partition) = topic.and_then(|t| t.partitions.get(&lane.at.partition.to_string())) {
                lane.queued.store(partition.fetchq_size, Ordering::Relaxed);
                if let Ok(end) = u64::try_from(partition.ls_offset) {
                    lane.raise_end(Position(end));
                }
                if reached && partition.unknown {
                    lane.doubtful.store(true, Ordering::Relaxed);
                    lane.ready.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        let lanes = vec![Arc::new(Lane::new(TopicPartition::new("t", 0), Position(3)))];
        Context::new(Arc::new(KafkaOptions::default()), lanes)
    }

    #[test]
    fn statistics_raise_the_end_and_never_lower_it() {
        let context = context();
        for (lso, end) in [(-1001, 3), (9, 9), (5, 9)] {
            let json = format!(
                r#"{{"brokers":{{}},"topics":{{"t":{{"partitions":{{"0":{{"ls_offset":{lso},"fetchq_size":7,"unknown":false}}}}}}}}}}"#
            );
            context.stats_raw(json.as_bytes());
            assert_eq!(context.lanes[0].end(), Position(end));
        }
        assert_eq!(context.lanes[0].queued.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn an_error_of_a_change_of_leaders_is_worth_another_try() {
        let moving = [
            Code::OffsetNotAvailable,
            Code::KafkaStorageError,
            Code::ReplicaNotAvailable,
            Code::FencedLeaderEpoch,
            Code::UnknownLeaderEpoch,
            Code::NotLeaderForPartition,
            Code::LeaderNotAvailable,
        ];
        for code in moving {
            let error = context().typed(code, "t/0", "");
            assert!(is_transport(code) && error.retryable(), "{code}: {error}");
        }
        for code in [Code::InvalidRequest, Code::UnsupportedVersion, Code::TopicAuthorizationFailed] {
            let error = context().typed(code, "t/0", "");
            assert!(!is_transport(code) && !error.retryable(), "{code}: {error}");
        }
    }

    #[test]
    fn lost_credentials_fail_every_lane_and_a_lost_broker_none() {
        let context = context();
        context.error(KafkaError::Global(Code::BrokerTransportFailure), "127.0.0.1:1: Connection refused");
        context.error(KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert!(context.failure().is_none());
        assert!(context.unreachable("").to_string().contains("Connection refused"));
        context.error(KafkaError::Global(Code::Authentication), "Invalid username or password");
        assert!(matches!(context.failure(), Some(Error::Authentication { .. })));
    }
}
