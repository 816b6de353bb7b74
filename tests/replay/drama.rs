//! What happens on a stage before a replay, at random: events of every kind, gaps, snapshots; and the replay that is
//! asked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use segno::actors::plan::{Decision, Placement, Policy, ReplayOptions};
use segno::actors::replay::words::{BaseChoice, ReplayRequest};

use crate::stage::{Setup, Stage};
use crate::tape::{EPOCH, Pen};
use crate::views::What;

/// Makes the names of flaky events unlike those of every other case.
static CASE: AtomicU64 = AtomicU64::new(0);

/// `SEGNO_CASES=10` tries ten times as many.
pub fn cases(number: u32) -> ProptestConfig {
    let times: f64 = std::env::var("SEGNO_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1.0);
    ProptestConfig {
        cases: ((f64::from(number) * times) as u32).max(1),
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
pub enum Kind {
    Add(i64),
    Take(i64),
    Flaky(u32),
    Panics(u32),
    Tombstone,
    Garbage,
    Unheard,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// An event of a key, so many seconds after the epoch of the scene.
    Event(u8, Kind, i64),
    Gap(u8, u64),
    /// Waits until all is applied, or for so many milliseconds, and takes a snapshot.
    Snapshot(Option<u64>),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        20 => (1i64..100).prop_map(Kind::Add),
        6 => (1i64..120).prop_map(Kind::Take),
        1 => prop_oneof![Just(2u32), Just(3), Just(u32::MAX)].prop_map(Kind::Flaky),
        1 => prop_oneof![Just(2u32), Just(3), Just(u32::MAX)].prop_map(Kind::Panics),
        2 => Just(Kind::Tombstone),
        1 => Just(Kind::Garbage),
        1 => Just(Kind::Unheard),
    ]
}

/// Few timestamps for many events, so that equal and late ones are common.
pub fn event() -> impl Strategy<Value = Step> {
    (0u8..12, kind(), 0i64..20).prop_map(|(key, kind, seconds)| Step::Event(key, kind, seconds))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => event(),
        2 => (0u8..4, 1u64..5).prop_map(|(partition, offsets)| Step::Gap(partition, offsets)),
        1 => proptest::option::of(0u64..4).prop_map(Step::Snapshot),
    ]
}

/// Scenes of which each begins some seconds after the one before, so that time goes on, but not in order.
pub fn script(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let later = |steps: Vec<Step>| {
        let later = |(at, step)| match step {
            Step::Event(key, kind, seconds) => Step::Event(key, kind, seconds + (at as i64 / 20) * 10),
            step => step,
        };
        steps.into_iter().enumerate().map(later).collect()
    };
    proptest::collection::vec(step(), 1..longest).prop_map(later)
}

pub fn policy() -> impl Strategy<Value = Policy> {
    (0usize..3, any::<bool>()).prop_map(|(rejected, deletes)| Policy {
        rejected: [Decision::Park, Decision::DeadLetter, Decision::Skip][rejected],
        null_value: if deletes { Decision::Delete } else { Decision::DeadLetter },
        ..Policy::default()
    })
}

/// Everything but the views.
pub fn setup() -> impl Strategy<Value = Setup> {
    (1u32..4, any::<bool>(), 1usize..40, 1usize..60, policy()).prop_map(|(partitions, own, batch, epoch, policy)| {
        let plain = Setup::of(&[]);
        Setup {
            partitions,
            placement: if own { Placement::Own } else { Placement::Shared },
            batch,
            policy,
            replay: ReplayOptions { epoch_records: epoch, ..plain.replay },
            ..plain
        }
    })
}

/// Since when.
#[derive(Clone, Debug)]
pub enum From {
    /// So many seconds after the epoch, and so many milliseconds more or less.
    Time(i64, i64),
    /// So many thousandths of each partition.
    Positions(Vec<u64>),
    Beginning,
}

pub fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        6 => (0i64..60, -1i64..2).prop_map(|(seconds, more)| From::Time(seconds, more)),
        3 => proptest::collection::vec(0u64..1001, 3).prop_map(From::Positions),
        1 => Just(From::Beginning),
    ]
}

pub fn base() -> impl Strategy<Value = BaseChoice> {
    prop_oneof![3 => Just(BaseChoice::Auto), 1 => Just(BaseChoice::Genesis)]
}

impl From {
    pub fn request(&self, pen: &Pen, base: BaseChoice) -> ReplayRequest {
        let from = match self {
            From::Time(seconds, more) => format!("{}ms", EPOCH + seconds * 1000 + more),
            From::Positions(shares) => {
                let mut shares = shares.iter();
                format!("@{}", pen.token(|track| track.end * shares.next().unwrap() / 1000))
            }
            From::Beginning => "beginning".to_owned(),
        };
        ReplayRequest { from, base, ..ReplayRequest::default() }
    }

    /// The cut of every partition, by looking at each record.
    pub fn cut(&self, pen: &Pen) -> Vec<u64> {
        let tracks = pen.tracks();
        match self {
            From::Time(seconds, more) => tracks.iter().map(|track| track.cut(EPOCH + seconds * 1000 + more)).collect(),
            From::Positions(shares) => {
                tracks.iter().zip(shares).map(|(track, share)| track.end * share / 1000).collect()
            }
            From::Beginning => vec![0; tracks.len()],
        }
    }
}

/// Plays steps.
pub fn play(stage: &Stage, steps: &[Step]) {
    play_with(stage, steps, false);
}

/// The same with snapshots of a live that tries nothing again: an event that waits in a base is the new code's to decide.
pub fn play_settled(stage: &Stage, steps: &[Step]) {
    play_with(stage, steps, true);
}

fn play_with(stage: &Stage, steps: &[Step], settled: bool) {
    let mut writer = Writer::new(&stage.pen);
    for step in steps {
        if let Step::Snapshot(wait) = step {
            match wait {
                _ if settled => stage.settle(),
                None => stage.settle(),
                Some(ms) => std::thread::sleep(Duration::from_millis(*ms)),
            }
            stage.snapshot();
        } else {
            writer.write(step);
        }
    }
}

/// Writes the events of one script.
pub struct Writer {
    pen: Pen,
    case: u64,
    next: u64,
}

impl Writer {
    pub fn new(pen: &Pen) -> Writer {
        Writer { pen: pen.clone(), case: CASE.fetch_add(1, Ordering::Relaxed), next: 0 }
    }

    pub fn write(&mut self, step: &Step) {
        match step {
            Step::Event(key, kind, seconds) => {
                let (n, name) = (self.next, format!("{}/{}", self.case, self.next));
                self.next += 1;
                let what = match kind {
                    Kind::Add(amount) => What::Add { n, amount: *amount },
                    Kind::Take(amount) => What::Take { n, amount: *amount },
                    Kind::Flaky(times) => What::Flaky { n, name, times: *times },
                    Kind::Panics(times) => What::Panics { n, name, times: *times },
                    Kind::Tombstone => What::Tombstone,
                    Kind::Garbage => What::Garbage,
                    Kind::Unheard => What::Unheard,
                };
                self.pen.send(&format!("key-{key}"), seconds * 1000, &what);
            }
            Step::Gap(partition, offsets) => self.pen.gap(u32::from(*partition), *offsets),
            Step::Snapshot(_) => {}
        }
    }
}
