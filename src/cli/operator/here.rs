//! A node in this process, asked through the same routes as a daemon. It lives as long as the command.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Method, Reply, Transport};
use crate::actors::plan::Running;
use crate::api::{Inside, NodeSlot};
use crate::app::Declared;
use crate::cli::exit::Failure;
use crate::cli::leave;
use crate::cli::run::{self, CLOSE_WITHIN, Started};
use crate::cli::{Code, assemble};
use crate::config::Loaded;
use crate::state::Store;
use crate::streams::Log;
use crate::telemetry;

/// Opened partitions that nothing is consumed into, and the API over them.
pub struct Here {
    api: Inside,
    /// Gone once it is being closed.
    parts: Option<Parts>,
    stop_within: Duration,
}

struct Parts {
    runtime: Runtime,
    running: Running,
    log: Arc<dyn Log>,
}

impl Here {
    pub fn start(loaded: &Loaded, declared: Vec<Declared>) -> Result<Here, Failure> {
        let config = &loaded.config;
        let topics = assemble::topics(config, declared)?;
        run::check(&topics)?;
        // What goes wrong below is said by the answers; the log has what an answer leaves out. A second start in one
        // process finds the log set up.
        let _ = telemetry::logs("warn", telemetry::Format::Auto);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
        let store = Store::open(&config.node.data_dir, assemble::store_options(config))?;
        let Started { running, log } = runtime.block_on(run::start(config, store, topics, false))?;
        let slot = NodeSlot::default();
        slot.fill(running.node.clone());
        let api = Inside::new(slot, assemble::api_options(config));
        Ok(Here { api, parts: Some(Parts { runtime, running, log }), stop_within: config.node.stop_timeout })
    }
}

impl Transport for Here {
    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let Some(parts) = &self.parts else {
            return Err(Failure::new(Code::Unreachable, "the node of this command has been closed"));
        };
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = parts.runtime.block_on(self.api.request(method.name(), path, body));
        let (status, body) = answer.map_err(|error| Failure::new(Code::Usage, format!("{path}: {error}")))?;
        Ok(Reply { status, body })
    }

    fn whom(&self) -> String {
        "the node in this command".to_owned()
    }
}

impl Drop for Here {
    /// Ends in good order, so that what was done is durable and the next start has nothing to repeat.
    fn drop(&mut self) {
        let Some(Parts { runtime, running, log }) = self.parts.take() else { return };
        let report =
            runtime.block_on(async { tokio::time::timeout(self.stop_within, running.stop(self.stop_within)).await });
        match report {
            Ok(report) => report.problems.iter().for_each(|problem| eprintln!("segno: closing: {problem}")),
            Err(_) => eprintln!("segno: closing took longer than node.stop-timeout; the next start does the rest"),
        }
        log.close(CLOSE_WITHIN);
        leave::let_go(runtime);
    }
}
