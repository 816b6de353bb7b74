//! *Identity (R1)*: with unchanged views a replay, from whatever time and base, gives what live has, byte for byte.

use std::time::Duration;

use proptest::prelude::*;
use segno::actors::admin::SnapshotInfo;
use segno::actors::replay::words::{Base, BaseChoice, JobKind, JobStatus, Phase, ReplayRequest};
use segno::position::Position;

use crate::drama::{self, From, Step, Writer, base, cases, event, from, play, script};
use crate::logs::On;
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
    let known = || stage.block(stage.node().snapshots()).unwrap();
    let (snapshots, plan) = loop {
        let before = known();
        let plan = stage.plan(&from.request(&stage.pen, choice)).unwrap();
        // The one after the last cut-over may have come meanwhile.
        if before == known() {
            break (before, plan);
        }
    };
    // A broker tells how many offsets there are, not how many of them are records.
    prop_assert!(plan.topics[0].same_definitions() && (plan.exact || stage.setup.on == On::Kafka));
    let tracks = stage.pen.tracks();
    let mut records = 0;
    for (number, partition) in plan.topics[0].partitions.iter().enumerate() {
        let track = &tracks[number];
        let cut = partition.cut.0;
        let found = track.records.iter().find(|record| record.offset == cut);
        // A broker's look-up by time sees what was aborted, and the ends of transactions: it may stop there, too early.
        let early = stage.setup.on == On::Kafka && cut < cuts[number] && found.is_none();
        prop_assert!(early || cut == cuts[number], "partition {} of {:?}: cut {}", number, plan, cuts[number]);
        if matches!(from, From::Time(..)) && !early {
            prop_assert_eq!(partition.cut_time.map(|time| time.0), found.map(|record| record.time));
        }
        let best = newest(&snapshots, number, cut).filter(|_| choice == BaseChoice::Auto);
        let (base, begin) = match best {
            Some((snapshot, position)) => (Base::Snapshot { snapshot, position: Position(position) }, position),
            None => (Base::Genesis, 0),
        };
        prop_assert_eq!((partition.base, partition.from), (base, Position(begin)), "partition {}", number);
        let mut count = track.between(begin, u64::MAX).count() as u64;
        if !plan.exact {
            prop_assert!(
                (count..=track.end - begin).contains(&partition.records),
                "{:?}, {} records",
                partition,
                count
            );
            count = partition.records;
        }
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

/// In calm: whatever the events, the batches, the snapshots, the time and the base, the plan is right, the new
/// generations equal the old ones, rows, books and digests, and they are what serves afterwards.
fn calm(setup: Setup, script: &[Step], replays: &[(From, BaseChoice)]) -> Result<(), TestCaseError> {
    let stage = Stage::new(setup);
    play(&stage, script);
    check(&stage)?;
    for (from, base) in replays {
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
    Ok(())
}

/// Offsets without records at the beginning of the log: live and every rebuild have them in their history, however they
/// came by them.
#[test]
fn r1_a_gap_at_the_beginning_is_part_of_the_history_of_both() {
    let setup = Setup { partitions: 1, ..Setup::of(&[ledger::<1>(), TALLY_1.definition()]) };
    let late = || (From::Time(30, 0), BaseChoice::Auto);
    calm(setup, &[Step::Gap(0, 1)], &[late(), late()]).unwrap();
}

/// In the storm: events arrive all the time, and kills and restarts hit the job in any phase, also its rollback.
#[derive(Debug)]
struct Storm {
    setup: Setup,
    script: Vec<Step>,
    from: From,
    base: BaseChoice,
    /// What arrives meanwhile, each so many milliseconds after the one before.
    more: Vec<(Step, u64)>,
    blows: Vec<Blow>,
    rolled_back: Option<Vec<Blow>>,
    rate: Option<u64>,
}

/// So many milliseconds after the one before; a kill, or a stop in good order.
type Blow = (u64, bool);

fn storm() -> impl Strategy<Value = Storm> {
    (
        setup(),
        script(60),
        (from(), base()),
        proptest::collection::vec((event(), 0u64..3), 0..60),
        proptest::collection::vec((0u64..40, any::<bool>()), 0..4),
        proptest::option::of(proptest::collection::vec((0u64..30, any::<bool>()), 0..3)),
        proptest::option::weighted(0.3, 200u64..2000),
    )
        .prop_map(|(setup, script, (from, base), more, blows, rolled_back, rate)| Storm {
            setup,
            script,
            from,
            base,
            more,
            blows,
            rolled_back,
            rate,
        })
}

/// The job goes on by itself, and nothing is lost, doubled or different.
fn weather(storm: Storm, on: On) -> Result<(), TestCaseError> {
    let Storm { setup, script, from, base, more, blows, rolled_back, rate } = storm;
    let mut stage = Stage::new(Setup { on, ..setup });
    play(&stage, &script);
    check(&stage)?;
    let mut forward = Forward::new(&stage);
    let request = ReplayRequest { rate, ..from.request(&stage.pen, base) };
    let begun = stage.replay(&request).unwrap();
    let pen = stage.pen.clone();
    let producer = std::thread::spawn(move || produce(&mut Writer::new(&pen), &more));
    blow(&mut stage, &mut forward, begun.id, &blows)?;
    check_done(&stage.job(begun.id))?;
    producer.join().unwrap();
    check(&stage)?;
    forward.look(&stage)?;
    if let Some(blows) = rolled_back {
        play(&stage, &script);
        let back = stage.roll_back().unwrap();
        prop_assert_eq!((back.kind, back.of), (JobKind::Rollback, Some(begun.id)));
        blow(&mut stage, &mut forward, back.id, &blows)?;
        check_done(&stage.job(back.id))?;
        check(&stage)?;
        forward.look(&stage)?;
    }
    Ok(())
}

/// Each law on each log: thousands of cases on the one in memory when `SEGNO_CASES` says so, some on the real ones.
macro_rules! on {
    ($name:ident, $on:expr, $calm:expr, $storm:expr) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(cases($calm))]

                #[test]
                fn r1_a_replay_gives_what_live_has(
                    setup in setup(), script in script(90), replays in proptest::collection::vec((from(), base()), 1..3),
                ) {
                    calm(Setup { on: $on, ..setup }, &script, &replays)?;
                }
            }

            proptest! {
                #![proptest_config(cases($storm))]

                #[test]
                fn r1_a_replay_survives_kills_while_events_arrive(storm in storm()) {
                    weather(storm, $on)?;
                }
            }
        }
    };
}

on!(memory, On::Memory, 360, 100);
on!(embedded, On::Embedded, 10, 10);
on!(kafka, On::Kafka, 6, 6);

fn produce(writer: &mut Writer, steps: &[(Step, u64)]) {
    for (step, wait) in steps {
        writer.write(step);
        std::thread::sleep(Duration::from_millis(*wait));
    }
}

/// Lets a job run to its end, under blows.
fn blow(stage: &mut Stage, forward: &mut Forward, id: u64, blows: &[Blow]) -> Result<(), TestCaseError> {
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
