//! What the comparison found, and how a job ended, in plain words.

use serde_json::Value;

use super::plan_table::{table, to_the_right};
use crate::actors::replay::words::{
    DefinitionChange, Difference, JobKind, JobStatus, Phase, Verification, ViewVerdict,
};
use crate::cli::exit::{Code, Failure};
use crate::cli::figures::{count, many, percent};
use crate::cli::operator::Operator;

/// Differences of a view that are shown to a person.
const SAMPLES: usize = 10;
/// Letters of a value that are shown to a person.
const LETTERS: usize = 160;

/// What became of a definition.
pub fn definition(change: DefinitionChange) -> &'static str {
    match change {
        DefinitionChange::Same => "same",
        DefinitionChange::Changed => "changed",
        DefinitionChange::Added => "new",
        DefinitionChange::Removed => "removed",
    }
}

/// The whole comparison.
pub fn show(verification: &Verification) -> String {
    let at: Vec<String> = verification.at.iter().map(ToString::to_string).collect();
    let mut text = format!("Compared with live, both at {}\n\n", at.join(" "));
    let mut table = table(&["view", "topic", "definition", "unchanged", "changed", "added", "removed", "digests"]);
    for view in &verification.views {
        table.add_row(vec![
            view.view.clone(),
            view.topic.clone(),
            definition(view.change).to_owned(),
            count(view.unchanged),
            count(view.changed),
            count(view.added),
            count(view.removed),
            if view.live_digest == view.new_digest { "equal" } else { "differ" }.to_owned(),
        ]);
    }
    to_the_right(&mut table, &[3, 4, 5, 6]);
    text.push_str(&table.trim_fmt());
    text.push_str(&format!("\n\n{}", sum(verification)));
    for view in verification.views.iter().filter(|view| !view.samples.is_empty()) {
        text.push_str(&samples(view));
    }
    text
}

fn sum(verification: &Verification) -> String {
    if verification.identical {
        return "Identical: every row of live came out the same, byte for byte.".to_owned();
    }
    let share = percent(verification.changed_share);
    let broken: Vec<&str> = broken(verification).map(|view| view.view.as_str()).collect();
    match broken[..] {
        [] => format!("{share} of the rows differ."),
        _ => format!(
            "{share} of the rows differ, also where the definition is that of live: {}. Folding the same events again \
             gave other rows: another history made them, or one of the two is wrong.",
            broken.join(", ")
        ),
    }
}

/// Views whose definition is that of live, and whose rows are not.
fn broken(verification: &Verification) -> impl Iterator<Item = &ViewVerdict> {
    let wrong = |view: &&ViewVerdict| view.change == DefinitionChange::Same && view.live_digest != view.new_digest;
    verification.views.iter().filter(wrong)
}

fn samples(view: &ViewVerdict) -> String {
    let differ = view.added + view.removed + view.changed;
    let mut text = format!("\n\n{}:", view.view);
    for difference in view.samples.iter().take(SAMPLES) {
        text.push_str(&lines(difference, "live", "new"));
    }
    let shown = view.samples.len().min(SAMPLES) as u64;
    if differ > shown {
        text.push_str(&format!("\n  and {}", many(differ - shown, "row more", "rows more")));
    }
    text
}

/// One row that differs, a line a field.
pub fn lines(difference: &Difference, before: &str, after: &str) -> String {
    let Difference { partition, key, live, new, fields } = difference;
    let mut text = format!("\n  {key} (partition {partition})");
    match (live, new) {
        (None, None) => text.push_str(": in neither"),
        (None, Some(new)) => text.push_str(&format!(": only in {after}\n    {}", short(new))),
        (Some(live), None) => text.push_str(&format!(": only in {before}\n    {}", short(live))),
        (Some(live), Some(new)) if fields.is_empty() => {
            text.push_str(&format!("\n    {before} {}\n    {after} {}", short(live), short(new)));
        }
        (Some(_), Some(_)) => {
            for field in fields {
                let value = |value: &Option<Value>| value.as_ref().map_or("(none)".to_owned(), short);
                text.push_str(&format!("\n    {}: {} -> {}", field.field, value(&field.live), value(&field.new)));
            }
        }
    }
    text
}

/// A value on one line, cut where it is long.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LETTERS) {
        None => text,
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// The end of a job: what is so now, and what can be done. An error has the exit code.
pub fn end(status: &JobStatus) -> Result<String, Failure> {
    let id = status.id;
    let reason = status.reason.as_deref().unwrap_or("no reason was given");
    match status.phase {
        Phase::Done => Ok(done(status)),
        Phase::Cancelled => {
            Err(Failure::failed(format!("job {id} was cancelled"))
                .next("live is as it was, and the space is free again"))
        }
        Phase::Failed => {
            let differs = status.verification.as_ref().is_some_and(|found| broken(found).next().is_some());
            let code = if differs { Code::Differs } else { Code::Failed };
            Err(Failure::new(code, format!("job {id} failed: {reason}")).next(format!(
                "live is as it was. What differs, if that is why: `segno replay diff {id}`; try again: \
                 `segno replay resume {id}`; give it up: `segno replay cancel {id}`"
            )))
        }
        phase => Err(Failure::failed(format!("job {id} is {phase}"))),
    }
}

fn done(status: &JobStatus) -> String {
    let JobStatus { id, .. } = status;
    let mut generations = Vec::new();
    for topic in &status.topics {
        for partition in &topic.partitions {
            generations.push(format!("{}/{} generation {}", topic.topic, partition.partition, partition.generation));
        }
    }
    let what = match (status.kind, status.of) {
        (JobKind::Rollback, Some(of)) => {
            format!("Job {id} is done: what job {of} had replaced is live again, caught up.")
        }
        (JobKind::Rollback, None) => format!("Job {id} is done: the previous generations are live again, caught up."),
        _ => format!("Job {id} is done: the new generations are live. All partitions were switched at once."),
    };
    format!(
        "{what}\n  {}\nWhat was live before is kept until `replay.keep` runs out. Undo: `segno replay rollback {id}`",
        generations.join("\n  ")
    )
}

/// The job waits for a yes.
pub fn needs_yes(status: &JobStatus, operator: &Operator) -> Failure {
    let id = status.id;
    let message = format!("job {id} is verified and waits for a yes; live is as it was");
    let kept =
        if operator.here { "it goes on from here when it is asked again" } else { "it keeps up with live meanwhile" };
    Failure::new(Code::NeedsYes, message).next(format!(
        "{kept}. Switch: `segno replay approve {id}`; look again: `segno replay diff {id}`; give it up: `segno replay \
         cancel {id}`"
    ))
}
