//! Random logs against a naive reading of the words: the cut is the first record left whose time is at or after T, and
//! the base is the newest snapshot that fits.

use proptest::prelude::*;
use segno::actors::replay::cut::resolve;
use segno::actors::replay::plan::{KnownPart, KnownSnapshot};
use segno::actors::replay::since::Since;
use segno::actors::replay::words::{Base, BaseChoice, ReplayError};
use segno::position::{Offset, Position, Timestamp};
use segno::state::Lineage;
use segno::streams::Log;

use super::stage::*;

/// One partition's life.
#[derive(Clone, Debug)]
struct Life {
    /// Offsets without a record before each record, and its time: `None` for none, else seconds after [`T0`], late and
    /// equal ones too.
    records: Vec<(u64, Option<i64>)>,
    gap_at_the_end: u64,
    /// What retention has taken, in percent of the offsets.
    taken: u64,
    /// Seconds after [`T0`].
    asked: i64,
    /// Positions of snapshots, in percent of the offsets.
    snapshots: Vec<u64>,
}

fn life() -> impl Strategy<Value = Life> {
    let time = prop_oneof![1 => Just(None), 6 => (0..20i64).prop_map(Some)];
    let gap = prop_oneof![4 => Just(0u64), 1 => 1..3u64];
    let late = prop_oneof![3 => Just(time.boxed()), 1 => Just(Just(None).boxed())].prop_flat_map(|time| time);
    (
        prop::collection::vec((gap.clone(), late), 0..16),
        gap,
        prop_oneof![1 => Just(0u64), 2 => 0..101u64],
        -2..24i64,
        prop::collection::vec(0..101u64, 0..4),
    )
        .prop_map(|(records, gap_at_the_end, taken, asked, snapshots)| Life {
            records,
            gap_at_the_end,
            taken,
            asked,
            snapshots,
        })
}

/// Offset and time in milliseconds of every record that there ever was.
fn records(life: &Life) -> (Vec<(u64, i64)>, u64) {
    let mut end = 0;
    let mut all = Vec::new();
    for (gap, time) in &life.records {
        all.push((end + gap, time.map_or(-1, |seconds| T0 + seconds * 1000)));
        end += gap + 1;
    }
    (all, end + life.gap_at_the_end)
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Cut { cut: u64, time: Option<i64>, gap: bool },
    NoTimes,
}

fn expected(life: &Life) -> Expected {
    let (all, end) = records(life);
    let start = end * life.taken / 100;
    let asked = T0 + life.asked * 1000;
    let kept: Vec<_> = all.into_iter().filter(|(offset, _)| *offset >= start).collect();
    let timed: Vec<_> = kept.iter().filter(|(_, time)| *time >= 0).collect();
    match timed.iter().find(|(_, time)| *time >= asked) {
        Some(&&(cut, time)) => Expected::Cut { cut, time: Some(time), gap: start > 0 && asked < timed[0].1 },
        None if timed.is_empty() && !kept.is_empty() => Expected::NoTimes,
        None => Expected::Cut { cut: end, time: None, gap: start > 0 && start == end },
    }
}

fn stage(life: &Life) -> (Stage, u64) {
    let (all, end) = records(life);
    let mut stage = Stage::new(&[0]);
    for (offset, time) in &all {
        stage.log.append_at(&at("t", 0), Offset(*offset), record(0, *offset as i64, *time));
    }
    stage.log.push_gap(&at("t", 0), life.gap_at_the_end);
    let start = end * life.taken / 100;
    stage.log.truncate_before(&at("t", 0), Position(start));
    part(&mut stage).position = Position(end);
    for (id, percent) in life.snapshots.iter().enumerate() {
        let position = end * percent / 100;
        let last = all.iter().rfind(|(offset, _)| *offset < position);
        let last = last.map(|(offset, time)| print(*offset as i64, *time));
        let identity = identity(&stage.log, &at("t", 0));
        let views = vec![view("a", 1)];
        let parts = vec![KnownPart {
            lineage: Lineage::default(),
            began: Position::ZERO,
            identity,
            generation: 0,
            position: Position(position),
            last,
            views,
        }];
        stage.snapshots.push(KnownSnapshot { id: id as u64, topic: "t".to_owned(), parts, damaged: None });
    }
    (stage, start)
}

/// The position of the newest snapshot that fits, `Some(0)` for the beginning of the log, or nothing.
fn base(stage: &Stage, start: u64, cut: u64, asked_in_gap: Option<i64>) -> Option<u64> {
    let fits = |snapshot: &&KnownSnapshot| {
        let KnownPart { position, last, .. } = &snapshot.parts[0];
        let older = |asked: i64| last.is_none_or(|last| last.timestamp.0 < asked);
        (start..=cut).contains(&position.0) && asked_in_gap.is_none_or(older)
    };
    let newest = stage.snapshots.iter().filter(fits).map(|snapshot| snapshot.parts[0].position.0).max();
    newest.or((start == 0).then_some(0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn refuse_or_cut_at_the_first_record_that_is_late_enough(life in life()) {
        let (stage, _) = stage(&life);
        let asked = Timestamp(T0 + life.asked * 1000);
        let found = match resolve(&stage.log, "t", 1, &Since::Time(asked), NOW) {
            Ok(cuts) => {
                prop_assert_eq!(cuts.len(), 1);
                let ends = stage.log.watermarks(&at("t", 0)).unwrap();
                prop_assert_eq!((cuts[0].log_start, cuts[0].log_end), (ends.start, ends.end));
                let time = cuts[0].time.map(|time| time.0);
                Expected::Cut { cut: cuts[0].cut.0, time, gap: cuts[0].gap.is_some() }
            }
            Err(ReplayError::Refused(why)) => {
                prop_assert!(why.contains("has a timestamp, so there is no position for"), "{}", why);
                Expected::NoTimes
            }
            Err(other) => panic!("{other}"),
        };
        prop_assert_eq!(found, expected(&life));
    }

    #[test]
    fn refuse_or_begin_at_the_newest_snapshot_that_fits(life in life()) {
        let (mut stage, start) = stage(&life);
        let answer = stage.from(&s(life.asked), BaseChoice::Auto);
        let Expected::Cut { cut, gap, .. } = expected(&life) else {
            prop_assert!(matches!(answer, Err(ReplayError::Refused(_))));
            return Ok(());
        };
        match (base(&stage, start, cut, gap.then_some(T0 + life.asked * 1000)), answer) {
            (None, Err(ReplayError::Refused(why))) => {
                prop_assert!(why.contains("cannot be folded from its beginning"), "{}", why);
            }
            (Some(from), Ok(plan)) => {
                let found = &parts(&plan)[0];
                prop_assert_eq!((found.cut.0, found.from.0), (cut, from));
                prop_assert_eq!(matches!(found.base, Base::Genesis), from == 0);
                let ahead = records(&life).0.iter().filter(|(offset, _)| *offset >= from.max(start)).count();
                prop_assert_eq!(plan.records, ahead as u64);
            }
            (expected, answer) => panic!("{expected:?}, but {answer:?}"),
        }
    }
}
