//! The sections of the configuration as types, and their reading.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::Problem;
use super::read::{Section, count, duration, float, or_unlimited, size, text};
use super::secret::Secret;
use super::{memory, replay, topics};
use crate::actors::plan::Placement;

/// Everything that can be configured. Durations are positive, sizes are in bytes and positive.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: NodeSection,
    pub memory: MemorySection,
    pub kafka: KafkaSection,
    pub embedded: EmbeddedSection,
    pub flow: FlowSection,
    pub retry: RetrySection,
    pub state: StateSection,
    pub replay: replay::ReplaySection,
    pub snapshots: replay::SnapshotsSection,
    pub audit: replay::AuditSection,
    pub http: HttpSection,
    pub log: LogSection,
    pub topics: Vec<topics::Topic>,
}

/// `[node]`.
#[derive(Clone, Debug)]
pub struct NodeSection {
    pub data_dir: PathBuf,
    pub log: LogKind,
    pub name: String,
    pub stop_timeout: Duration,
}

/// Where records come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogKind {
    #[default]
    Embedded,
    Kafka,
}

/// `[memory]`.
#[derive(Clone, Debug)]
pub struct MemorySection {
    pub total: u64,
}

/// `[kafka]`.
#[derive(Clone, Debug)]
pub struct KafkaSection {
    pub brokers: String,
    pub prefetch: u64,
    pub request_timeout: Duration,
    /// librdkafka's properties; some are passwords, so none is shown.
    pub properties: BTreeMap<String, Secret>,
}

/// `[embedded]`.
#[derive(Clone, Debug)]
pub struct EmbeddedSection {
    pub partitions: u32,
    pub fsync: Fsync,
    pub fsync_interval: Duration,
    /// `None` is unlimited.
    pub retention_time: Option<Duration>,
    /// Bytes of a partition; `None` is unlimited.
    pub retention_size: Option<u64>,
}

/// When an append to the embedded log is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    #[default]
    Always,
    Interval,
    Never,
}

/// `[flow]`.
#[derive(Clone, Debug)]
pub struct FlowSection {
    pub placement: Placement,
    pub shards_per_partition: u32,
    pub batch_records: u64,
    pub batch_bytes: u64,
    pub credit_records: u64,
    pub credit_bytes: u64,
    pub fold_time_limit: Duration,
    pub own_shard_limit: u32,
}

/// `[retry]`.
#[derive(Clone, Debug)]
pub struct RetrySection {
    pub attempts: u32,
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
}

/// `[state]`.
#[derive(Clone, Debug)]
pub struct StateSection {
    pub durability: Durability,
    pub flush_interval: Duration,
    pub flush_size: u64,
    pub compression: Compression,
}

/// What survives a crash before the next flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    #[default]
    Log,
    Wal,
    WalSync,
}

/// How the store's files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    Lz4,
    Zstd,
    None,
}

/// `[http]`.
#[derive(Clone, Debug)]
pub struct HttpSection {
    pub listen: SocketAddr,
    pub body_limit: u64,
    pub read_wait: Duration,
    /// Empty: no token is asked for.
    pub token: Secret,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogSection {
    pub level: String,
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Auto,
    Human,
    Json,
}

/// Reads the whole tree. What is wrong is on record in the root's context.
pub(super) fn read(root: Section<'_>) -> Config {
    let config = Config {
        node: node(root.section("node")),
        memory: memory(root.section("memory")),
        kafka: kafka(root.section("kafka")),
        embedded: embedded(root.section("embedded")),
        flow: flow(root.section("flow")),
        retry: retry(root.section("retry")),
        state: state(root.section("state")),
        replay: replay::replay(root.section("replay")),
        snapshots: replay::snapshots(root.section("snapshots")),
        audit: replay::audit(root.section("audit")),
        http: http(root.section("http")),
        log: log(root.section("log")),
        topics: topics::read(&root),
    };
    root.finish();
    config
}

fn node(s: Section<'_>) -> NodeSection {
    let section = NodeSection {
        data_dir: s.required("data-dir", not_empty).into(),
        log: s.choice("log", &[("embedded", LogKind::Embedded), ("kafka", LogKind::Kafka)]).unwrap_or_default(),
        name: s.required("name", not_empty),
        stop_timeout: s.required("stop-timeout", duration),
    };
    s.finish();
    section
}

fn not_empty(value: &super::tree::Value, context: &super::read::Context<'_>) -> Result<String, String> {
    let text = text(value, context)?;
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text) }
}

fn memory(s: Section<'_>) -> MemorySection {
    let total = s.required("total", |value, context| match size(value, context)? {
        bytes if bytes < memory::LEAST => Err(format!("expected at least \"64MiB\", found {bytes} bytes")),
        bytes => Ok(bytes),
    });
    s.finish();
    MemorySection { total }
}

fn kafka(s: Section<'_>) -> KafkaSection {
    let properties = s.section("properties");
    let mut read = BTreeMap::new();
    for (name, entry) in properties.all() {
        match properties.property(entry) {
            Ok(value) => {
                read.insert(name.clone(), Secret::new(value));
            }
            Err(reason) => {
                let message = format!("`kafka.properties.{name}`: {reason}");
                s.report(Problem::of_key(entry.key_at.clone(), message));
            }
        }
    }
    let section = KafkaSection {
        brokers: s.required("brokers", not_empty),
        prefetch: s.required("prefetch", size),
        request_timeout: s.required("request-timeout", duration),
        properties: read,
    };
    s.finish();
    section
}

fn embedded(s: Section<'_>) -> EmbeddedSection {
    let fsync = [("always", Fsync::Always), ("interval", Fsync::Interval), ("never", Fsync::Never)];
    let section = EmbeddedSection {
        partitions: s.required("partitions", count(topics::MOST_PARTITIONS)) as u32,
        fsync: s.choice("fsync", &fsync).unwrap_or_default(),
        fsync_interval: s.required("fsync-interval", duration),
        retention_time: s.required("retention-time", or_unlimited(duration)),
        retention_size: s.required("retention-size", or_unlimited(size)),
    };
    s.finish();
    section
}

fn flow(s: Section<'_>) -> FlowSection {
    let placements = [("shared", Placement::Shared), ("own", Placement::Own)];
    let section = FlowSection {
        placement: s.choice("placement", &placements).unwrap_or_default(),
        shards_per_partition: s.required("shards-per-partition", count(1024)) as u32,
        batch_records: s.required("batch-records", count(10_000_000)),
        batch_bytes: s.required("batch-bytes", size),
        credit_records: s.required("credit-records", count(1_000_000_000)),
        credit_bytes: s.required("credit-bytes", size),
        fold_time_limit: s.required("fold-time-limit", duration),
        own_shard_limit: s.required("own-shard-limit", count(1_000_000)) as u32,
    };
    for (credit, batch, most, least) in [
        ("credit-records", "batch-records", section.credit_records, section.batch_records),
        ("credit-bytes", "batch-bytes", section.credit_bytes, section.batch_bytes),
    ] {
        // 0 stands for a value that could not be read, which is on record already.
        if most != 0 && most < least {
            let message =
                format!("`flow.{credit}` is less than `flow.{batch}`, so that no full batch could ever start");
            let next = format!("raise {credit} or lower {batch}");
            s.report(Problem::at(s.place(credit), message).next(next));
        }
    }
    s.finish();
    section
}

fn retry(s: Section<'_>) -> RetrySection {
    let section = RetrySection {
        attempts: s.required("attempts", count(1000)) as u32,
        initial: s.required("initial", duration),
        factor: s.required("factor", |value, context| match float(value, context)? {
            factor if factor >= 1.0 => Ok(factor),
            factor => Err(format!("expected a factor of at least 1, found {factor}")),
        }),
        max: s.required("max", duration),
    };
    if !section.max.is_zero() && section.max < section.initial {
        let message = "`retry.max` is shorter than `retry.initial`";
        s.report(Problem::at(s.place("max"), message).next("the longest pause cannot be shorter than the first"));
    }
    s.finish();
    section
}

fn state(s: Section<'_>) -> StateSection {
    let durability = [("log", Durability::Log), ("wal", Durability::Wal), ("wal-sync", Durability::WalSync)];
    let compression = [("lz4", Compression::Lz4), ("zstd", Compression::Zstd), ("none", Compression::None)];
    let section = StateSection {
        durability: s.choice("durability", &durability).unwrap_or_default(),
        flush_interval: s.required("flush-interval", duration),
        flush_size: s.required("flush-size", size),
        compression: s.choice("compression", &compression).unwrap_or_default(),
    };
    s.finish();
    section
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn http(s: Section<'_>) -> HttpSection {
    let listen = s.required("listen", |value, context| {
        let text = text(value, context)?;
        // `localhost` without asking a name server, which might answer anything.
        let address = text.strip_prefix("localhost:").map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
        let expected = || format!("expected an address and a port such as \"127.0.0.1:7878\", found {text:?}");
        address.parse().map(Some).map_err(|_| expected())
    });
    let section = HttpSection {
        listen: listen.unwrap_or(ANY_PORT),
        body_limit: s.required("body-limit", size),
        read_wait: s.required("read-wait", duration),
        token: Secret::new(s.required("token", text)),
    };
    if !section.listen.ip().is_loopback() && section.token.is_empty() {
        let message = "`http.listen` is an address that others can reach, and `http.token` is empty";
        let next = "set http.token, for example to \"${env:SEGNO_TOKEN}\", or listen on 127.0.0.1";
        s.report(Problem::at(s.place("listen"), message).next(next));
    }
    let printable = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable(section.token.reveal()) {
        let message = "`http.token` has a character that cannot stand in an HTTP header";
        s.report(Problem::at(s.place("token"), message).next("use letters, digits and punctuation, without spaces"));
    }
    s.finish();
    section
}

fn log(s: Section<'_>) -> LogSection {
    let formats = [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];
    let section = LogSection {
        level: s.required("level", |value, context| {
            let text = text(value, context)?;
            match tracing_subscriber::filter::EnvFilter::builder().parse(&text) {
                Ok(_) if !text.trim().is_empty() => Ok(text),
                _ => Err(format!(
                    "expected \"error\", \"warn\", \"info\", \"debug\", \"trace\" or directives, found {text:?}"
                )),
            }
        }),
        format: s.choice("format", &formats).unwrap_or_default(),
    };
    s.finish();
    section
}
