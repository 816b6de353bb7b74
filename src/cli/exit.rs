//! How a command ends: a code that scripts can rely on, and one clear message.

use std::fmt;

use crate::actors::handle::ReadError;
use crate::actors::plan::StartError;
use crate::config::Problems;
use crate::{state, streams};

/// The codes, as `--help` and `docs/cli.md` list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Behind = 4,
    Unreachable = 5,
    /// Another process has the data directory.
    InUse = 6,
    /// A correct answer cannot be had, and nothing was changed.
    Refused = 7,
    /// A check found a difference, and nothing was switched.
    Differs = 8,
    /// Somebody has to say yes, and nobody did.
    NeedsYes = 9,
    /// Another job is not over, or the job is not where the action could be taken.
    NotNow = 10,
    /// `EX_CONFIG` of sysexits.h.
    Config = 78,
    /// Ended by Ctrl-C, as shells count it. A job that was watched goes on.
    Interrupted = 130,
}

/// What `--help` says of them.
pub const CODES: &str = "\
Exit codes:
  0   done
  1   failed
  2   wrong usage
  3   not found: no such view, key or topic
  4   behind: the position asked for was not reached in time
  5   unreachable: the daemon or the brokers do not answer
  6   in use: another process has the data directory
  7   refused: a correct answer cannot be had; nothing was changed
  8   differs: a verification or check found a difference; nothing was switched
  9   needs a yes: the job waits for it, and nothing was switched
  10  not now: another job is not over, or the job is not where that could be done
  78  the configuration is wrong
  130 ended by Ctrl-C; a job that was watched goes on";

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
    pub next: Option<String>,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), next: None }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Failure::new(Code::Failed, message)
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Says it on standard error.
    pub fn say(self) -> Code {
        if self.code != Code::Ok {
            eprintln!("segno: {self}");
        }
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next {
            Some(next) => write!(f, "; {next}"),
            None => Ok(()),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Failure::new(Code::Config, problems.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::NoSuchView { .. } => Code::NotFound,
            ReadError::Behind { .. } => Code::Behind,
            ReadError::BadCursor(_) | ReadError::OtherTopic { .. } | ReadError::NoSuchPartition { .. } => Code::Usage,
            ReadError::TooLarge { .. } | ReadError::Store(_) | ReadError::Stopping => Code::Failed,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<streams::Error> for Failure {
    fn from(error: streams::Error) -> Self {
        let (code, next) = match &error {
            streams::Error::TopicMissing { log: "kafka", topic } => {
                (Code::NotFound, Some(format!("create it: kafka-topics.sh --create --topic {topic}")))
            }
            streams::Error::TopicMissing { .. } => {
                (Code::NotFound, Some("declare it under [[topics]] in the configuration".to_owned()))
            }
            streams::Error::PartitionMissing { .. } => (Code::NotFound, None),
            streams::Error::Unreachable { .. } => {
                (Code::Unreachable, Some("check kafka.brokers, and that the brokers are up".to_owned()))
            }
            streams::Error::Authentication { .. } | streams::Error::Property { .. } => {
                (Code::Config, Some("check [kafka.properties]".to_owned()))
            }
            streams::Error::InUse { .. } => {
                (Code::InUse, Some("stop that process, or use another node.data-dir".to_owned()))
            }
            _ => (Code::Failed, None),
        };
        Failure { code, message: error.to_string(), next }
    }
}

impl From<state::Error> for Failure {
    fn from(error: state::Error) -> Self {
        // The store's messages end with what to do.
        let code = if matches!(error, state::Error::InUse { .. }) { Code::InUse } else { Code::Failed };
        Failure::new(code, error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Log { topic, source } => {
                let failure = Failure::from(source);
                Failure { message: format!("topic `{topic}`: {}", failure.message), ..failure }
            }
            error @ StartError::TooManyViews { .. } => Failure::new(Code::Config, error.to_string()),
            other => Failure::failed(other.to_string()),
        }
    }
}
