//! `segno get VIEW KEY`.

use clap::Args;

use super::reader::{BoundArgs, Reader};
use super::{Code, Failure, out};
use crate::api::percent;
use crate::config::Loaded;

/// Show one row of a view
#[derive(Debug, Args)]
pub struct Get {
    /// The view's name.
    view: String,
    /// The row's key.
    key: String,
    /// The key is percent-encoded: for keys that are not text.
    #[arg(long)]
    encoded: bool,
    #[command(flatten)]
    bound: BoundArgs,
}

impl Get {
    pub fn run(self, loaded: &Loaded, json: bool) -> Result<(), Failure> {
        let key = match self.encoded {
            false => self.key.into_bytes(),
            true => percent::decode(&self.key)
                .ok_or_else(|| Failure::new(Code::Usage, format!("{:?} is not percent-encoded", self.key)))?,
        };
        let answer = Reader::open(&loaded.config)?.get(&self.view, &key, &self.bound)?;
        if json {
            return out::json(&answer);
        }
        out::line(answer.value.get())?;
        let time = answer.time.unwrap_or_else(|| answer.timestamp.to_string());
        eprintln!("partition {}, offset {}, {time}; position {}", answer.partition, answer.offset, answer.position);
        Ok(())
    }
}
