//! From the configuration to the parts of a node: the log, the options of store and flow, the topics with their views.

use std::sync::Arc;

use super::exit::Failure;
use crate::actors::plan::{
    AuditOptions, FlowOptions, FlushOptions, ReplayOptions, RetryOptions, SnapshotOptions, TopicPlan,
};
use crate::api;
use crate::app::Declared;
use crate::config::memory::{Split, Wanted, split};
use crate::config::{self, Config, Fsync, LogKind, Problem, Problems, Timestamps, Topic};
use crate::state::{self, StoreOptions};
use crate::streams::embedded::{self, Embedded, EmbeddedOptions};
use crate::streams::kafka::{Kafka, KafkaOptions};
use crate::streams::{Limit, Log, Prefetch};
use crate::views::{Definition, cel, is_view_name};

/// The open log, and the embedded one by its own name, where topics can be created.
pub enum OpenLog {
    Embedded(Arc<Embedded>),
    Kafka(Arc<Kafka>),
}

impl OpenLog {
    pub fn log(&self) -> Arc<dyn Log> {
        match self {
            OpenLog::Embedded(log) => log.clone(),
            OpenLog::Kafka(log) => log.clone(),
        }
    }

    /// Creates the topic if the log is embedded and does not have it; Kafka's topics are for its operators to create.
    pub fn prepare(&self, topic: &Topic) -> Result<(), Failure> {
        let OpenLog::Embedded(log) = self else { return Ok(()) };
        let timestamps = match topic.timestamps {
            Timestamps::Create => embedded::Timestamps::Create,
            Timestamps::Append => embedded::Timestamps::Append,
        };
        log.create_topic(&topic.name, topic.partitions, timestamps)?;
        Ok(())
    }
}

/// The directory of the embedded log.
pub fn log_dir(config: &Config) -> std::path::PathBuf {
    config.node.data_dir.join("log")
}

/// Opens the log that the configuration names.
pub fn log(config: &Config) -> Result<OpenLog, Failure> {
    match config.node.log {
        LogKind::Embedded => {
            let settings = &config.embedded;
            let options = EmbeddedOptions {
                default_partitions: settings.partitions,
                fsync: match settings.fsync {
                    Fsync::Always => embedded::Fsync::Always,
                    Fsync::Interval => embedded::Fsync::Interval(settings.fsync_interval),
                    Fsync::Never => embedded::Fsync::Never,
                },
                retention_time: settings.retention_time,
                retention_bytes: settings.retention_size,
                cache_bytes: budget(config, 1).log,
                ..EmbeddedOptions::new(log_dir(config))
            };
            Ok(OpenLog::Embedded(Arc::new(Embedded::open(options)?)))
        }
        LogKind::Kafka => {
            let settings = &config.kafka;
            let properties = settings.properties.iter();
            let options = KafkaOptions {
                brokers: settings.brokers.clone(),
                properties: properties.map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect(),
                request_timeout: settings.request_timeout,
                client_id: config.node.name.clone(),
            };
            Ok(OpenLog::Kafka(Arc::new(Kafka::connect(options)?)))
        }
    }
}

fn wanted(config: &Config, partitions: usize) -> Wanted {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Wanted {
        credit: bytes(config.flow.credit_bytes),
        prefetch: bytes(config.kafka.prefetch),
        batch: bytes(config.flow.batch_bytes),
        embedded: config.node.log == LogKind::Embedded,
        partitions,
    }
}

/// How `memory.total` is shared out over that many partitions.
pub fn budget(config: &Config, partitions: usize) -> Split {
    split(config.memory.total, wanted(config, partitions))
}

/// `[state]`, and the parts of the budget that the store gets.
pub fn store_options(config: &Config) -> StoreOptions {
    // These parts do not depend on the number of partitions.
    let split = budget(config, 1);
    StoreOptions {
        durability: match config.state.durability {
            config::Durability::Log => state::Durability::Log,
            config::Durability::Wal => state::Durability::Wal,
            config::Durability::WalSync => state::Durability::WalSync,
        },
        compression: match config.state.compression {
            config::Compression::None => state::Compression::None,
            config::Compression::Lz4 => state::Compression::Lz4,
            config::Compression::Zstd => state::Compression::Zstd,
        },
        block_cache: split.block_cache,
        memtables: split.memtables,
        ..StoreOptions::default()
    }
}

/// `[flow]`, and the parts of the budget that the flow gets.
pub fn flow_options(config: &Config, partitions: usize) -> FlowOptions {
    let flow = &config.flow;
    let split = budget(config, partitions);
    FlowOptions {
        placement: flow.placement,
        shards_per_partition: flow.shards_per_partition as usize,
        batch: Limit { records: flow.batch_records as usize, bytes: split.batch(wanted(config, partitions)) },
        credit_records: flow.credit_records as usize,
        credit_bytes: split.credit,
        fold_time_limit: flow.fold_time_limit,
        own_shard_limit: flow.own_shard_limit as usize,
        residency: split.residency,
        prefetch: Prefetch { bytes: split.prefetch },
    }
}

/// `[retry]`.
pub fn retry_options(config: &Config) -> RetryOptions {
    let retry = &config.retry;
    RetryOptions { attempts: retry.attempts, initial: retry.initial, factor: retry.factor, max: retry.max }
}

/// `[http]`, without the address.
pub fn api_options(config: &Config) -> api::Options {
    api::Options {
        body_limit: usize::try_from(config.http.body_limit).unwrap_or(usize::MAX),
        read_wait: config.http.read_wait,
        token: config.http.token.clone(),
    }
}

/// `[state]`: when to flush.
pub fn flush_options(config: &Config) -> FlushOptions {
    let size = usize::try_from(config.state.flush_size).unwrap_or(usize::MAX);
    FlushOptions { interval: config.state.flush_interval, size }
}

/// `[replay]`, and the part of the budget that replays get.
pub fn replay_options(config: &Config) -> ReplayOptions {
    let replay = &config.replay;
    ReplayOptions {
        on_change: replay.on_change,
        keep: replay.keep,
        live_lag: replay.live_lag,
        epoch_records: usize::try_from(replay.epoch_records).unwrap_or(usize::MAX),
        epoch_time: replay.epoch_time,
        // This part does not depend on the number of partitions.
        memory: budget(config, 1).replay,
        ..ReplayOptions::default()
    }
}

/// `[snapshots]`.
pub fn snapshot_options(config: &Config) -> SnapshotOptions {
    let snapshots = &config.snapshots;
    SnapshotOptions {
        records: snapshots.records,
        interval: snapshots.interval,
        keep: snapshots.keep,
        keep_daily: snapshots.keep_daily as usize,
    }
}

/// `[audit]`.
pub fn audit_options(config: &Config) -> AuditOptions {
    AuditOptions { keys_per_minute: config.audit.rate }
}

/// A topic as configured and as declared in Rust, with its views ready to run.
pub struct Assembled {
    pub topic: Topic,
    pub views: Vec<Arc<dyn Definition>>,
    /// Older versions of views in Rust.
    pub previous: Vec<Arc<dyn Definition>>,
}

impl Assembled {
    pub fn plan(self) -> TopicPlan {
        let Topic { name, decoder, policy, history, .. } = self.topic;
        TopicPlan { name, decoder, policy, history, views: self.views.into(), previous: self.previous.into() }
    }
}

/// The topics of the configuration and of the program, joined by name. Compiles every view, and says everything that is
/// wrong.
pub fn topics(config: &Config, declared: Vec<Declared>) -> Result<Vec<Assembled>, Failure> {
    let mut problems = Vec::new();
    let mut all: Vec<Assembled> = Vec::new();
    for topic in &config.topics {
        let mut compiled = Vec::new();
        for spec in &topic.views {
            match cel::Declared::compile(spec) {
                Ok(view) => compiled.push(view),
                Err(error) => problems.push(Problem::general(error.to_string())),
            }
        }
        // A type that one view of the topic names is no unknown type to the others.
        let types = compiled.iter().flat_map(|view| view.event_types().map(str::to_owned)).collect();
        let views = compiled.into_iter().map(|view| Arc::new(view.with_topic_types(&types)) as Arc<dyn Definition>);
        let views = views.collect();
        all.push(Assembled { topic: topic.clone(), views, previous: Vec::new() });
    }
    for Declared { topic, views, previous } in declared {
        let at = match all.iter().position(|known| known.topic.name == topic) {
            Some(at) => at,
            None => {
                if !config::is_topic_name(&topic) {
                    problems.push(Problem::general(format!("{topic:?}, a topic declared in Rust, is no topic's name")));
                }
                all.push(Assembled { topic: Topic::named(topic), views: Vec::new(), previous: Vec::new() });
                all.len() - 1
            }
        };
        for view in views {
            if !is_view_name(view.name()) {
                problems
                    .push(Problem::general(format!("{:?}, a view declared in Rust, is no view's name", view.name())));
            }
            if let Some(other) = all.iter().find(|topic| topic.views.iter().any(|known| known.name() == view.name())) {
                let message =
                    format!("view `{}` of topic `{}` is declared again in Rust", view.name(), other.topic.name);
                problems.push(Problem::general(message).next("a name stands for one view; choose another"));
            }
            all[at].views.push(view);
        }
        all[at].previous.extend(previous);
    }
    problems.extend(all.iter().flat_map(wrong_previous));
    if problems.is_empty() { Ok(all) } else { Err(Problems(problems).into()) }
}

/// What is wrong with the older versions that a topic has.
fn wrong_previous(topic: &Assembled) -> Vec<Problem> {
    let name = &topic.topic.name;
    let mut problems = Vec::new();
    for (index, old) in topic.previous.iter().enumerate() {
        let what =
            format!("version {} of view `{}`, registered as previous on topic `{name}`", old.version(), old.name());
        let again = |other: &Arc<dyn Definition>| other.name() == old.name() && other.version() == old.version();
        let problem = match topic.views.iter().find(|view| view.name() == old.name()) {
            None => Problem::general(format!("{what}: the topic has no such view"))
                .next("declare the view on the same topic, or take the line with `previous` out"),
            Some(view) if view.version() <= old.version() => {
                Problem::general(format!("{what}: it is not older than version {}, which the view has", view.version()))
                    .next("raise the VERSION of the view, or take the line with `previous` out")
            }
            Some(_) if topic.previous[..index].iter().any(again) => {
                Problem::general(format!("{what}: it is registered twice")).next("keep the one that made the rows")
            }
            Some(_) => continue,
        };
        problems.push(problem);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Code;
    use crate::event::EventMeta;
    use crate::views::{Reject, View};
    use crate::{App, config};

    #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    struct Visits {
        count: u64,
    }

    impl View for Visits {
        const NAME: &'static str = "visits";
        const VERSION: u32 = 1;
        type Event = serde_json::Value;

        fn apply(&mut self, _: &serde_json::Value, _: &EventMeta<'_>) -> Result<(), Reject> {
            self.count += 1;
            Ok(())
        }
    }

    fn assembled(file: &str, app: App) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segno.toml");
        std::fs::write(&path, file).unwrap();
        let sources = config::Sources { file: Some(path), ..config::Sources::default() };
        let topics = topics(&config::load(&sources)?.config, app.into_declared())?;
        let names = |topic: &Assembled| topic.views.iter().map(|view| view.name().to_owned()).collect();
        Ok(topics.iter().map(|topic| (topic.topic.name.clone(), names(topic))).collect())
    }

    fn view(name: &str, expression: &str) -> String {
        format!(
            "[[topics.views]]\nname = \"{name}\"\ninitial = {{ a = 1 }}\n[topics.views.on]\nA = {{ a = {expression:?} }}\n"
        )
    }

    #[test]
    fn views_in_rust_join_the_topics_of_the_configuration() {
        let file = format!("[[topics]]\nname = \"site\"\n{}", view("pages", "state.a + 1"));
        let app = App::new().topic("site", |t| t.view::<Visits>());
        let names = |views: &[&str]| views.iter().map(|view| (*view).to_owned()).collect::<Vec<_>>();
        assert_eq!(assembled(&file, app).unwrap(), [("site".to_owned(), names(&["pages", "visits"]))]);
        let app = App::new().topic("other", |t| t.view::<Visits>());
        let both = [("site".to_owned(), names(&["pages"])), ("other".to_owned(), names(&["visits"]))];
        assert_eq!(assembled(&file, app).unwrap(), both);
    }

    /// An older `Visits`.
    #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    struct Older<const N: u32>;

    impl<const N: u32> View for Older<N> {
        const NAME: &'static str = "visits";
        const VERSION: u32 = N;
        type Event = serde_json::Value;

        fn apply(&mut self, _: &serde_json::Value, _: &EventMeta<'_>) -> Result<(), Reject> {
            Ok(())
        }
    }

    #[test]
    fn older_versions_go_with_the_topic() {
        let loaded = config::load(&config::Sources::default()).unwrap();
        let app = App::new().topic("site", |t| t.view::<Older<3>>().previous::<Older<2>>());
        let app = app.topic("site", |t| t.previous::<Visits>());
        let topics = topics(&loaded.config, app.into_declared()).unwrap();
        let plan = topics.into_iter().next().unwrap().plan();
        let versions = |all: &[Arc<dyn Definition>]| all.iter().map(|view| view.version()).collect::<Vec<_>>();
        assert_eq!((versions(&plan.views), versions(&plan.previous)), (vec![3], vec![2, 1]));
    }

    #[test]
    fn an_older_version_without_a_newer_is_refused() {
        let app = App::new().topic("site", |t| t.view::<Visits>().previous::<Older<1>>().previous::<Older<2>>());
        let app = app.topic("other", |t| t.previous::<Older<1>>());
        let said = assembled("", app).unwrap_err().message;
        for part in [
            "version 1 of view `visits`, registered as previous on topic `site`: it is not older than version 1",
            "version 2 of view `visits`, registered as previous on topic `site`: it is not older than version 1",
            "registered as previous on topic `other`: the topic has no such view",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let twice = App::new().topic("site", |t| t.view::<Older<2>>().previous::<Visits>().previous::<Older<1>>());
        assert!(assembled("", twice).unwrap_err().message.contains("it is registered twice"));
    }

    #[test]
    fn everything_that_is_wrong_with_views_is_said_at_once() {
        let file = format!("[[topics]]\nname = \"site\"\n{}{}", view("visits", "state.a"), view("bad", "state.a +"));
        let app = App::new().topic("site", |t| t.view::<Visits>()).topic("a b", |t| t);
        let failure = assembled(&file, app).unwrap_err();
        assert_eq!(failure.code, Code::Config);
        for part in ["segno.toml:12:", "`visits` of topic `site` is declared again", "\"a b\"", "3 problems"] {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
    }
}
