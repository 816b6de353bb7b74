//! How far a job is: as text, as bars on a terminal, as lines elsewhere, as JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::actors::replay::words::{JobStatus, Phase};
use crate::cli::figures::{count, percent, seconds};
use crate::cli::{Failure, out};

/// What a person who does not see bars is told so often.
const EVERY: Duration = Duration::from_secs(10);
/// What a program is told so often.
const EVERY_JSON: Duration = Duration::from_secs(1);

/// Rate, time left, and how live is.
pub fn line(status: &JobStatus) -> String {
    let mut text = status.phase.to_string();
    if matches!(status.phase, Phase::Building | Phase::Waiting) {
        text.push_str(&format!(", {} records/s", count(status.rate.max(0.0).round() as u64)));
        if let Some(left) = status.eta_seconds.filter(|_| status.phase == Phase::Building) {
            text.push_str(&format!(", {} left", seconds(left)));
        }
    }
    text.push_str(&match (status.live_lag_records, status.live_lag_seconds) {
        (None, None) => "; live lag not known".to_owned(),
        (Some(records), None) => format!("; live lag {} records", count(records)),
        (None, Some(time)) => format!("; live lag {}", seconds(time)),
        (Some(records), Some(time)) => format!("; live lag {} records ({})", count(records), seconds(time)),
    });
    if status.losing {
        text.push_str(
            "; SLOWER THAN THE INPUT: it will not catch up like this. Start it again with a higher --rate, or when less \
             comes in",
        );
    }
    text
}

/// How far it is in all topics.
pub fn share(status: &JobStatus) -> String {
    let (done, total) =
        status.topics.iter().fold((0, 0), |(done, total), topic| (done + topic.done, total + topic.total));
    match total {
        0 => "100 %".to_owned(),
        // A hundred is said when nothing is left, and not before.
        _ if done < total => percent((done as f64 / total as f64).min(0.999)),
        _ => "100 %".to_owned(),
    }
}

/// What is going on, when that changes.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Building => "building new generations beside live; readers see nothing of them",
        Phase::Verifying => "comparing them with live, both at one position a partition; live goes on",
        Phase::Waiting => "compared; the job keeps up with live",
        Phase::CuttingOver => "cutting over: live stands still for a moment, reads go on",
        Phase::Done => "done: the new generations are live",
        Phase::Failed => "failed; live is as it was",
        Phase::Cancelled => "cancelled; live is as it was",
    }
}

/// Shows a job that is being watched.
pub trait Screen {
    fn show(&mut self, status: &JobStatus) -> Result<(), Failure>;
    /// Something that is not progress.
    fn say(&mut self, text: &str);
    /// Makes room for words.
    fn clear(&mut self) {}
}

/// Bars: one a topic, and a line below them.
#[derive(Default)]
pub struct Bars {
    all: MultiProgress,
    topics: BTreeMap<String, ProgressBar>,
    below: Option<ProgressBar>,
    phase: Option<Phase>,
}

impl Bars {
    fn bar(&mut self, topic: &str, total: u64) -> ProgressBar {
        if let Some(bar) = self.topics.get(topic) {
            return bar.clone();
        }
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3}% {human_pos}/{human_len}");
        let bar = ProgressBar::new(total).with_prefix(topic.to_owned());
        let bar = if let Ok(style) = style { bar.with_style(style) } else { bar };
        let bar = match &self.below {
            Some(below) => self.all.insert_before(below, bar),
            None => self.all.add(bar),
        };
        self.topics.insert(topic.to_owned(), bar.clone());
        bar
    }
}

impl Screen for Bars {
    fn show(&mut self, status: &JobStatus) -> Result<(), Failure> {
        if self.phase.replace(status.phase) != Some(status.phase) {
            self.say(&format!("job {}: {}", status.id, phase(status.phase)));
        }
        for topic in &status.topics {
            let bar = self.bar(&topic.topic, topic.total);
            bar.set_length(topic.total);
            bar.set_position(topic.done.min(topic.total));
        }
        let below = self.below.get_or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        below.set_message(line(status));
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.all.suspend(|| eprintln!("segno: {text}"));
    }

    fn clear(&mut self) {
        // A terminal that is gone needs no clearing.
        let _ = self.all.clear();
        self.topics.clear();
        self.below = None;
        self.all = MultiProgress::new();
    }
}

/// A line when the phase changes, and now and then.
#[derive(Default)]
pub struct Lines {
    last: Option<(Phase, Instant)>,
}

impl Screen for Lines {
    fn show(&mut self, status: &JobStatus) -> Result<(), Failure> {
        match self.last {
            Some((phase, at)) if phase == status.phase && at.elapsed() < EVERY => return Ok(()),
            Some((phase, _)) if phase == status.phase => {
                self.say(&format!("job {}: {}, {}", status.id, share(status), line(status)));
            }
            _ => self.say(&format!("job {}: {}", status.id, phase(status.phase))),
        }
        self.last = Some((status.phase, Instant::now()));
        Ok(())
    }

    fn say(&mut self, text: &str) {
        eprintln!("segno: {text}");
    }
}

/// The status as it is, a line each; the last line is the end.
#[derive(Default)]
pub struct Json {
    last: Option<(JobStatus, Instant)>,
}

impl Screen for Json {
    fn show(&mut self, status: &JobStatus) -> Result<(), Failure> {
        if let Some((last, at)) = &self.last
            && (last == status
                || (last.phase == status.phase && last.approved == status.approved && at.elapsed() < EVERY_JSON))
        {
            return Ok(());
        }
        self.last = Some((status.clone(), Instant::now()));
        out::json(status)
    }

    fn say(&mut self, text: &str) {
        eprintln!("segno: {text}");
    }
}
