//! Following a job until it ends, needs a yes, or is left to itself. A daemon that goes away is waited for.

use std::time::{Duration, Instant};

use super::progress::{Bars, Json, Lines, Screen};
use super::verdict;
use crate::actors::replay::words::{JobStatus, Phase};
use crate::cli::exit::{Code, Failure};
use crate::cli::figures::seconds;
use crate::cli::operator::{Method, Operator};
use crate::cli::out;
use crate::cli::terminal::{Interrupt, somebody_is_there};

/// How often the job is looked at.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a daemon may be away.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why watching ended.
#[derive(Debug, PartialEq)]
pub enum Left {
    Ended(Box<JobStatus>),
    NeedsYes(Box<JobStatus>),
    Interrupted,
}

/// Looks at a job again and again. `pause` waits, and says that somebody wants to go.
pub fn follow(
    operator: &Operator,
    id: u64,
    screen: &mut dyn Screen,
    patience: Duration,
    mut pause: impl FnMut() -> bool,
) -> Result<Left, Failure> {
    let path = format!("/v1/replays/{id}");
    let mut away: Option<Instant> = None;
    loop {
        match operator.ask::<JobStatus>(Method::Get, &path, None) {
            Ok(status) => {
                if away.take().is_some() {
                    screen.say("the daemon answers again; the job goes on where it was durable");
                }
                screen.show(&status)?;
                if status.phase.ended() {
                    return Ok(Left::Ended(Box::new(status)));
                }
                if status.phase == Phase::Waiting && !status.approved {
                    return Ok(Left::NeedsYes(Box::new(status)));
                }
            }
            Err(failure) if failure.code == Code::Unreachable => {
                let since = *away.get_or_insert_with(|| {
                    let time = seconds(patience.as_secs_f64());
                    screen.say(&format!(
                        "{}; trying again for {time}. The job is kept on disk: a daemon that starts goes on with it",
                        failure.message
                    ));
                    Instant::now()
                });
                if since.elapsed() >= patience {
                    let next = format!(
                        "the job is kept: start the daemon with `segno run`, and look at it with `segno replay watch {id}`"
                    );
                    return Err(Failure { next: Some(next), ..failure });
                }
            }
            Err(failure) => return Err(failure),
        }
        if pause() {
            return Ok(Left::Interrupted);
        }
    }
}

/// Stays with a job to its end, and asks for the yes where there is somebody to ask.
pub fn attend(operator: &Operator, id: u64, json: bool, interrupt: &Interrupt) -> Result<(), Failure> {
    let asks = somebody_is_there() && !json;
    let mut screen: Box<dyn Screen> = match (json, asks) {
        (true, _) => Box::new(Json::default()),
        (false, true) => Box::new(Bars::default()),
        (false, false) => Box::new(Lines::default()),
    };
    loop {
        let left = follow(operator, id, &mut *screen, PATIENCE, || interrupt.within(PAUSE));
        screen.clear();
        match left? {
            Left::Ended(status) => {
                if !json && let Some(found) = &status.verification {
                    out::line(verdict::show(found))?;
                }
                let end = verdict::end(&status)?;
                return if json { Ok(()) } else { out::line(format_args!("\n{end}")) };
            }
            Left::NeedsYes(status) => {
                if !json && let Some(found) = &status.verification {
                    out::line(verdict::show(found))?;
                }
                let question = "\nSwitch to the new generations now? Live serves them from then on; `segno replay rollback` \
                                brings the present ones back.";
                if !asks || interrupt.ask(question) != Some(true) {
                    return Err(verdict::needs_yes(&status, operator));
                }
                operator.raw(Method::Post, &format!("/v1/replays/{id}/approve"), None)?;
            }
            Left::Interrupted => return Err(goes_on(operator, id)),
        }
    }
}

/// What becomes of a job that nobody watches any more.
fn goes_on(operator: &Operator, id: u64) -> Failure {
    let message = match operator.here {
        true => format!(
            "left: job {id} stops with this command and is kept on disk; it goes on with the next `segno run` or `segno \
             replay watch {id}`"
        ),
        false => format!("left: job {id} goes on in the daemon"),
    };
    Failure::new(Code::Interrupted, message)
        .next(format!("live is as it was. Watch it: `segno replay watch {id}`; give it up: `segno replay cancel {id}`"))
}
