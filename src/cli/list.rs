//! `segno list VIEW`.

use clap::Args;
use serde_json::Value;

use super::reader::{BoundArgs, Reader};
use super::{Code, Failure, out};
use crate::actors::reads::LIST_MAX;
use crate::api::percent;
use crate::config::Loaded;

/// List rows of a view
#[derive(Debug, Args)]
pub struct List {
    /// The view's name.
    view: String,
    /// Only rows whose keys begin so.
    #[arg(long, default_value = "")]
    prefix: String,
    /// The prefix is percent-encoded: for keys that are not text.
    #[arg(long)]
    encoded: bool,
    /// How many rows.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All rows.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Where the previous list ended.
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    bound: BoundArgs,
}

impl List {
    /// Rows go out page by page, so that a list of any length needs the memory of a page.
    pub fn run(self, loaded: &Loaded, json: bool) -> Result<(), Failure> {
        let prefix = match self.encoded {
            false => self.prefix.into_bytes(),
            true => percent::decode(&self.prefix).ok_or_else(|| {
                Failure::new(Code::Usage, format!("--prefix {:?} is not percent-encoded", self.prefix))
            })?,
        };
        let reader = Reader::open(&loaded.config)?;
        let mut left = if self.all { usize::MAX } else { self.limit as usize };
        let mut cursor = self.cursor;
        let mut rows = 0;
        loop {
            let page = reader.list(&self.view, &prefix, cursor.as_deref(), left.clamp(1, LIST_MAX), &self.bound)?;
            rows += page.rows.len();
            left = left.saturating_sub(page.rows.len());
            cursor = page.next.clone();
            let more = cursor.is_some() && left > 0;
            if json {
                out::json(&page)?;
            } else {
                for row in &page.rows {
                    let key = match &row.key {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    out::line(format_args!("{key}\t{}", row.value.get()))?;
                }
            }
            if more {
                continue;
            }
            if !json {
                let next = cursor.map_or(String::new(), |cursor| format!("; more with --cursor {cursor}"));
                eprintln!("{rows} rows; position {}{next}", page.position);
            }
            return Ok(());
        }
    }
}
