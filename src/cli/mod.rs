//! The command line: one file a command. `docs/cli.md` is its description.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::Declared;
use crate::config::{self, Loaded, Setting, Sources};

mod address;
mod append;
mod assemble;
mod client;
mod completions;
mod config_cmd;
mod diff;
mod exit;
mod explain;
mod figures;
mod get;
mod leave;
mod lines;
mod list;
mod offline;
mod operator;
mod out;
mod reader;
mod replay;
mod run;
mod snapshot;
mod status;
mod terminal;
mod verify;

pub use exit::{Code, Failure};

/// Folds Kafka topics into exact, queryable, crash-safe views.
#[derive(Debug, Parser)]
#[command(name = "segno", version, about, after_help = exit::CODES, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// The configuration file; without it ./segno.toml, else ~/.config/segno/config.toml, where there is one.
    #[arg(long, global = true, value_name = "PATH", env = "SEGNO_CONFIG")]
    config: Option<PathBuf>,
    /// Sets one key, for example --set flow.placement=own; may be given several times.
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE", value_parser = config::parse_setting)]
    set: Vec<Setting>,
    /// Where state lives: node.data-dir.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Use the Kafka at this address: node.log=kafka and kafka.brokers.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// error, warn, info, debug, trace: log.level.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Answer in JSON, one document a line.
    #[arg(long, global = true)]
    json: bool,
}

impl Global {
    fn load(&self) -> Result<Loaded, Failure> {
        let mut flags = Vec::new();
        let mut set = |flag: &str, key: &str, value: &str| {
            let path = key.split('.').map(str::to_owned).collect();
            flags.push(Setting { flag: flag.to_owned(), path, value: value.to_owned() });
        };
        if let Some(dir) = &self.data_dir {
            set("--data-dir", "node.data-dir", dir);
        }
        if let Some(brokers) = &self.brokers {
            set("--brokers", "node.log", "kafka");
            set("--brokers", "kafka.brokers", brokers);
        }
        if let Some(level) = &self.log_level {
            set("--log-level", "log.level", level);
        }
        flags.extend(self.set.iter().cloned());
        Ok(config::load(&Sources::of_process(self.config.clone(), flags))?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: consume, fold, serve, until SIGTERM or SIGINT
    Run,
    Append(append::Append),
    Get(get::Get),
    List(list::List),
    Status(status::StatusArgs),
    Replay(Box<replay::Replay>),
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    Verify(verify::Verify),
    Explain(explain::ExplainArgs),
    Diff(diff::Diff),
    #[command(subcommand)]
    Config(config_cmd::ConfigCommand),
    Completions(completions::Completions),
}

/// Runs the command line with the views that a program declares in Rust.
pub fn main(declared: Vec<Declared>, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else is wrong usage. A closed output ends it all the same.
            let _ = error.print();
            let code = if error.use_stderr() { Code::Usage } else { Code::Ok };
            return ExitCode::from(code as u8);
        }
    };
    leave::leave(match dispatch(cli, declared) {
        Ok(()) => Code::Ok,
        Err(failure) => failure.say(),
    })
}

fn dispatch(cli: Cli, declared: Vec<Declared>) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let json = global.json;
    match command {
        Command::Run => run::run(&global.load()?, declared),
        Command::Append(append) => append.run(&global.load()?, &declared, json),
        Command::Get(get) => get.run(&global.load()?, declared, json),
        Command::List(list) => list.run(&global.load()?, json),
        Command::Status(status) => status.run(&global.load()?, json),
        Command::Replay(replay) => replay.run(&global.load()?, declared, json),
        Command::Snapshot(snapshot) => snapshot.run(&global.load()?, declared, json),
        Command::Verify(verify) => verify.run(&global.load()?, declared, json),
        Command::Explain(explain) => explain.run(&global.load()?, declared, json),
        Command::Diff(diff) => diff.run(&global.load()?, declared, json),
        Command::Config(command) => command.run(|| global.load(), declared, json),
        Command::Completions(completions) => completions.run(),
    }
}
