//! One job, or all of them, as text.

use super::plan_table::{table, to_the_right};
use super::progress;
use crate::actors::replay::words::{JobKind, JobStatus, Phase};
use crate::cli::figures::count;

fn kind(status: &JobStatus) -> String {
    match (status.kind, status.of) {
        (JobKind::Replay, _) => "replay".to_owned(),
        (JobKind::Upgrade, _) => "upgrade".to_owned(),
        (JobKind::Rollback, Some(of)) => format!("rollback of {of}"),
        (JobKind::Rollback, None) => "rollback".to_owned(),
    }
}

fn topics(status: &JobStatus) -> String {
    let names: Vec<&str> = status.plan.topics.iter().map(|topic| topic.topic.as_str()).collect();
    names.join(", ")
}

/// A line a job.
pub fn list(jobs: &[JobStatus]) -> String {
    if jobs.is_empty() {
        return "no job yet; `segno replay --from TIME --plan` shows what one would do".to_owned();
    }
    let mut table = table(&["job", "kind", "phase", "from", "done", "created", "ended", "topics"]);
    for job in jobs {
        table.add_row(vec![
            job.id.to_string(),
            kind(job),
            job.phase.to_string(),
            job.plan.request.from.clone(),
            progress::share(job),
            job.created.to_string(),
            job.ended.map_or("-".to_owned(), |time| time.to_string()),
            topics(job),
        ]);
    }
    to_the_right(&mut table, &[0, 4]);
    table.trim_fmt()
}

/// All about one.
pub fn one(job: &JobStatus) -> String {
    let mut text = format!("Job {}, {} of {}: {}\n", job.id, kind(job), topics(job), progress::phase(job.phase));
    if let Some(reason) = &job.reason {
        text.push_str(&format!("  {reason}\n"));
    }
    let ended = job.ended.map_or(String::new(), |time| format!(", ended {time}"));
    text.push_str(&format!("  from {}, created {}{ended}\n", job.plan.request.from, job.created));
    if !job.phase.ended() {
        text.push_str(&format!("  {}, {}\n", progress::share(job), progress::line(job)));
    }
    let mut table = table(&["topic", "partition", "generation", "from", "folded", "durable", "target"]);
    for topic in &job.topics {
        for partition in &topic.partitions {
            table.add_row(vec![
                topic.topic.clone(),
                partition.partition.to_string(),
                partition.generation.to_string(),
                count(partition.from.0),
                count(partition.position.0),
                count(partition.durable.0),
                count(partition.target.0),
            ]);
        }
    }
    to_the_right(&mut table, &[1, 2, 3, 4, 5, 6]);
    text.push_str(&format!("\n{}\n\n{}", table.trim_fmt(), next(job)));
    text
}

/// What can be done now.
fn next(job: &JobStatus) -> String {
    let id = job.id;
    match job.phase {
        Phase::Building | Phase::Verifying | Phase::CuttingOver => {
            format!("Watch it: `segno replay watch {id}`; give it up, live stays as it is: `segno replay cancel {id}`")
        }
        Phase::Waiting if job.approved => format!("The yes is given. Watch it: `segno replay watch {id}`"),
        Phase::Waiting => format!(
            "Look at what differs: `segno replay diff {id}`; switch: `segno replay approve {id}`; give it up: `segno \
             replay cancel {id}`"
        ),
        Phase::Failed => {
            format!("Try again: `segno replay resume {id}`; give it up: `segno replay cancel {id}`")
        }
        Phase::Done => format!("Undo, while the previous generations are kept: `segno replay rollback {id}`"),
        Phase::Cancelled => "Nothing of it is left.".to_owned(),
    }
}
