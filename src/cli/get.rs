//! `segno get VIEW KEY`.

use clap::Args;

use super::figures::many;
use super::operator::{Method, Operator};
use super::reader::{BoundArgs, Reader};
use super::{Code, Failure, out};
use crate::api::body::RowAnswer;
use crate::api::percent;
use crate::app::Declared;
use crate::config::Loaded;

/// Show one row of a view
///
/// Reads that row. With --at it reads the log of the key's partition, from the nearest snapshot before that time, or from
/// its beginning, and folds this one key; the last line says how many records that took.
#[derive(Debug, Args)]
pub struct Get {
    /// The view's name.
    view: String,
    /// The row's key.
    key: String,
    /// The key is percent-encoded: for keys that are not text.
    #[arg(long)]
    encoded: bool,
    /// The row as of this time or position, as --from of a replay.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["at_least", "wait", "job"])]
    at: Option<String>,
    /// The row as a replay has it: of the generation that the job builds, or, after its cut-over, of the previous one.
    /// Without a number of the newest job.
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "latest", conflicts_with_all = ["at_least", "wait"])]
    job: Option<String>,
    #[command(flatten)]
    bound: BoundArgs,
}

/// The bytes of a key.
pub fn key_of(key: &str, encoded: bool) -> Result<Vec<u8>, Failure> {
    match encoded {
        false => Ok(key.as_bytes().to_vec()),
        true => {
            percent::decode(key).ok_or_else(|| Failure::new(Code::Usage, format!("{key:?} is not percent-encoded")))
        }
    }
}

impl Get {
    pub fn run(self, loaded: &Loaded, declared: Vec<Declared>, json: bool) -> Result<(), Failure> {
        let key = key_of(&self.key, self.encoded)?;
        let answer = match (&self.at, &self.job) {
            (None, None) => Reader::open(&loaded.config)?.get(&self.view, &key, &self.bound)?,
            (at, job) => {
                let view = percent::encode(self.view.as_bytes());
                let (name, value) = at.as_ref().map_or(("job", job), |_| ("at", at));
                let value = percent::encode(value.as_deref().unwrap_or_default().as_bytes());
                let path = format!("/v1/views/{view}/{}?{name}={value}", percent::encode(&key));
                Operator::open(loaded, declared)?.ask::<RowAnswer>(Method::Get, &path, None)?
            }
        };
        if json {
            return out::json(&answer);
        }
        out::line(answer.value.get())?;
        let time = answer.time.unwrap_or_else(|| answer.timestamp.to_string());
        let cost = answer.cost.map_or(String::new(), |cost| {
            format!("; read {} of the log, from {}", many(cost.records, "record", "records"), cost.base)
        });
        eprintln!(
            "partition {}, offset {}, {time}; position {}{cost}",
            answer.partition, answer.offset, answer.position
        );
        Ok(())
    }
}
