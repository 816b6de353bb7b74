//! What can be chosen, and what a child is told.

use std::fmt;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

/// Measures Segno's live path beside hand-written loops on the same records.
#[derive(Parser, Debug)]
#[command(name = "throughput")]
pub struct Arguments {
    /// Records in the topic.
    #[arg(long, default_value_t = 3_000_000)]
    pub records: u64,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Bytes of a record's value, roughly; at least 230.
    #[arg(long, default_value_t = 280)]
    pub value_size: usize,
    /// How the keys are drawn.
    #[arg(long, value_enum, default_value_t = Skew::Uniform)]
    pub skew: Skew,
    #[arg(long, default_value_t = 4)]
    pub partitions: u32,
    /// Which logs to measure on.
    #[arg(long, value_enum, default_value_t = Logs::Both)]
    pub log: Logs,
    /// How often each stage runs; the table shows medians.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
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
    /// Where data goes for the time of the benchmark (default: the system's temporary directory).
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// `cargo bench` says it.
    #[arg(long, hide = true)]
    pub bench: bool,
    /// One stage, told by the leading process.
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Skew {
    Uniform,
    /// Key number k is drawn in proportion to 1/k.
    Zipf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Logs {
    Kafka,
    Embedded,
    Both,
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
            let log = stage.log().is_none_or(|log| self.log == Logs::Both || self.log == log);
            log && (self.stages.is_empty() || self.stages.contains(stage))
        };
        Stage::value_variants().iter().copied().filter(wanted).collect()
    }

    pub fn scratch(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// What a child needs to run one stage.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub stage: Stage,
    pub brokers: Option<String>,
    pub topic: String,
    /// The embedded log's directory.
    pub embedded: PathBuf,
    /// An empty place for the stage's own data.
    pub data: PathBuf,
    pub keys: u64,
    /// Records of each partition.
    pub ends: Vec<u64>,
    pub shards: usize,
    pub batch_records: usize,
    pub credit_records: usize,
    pub credit_bytes: u64,
    pub residency: u64,
}

impl Job {
    pub fn records(&self) -> u64 {
        self.ends.iter().sum()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }
}
