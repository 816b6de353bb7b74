//! `segno run`: the daemon, from the configuration to a clean stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::address::AddressFile;
use super::assemble::{self, Assembled, OpenLog};
use super::exit::{Code, Failure};
use super::leave;
use crate::actors;
use crate::actors::plan::{NodePlan, Running};
use crate::api::{self, NodeSlot};
use crate::app::Declared;
use crate::config::{Config, Loaded, LogFormat};
use crate::state::Store;
use crate::streams::Log;
use crate::telemetry;

/// The longest that letting go of connections and files may take.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Runs until a signal or a failure ends it.
pub fn run(loaded: &Loaded, declared: Vec<Declared>) -> Result<(), Failure> {
    let config = &loaded.config;
    let format = match config.log.format {
        LogFormat::Auto => telemetry::Format::Auto,
        LogFormat::Human => telemetry::Format::Human,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::logs(&config.log.level, format).map_err(|error| Failure::failed(error.to_string()))?;
    let topics = assemble::topics(config, declared)?;
    check(&topics)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(serve(loaded, topics));
    leave::let_go(runtime);
    ended
}

/// A daemon without work is a mistake, and the message is the way out.
pub(super) fn check(topics: &[Assembled]) -> Result<(), Failure> {
    if topics.is_empty() {
        let next = "declare one under [[topics]], or start with the example: segno config example > segno.toml";
        return Err(Failure::new(Code::Config, "no topic is configured, so there is nothing to run").next(next));
    }
    match topics.iter().find(|topic| topic.views.is_empty()) {
        None => Ok(()),
        Some(topic) => {
            let message = format!("topic `{}` has no view", topic.topic.name);
            Err(Failure::new(Code::Config, message).next("declare one under [[topics.views]]"))
        }
    }
}

async fn serve(loaded: &Loaded, topics: Vec<Assembled>) -> Result<(), Failure> {
    let config = &loaded.config;
    let mut signals = Signals::listen()?;
    let metrics = telemetry::metrics().map_err(|error| Failure::failed(error.to_string()))?;
    let store = Store::open(&config.node.data_dir, assemble::store_options(config))?;
    let listener = bind(config.http.listen).await?;
    let address = listener.local_addr().unwrap_or(config.http.listen);
    let _written = AddressFile::write(&config.node.data_dir, address)?;
    let slot = NodeSlot::default();
    let options = assemble::api_options(config);
    let (stop_http, stopped) = watch::channel(false);
    let http = tokio::spawn(api::serve(listener, slot.clone(), options, Some(metrics), until(stopped)));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = loaded.file.as_ref().map_or("built in".to_owned(), |file| file.display().to_string()),
        data_dir = %config.node.data_dir.display(),
        http = %format_args!("http://{address}"),
        "starting"
    );
    let Started { running, log } = tokio::select! {
        started = start(config, store, topics, true) => started?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the start was over");
            return Ok(());
        }
    };
    slot.fill(running.node.clone());
    tracing::info!(http = %format_args!("http://{address}"), "ready");
    let failed = wait(&running, &mut signals).await;
    let _ = stop_http.send(true);
    let clean = stop(config, running, http, signals).await;
    // After the node, which reads it, and after the API, which appends to it.
    let closed = tokio::task::spawn_blocking(move || log.close(CLOSE_WITHIN)).await;
    if let Err(error) = closed {
        tracing::error!("closing the log failed: {error}");
    }
    match (failed, clean) {
        (Some(fatal), _) => Err(Failure::failed(fatal)),
        (None, true) => Ok(()),
        (None, false) => {
            Err(Failure::failed("the stop was not clean").next("the log lines above say what was left undone"))
        }
    }
}

/// The node, and the log that it reads.
pub(super) struct Started {
    pub running: Running,
    pub log: Arc<dyn Log>,
}

/// Opens the log and starts a node, which consumes unless told not to.
pub(super) async fn start(
    config: &Config,
    store: Arc<Store>,
    topics: Vec<Assembled>,
    consume: bool,
) -> Result<Started, Failure> {
    let (log, topics, partitions) = {
        let config = config.clone();
        let opened = tokio::task::spawn_blocking(move || open(&config, topics)).await;
        opened.map_err(|error| Failure::failed(format!("opening the log failed: {error}")))??
    };
    let plan = NodePlan {
        name: config.node.name.clone(),
        log: log.log(),
        store,
        topics: topics.into_iter().map(Assembled::plan).collect(),
        flow: assemble::flow_options(config, partitions),
        retry: assemble::retry_options(config),
        flush: assemble::flush_options(config),
        replay: assemble::replay_options(config),
        snapshots: assemble::snapshot_options(config),
        audit: assemble::audit_options(config),
        consume,
    };
    let log = plan.log.clone();
    Ok(Started { running: actors::start(plan).await?, log })
}

/// Opens the log and asks it for every topic. Blocks.
fn open(config: &Config, topics: Vec<Assembled>) -> Result<(OpenLog, Vec<Assembled>, usize), Failure> {
    let log = assemble::log(config)?;
    let mut partitions = 0;
    for topic in &topics {
        log.prepare(&topic.topic)?;
        partitions += log.log().topic(&topic.topic.name)?.partitions as usize;
    }
    Ok((log, topics, partitions))
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(listen).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {listen}: {error}"))
            .next("stop what listens there, or choose another http.listen (port 0 takes a free one)")
    })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error says that the daemon is gone, which is as good a reason to stop.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Until a signal (`None`) or a failure (its words).
async fn wait(running: &Running, signals: &mut Signals) -> Option<String> {
    let mut failed = running.failed.clone();
    let failure = async {
        match failed.wait_for(Option::is_some).await {
            Ok(fatal) => fatal.as_ref().map(ToString::to_string),
            Err(_) => Some("the node ended without saying why".to_owned()),
        }
    };
    tokio::select! {
        fatal = failure => {
            if let Some(fatal) = &fatal {
                tracing::error!("stopping: {fatal}");
            }
            fatal
        }
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            None
        }
    }
}

/// Stops the node and the API within `node.stop-timeout`. True when everything ended as it should.
async fn stop(config: &Config, running: Running, http: JoinHandle<()>, mut signals: Signals) -> bool {
    let within = config.node.stop_timeout;
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::warn!(signal = name, "ending at once; what was not flushed is folded again at the next start");
        std::process::exit(130);
    });
    let deadline = tokio::time::Instant::now() + within;
    let clean = match tokio::time::timeout_at(deadline, running.stop(within)).await {
        Ok(report) => {
            for (at, position) in &report.durable {
                tracing::info!(topic = &*at.topic, partition = at.partition.0, position = position.0, "flushed");
            }
            for problem in &report.problems {
                tracing::error!("stop: {problem}");
            }
            report.clean()
        }
        Err(_) => {
            tracing::error!(?within, "the stop took too long; what was not flushed is folded again at the next start");
            false
        }
    };
    // Requests under way have what is left of the time; one that still waits then is cut off.
    match tokio::time::timeout_at(deadline, http).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::error!("the HTTP API ended with an error: {error}"),
    }
    tracing::info!("stopped");
    clean
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
        Ok(Signals { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    /// The name of the next signal.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
