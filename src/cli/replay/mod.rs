//! `segno replay`: every view built again from any time, and what becomes of such a job.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::exit::{Code, Failure};
use super::operator::{Method, Operator};
use super::terminal::{Interrupt, somebody_is_there};
use super::{figures, out};
use crate::actors::replay::words::{BaseChoice, JobStatus, ReplayPlan, ReplayRequest};
use crate::app::Declared;
use crate::config::Loaded;

mod jobs;
pub mod plan_table;
mod progress;
#[cfg(test)]
mod tests;
pub mod verdict;
mod watch;

/// Build all views again from a time, compare them with live, and switch
///
/// Reads the base (a snapshot, by default) and then the log from the cut on, into generations of their own, beside live,
/// which keeps consuming and serving. They are compared with live row by row before anything is switched. It costs disk
/// for a second copy of the rows, and reading what --plan says; live's lag is kept within `replay.live-lag`.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true)]
pub struct Replay {
    #[command(flatten)]
    start: Start,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Default, PartialEq, Args)]
struct Start {
    /// From when: RFC 3339, an epoch with its unit (1735689600s, 1735689600000ms), a time ago (-PT2H), or a position
    /// token (@bank.accounts@0:17,1:4). Nothing is filtered by time: it is turned into one position a partition.
    #[arg(long, value_name = "TIME", required = true, allow_hyphen_values = true)]
    from: Option<String>,
    /// Only this topic; may be given several times. Without it all of the node.
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// What stands before the cut. auto: the newest compatible snapshot of live's own past, else the beginning of the
    /// log; genesis: the beginning of the log; empty: nothing, as if history began at the cut; NUMBER: that snapshot.
    /// [default: auto]
    #[arg(long, value_name = "auto|genesis|empty|NUMBER", value_parser = base)]
    base: Option<BaseChoice>,
    /// Only show what it would do: the cut, the base, what is read, time and disk. Changes nothing.
    #[arg(long)]
    plan: bool,
    /// At most so many records a second, over all partitions. Without it, as fast as live allows.
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Start it and end; the daemon goes on.
    #[arg(long, conflicts_with = "plan")]
    detach: bool,
    /// Ask nothing, and cut over however much has changed. Rows that differ under the same definition still stop it.
    #[arg(long)]
    yes: bool,
    /// Cut over without asking if at most this share of the rows is added, removed or changed.
    #[arg(long, value_name = "SHARE", value_parser = figures::share)]
    max_changed: Option<f64>,
    /// Replay this topic although its log is compacted: what compaction took is missing. May be given several times.
    #[arg(long, value_name = "TOPIC")]
    compacted: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show one job: where it is, and what can be done
    Status(Which),
    /// Show all jobs that are known, the newest first
    List,
    /// Stay with a job to its end; Ctrl-C leaves it alone
    Watch(Which),
    /// End a job, leave live as it is, and free the space
    Cancel(Which),
    /// Go on with a job that failed, from what is durable, and watch it
    Resume(Onward),
    /// Say yes to the cut-over of a job that waits, and watch it
    Approve(Onward),
    /// Bring back what was live before a job, caught up, and watch it
    ///
    /// The previous generations are still there until `replay.keep` runs out. They read what came in since, beside live,
    /// and are switched to when they are where live is. What they replace is kept in turn.
    Rollback(Rollback),
    /// Show what a job's comparison with live found. Reads nothing: it was stored
    Diff(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The job; without it the newest.
    id: Option<u64>,
}

#[derive(Debug, Args)]
struct Onward {
    #[command(flatten)]
    which: Which,
    /// Do not watch it: the daemon goes on.
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
struct Rollback {
    /// The job to undo; without it the newest that cut over.
    id: Option<u64>,
    /// Do not watch it: the daemon goes on.
    #[arg(long)]
    detach: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

fn base(text: &str) -> Result<BaseChoice, String> {
    match text {
        "auto" => Ok(BaseChoice::Auto),
        "genesis" => Ok(BaseChoice::Genesis),
        "empty" => Ok(BaseChoice::Empty),
        number => match number.parse() {
            Ok(number) => Ok(BaseChoice::Snapshot(number)),
            Err(_) => Err("expected auto, genesis, empty, or a number of `segno snapshot list`".to_owned()),
        },
    }
}

impl Replay {
    pub fn run(self, loaded: &Loaded, declared: Vec<Declared>, json: bool) -> Result<(), Failure> {
        let Replay { start, action } = self;
        if action.is_some() && start != Start::default() {
            let message = "the flags of a new replay do not go with status, list, watch and the like";
            return Err(Failure::new(Code::Usage, message).next("see `segno replay --help`"));
        }
        let operator = &Operator::open(loaded, declared)?;
        match action {
            None => start.run(operator, json),
            Some(Action::Status(which)) => show(operator, &which.path(""), json, |job| Ok(jobs::one(job))),
            Some(Action::List) => list(operator, json),
            Some(Action::Watch(which)) => {
                let job: JobStatus = operator.ask(Method::Get, &which.path(""), None)?;
                drive_here(operator, &job)?;
                watch::attend(operator, job.id, json, &Interrupt::listen()?)
            }
            Some(Action::Cancel(which)) => cancel(operator, &which, json),
            Some(Action::Resume(Onward { which, detach })) => onward(operator, &which.path("/resume"), detach, json),
            Some(Action::Approve(Onward { which, detach })) => {
                if operator.here {
                    // Said first, and then driven to it.
                    drive_here(operator, &operator.ask(Method::Post, &which.path("/approve"), None)?)?;
                }
                onward(operator, &which.path("/approve"), detach, json)
            }
            Some(Action::Rollback(rollback)) => rollback.run(operator, json),
            Some(Action::Diff(which)) => diff(operator, &which, json),
        }
    }
}

impl Which {
    fn path(&self, action: &str) -> String {
        let id = self.id.map_or_else(|| "latest".to_owned(), |id| id.to_string());
        format!("/v1/replays/{id}{action}")
    }
}

impl Start {
    fn request(&self) -> ReplayRequest {
        ReplayRequest {
            from: self.from.clone().unwrap_or_default(),
            topics: self.topics.clone(),
            base: self.base.unwrap_or_default(),
            rate: self.rate,
            max_changed: self.max_changed,
            yes: self.yes,
            compacted: self.compacted.clone(),
        }
    }

    fn run(self, operator: &Operator, json: bool) -> Result<(), Failure> {
        somebody_goes_on(operator, self.detach)?;
        let request = json!(self.request());
        if self.plan || !json {
            let raw = operator.raw(Method::Post, "/v1/replays/plan", Some(&request))?;
            if json {
                return out::line(String::from_utf8_lossy(&raw));
            }
            out::line(plan_table::show(&operator.read::<ReplayPlan>(&raw)?))?;
            if self.plan {
                return Ok(());
            }
        }
        let interrupt = Interrupt::listen()?;
        if somebody_is_there() && !json && !self.yes && interrupt.ask("\nStart it?") != Some(true) {
            return Err(Failure::new(Code::NeedsYes, "nothing was started, and nothing has changed"));
        }
        begin(operator, "/v1/replays", Some(&request), self.detach, json, &interrupt)
    }
}

impl Rollback {
    fn run(self, operator: &Operator, json: bool) -> Result<(), Failure> {
        somebody_goes_on(operator, self.detach)?;
        let interrupt = Interrupt::listen()?;
        let question = "Bring back what was live before? It catches up beside live first; what is live now is kept, so \
                        that this can be undone as well.";
        if somebody_is_there() && !json && !self.yes && interrupt.ask(question) != Some(true) {
            return Err(Failure::new(Code::NeedsYes, "nothing was started, and nothing has changed"));
        }
        let path = Which { id: self.id }.path("/rollback");
        begin(operator, &path, None, self.detach, json, &interrupt)
    }
}

/// A job of this very process ends with it.
fn somebody_goes_on(operator: &Operator, detach: bool) -> Result<(), Failure> {
    if detach && operator.here {
        let message = "--detach leaves a job to the daemon, and no daemon runs";
        return Err(Failure::new(Code::Usage, message).next("start one with `segno run`, or leave --detach out"));
    }
    Ok(())
}

/// Without a daemon nobody drives a job that was begun before: this command does.
fn drive_here(operator: &Operator, job: &JobStatus) -> Result<(), Failure> {
    if !operator.here || job.phase.ended() {
        return Ok(());
    }
    match operator.raw(Method::Post, &format!("/v1/replays/{}/resume", job.id), None) {
        // It is driven already.
        Err(failure) if failure.code != Code::NotNow => Err(failure),
        _ => Ok(()),
    }
}

fn onward(operator: &Operator, path: &str, detach: bool, json: bool) -> Result<(), Failure> {
    somebody_goes_on(operator, detach)?;
    begin(operator, path, None, detach, json, &Interrupt::listen()?)
}

/// Orders something that goes on by itself, and stays with it unless told not to.
fn begin(
    operator: &Operator,
    path: &str,
    body: Option<&Value>,
    detach: bool,
    json: bool,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let raw = operator.raw(Method::Post, path, body)?;
    let job: JobStatus = operator.read(&raw)?;
    match (detach, json) {
        (false, _) => watch::attend(operator, job.id, json, interrupt),
        (true, true) => out::line(String::from_utf8_lossy(&raw)),
        (true, false) => out::line(jobs::one(&job)),
    }
}

fn show(
    operator: &Operator,
    path: &str,
    json: bool,
    text: impl Fn(&JobStatus) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let raw = operator.raw(Method::Get, path, None)?;
    if json { out::line(String::from_utf8_lossy(&raw)) } else { out::line(text(&operator.read(&raw)?)?) }
}

fn list(operator: &Operator, json: bool) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Jobs {
        replays: Vec<JobStatus>,
    }
    let raw = operator.raw(Method::Get, "/v1/replays", None)?;
    if json {
        return out::line(String::from_utf8_lossy(&raw));
    }
    out::line(jobs::list(&operator.read::<Jobs>(&raw)?.replays))
}

fn cancel(operator: &Operator, which: &Which, json: bool) -> Result<(), Failure> {
    let raw = operator.raw(Method::Post, &which.path("/cancel"), None)?;
    if json {
        return out::line(String::from_utf8_lossy(&raw));
    }
    let job: JobStatus = operator.read(&raw)?;
    out::line(format_args!("Job {} is {}: live is as it was, and the space is free again.", job.id, job.phase))
}

fn diff(operator: &Operator, which: &Which, json: bool) -> Result<(), Failure> {
    let job: JobStatus = operator.ask(Method::Get, &which.path(""), None)?;
    let Some(found) = &job.verification else {
        let message = format!("job {} is {} and has not been compared with live", job.id, job.phase);
        return Err(Failure::new(Code::NotNow, message).next(format!("watch it: `segno replay watch {}`", job.id)));
    };
    if json { out::json(found) } else { out::line(verdict::show(found)) }
}
