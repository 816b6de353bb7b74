//! *Identity (R1)*: with unchanged views a replay, from whatever time and base, gives what live has, byte for byte.

use std::time::Duration;

use proptest::prelude::*;
use segno::actors::admin::SnapshotInfo;
use segno::actors::replay::words::{Base, BaseChoice, JobKind, JobStatus, Phase};
use segno::position::Position;

use crate::drama::{self, From, Step, Writer, base, cases, event, from, play, script};
use crate::oracle::{Code, all};
use crate::stage::{Setup, Stage};
use crate::views::{LEDGER, TALLY, Tally, ledger};

const TALLY_1: Tally = Tally { version: 1, factor: 3, floor: Some(-200) };
const VIEWS: [(&str, Code); 2] = [(LEDGER, Code::Ledger(1)), (TALLY, Code::Tally(TALLY_1))];

fn setup() -> impl Strategy<Value = Setup> {
    drama::setup().prop_map(|setup| Setup { views: vec![ledger::<1>(), TALLY_1.definition()], ..setup })
}

/// Rows and books are what the events on the tape make of them.
fn check(stage: &Stage) -> Result<(), TestCaseError> {
    stage.settle();
    let (tracks, policy) = (stage.pen.tracks().clone(), stage.setup.policy);
    for (view, code) in VIEWS {
        let expected = all(code, &tracks, &policy);
        prop_assert_eq!(stage.rows(view), expected.seen(code), "{}", view);
        prop_assert_eq!(stage.books(view), expected.books, "{}", view);
        prop_assert!(expected.books.balanced());
    }
    stage.verify();
    Ok(())
}

/// The newest snapshot at or before the cut, partition by partition.
fn newest(snapshots: &[SnapshotInfo], partition: usize, cut: u64) -> Option<(u64, u64)> {
    let part = |snapshot: &SnapshotInfo| (snapshot.partitions[partition].position.0, snapshot.id);
    let found = snapshots.iter().map(part).filter(|(position, _)| (1..=cut).contains(position)).max();
    found.map(|(position, id)| (id, position))
}

/// The plan is what a look at every record and every snapshot says.
fn check_plan(stage: &Stage, from: &From, choice: BaseChoice) -> Result<(), TestCaseError> {
    let cuts = from.cut(&stage.pen);
    let snapshots = stage.block(stage.node().snapshots()).unwrap();
    let plan = stage.plan(&from.request(&stage.pen, choice)).unwrap();
    prop_assert!(plan.topics[0].same_definitions() && plan.exact);
    let tracks = stage.pen.tracks();
    let mut records = 0;
    for (number, partition) in plan.topics[0].partitions.iter().enumerate() {
        let track = &tracks[number];
        prop_assert_eq!(partition.cut, Position(cuts[number]), "partition {} of {:?}", number, plan);
        let found = track.records.iter().find(|record| record.offset == cuts[number]);
        if matches!(from, From::Time(..)) {
            prop_assert_eq!(partition.cut_time.map(|time| time.0), found.map(|record| record.time));
        }
        let best = newest(&snapshots, number, cuts[number]).filter(|_| choice == BaseChoice::Auto);
        let (base, begin) = match best {
            Some((snapshot, position)) => (Base::Snapshot { snapshot, position: Position(position) }, position),
            None => (Base::Genesis, 0),
        };
        prop_assert_eq!((partition.base, partition.from), (base, Position(begin)), "partition {}", number);
        let count = track.between(begin, u64::MAX).count() as u64;
        prop_assert_eq!((partition.records, partition.log_end), (count, Position(track.end)));
        records += count;
    }
    prop_assert_eq!(plan.records, records);
    Ok(())
}

/// A replay that is over has found nothing different. Its digests may still differ, by events that live had yet to try
/// again when the two were compared.
fn check_done(job: &JobStatus) -> Result<(), TestCaseError> {
    prop_assert_eq!(job.phase, Phase::Done, "{:#?}", job);
    let verification = job.verification.as_ref().unwrap();
    if job.kind == JobKind::Replay {
        prop_assert!(verification.changed_share == 0.0, "{:#?}", verification);
        for view in &verification.views {
            prop_assert_eq!((view.added, view.removed, view.changed), (0, 0, 0), "{:?}", view);
        }
    }
    Ok(())
}

/// A position that readers see never goes back.
struct Forward {
    seen: Vec<Position>,
}

impl Forward {
    fn new(stage: &Stage) -> Forward {
        Forward { seen: vec![Position::ZERO; stage.setup.partitions as usize] }
    }

    fn look(&mut self, stage: &Stage) -> Result<(), TestCaseError> {
        for (seen, (applied, ..)) in self.seen.iter_mut().zip(stage.positions()) {
            prop_assert!(applied >= *seen, "Forward: {} after {}", applied, seen);
            *seen = applied;
        }
        Ok(())
    }

    /// Of what was seen a crash leaves what was durable.
    fn crash(&mut self, stage: &mut Stage) -> Result<(), TestCaseError> {
        let durable: Vec<_> = stage.positions().into_iter().map(|(_, durable, _)| durable).collect();
        stage.crash();
        self.seen = durable;
        self.look(stage)
    }
}

proptest! {
    #![proptest_config(cases(220))]

    /// In calm: whatever the events, the batches, the snapshots, the time and the base, the plan is right, the new
    /// generations equal the old ones, rows, books and digests, and they are what serves afterwards.
    #[test]
    fn r1_a_replay_gives_what_live_has(
        setup in setup(), script in script(90), replays in proptest::collection::vec((from(), base()), 1..3),
    ) {
        let stage = Stage::new(setup);
        play(&stage, &script);
        check(&stage)?;
        for (from, base) in &replays {
            let digests: Vec<_> = VIEWS.iter().map(|(view, _)| stage.view(view).digest).collect();
            let before = stage.generations();
            check_plan(&stage, from, *base)?;
            let begun = stage.replay(&from.request(&stage.pen, *base)).unwrap();
            let job = stage.done(begun.id);
            check_done(&job)?;
            let verification = job.verification.unwrap();
            prop_assert!(verification.identical, "{:#?}", verification);
            prop_assert_eq!(&verification.at, &[stage.pen.end()]);
            for ((view, _), digest) in VIEWS.iter().zip(&digests) {
                let verdict = verification.views.iter().find(|verdict| verdict.view == *view).unwrap();
                prop_assert_eq!((&verdict.live_digest, &verdict.new_digest), (digest, digest));
                prop_assert_eq!(verdict.unchanged, stage.rows(view).len() as u64);
                prop_assert_eq!(&stage.view(view).digest, digest);
            }
            prop_assert!(stage.generations().iter().zip(&before).all(|(new, old)| new > old), "{:?}", before);
            check(&stage)?;
        }
    }
}

proptest! {
    #![proptest_config(cases(80))]

    /// In the storm: events arrive all the time, and kills and restarts hit the job in any phase, also its rollback. It
    /// goes on by itself, and nothing is lost, doubled or different.
    #[test]
    fn r1_a_replay_survives_kills_while_events_arrive(
        setup in setup(),
        script in script(60),
        (from, base) in (from(), base()),
        more in proptest::collection::vec((event(), 0u64..3), 0..60),
        blows in proptest::collection::vec((0u64..40, any::<bool>()), 0..4),
        rolled_back in proptest::option::of(proptest::collection::vec((0u64..30, any::<bool>()), 0..3)),
        rate in proptest::option::weighted(0.3, 200u64..2000),
    ) {
        let mut stage = Stage::new(setup);
        play(&stage, &script);
        check(&stage)?;
        let mut forward = Forward::new(&stage);
        let mut request = from.request(&stage.pen, base);
        request.rate = rate;
        let begun = stage.replay(&request).unwrap();
        let pen = stage.pen.clone();
        let producer = std::thread::spawn(move || produce(&mut Writer::new(&pen), &more));
        storm(&mut stage, &mut forward, begun.id, &blows)?;
        check_done(&stage.job(begun.id))?;
        producer.join().unwrap();
        check(&stage)?;
        forward.look(&stage)?;
        if let Some(blows) = rolled_back {
            play(&stage, &script);
            let back = stage.roll_back().unwrap();
            prop_assert_eq!((back.kind, back.of), (JobKind::Rollback, Some(begun.id)));
            storm(&mut stage, &mut forward, back.id, &blows)?;
            check_done(&stage.job(back.id))?;
            check(&stage)?;
            forward.look(&stage)?;
        }
    }
}

fn produce(writer: &mut Writer, steps: &[(Step, u64)]) {
    for (step, wait) in steps {
        writer.write(step);
        std::thread::sleep(Duration::from_millis(*wait));
    }
}

/// Lets a job run to its end, under blows: each comes so many milliseconds after the one before, and is a kill or a stop
/// in good order.
fn storm(stage: &mut Stage, forward: &mut Forward, id: u64, blows: &[(u64, bool)]) -> Result<(), TestCaseError> {
    for (wait, kill) in blows {
        for _ in 0..*wait {
            forward.look(stage)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        if *kill {
            forward.crash(stage)?;
        } else {
            stage.restart();
        }
    }
    let outcome = stage.outcome(id);
    prop_assert_eq!(outcome.phase, Phase::Done, "{:#?}", outcome);
    forward.look(stage)?;
    Ok(())
}
