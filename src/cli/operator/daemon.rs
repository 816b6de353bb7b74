//! The API of a running daemon, over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Method, Reply, Transport};
use crate::api::AUTH_SCHEME;
use crate::cli::address;
use crate::cli::exit::{Code, Failure};
use crate::config::{Config, Secret};

/// The largest answer: a thousand samples of large rows.
const LARGEST: u64 = 1 << 30;

/// How long a job is asked how it is: a daemon that hangs must not hold up the one who watches.
const GLANCE: Duration = Duration::from_secs(30);

/// A daemon, wherever it answers just now.
pub struct Daemon {
    agent: ureq::Agent,
    data_dir: PathBuf,
    token: Secret,
}

impl Daemon {
    pub fn of(config: &Config) -> Daemon {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            // A check reads everything there is: only the one who asks knows how long is too long.
            .timeout_global(None)
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Daemon { agent: agent.into(), data_dir: config.node.data_dir.clone(), token: config.http.token.clone() }
    }

    /// Asked anew each time: a daemon that was started again may listen elsewhere.
    fn base(&self) -> Result<String, Failure> {
        Ok(format!("http://{}", address::of_daemon(&self.data_dir)?))
    }

    fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Reply, ureq::Error> {
        let bearer = (!self.token.is_empty()).then(|| format!("{AUTH_SCHEME} {}", self.token.reveal()));
        let mut response = match method {
            Method::Post => {
                let mut request = self.agent.post(url).header("content-type", "application/json");
                if let Some(bearer) = &bearer {
                    request = request.header("authorization", bearer);
                }
                request.send(body.map_or_else(|| "{}".to_owned(), Value::to_string))?
            }
            Method::Get | Method::Delete => {
                let mut request = if method == Method::Get { self.agent.get(url) } else { self.agent.delete(url) };
                if let Some(bearer) = &bearer {
                    request = request.header("authorization", bearer);
                }
                let glance = method == Method::Get && url.contains("/v1/replays");
                request.config().timeout_global(glance.then_some(GLANCE)).build().call()?
            }
        };
        let status = response.status().as_u16();
        Ok(Reply { status, body: response.body_mut().with_config().limit(LARGEST).read_to_vec()? })
    }
}

impl Transport for Daemon {
    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let base = self.base()?;
        self.send(method, &format!("{base}{path}"), body).map_err(|error| {
            Failure::new(Code::Unreachable, format!("the daemon does not answer at {base}: {error}"))
                .next("it may be starting or stopping: look at its log, or try again")
        })
    }

    fn whom(&self) -> String {
        match self.base() {
            Ok(base) => format!("the daemon at {base}"),
            Err(_) => format!("the daemon of {}", self.data_dir.display()),
        }
    }
}
