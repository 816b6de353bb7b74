//! What can be chosen, and what a child is told.

use std::fmt;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::child::{Course, Logs};
use crate::filling::{Filling, Place};
use crate::measure::Measured;
use crate::workload::{Totals, Workload};

/// Measures Segno's live path beside hand-written loops on the same records.
#[derive(Parser, Debug)]
#[command(name = "throughput")]
pub struct Arguments {
    #[command(flatten)]
    pub workload: Workload,
    #[command(flatten)]
    pub course: Course,
    /// Only these stages, with commas between.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub stages: Vec<Stage>,
    /// Segno: shards of a partition in `shared` placement.
    #[arg(long, default_value_t = 2)]
    pub shards: usize,
    /// Segno: the most records of a batch.
    #[arg(long, default_value_t = 16_384)]
    pub batch_records: usize,
    /// Segno: records in flight, per partition.
    #[arg(long, default_value_t = 262_144)]
    pub credit_records: usize,
    /// Segno: bytes in flight, per partition.
    #[arg(long, default_value = "64MiB")]
    pub credit_bytes: ByteSize,
    /// Segno: memory for resident aggregates. The default holds 100,000 shards of their own.
    #[arg(long, default_value = "1GiB")]
    pub residency: ByteSize,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Stage {
    Consume,
    Decode,
    Fold,
    MultiGet,
    Cached,
    Shared,
    Own,
    Replay,
    EmbeddedRead,
    EmbeddedShared,
    EmbeddedOwn,
    EmbeddedReplay,
    Resident,
}

impl Stage {
    /// Its name in the table.
    pub fn label(self) -> &'static str {
        match self {
            Stage::Consume => "kafka: consume in batches",
            Stage::Decode => "  + typed decode",
            Stage::Fold => "  + fold in a HashMap",
            Stage::MultiGet => "hand-written: multi_get + write per 10,000, sorted",
            Stage::Cached => "hand-written: cached, sorted, ten batches a write",
            Stage::Shared => "Segno live, placement shared",
            Stage::Own => "Segno live, placement own",
            Stage::Replay => "Segno replay from genesis",
            Stage::EmbeddedRead => "embedded: read in batches",
            Stage::EmbeddedShared => "Segno live on embedded, shared",
            Stage::EmbeddedOwn => "Segno live on embedded, own",
            Stage::EmbeddedReplay => "Segno replay from genesis on embedded",
            Stage::Resident => "resident aggregates alone (memory)",
        }
    }

    pub fn log(self) -> Option<Logs> {
        match self {
            Stage::EmbeddedRead | Stage::EmbeddedShared | Stage::EmbeddedOwn | Stage::EmbeddedReplay => {
                Some(Logs::Embedded)
            }
            Stage::Resident => None,
            _ => Some(Logs::Kafka),
        }
    }

    pub fn segno(self) -> bool {
        matches!(self, Stage::Shared | Stage::Own | Stage::EmbeddedShared | Stage::EmbeddedOwn)
    }

    /// Compares what it saw with what is in the log, as far as a stage of its kind can see it.
    pub fn check(self, totals: &Totals, measured: &Measured) -> Result<(), String> {
        let seen = measured.totals;
        let want = match self {
            Stage::Consume | Stage::EmbeddedRead => Totals { records: totals.records, ..Totals::default() },
            Stage::Decode => Totals { records: totals.records, balance: totals.balance, ..Totals::default() },
            Stage::Resident => return Ok(()),
            _ => *totals,
        };
        if seen == want { Ok(()) } else { Err(format!("{seen:?}, it must be {want:?}")) }
    }

    pub fn own(self) -> bool {
        matches!(self, Stage::Own | Stage::EmbeddedOwn)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label().trim_start())
    }
}

impl Arguments {
    pub fn stages(&self) -> Vec<Stage> {
        let wanted = |stage: &Stage| {
            let log = stage.log().is_none_or(|log| self.course.log == Logs::Both || self.course.log == log);
            log && (self.stages.is_empty() || self.stages.contains(stage))
        };
        Stage::value_variants().iter().copied().filter(wanted).collect()
    }

    pub fn job(&self, stage: Stage, filling: &Filling, data: &Path) -> Job {
        Job {
            stage,
            place: filling.place(stage.log() == Some(Logs::Kafka)),
            data: data.to_owned(),
            keys: self.workload.keys,
            shards: self.shards,
            batch_records: self.batch_records,
            credit_records: self.credit_records,
            credit_bytes: self.credit_bytes.as_u64(),
            residency: self.residency.as_u64(),
        }
    }
}

/// What a child needs to run one stage.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub stage: Stage,
    pub place: Place,
    /// An empty place for the stage's own data.
    pub data: PathBuf,
    pub keys: u64,
    pub shards: usize,
    pub batch_records: usize,
    pub credit_records: usize,
    pub credit_bytes: u64,
    pub residency: u64,
}

impl Job {
    pub fn records(&self) -> u64 {
        self.place.records()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }
}
