//! *Fix (R2)*: with changed views a replay gives what the old code made up to the base and the new code from there on.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segno::actors::plan::Policy;
use segno::actors::replay::words::{Base, BaseChoice, DefinitionChange, JobAction, JobStatus, Phase};
use segno::position::PartitionId;

use crate::drama::{self, From, Step, cases, from, play_settled, script};
use crate::logs::On;
use crate::oracle::{Code, Rows, Seen, all, whole};
use crate::stage::{Setup, Stage};
use crate::tape::Track;
use crate::views::{LEDGER, TALLY, Tally, What, ledger};

/// One view whose code changes and one whose code stays.
#[derive(Clone, Debug)]
struct Pair {
    view: &'static str,
    old: Code,
    new: Code,
    other: (&'static str, Code),
}

impl Pair {
    /// The setup before the change, or after it. Old Rust code is brought along.
    fn setup(&self, setup: Setup, new: bool) -> Setup {
        let of = |code| match code {
            Code::Ledger(1) => ledger::<1>(),
            Code::Ledger(_) => ledger::<2>(),
            Code::Tally(tally) => tally.definition(),
        };
        let changing = of(if new { self.new } else { self.old });
        let views = vec![changing, of(self.other.1)];
        let previous = if new && self.view == LEDGER { vec![ledger::<1>()] } else { Vec::new() };
        Setup { views, previous, ..setup }
    }
}

fn tally(version: u32) -> impl Strategy<Value = Tally> {
    let floor = proptest::option::of(-100i64..50);
    (1i64..4, floor).prop_map(move |(factor, floor)| Tally { version, factor, floor })
}

fn pair() -> impl Strategy<Value = Pair> {
    prop_oneof![
        2 => (tally(1), tally(2)).prop_map(|(old, new)| Pair {
            view: TALLY,
            old: Code::Tally(old),
            new: Code::Tally(new),
            other: (LEDGER, Code::Ledger(1)),
        }),
        1 => tally(7).prop_map(|tally| Pair {
            view: LEDGER,
            old: Code::Ledger(1),
            new: Code::Ledger(2),
            other: (TALLY, Code::Tally(tally)),
        }),
    ]
}

fn base() -> impl Strategy<Value = BaseChoice> {
    prop_oneof![3 => Just(BaseChoice::Auto), 1 => Just(BaseChoice::Genesis), 2 => Just(BaseChoice::Empty)]
}

/// The direct fold: `old` up to where each partition's base stands, `new` from there on.
fn fold(old: Code, new: Code, job: &JobStatus, tracks: &[Track], policy: &Policy) -> Rows {
    fold_to(old, new, job, tracks, |_| u64::MAX, policy)
}

fn fold_to(
    old: Code,
    new: Code,
    job: &JobStatus,
    tracks: &[Track],
    to: impl Fn(usize) -> u64,
    policy: &Policy,
) -> Rows {
    let mut rows = Rows::default();
    for (number, (planned, track)) in job.plan.topics[0].partitions.iter().zip(tracks).enumerate() {
        if matches!(planned.base, Base::Snapshot { .. }) {
            rows.fold(old, track.between(0, planned.from.0), policy);
        }
        rows.fold(new, track.between(planned.from.0, to(number)), policy);
    }
    rows
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    added: u64,
    removed: u64,
    changed: u64,
    unchanged: u64,
}

/// Compares two tables; of a view whose definition is the same, the last event's offset and time count, too.
fn count(live: &BTreeMap<String, Seen>, new: &BTreeMap<String, Seen>, exact: bool) -> Counts {
    let mut counts =
        Counts { added: new.keys().filter(|key| !live.contains_key(*key)).count() as u64, ..Counts::default() };
    for (key, live) in live {
        match new.get(key) {
            None => counts.removed += 1,
            Some(new) if if exact { live == new } else { live.json == new.json } => counts.unchanged += 1,
            Some(_) => counts.changed += 1,
        }
    }
    counts
}

/// What the job has found is what the oracle finds; answers the share of rows that change.
fn check_verdict(pair: &Pair, job: &JobStatus, tracks: &[Track], policy: &Policy) -> Result<f64, TestCaseError> {
    let verification = job.verification.as_ref().unwrap();
    // After a kill live may have been compared before it had everything again.
    let at = |number: usize| verification.at[0].positions[&PartitionId(number as u32)].0;
    let (mut moved, mut had) = (0, 0);
    for (view, old, new, change) in [
        (pair.view, pair.old, pair.new, DefinitionChange::Changed),
        (pair.other.0, pair.other.1, pair.other.1, DefinitionChange::Same),
    ] {
        let verdict = verification.views.iter().find(|verdict| verdict.view == view).unwrap();
        let (live, built) = (whole(old, tracks, at, policy), fold_to(old, new, job, tracks, at, policy));
        let (live, built) = (live.seen(old), built.seen(new));
        let expected = count(&live, &built, change == DefinitionChange::Same);
        let found = Counts {
            added: verdict.added,
            removed: verdict.removed,
            changed: verdict.changed,
            unchanged: verdict.unchanged,
        };
        prop_assert_eq!(&found, &expected, "{} {:#?}", view, verdict);
        prop_assert_eq!(verdict.change, change);
        for sample in &verdict.samples {
            prop_assert_eq!(&sample.live, &live.get(&sample.key).map(|row| row.json.clone()));
            prop_assert_eq!(&sample.new, &built.get(&sample.key).map(|row| row.json.clone()));
        }
        let differs = expected.added + expected.removed + expected.changed;
        prop_assert_eq!(verdict.samples.len() as u64, differs.min(50));
        moved += differs;
        had += live.len() as u64;
    }
    let share = if moved == 0 {
        0.0
    } else if had == 0 {
        1.0
    } else {
        moved as f64 / had as f64
    };
    prop_assert!((share - verification.changed_share).abs() < 1e-9, "{share} {verification:?}");
    Ok(share)
}

fn check(stage: &Stage, expected: &[(&str, Code, Rows)]) -> Result<(), TestCaseError> {
    for (view, code, rows) in expected {
        prop_assert_eq!(stage.rows(view), rows.seen(*code), "{}", view);
        prop_assert_eq!(stage.books(view), rows.books, "{}", view);
    }
    stage.verify();
    Ok(())
}

/// What an operator does when he is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Yes,
    No,
    /// He has said yes before.
    Before,
    /// He allows so much to change.
    Gate(f64),
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        2 => Just(Answer::Yes),
        1 => Just(Answer::No),
        2 => Just(Answer::Before),
        2 => (0.0f64..1.0).prop_map(Answer::Gate),
    ]
}

macro_rules! on {
    ($name:ident, $on:expr, $cases:expr) => {
        proptest! {
            #![proptest_config(cases($cases))]

            #[test]
            fn $name(
                setup in drama::setup(),
                pair in pair(),
                before in script(70),
                after in script(20),
                (from, base, answer) in (from(), base(), answer()),
                then in proptest::option::of(script(20)),
                blow in proptest::option::weighted(0.15, 0u64..20),
            ) {
                let setup = Setup { on: $on, ..setup };
                case(setup, &pair, &before, &after, (&from, base, answer), then.as_deref(), blow)?;
            }
        }
    };
}

on!(r2_the_new_code_counts_from_the_base_on, On::Memory, 400);
on!(r2_the_new_code_counts_from_the_base_on_the_embedded_log, On::Embedded, 10);
on!(r2_the_new_code_counts_from_the_base_on_kafka, On::Kafka, 6);

fn case(
    setup: Setup,
    pair: &Pair,
    before: &[Step],
    after: &[Step],
    (from, base, answer): (&From, BaseChoice, Answer),
    then: Option<&[Step]>,
    blow: Option<u64>,
) -> Result<(), TestCaseError> {
    let policy = setup.policy;
    let mut stage = Stage::new(pair.setup(setup, false));
    // A node that has folded nothing would begin under the new definitions at once.
    stage.pen.send("first", 0, &What::Add { n: 0, amount: 1 });
    play_settled(&stage, before);
    stage.settle();
    stage.restart_with(|setup| *setup = pair.setup(setup.clone(), true));
    // Live goes on under the code that made it.
    play_settled(&stage, after);
    stage.settle();
    let tracks = stage.pen.tracks().clone();
    let under_old = |tracks: &[Track]| {
        let of = |(view, code)| (view, code, all(code, tracks, &policy));
        [(pair.view, pair.old), pair.other].map(of)
    };
    check(&stage, &under_old(&tracks))?;
    let mut request = from.request(&stage.pen, base);
    match answer {
        Answer::Before => request.yes = true,
        Answer::Gate(share) => request.max_changed = Some(share),
        Answer::Yes | Answer::No => {}
    }
    let directories = stage.directories();
    let begun = stage.replay(&request).unwrap();
    if let Some(wait) = blow {
        std::thread::sleep(std::time::Duration::from_millis(wait));
        stage.crash();
    }
    let job = stage.outcome(begun.id);
    prop_assert!(job.verification.is_some(), "{:#?}", job);
    let share = check_verdict(pair, &job, &tracks, &policy)?;
    stage.settle();
    let allowed = match answer {
        Answer::Gate(allowed) => share <= allowed,
        Answer::Before => true,
        Answer::Yes | Answer::No => share == 0.0,
    };
    prop_assert_eq!(job.phase, if allowed { Phase::Done } else { Phase::Waiting }, "{:#?}", job);
    if !allowed {
        check(&stage, &under_old(&tracks))?;
        if answer == Answer::No {
            let cancelled = stage.act(begun.id, JobAction::Cancel).unwrap();
            prop_assert_eq!(cancelled.phase, Phase::Cancelled);
            check(&stage, &under_old(&tracks))?;
            prop_assert_eq!(stage.directories(), directories);
            return Ok(());
        }
        stage.act(begun.id, JobAction::Approve).unwrap();
    }
    stage.until("done", || stage.job(begun.id).phase.ended());
    let job = stage.done(begun.id);
    stage.settle();
    let under_new = |tracks: &[Track]| {
        let of = |(view, old, new)| (view, new, fold(old, new, &job, tracks, &policy));
        [(pair.view, pair.old, pair.new), (pair.other.0, pair.other.1, pair.other.1)].map(of)
    };
    check(&stage, &under_new(&tracks))?;
    // What comes then is folded by the new code, and by the old one when it is brought back.
    let Some(then) = then else { return Ok(()) };
    play_settled(&stage, then);
    stage.settle();
    let tracks = stage.pen.tracks().clone();
    check(&stage, &under_new(&tracks))?;
    let back = stage.roll_back().unwrap();
    stage.done(back.id);
    stage.settle();
    check(&stage, &under_old(&tracks))?;
    Ok(())
}
