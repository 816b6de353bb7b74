//! What can be chosen, and what a child is told and answers.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use segno::streams::embedded;
use serde::{Deserialize, Serialize};

use crate::child::{Course, Logs};
use crate::filling::Place;
use crate::workload::Workload;

/// Measures what live feels of a replay, and how long a replay takes from a snapshot.
#[derive(Parser, Debug)]
#[command(name = "online")]
pub struct Arguments {
    #[command(flatten)]
    pub workload: Workload,
    #[command(flatten)]
    pub course: Course,
    /// Appends that are followed to the answer, in each measurement of live.
    #[arg(long, default_value_t = 5_000)]
    pub probes: usize,
    /// Milliseconds from one of them to the next.
    #[arg(long, default_value_t = 4)]
    pub pace: u64,
    /// Switches that are looked at, in each run.
    #[arg(long, default_value_t = 10)]
    pub switches: usize,
    /// The embedded log: when an append counts as durable. `always` is the daemon's default.
    #[arg(long, value_enum, default_value_t = Fsync::Always)]
    pub fsync: Fsync,
    /// Only these tables, with commas between.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub tables: Vec<Table>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Fsync {
    Always,
    Interval,
    Never,
}

impl From<Fsync> for embedded::Fsync {
    fn from(fsync: Fsync) -> Self {
        match fsync {
            Fsync::Always => embedded::Fsync::Always,
            Fsync::Interval => embedded::Fsync::Interval(Duration::from_millis(100)),
            Fsync::Never => embedded::Fsync::Never,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Table {
    Live,
    After,
}

impl Arguments {
    pub fn logs(&self) -> Vec<Logs> {
        match self.course.log {
            Logs::Both => vec![Logs::Kafka, Logs::Embedded],
            one => vec![one],
        }
    }

    pub fn wants(&self, table: Table) -> bool {
        self.tables.is_empty() || self.tables.contains(&table)
    }
}

/// What a child does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Brings live to the end of the log, and takes a snapshot there.
    Settle { snapshot: bool },
    /// One replay from a snapshot; `None`: from the beginning.
    After(Option<Base>),
    /// Follows appends to their answers, while replays from the beginning run one after the other, or none.
    Live { replaying: bool },
    /// Looks at so many switches while records are appended all the time.
    Switches(usize),
}

/// A snapshot, and the token of its positions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Base {
    pub snapshot: u64,
    pub token: String,
    /// Records below it.
    pub records: u64,
}

/// What a child needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub task: Task,
    pub place: Place,
    pub workload: Workload,
    pub fsync: Fsync,
    pub probes: usize,
    pub pace: u64,
    /// The store, which stays from child to child.
    pub data: PathBuf,
    /// What is in every account that the log has made, by number; brought up to date by the child.
    pub accounts: PathBuf,
}

/// What a child answers. Its rows were all right, or it would not answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Records of each partition by now.
    pub ends: Vec<u64>,
    /// The most memory that the process had.
    pub peak: u64,
    pub base: Option<Base>,
    /// How long each replay took, in seconds.
    pub replays: Vec<f64>,
    /// From an append to the answer that has it, and from the append to its own acknowledgement, in microseconds.
    pub queryable: Vec<u64>,
    pub appended: Vec<u64>,
    /// How long live stood still at each switch, and between two usual positions, in microseconds.
    pub still: Vec<u64>,
    pub usual: Vec<u64>,
}
