//! What the control store keeps of a job: enough to go on with it after a crash, and to tell of it when it is over.

use serde::{Deserialize, Serialize};

use super::words::{Base, JobKind, PartitionReplay, Phase, ReplayPlan, Verification};
use crate::position::{PartitionId, Position, Timestamp, TopicPartition};
use crate::state::ViewIdent;

/// The format of the record; a newer one is not read.
const FORMAT: u32 = 1;

/// A job as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub id: u64,
    pub kind: JobKind,
    /// The job that a rollback undoes.
    pub of: Option<u64>,
    pub phase: Phase,
    pub reason: Option<String>,
    pub plan: ReplayPlan,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    pub approved: bool,
    pub verification: Option<Verification>,
    /// Records a second that the rebuild made until it had caught up.
    pub rate: Option<f64>,
    /// The definitions that the new generations are made with, and those that live had, a topic each.
    pub topics: Vec<TopicRecord>,
    pub shadows: Vec<ShadowRecord>,
}

/// The definitions of one topic, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    pub topic: String,
    pub new: Vec<ViewText>,
    pub live: Vec<ViewText>,
}

/// One definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewText {
    pub name: String,
    pub version: u32,
    pub text: String,
}

impl From<&ViewIdent> for ViewText {
    fn from(ident: &ViewIdent) -> Self {
        ViewText { name: ident.name.clone(), version: ident.version, text: ident.text.clone() }
    }
}

impl From<&ViewText> for ViewIdent {
    fn from(view: &ViewText) -> Self {
        ViewIdent { name: view.name.clone(), version: view.version, text: view.text.clone() }
    }
}

/// The new generation of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowRecord {
    pub topic: String,
    pub partition: PartitionId,
    /// `None` until it is made.
    pub generation: Option<u64>,
    /// Where it begins to read.
    pub from: Position,
    /// Live's position when the job began.
    pub target: Position,
    /// Live's generation when the job began.
    pub live: u64,
}

impl ShadowRecord {
    pub fn at(&self) -> TopicPartition {
        TopicPartition::new(&*self.topic, self.partition.0)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    job: JobRecord,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl JobRecord {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored { format: FORMAT, job: self.clone() };
        // A record is plain data with text keys: nothing in it can fail to be written.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads the stored form; the error says why it cannot be read.
    pub fn decode(stored: &[u8]) -> Result<JobRecord, String> {
        let Format { format } = serde_json::from_slice(stored).map_err(|error| error.to_string())?;
        if format > FORMAT {
            return Err(format!("it is of format {format}, and this program knows {FORMAT}"));
        }
        let stored: Stored = serde_json::from_slice(stored).map_err(|error| error.to_string())?;
        Ok(stored.job)
    }

    /// Whether a record that cannot be read says all the same that the job is over, and needs nothing any more.
    pub fn is_over(stored: &[u8]) -> bool {
        let record: Result<serde_json::Value, _> = serde_json::from_slice(stored);
        let phase = record.ok().and_then(|record| Phase::deserialize(&record["job"]["phase"]).ok());
        phase.is_some_and(Phase::ended)
    }

    pub fn topic(&self, topic: &str) -> Option<&TopicRecord> {
        self.topics.iter().find(|record| record.topic == topic)
    }

    /// What was planned for a generation.
    pub fn planned(&self, shadow: &ShadowRecord) -> Option<&PartitionReplay> {
        let topic = self.plan.topics.iter().find(|topic| topic.topic == shadow.topic)?;
        topic.partitions.iter().find(|partition| partition.partition == shadow.partition)
    }
}

/// The generations that one was made of: the generation of its base, that of the base's own base, and so on, each with
/// the position of the base. Up to there the two have one past.
pub fn ancestors(jobs: &[JobRecord], at: &TopicPartition, number: u64) -> Vec<(u64, Position)> {
    let base = |number: u64| {
        let made = |job: &&JobRecord| job.kind != JobKind::Rollback;
        let mut shadows = jobs.iter().filter(made).flat_map(|job| job.shadows.iter().map(move |shadow| (job, shadow)));
        let (job, shadow) = shadows.find(|(_, shadow)| shadow.generation == Some(number) && shadow.at() == *at)?;
        let planned = job.planned(shadow)?;
        match planned.base {
            // Whatever a record says: a base is older than what is made of it.
            Base::Snapshot { position, .. } => Some((planned.base_generation.filter(|of| *of < number)?, position)),
            Base::Genesis | Base::Empty | Base::Previous { .. } => None,
        }
    };
    std::iter::successors(base(number), |(of, _)| base(*of)).collect()
}
