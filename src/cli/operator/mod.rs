//! Whom an operator's command asks: the daemon that has the data directory, or, while there is none, a node in this very
//! process. Both answer the same requests with the same code.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::refused;
use super::exit::Failure;
use crate::app::Declared;
use crate::config::Loaded;
use crate::state::{self, Store};

mod daemon;
mod here;

use super::exit::Code;
use daemon::Daemon;
use here::Here;

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// A status and a body.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A way to the API. An error means that nobody answered.
pub trait Transport {
    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure>;
    /// Who is asked, for messages.
    fn whom(&self) -> String;
}

/// Somebody who can answer an operator.
pub struct Operator {
    transport: Box<dyn Transport>,
    /// The node lives and ends with this command.
    pub here: bool,
}

impl Operator {
    /// Finds the daemon, or starts a node here; says on standard error which.
    pub fn open(loaded: &Loaded, declared: Vec<Declared>) -> Result<Operator, Failure> {
        let data = &loaded.config.node.data_dir;
        let operator = match Store::read_only(data) {
            Ok(free) => {
                // Whoever takes it between this and the start here is named by the start.
                drop(free);
                Operator { transport: Box::new(Here::start(loaded, declared)?), here: true }
            }
            Err(state::Error::InUse { .. }) => {
                Operator { transport: Box::new(Daemon::of(&loaded.config)), here: false }
            }
            Err(state::Error::Missing { path }) => {
                let message = format!("there is nothing in {}: no daemon has run there", path.display());
                return Err(Failure::new(Code::NotFound, message)
                    .next("start one with `segno run`, or name another --data-dir"));
            }
            Err(error) => return Err(error.into()),
        };
        match operator.here {
            true => eprintln!(
                "segno: no daemon runs, so this command opens {} itself; nothing is consumed meanwhile",
                data.display()
            ),
            false => eprintln!("segno: asking {}", operator.transport.whom()),
        }
        Ok(operator)
    }

    /// One that a test has made.
    #[cfg(test)]
    pub fn with(transport: impl Transport + 'static, here: bool) -> Operator {
        Operator { transport: Box::new(transport), here }
    }

    /// The answer as it came, if it is one.
    pub fn raw(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>, Failure> {
        let Reply { status, body } = self.transport.request(method, path, body)?;
        match status {
            200..=299 => Ok(body),
            _ => Err(refused(status, &body).failure(&self.transport.whom())),
        }
    }

    /// The answer, read.
    pub fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> Result<T, Failure> {
        self.read(&self.raw(method, path, body)?)
    }

    /// Reads an answer of [`Operator::raw`].
    pub fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body)
            .map_err(|error| Failure::failed(format!("{}: not an answer of Segno: {error}", self.transport.whom())))
    }
}
