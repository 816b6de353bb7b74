//! Where reads go: to the daemon that has the data directory, or, when there is none, to the store itself.

use super::client::Client;
use super::exit::{Code, Failure};
use super::offline::Offline;
use crate::api::body::{PageAnswer, RowAnswer};
use crate::api::percent;
use crate::config::Config;
use crate::position::PositionVector;
use crate::state::{self, Store};

/// Somebody who can answer.
pub enum Reader {
    Daemon(Client),
    Store(Box<Offline>),
}

/// A demand on an answer, as the flags give it.
#[derive(Debug, clap::Args)]
pub struct BoundArgs {
    /// Only an answer that has reached this position token, as `segno append` prints it.
    #[arg(long, value_name = "TOKEN")]
    at_least: Option<PositionVector>,
    /// How long to wait for it, for example 2s; http.read-wait at most, which is also the default.
    #[arg(long, value_name = "DURATION", requires = "at_least")]
    wait: Option<String>,
}

impl Reader {
    pub fn open(config: &Config) -> Result<Reader, Failure> {
        match Store::read_only(&config.node.data_dir) {
            Ok(store) => Ok(Reader::Store(Box::new(Offline::open(store)?))),
            Err(state::Error::InUse { .. }) => Ok(Reader::Daemon(Client::of(config)?)),
            Err(state::Error::Missing { path }) => {
                let message = format!("there is nothing in {}: no daemon has run there", path.display());
                Err(Failure::new(Code::NotFound, message)
                    .next("start one with `segno run`, or name another --data-dir"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One row; a row that is not there is [`Code::NotFound`].
    pub fn get(&self, view: &str, key: &[u8], bound: &BoundArgs) -> Result<RowAnswer, Failure> {
        match self {
            Reader::Daemon(client) => {
                let view = percent::encode(view.as_bytes());
                client.get(&format!("/v1/views/{view}/{}?{}", percent::encode(key), bound.query()))
            }
            Reader::Store(offline) => {
                let reading = offline.get(view, key, bound.at_least.as_ref())?;
                match reading.value {
                    Some(row) => Ok(RowAnswer::of(view.to_owned(), row, reading.position)),
                    None => {
                        let key = crate::intake::show_bytes(key);
                        let message = format!("view `{view}` has no row for key {key} at {}", reading.position);
                        Err(Failure::new(Code::NotFound, message))
                    }
                }
            }
        }
    }

    /// A page of rows.
    pub fn list(
        &self,
        view: &str,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        bound: &BoundArgs,
    ) -> Result<PageAnswer, Failure> {
        match self {
            Reader::Daemon(client) => {
                let (view, prefix) = (percent::encode(view.as_bytes()), percent::encode(prefix));
                let cursor = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
                client.get(&format!("/v1/views/{view}?prefix={prefix}&limit={limit}{cursor}&{}", bound.query()))
            }
            Reader::Store(offline) => {
                let reading = offline.list(view, prefix, cursor, limit, bound.at_least.as_ref())?;
                Ok(PageAnswer::of(view.to_owned(), reading))
            }
        }
    }
}

impl BoundArgs {
    fn query(&self) -> String {
        let encoded = |text: &str| percent::encode(text.as_bytes());
        let at_least = self.at_least.as_ref().map(|token| format!("at-least={}", encoded(&token.to_string())));
        let wait = self.wait.as_ref().map(|wait| format!("wait={}", encoded(wait)));
        at_least.into_iter().chain(wait).collect::<Vec<_>>().join("&")
    }
}
