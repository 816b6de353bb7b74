//! The daemon, asked over HTTP.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit::{Code, Failure};
use crate::api::AUTH_SCHEME;
use crate::config::{Config, Secret};

/// Beyond the longest wait for a position, and the time in which an append becomes durable.
const SLACK: Duration = Duration::from_secs(60);

/// The largest answer: a page of large rows.
const LARGEST: u64 = 1 << 30;

/// The file in the data directory that names the address on which its daemon answers. No topic can have this name.
pub const ADDRESS_FILE: &str = "http~";

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
}

impl Client {
    /// The daemon of the configured data directory: where it says it listens, else where the configuration says.
    pub fn of(config: &Config) -> Client {
        let written = std::fs::read_to_string(config.node.data_dir.join(ADDRESS_FILE)).ok();
        let address = written.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let address = address.unwrap_or_else(|| reachable(config.http.listen).to_string());
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(config.http.read_wait + SLACK))
            .http_status_as_error(false)
            // A proxy has no business between two processes of one machine.
            .proxy(None)
            .build();
        Client { agent: agent.into(), base: format!("http://{address}"), token: config.http.token.clone() }
    }

    /// Asks for a resource.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("{AUTH_SCHEME} {}", self.token.reveal()));
        }
        self.answer(request.call())
    }

    /// Sends records, one a line.
    pub fn post<T: DeserializeOwned>(&self, path: &str, lines: &[u8]) -> Result<T, Failure> {
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
    ) -> Result<T, Failure> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        if status == 200 {
            let strange = |error| Failure::failed(format!("{}: not an answer of Segno: {error}", self.base));
            return serde_json::from_slice(&body).map_err(strange);
        }
        Err(refused(status, &body).failure(&self.base))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::new(Code::Unreachable, format!("the daemon does not answer at {}: {error}", self.base))
            .next("it may be starting or stopping: look at its log, or try again")
    }
}

/// An address that can be asked, for one that is listened on.
pub fn reachable(listen: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), listen.port()),
        _ => listen,
    }
}

/// Reads a refusal's body.
pub(super) fn refused(status: u16, body: &[u8]) -> Refused {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    Refused { status, code: text("code"), message: text("message"), next: text("next") }
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
