//! `segno config check|print|example`.

use clap::Subcommand;
use serde_json::json;

use super::{Failure, assemble, out};
use crate::app::Declared;
use crate::config::{self, Loaded};

/// Look at the configuration
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read all layers, compile all views, and say everything that is wrong.
    Check,
    /// Show what is in force and where it comes from. Secrets are not shown.
    Print,
    /// Print an example to start from: segno config example > segno.toml
    Example,
}

impl ConfigCommand {
    pub fn run(
        self,
        load: impl FnOnce() -> Result<Loaded, Failure>,
        declared: Vec<Declared>,
        json: bool,
    ) -> Result<(), Failure> {
        match self {
            ConfigCommand::Check => check(&load()?, declared, json),
            ConfigCommand::Print if json => out::json(&load()?.print().json()),
            ConfigCommand::Print => out::line(load()?.print().to_string().trim_end()),
            ConfigCommand::Example => out::line(config::EXAMPLE.trim_end()),
        }
    }
}

fn check(loaded: &Loaded, declared: Vec<Declared>, json: bool) -> Result<(), Failure> {
    let topics = assemble::topics(&loaded.config, declared)?;
    let views: usize = topics.iter().map(|topic| topic.views.len()).sum();
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    if json {
        return out::json(&json!({ "ok": true, "file": file, "topics": topics.len(), "views": views }));
    }
    let file = file.unwrap_or_else(|| "the built-in defaults".to_owned());
    out::line(format_args!("{file}: ok, {} topics, {views} views", topics.len()))
}
