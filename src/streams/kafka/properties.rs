//! librdkafka's properties: what users may set, what Segno sets, and what nobody may.
//!
//! Values can be secrets. None is ever printed here, and texts that come from librdkafka are cleaned of them. rdkafka's
//! own `Debug` of a `ClientConfig` hides a few keys only: do not print it.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::config::{NativeClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::KafkaOptions;
use crate::streams::{Error, Prefetch, Result};

/// Properties that decide how exactly Segno reads and writes, with the reason or the place where to say it instead.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `kafka.brokers` instead"),
    ("metadata.broker.list", "set `kafka.brokers` instead"),
    ("client.id", "it is made of `node.name`"),
    ("isolation.level", "Segno reads committed records only"),
    ("enable.auto.commit", "positions are committed with the state they belong to, not in Kafka"),
    ("auto.commit.enable", "positions are committed with the state they belong to, not in Kafka"),
    ("auto.commit.interval.ms", "positions are committed with the state they belong to, not in Kafka"),
    ("enable.auto.offset.store", "positions are committed with the state they belong to, not in Kafka"),
    ("auto.offset.reset", "a position that the log no longer holds is an error, never a silent jump"),
    ("enable.partition.eof", "Segno needs the end of a partition to move over gaps"),
    ("group.id", "partitions are assigned statically"),
    ("group.instance.id", "partitions are assigned statically"),
    ("group.protocol", "partitions are assigned statically"),
    ("group.remote.assignor", "partitions are assigned statically"),
    ("partition.assignment.strategy", "partitions are assigned statically"),
    ("queued.max.messages.kbytes", "set `kafka.prefetch` instead"),
    ("allow.auto.create.topics", "Segno never creates topics by reading them"),
    ("statistics.interval.ms", "Segno needs the statistics to know the ends of partitions"),
    ("acks", "an append is acknowledged when all in-sync replicas have it"),
    ("request.required.acks", "an append is acknowledged when all in-sync replicas have it"),
    ("enable.idempotence", "appends are written exactly once and in order"),
    ("transactional.id", "appends are not transactional"),
    ("partitioner", "keys are partitioned by murmur2, as Kafka's Java client does it"),
];

/// Properties through which a configuration file could run code or weaken the log-in.
const DANGEROUS: &[(&str, &str)] = &[
    ("plugin.library.paths", "refused: it loads code from a file"),
    ("sasl.kerberos.kinit.cmd", "refused: it is a shell command"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "refused: it accepts unsigned tokens"),
];

/// Defaults that differ from librdkafka's; a user's value wins.
const DEFAULTS: &[(&str, &str)] = &[
    ("check.crcs", "true"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.queue.backoff.ms", "10"),
    ("socket.keepalive.enable", "true"),
    ("log.connection.close", "false"),
    ("reconnect.backoff.max.ms", "2000"),
];

/// Bounds of what one fetch may bring per partition, as it is on the wire. The read-ahead is checked before a fetch, in
/// bytes as they are after decompression: it may be passed by one fetch, times the ratio of the compression (about four
/// for JSON). Hence a fetch is a part of the read-ahead, and never more than this.
const FETCH_BYTES: std::ops::RangeInclusive<usize> = 16 * 1024..=1024 * 1024;
/// librdkafka's own bounds of `queued.max.messages.kbytes`.
const QUEUE_KBYTES: std::ops::RangeInclusive<usize> = 1..=2_097_151;

/// Refuses what a user may not set, and what librdkafka does not know, by name.
pub(super) fn check(options: &KafkaOptions) -> Result<()> {
    for property in options.properties.keys() {
        let refused = OWNED.iter().chain(DANGEROUS).find(|(name, _)| name == property);
        if let Some((_, reason)) = refused {
            return Err(refuse(property, reason));
        }
    }
    for property in ["message.timeout.ms", "delivery.timeout.ms"] {
        let set = options.properties.get(property);
        if set.is_some_and(|value| !value.trim().parse::<u32>().is_ok_and(|millis| millis > 0)) {
            return Err(refuse(property, "it takes whole milliseconds, at least 1: an append must end some time"));
        }
    }
    if options.properties.get("enable.ssl.certificate.verification").is_some_and(|value| value == "false") {
        tracing::warn!("kafka property `enable.ssl.certificate.verification` is off: anybody can pose as the broker");
    }
    native(&base(options)).map(drop)
}

fn refuse(property: &str, reason: &str) -> Error {
    Error::Property { property: property.to_owned(), reason: reason.to_owned() }
}

/// The native form, in which librdkafka has judged every name and value.
pub(super) fn native(config: &ClientConfig) -> Result<NativeClientConfig> {
    config.create_native_config().map_err(|error| match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, property, _) => {
            refuse(&property, "librdkafka knows no such property, or was built without it")
        }
        // librdkafka's text would repeat the value.
        KafkaError::ClientConfig(_, _, property, _) => refuse(&property, "librdkafka does not take this value"),
        other => Error::Other(format!("the Kafka client's configuration failed: {other}")),
    })
}

/// What all clients have in common.
fn base(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    // Up to the lines that say why a connection ended; `Context::log` decides what becomes of them.
    config.set_log_level(RDKafkaLogLevel::Info);
    for (name, value) in DEFAULTS {
        config.set(*name, *value);
    }
    for (name, value) in &options.properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &options.brokers).set("client.id", &options.client_id);
    config
}

/// A client that only asks: metadata, ends, times.
pub(super) fn asking(options: &KafkaOptions) -> ClientConfig {
    let mut config = base(options);
    // Someone waits for the answer, so it matters why a connection was closed.
    config.set("allow.auto.create.topics", "false").set("log.connection.close", "true");
    config
}

/// A client that reads some partitions, each with its own read-ahead.
pub(super) fn reading(options: &KafkaOptions, prefetch: Prefetch) -> ClientConfig {
    let mut config = base(options);
    let queued = (prefetch.bytes / 1024).clamp(*QUEUE_KBYTES.start(), *QUEUE_KBYTES.end());
    if !options.properties.contains_key("fetch.message.max.bytes")
        && !options.properties.contains_key("max.partition.fetch.bytes")
    {
        config.set(
            "fetch.message.max.bytes",
            (prefetch.bytes / 4).clamp(*FETCH_BYTES.start(), *FETCH_BYTES.end()).to_string(),
        );
    }
    config
        // `assign` wants a name for a group, though nothing is ever committed to it and nobody joins it.
        .set("group.id", format!("{}-reader", options.client_id))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", "1000")
        .set("queued.max.messages.kbytes", queued.to_string());
    config
}

/// The client that appends.
pub(super) fn appending(options: &KafkaOptions) -> ClientConfig {
    let mut config = base(options);
    for (name, value) in [("linger.ms", "1"), ("compression.type", "lz4")] {
        let alias = if name == "linger.ms" { "queue.buffering.max.ms" } else { "compression.codec" };
        if !options.properties.contains_key(name) && !options.properties.contains_key(alias) {
            config.set(name, value);
        }
    }
    if !["message.timeout.ms", "delivery.timeout.ms"].iter().any(|name| options.properties.contains_key(*name)) {
        config.set("message.timeout.ms", (options.request_timeout.as_millis() * 3).clamp(1000, 900_000).to_string());
    }
    config.set("enable.idempotence", "true").set("acks", "all");
    config
}

/// What librdkafka says when it cannot make a client, as an error that names a property where it can.
pub(super) fn creation(options: &KafkaOptions, error: &KafkaError) -> Error {
    let text = match error {
        KafkaError::ClientCreation(text) => text.clone(),
        other => other.to_string(),
    };
    let text = without_secrets(&options.properties, &text);
    let named = options.properties.keys().filter(|name| text.contains(name.as_str())).max_by_key(|name| name.len());
    match named {
        Some(property) => refuse(property, &text),
        None => Error::Property { property: "kafka.properties".to_owned(), reason: text },
    }
}

/// Takes the values of secret properties out of a text.
pub(super) fn without_secrets(properties: &BTreeMap<String, String>, text: &str) -> String {
    let secret = |name: &str| {
        ["password", "secret", "pem", "key", "token", "oauthbearer", "jaas", "userinfo"]
            .iter()
            .any(|w| name.contains(w))
    };
    properties
        .iter()
        .filter(|(name, value)| secret(name) && value.len() > 2)
        .fold(text.to_owned(), |text, (_, value)| text.replace(value.as_str(), "<secret>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(properties: &[(&str, &str)]) -> KafkaOptions {
        KafkaOptions {
            brokers: "127.0.0.1:9".to_owned(),
            properties: properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            ..KafkaOptions::default()
        }
    }

    fn refusal(name: &str, value: &str) -> String {
        check(&options(&[(name, value)])).unwrap_err().to_string()
    }

    #[test]
    fn owned_and_dangerous_properties_are_refused_by_name() {
        for (name, _) in OWNED.iter().chain(DANGEROUS) {
            let text = refusal(name, "hunter2-value");
            assert!(text.contains(&format!("`{name}`")) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn an_unknown_property_and_a_bad_value_are_refused_without_the_value() {
        let text = refusal("sasl.pasword", "hunter2-value");
        assert!(text.contains("`sasl.pasword`") && text.contains("no such property"), "{text}");
        let text = refusal("fetch.min.bytes", "hunter2-value");
        assert!(text.contains("`fetch.min.bytes`") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn an_append_that_would_never_end_is_refused() {
        for name in ["message.timeout.ms", "delivery.timeout.ms"] {
            // To librdkafka, 0 is "for ever": what was given up here would be delivered later all the same.
            for value in ["0", "00", "0x0", "-1", "soon"] {
                assert!(refusal(name, value).contains("at least 1"), "{value}");
            }
            check(&options(&[(name, "1500")])).unwrap();
        }
    }

    #[test]
    fn what_users_may_set_is_taken_and_wins() {
        let options = options(&[("fetch.wait.max.ms", "7"), ("security.protocol", "ssl"), ("linger.ms", "20")]);
        check(&options).unwrap();
        assert_eq!(reading(&options, Prefetch { bytes: 1 << 20 }).get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(appending(&options).get("linger.ms"), Some("20"));
        for config in [asking(&options), reading(&options, Prefetch { bytes: 0 }), appending(&options)] {
            native(&config).unwrap();
        }
    }

    #[test]
    fn secrets_are_taken_out_of_texts() {
        let options = options(&[("sasl.password", "hunter2"), ("ssl.key.pem", "-----KEY"), ("client.rack", "a1b")]);
        let text = without_secrets(&options.properties, "bad hunter2 in -----KEY of a1b");
        assert_eq!(text, "bad <secret> in <secret> of a1b");
    }
}
