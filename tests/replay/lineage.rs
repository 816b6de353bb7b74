//! *Lineage*: replay after replay, of one definition and the next, from any base, with rollbacks and kills between. Two
//! builds must come out the same when their rows have the same history, and only then; and `--base auto` under unchanged
//! definitions repeats the history of live, or is refused.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segno::actors::replay::words::{Base, BaseChoice, JobAction, JobStatus, Phase, ReplayError, ReplayRequest};

use crate::drama::{From, Step, cases, event, from, play_settled};
use crate::oracle::{Code, Rows};
use crate::stage::{Setup, Stage};
use crate::tape::Track;
use crate::views::{TALLY, Tally, What};

/// Which version has folded the rows of a partition, from which position on.
type History = Vec<(u32, u64)>;

fn tally(version: u32) -> Tally {
    let floor = version.is_multiple_of(2).then_some(-20);
    Tally { version, factor: i64::from(version), floor }
}

fn fold(history: &History, track: &Track, rows: &mut Rows, stage: &Stage) {
    for (number, (version, from)) in history.iter().enumerate() {
        let to = history.get(number + 1).map_or(u64::MAX, |(_, next)| *next);
        rows.fold(Code::Tally(tally(*version)), track.between(*from, to), &stage.setup.policy);
    }
}

/// What comes of folding on with `version` from `position`.
fn goes_on(history: &History, version: u32, position: u64) -> History {
    let mut history: History = history.iter().copied().filter(|(_, from)| *from < position).collect();
    if history.last().is_none_or(|(last, _)| *last != version) {
        history.push((version, position));
    }
    history
}

/// One thing that an operator does, or that befalls him.
#[derive(Clone, Debug)]
enum Deed {
    Events(Vec<Step>),
    Snapshot,
    /// The next version of the view stands in the configuration from now on.
    NextVersion,
    /// From where, the base (a snapshot: so many thousandths of those that are there), and whether a yes comes along.
    Replay(From, Start, bool),
    RollBack,
    Kill,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Auto,
    Genesis,
    Empty,
    Snapshot(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let start = prop_oneof![
        6 => Just(Start::Auto),
        2 => Just(Start::Genesis),
        1 => Just(Start::Empty),
        2 => (0usize..1000).prop_map(Start::Snapshot),
    ];
    prop_oneof![
        3 => proptest::collection::vec(event(), 1..15).prop_map(Deed::Events),
        2 => Just(Deed::Snapshot),
        1 => Just(Deed::NextVersion),
        4 => (from(), start, any::<bool>()).prop_map(|(from, start, yes)| Deed::Replay(from, start, yes)),
        1 => Just(Deed::RollBack),
        1 => Just(Deed::Kill),
    ]
}

/// A node, and the history of every generation that it ever had.
struct Life {
    stage: Stage,
    /// The version in the configuration.
    wanted: u32,
    /// By partition and number.
    generations: BTreeMap<(usize, u64), History>,
}

impl Life {
    fn new(partitions: u32) -> Life {
        let stage = Stage::new(Setup { partitions, ..Setup::of(&[tally(1).definition()]) });
        // A node that has folded nothing begins under new definitions at once.
        stage.pen.send("first", 0, &What::Add { n: 0, amount: 1 });
        stage.settle();
        let generations =
            stage.generations().iter().enumerate().map(|(part, id)| ((part, *id), vec![(1, 0)])).collect();
        Life { stage, wanted: 1, generations }
    }

    /// The histories of the partitions of live.
    fn live(&self) -> Vec<History> {
        let numbers = self.stage.generations();
        numbers.iter().enumerate().map(|(part, number)| self.generations[&(part, *number)].clone()).collect()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        self.stage.settle();
        let (tracks, live) = (self.stage.pen.tracks().clone(), self.live());
        let mut rows = Rows::default();
        live.iter().zip(&tracks).for_each(|(history, track)| fold(history, track, &mut rows, &self.stage));
        let version = live[0].last().unwrap().0;
        prop_assert_eq!(self.stage.rows(TALLY), rows.seen(Code::Tally(tally(version))), "{:?}", live);
        self.stage.verify();
        Ok(())
    }

    /// What the plan of a job makes of the histories that are known.
    fn planned(&self, job: &JobStatus) -> Vec<History> {
        let snapshots = self.stage.block(self.stage.node().snapshots()).unwrap();
        let of = |(number, part): (usize, &segno::actors::replay::words::PartitionReplay)| match part.base {
            Base::Genesis | Base::Empty => vec![(self.wanted, part.from.0)],
            Base::Snapshot { snapshot, position } => {
                let taken = snapshots.iter().find(|known| known.id == snapshot).unwrap();
                let taken = &taken.partitions[number];
                assert_eq!((taken.position, part.from), (position, position));
                goes_on(&self.generations[&(number, taken.generation)], self.wanted, position.0)
            }
            Base::Previous { .. } => panic!("a replay from a previous generation"),
        };
        job.plan.topics[0].partitions.iter().enumerate().map(of).collect()
    }

    fn replay(&mut self, from: &From, start: Start, yes: bool) -> Result<(), TestCaseError> {
        let base = match start {
            Start::Auto => BaseChoice::Auto,
            Start::Genesis => BaseChoice::Genesis,
            Start::Empty => BaseChoice::Empty,
            Start::Snapshot(share) => {
                let mut all = self.stage.block(self.stage.node().snapshots()).unwrap();
                // A kill leaves one behind that was being taken.
                all.retain(|snapshot| snapshot.damaged.is_none());
                let Some(chosen) = all.get(all.len() * share / 1000) else { return Ok(()) };
                BaseChoice::Snapshot(chosen.id)
            }
        };
        let live = self.live();
        let wanted = self.wanted;
        let same_definitions = live[0].last().unwrap().0 == self.wanted;
        let whole = live.iter().all(|history| history[0].1 == 0);
        let request = ReplayRequest { yes, ..from.request(&self.stage.pen, base) };
        let begun = match self.stage.replay(&request) {
            Ok(begun) => begun,
            // Named snapshots may stand after the cut; and of a live of several definitions nothing may be left.
            Err(ReplayError::Refused(why)) => {
                let no_origin = same_definitions && why.contains("nothing that is left gives live's rows again");
                let after = matches!(base, BaseChoice::Snapshot(_)) && why.contains("after the cut");
                prop_assert!(no_origin || after, "{}", why);
                prop_assert!(!no_origin || self.wanted > 1, "{:?}: {}", live, why);
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let planned = self.planned(&begun);
        let job = self.stage.outcome(begun.id);
        prop_assert!(job.phase != Phase::Failed, "live {:?}, new {:?}: {:#?}", live, planned, job);
        let verification = job.verification.as_ref().unwrap();
        if same_definitions && base == BaseChoice::Auto && whole {
            prop_assert_eq!(&planned, &live, "auto has not repeated the history of live: {:#?}", job.plan);
        }
        if !same_definitions && base == BaseChoice::Auto {
            // The new rows go on with what live's were at the base, or have nothing before it.
            for ((new, live), part) in planned.iter().zip(&live).zip(&job.plan.topics[0].partitions) {
                let of_live = goes_on(live, wanted, part.from.0);
                prop_assert!(part.base == Base::Genesis || *new == of_live, "{:?} {:?}: {:#?}", live, new, job.plan);
            }
        }
        if planned == live {
            prop_assert!(job.phase == Phase::Done && verification.identical, "{:?}: {:#?}", live, job);
        }
        if job.phase == Phase::Waiting {
            prop_assert!(!yes && verification.changed_share > 0.0, "{:#?}", job);
            self.stage.act(begun.id, JobAction::Approve).unwrap();
            self.stage.until("done", || self.stage.job(begun.id).phase.ended());
        }
        self.stage.done(begun.id);
        for (part, (number, history)) in self.stage.generations().into_iter().zip(planned).enumerate() {
            prop_assert!(self.generations.insert((part, number), history).is_none(), "generation {} again", number);
        }
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), TestCaseError> {
        match self.stage.roll_back() {
            Ok(back) => {
                self.stage.done(back.id);
                Ok(())
            }
            Err(ReplayError::NotNow(_) | ReplayError::Refused(_)) => Ok(()),
            Err(error) => Err(TestCaseError::fail(error.to_string())),
        }
    }

    fn does(&mut self, deed: &Deed) -> Result<(), TestCaseError> {
        match deed {
            Deed::Events(steps) => play_settled(&self.stage, steps),
            Deed::Snapshot => {
                self.stage.settle();
                self.stage.snapshot();
            }
            Deed::NextVersion => {
                self.wanted += 1;
                let next = tally(self.wanted).definition();
                self.stage.restart_with(|setup| setup.views = vec![next]);
            }
            Deed::Replay(from, start, yes) => self.replay(from, *start, *yes)?,
            Deed::RollBack => self.roll_back()?,
            Deed::Kill => self.stage.crash(),
        }
        self.check()
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn lineage_the_same_history_gives_the_same_rows_and_only_that_is_demanded(
        partitions in 1u32..3,
        before in proptest::collection::vec(event(), 1..30),
        deeds in proptest::collection::vec(deed(), 3..14),
    ) {
        let mut life = Life::new(partitions);
        play_settled(&life.stage, &before);
        life.check()?;
        for deed in &deeds {
            life.does(deed)?;
        }
    }
}

/// Live was made of a snapshot: what stands before that is its past, too. What came after it, under the older definition,
/// is not.
#[test]
fn lineage_a_changed_definition_goes_on_with_what_live_was_made_of() {
    let mut life = Life::new(1);
    let mut taken = Vec::new();
    for round in 0..3u64 {
        (round * 10 + 1..round * 10 + 10).for_each(|n| {
            life.stage.pen.send("a", n as i64 * 1000, &What::Add { n, amount: 1 });
        });
        life.check().unwrap();
        taken.push(life.stage.snapshot());
    }
    let position = |life: &Life, part: usize| format!("@{}@0:{part}", life.stage.pen.topic);
    let base = |life: &Life| life.stage.node().replays()[0].plan.topics[0].partitions[0].base.to_string();
    life.does(&Deed::NextVersion).unwrap();
    for (cut, expected) in [(20, taken[1]), (15, taken[0]), (27, taken[0])] {
        let request = ReplayRequest { from: position(&life, cut), yes: true, ..ReplayRequest::default() };
        let begun = life.stage.replay(&request).unwrap();
        let planned = life.planned(&begun);
        life.stage.done(begun.id);
        assert_eq!(base(&life), format!("snapshot {expected}"), "{planned:?}");
        let number = life.stage.generations()[0];
        life.generations.insert((0, number), planned[0].clone());
        life.check().unwrap();
        life.does(&Deed::NextVersion).unwrap();
    }
}

/// What a replay has made as if history began at its cut is no base for a live that has all of it.
#[test]
fn lineage_a_history_that_began_later_is_not_taken_for_that_of_live() {
    let mut life = Life::new(1);
    (1..20).for_each(|n| drop(life.stage.pen.send("a", n as i64 * 1000, &What::Add { n, amount: 1 })));
    let later = From::Time(10, 0);
    life.check().unwrap();
    life.replay(&later, Start::Empty, true).unwrap();
    life.check().unwrap();
    life.roll_back().unwrap();
    life.check().unwrap();
    life.replay(&From::Time(30, 0), Start::Auto, false).unwrap();
    life.check().unwrap();
}
