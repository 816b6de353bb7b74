//! The daemon, asked over HTTP.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::address;
use super::exit::{Code, Failure};
use crate::api::AUTH_SCHEME;
use crate::config::{Config, Secret};

/// Beyond the longest wait for a position, and the time in which an append becomes durable.
const SLACK: Duration = Duration::from_secs(60);

/// The largest answer: a page of large rows.
const LARGEST: u64 = 1 << 30;

/// A daemon's API.
pub struct Client {
    agent: ureq::Agent,
    base: String,
    token: Secret,
}

/// What the daemon refused, and why.
pub(super) struct Refused {
    status: u16,
    code: String,
    message: String,
    next: String,
    /// What else it says of itself.
    pub more: Value,
}

/// Why there is no answer.
pub(super) enum Trouble {
    Refused(Refused),
    /// Nobody answered, or not to the end.
    Lost {
        failure: Failure,
        /// The request may have been carried out all the same.
        sent: bool,
    },
}

impl Client {
    /// The daemon that has the configured data directory.
    pub fn of(config: &Config) -> Result<Client, Failure> {
        let address = address::of_daemon(&config.node.data_dir)?;
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(config.http.read_wait + SLACK))
            .http_status_as_error(false)
            // A proxy has no business between two processes of one machine.
            .proxy(None)
            .build();
        Ok(Client { agent: agent.into(), base: format!("http://{address}"), token: config.http.token.clone() })
    }

    /// Asks for a resource.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("{AUTH_SCHEME} {}", self.token.reveal()));
        }
        self.answer(request.call()).map_err(|trouble| self.failure(trouble))
    }

    /// Sends records, one a line.
    pub fn post<T: DeserializeOwned>(&self, path: &str, lines: &[u8]) -> Result<T, Trouble> {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).header("content-type", "application/x-ndjson");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("{AUTH_SCHEME} {}", self.token.reveal()));
        }
        self.answer(request.send(lines))
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Trouble> {
        let mut response = response.map_err(|error| self.unreachable(&error, may_be_sent(&error)))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error, true))?;
        if status == 200 {
            return serde_json::from_slice(&body).map_err(|error| Trouble::Lost {
                failure: Failure::failed(format!("{}: not an answer of Segno: {error}", self.base)),
                sent: true,
            });
        }
        Err(Trouble::Refused(refused(status, &body)))
    }

    pub fn failure(&self, trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Refused(refused) => refused.failure(&self.base),
            Trouble::Lost { failure, .. } => failure,
        }
    }

    fn unreachable(&self, error: &ureq::Error, sent: bool) -> Trouble {
        let failure = Failure::new(Code::Unreachable, format!("the daemon does not answer at {}: {error}", self.base))
            .next("it may be starting or stopping: look at its log, or try again");
        Trouble::Lost { failure, sent }
    }
}

/// Whether a request that failed so may have reached the daemon.
fn may_be_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() != std::io::ErrorKind::ConnectionRefused,
        ureq::Error::Timeout(when) => !matches!(when, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => false,
        _ => true,
    }
}

/// Reads a refusal's body.
pub(super) fn refused(status: u16, body: &[u8]) -> Refused {
    let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    let (code, message, next) = (text("code"), text("message"), text("next"));
    Refused { status, code, message, next, more: body["error"].take() }
}

impl Refused {
    pub(super) fn failure(self, base: &str) -> Failure {
        let code = match (self.status, self.code.as_str()) {
            (_, "behind") => Code::Behind,
            (422, "refused") => Code::Refused,
            (409, "busy" | "not-now") => Code::NotNow,
            (404, _) => Code::NotFound,
            (400, "bad-cursor" | "bad-token" | "bad-query" | "wrong-bound" | "bad-request") => Code::Usage,
            (401, _) => Code::Config,
            (503, "starting" | "stopping" | "log-unavailable") => Code::Unreachable,
            _ => Code::Failed,
        };
        if self.message.is_empty() {
            return Failure::new(code, format!("{base} answered with status {} and without a reason", self.status));
        }
        Failure::new(code, self.message).next(self.next)
    }
}
