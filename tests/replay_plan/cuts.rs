//! Which positions a time means, what the rebuild begins with there, and when there is no answer.

use segno::actors::plan::History;
use segno::actors::replay::plan::{KnownPart, KnownSnapshot};
use segno::actors::replay::words::{BaseChoice, ReplayRequest};
use segno::position::{Offset, Position, Timestamp};
use segno::state::{Fingerprint, Lineage};
use segno::streams::Log;

use super::stage::*;

#[test]
fn a_plan_says_cut_base_and_what_is_to_be_read() {
    let mut stage = Stage::new(&[100, 10, 0]);
    stage.snapshot(3, &[40, 8, 0]);
    stage.snapshot(4, &[60, 9, 0]);
    stage.rate = Some(25.0);
    part(&mut stage).number = 5;
    let plan = stage.planned(&s(50));
    assert_eq!(shape(&plan), [row(50, 40, "snapshot 3"), row(10, 9, "snapshot 4"), row(0, 0, "genesis")]);
    assert_eq!(plan.time, Some(Timestamp(T0 + 50_000)));
    let first = &parts(&plan)[0];
    assert_eq!((first.cut_time, first.base_time), (plan.time, Some(Timestamp(T0 + 39_000))));
    assert_eq!((first.log_start, first.log_end, first.live), (Position(0), Position(100), Position(100)));
    assert_eq!((first.records, first.bytes), (60, Some(600)));
    assert_eq!((first.live_generation, first.base_generation), (5, Some(0)));
    assert_eq!((plan.records, plan.bytes, plan.exact), (61, Some(610), true));
    assert_eq!(plan.seconds, Some(61.0 / 25.0));
    assert_eq!((plan.disk_needed, plan.disk_free), (3000, 1 << 40));
    assert_eq!(plan.topics[0].cut().to_string(), "t@0:50,1:10,2:0");
    assert!(plan.topics[0].same_definitions());
    assert_eq!(plan.warnings, <[String; 0]>::default());
    let slow = ReplayRequest { from: s(50), rate: Some(10), ..ReplayRequest::default() };
    assert_eq!(stage.ask(&slow).unwrap().seconds, Some(6.1));
}

#[test]
fn each_base_is_as_it_is_called() {
    let mut stage = Stage::new(&[100]);
    stage.snapshot(3, &[40]);
    let plan = |stage: &mut Stage, base| stage.from(&s(50), base).unwrap();
    assert_eq!(shape(&plan(&mut stage, BaseChoice::Genesis)), [row(50, 0, "genesis")]);
    assert_eq!(shape(&plan(&mut stage, BaseChoice::Snapshot(3))), [row(50, 40, "snapshot 3")]);
    let empty = plan(&mut stage, BaseChoice::Empty);
    assert_eq!(shape(&empty), [row(50, 50, "empty")]);
    assert_eq!(empty.warnings, ["topic `t`: with `--base empty`, nothing before the cut is in the new rows"]);
    assert_eq!(shape(&stage.planned("@t@0:40")), [row(40, 40, "snapshot 3")]);
    assert_eq!(shape(&stage.planned("@t@0:39")), [row(39, 0, "genesis")]);
    assert_eq!(shape(&stage.planned("beginning")), [row(0, 0, "genesis")]);
}

/// Live's rows were taken over from version 0 at position 40: the same replay again must start from the same rows, and
/// neither from other rows of version 0 nor from the beginning.
#[test]
fn auto_repeats_the_history_of_live() {
    let taken_over = |positions: &[i64]| {
        let mut stage = Stage::new(&[100]);
        part(&mut stage).lineage = Lineage { generation: 1, position: Position(40) };
        for (id, &position) in positions.iter().enumerate() {
            stage.snapshot(id as u64, &[position]).parts[0].views[0] = view("a", 0);
        }
        stage
    };
    assert_eq!(shape(&taken_over(&[30, 40, 45]).planned(&s(50))), [row(50, 40, "snapshot 1")]);
    let mut since = taken_over(&[40]);
    since.snapshot(7, &[48]).parts[0].lineage = Lineage { generation: 1, position: Position(40) };
    since.snapshot(8, &[49]).parts[0].lineage = Lineage { generation: 2, position: Position(44) };
    assert_eq!(shape(&since.planned(&s(50))), [row(50, 48, "snapshot 7")]);
    let why = taken_over(&[30, 45]).refused(&s(50), BaseChoice::Auto);
    assert!(why.contains("t/0: live's rows were taken over from older definitions at position 40"), "{why}");
    let named = taken_over(&[30]).from(&s(50), BaseChoice::Genesis).unwrap();
    assert!(named.warnings.iter().any(|warning| warning.contains("they may differ")), "{:?}", named.warnings);
}

/// Live was made by a replay with `--base empty`, at position 30.
#[test]
fn auto_repeats_a_history_that_began_later() {
    let mut stage = Stage::new(&[100]);
    part(&mut stage).began = Position(30);
    stage.snapshot(3, &[40]).parts[0].began = Position(30);
    stage.snapshot(4, &[45]);
    assert_eq!(shape(&stage.planned(&s(50))), [row(50, 40, "snapshot 3")]);
    let named = stage.from(&s(50), BaseChoice::Snapshot(4)).unwrap();
    let differ = "t/0: the history of snapshot 4 begins at 0, and live's at 30: the new rows will differ from live's";
    assert_eq!(named.warnings, [differ]);
    let whole = stage.from(&s(50), BaseChoice::Genesis).unwrap();
    let before =
        "t/0: live's history begins at 30; from the beginning of the log, the new rows have what came before it, too";
    assert_eq!(whole.warnings, [before]);
}

#[test]
fn auto_passes_over_what_does_not_fit() {
    let cases: [fn(&mut KnownSnapshot); 7] = [
        |snapshot| snapshot.damaged = Some("its manifest is torn".to_owned()),
        |snapshot| snapshot.parts[0].identity.cluster = "elsewhere".to_owned(),
        |snapshot| snapshot.parts[0].views[0].name = "b".to_owned(),
        |snapshot| snapshot.parts[0].views[0].left_at = Some(Position(45)),
        // Other definitions made it than live, which is of one piece.
        |snapshot| snapshot.parts[0].views[0] = view("a", 0),
        // It is of a replay with `--base empty`, and live is not.
        |snapshot| snapshot.parts[0].began = Position(5),
        |snapshot| snapshot.parts[0].last = Some(print(999, T0)).map(|last| Fingerprint { offset: Offset(44), ..last }),
    ];
    for (number, spoil) in cases.into_iter().enumerate() {
        let mut stage = Stage::new(&[100]);
        stage.snapshot(3, &[40]);
        spoil(stage.snapshot(4, &[45]));
        assert_eq!(shape(&stage.planned(&s(50))), [row(50, 40, "snapshot 3")], "case {number}");
    }
    let mut stage = Stage::new(&[100]);
    stage.snapshot(4, &[45]);
    stage.incompatible = Some("row \"k\" has no field `x`");
    assert_eq!(shape(&stage.planned(&s(50))), [row(50, 0, "genesis")]);
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Snapshot(4)),
        "t/0: snapshot 4 cannot be the base: row \"k\" has no field `x`; `--base auto` chooses one that fits, and \
         `segno snapshot list` shows all"
    );
}

/// With a changed definition, too, auto goes on with live's own past: neither with one that began later, nor with what
/// was rolled back.
#[test]
fn auto_goes_on_with_the_past_of_live_only() {
    let mut stage = Stage::new(&[100]);
    stage.topics[0].wanted = vec![want("a", 3)];
    stage.snapshot(3, &[40]);
    let others: [fn(&mut KnownPart); 4] = [
        // Of a replay with `--base empty`.
        |part| (part.began, part.generation) = (Position(30), 1),
        // Of another definition.
        |part| (part.views[0], part.generation) = (view("a", 2), 1),
        // Taken over from another definition.
        |part| (part.lineage, part.generation) = (Lineage { generation: 1, position: Position(20) }, 1),
        // What live was made of, but from where live has rows of its own.
        |part| (part.views[0], part.generation) = (view("a", 2), 7),
    ];
    part(&mut stage).ancestors = vec![(7, Position(44))];
    for (number, spoil) in others.into_iter().enumerate() {
        spoil(&mut stage.snapshot(4, &[45]).parts[0]);
        let plan = stage.planned(&s(50));
        assert_eq!(shape(&plan), [row(50, 40, "snapshot 3")], "case {number}");
        assert!(!plan.warnings.iter().any(|warning| warning.contains("was taken of generation")), "{number}: {plan:?}");
        stage.snapshots.pop();
    }
    let kin: [fn(&mut KnownPart); 2] = [
        // The same definition over the same history.
        |part| part.generation = 1,
        // What live was made of.
        |part| (part.views[0], part.generation, part.position) = (view("a", 0), 7, Position(44)),
    ];
    for (number, change) in kin.into_iter().enumerate() {
        let taken = &mut stage.snapshot(4, &[44]).parts[0];
        change(taken);
        let plan = stage.planned(&s(50));
        assert_eq!(shape(&plan), [row(50, 44, "snapshot 4")], "case {number}");
        assert!(!plan.warnings.iter().any(|warning| warning.contains("was taken of generation")), "{number}: {plan:?}");
        stage.snapshots.pop();
    }
}

/// What auto passes over can be named: that, and what it means, is told.
#[test]
fn what_auto_passes_over_can_be_named() {
    let mut stage = Stage::new(&[100]);
    stage.topics[0].wanted = vec![want("a", 2)];
    let rolled_back = &mut stage.snapshot(4, &[45]).parts[0];
    (rolled_back.began, rolled_back.generation) = (Position(30), 1);
    stage.truncate(0, 20);
    let why = stage.refused(&s(50), BaseChoice::Auto);
    for part in
        ["snapshot 4 does not fit: its history begins at 30, and live's at 0", "Options: `--base 4`, if its rows"]
    {
        assert!(why.contains(part), "{part}: {why}");
    }
    let named = stage.from(&s(50), BaseChoice::Snapshot(4)).unwrap();
    let begins = "t/0: the history of snapshot 4 begins at 30, and live's at 0: nothing before that is in the new rows";
    assert!(named.warnings.iter().any(|warning| warning == begins), "{:?}", named.warnings);
    stage.snapshots[0].parts[0].began = Position::ZERO;
    stage.snapshots[0].parts[0].views[0] = view("a", 0);
    let why = stage.refused(&s(50), BaseChoice::Auto);
    assert!(why.contains("snapshot 4 does not fit: it is of generation 1, which live does not come from"), "{why}");
}

#[test]
fn refuse_a_time_in_the_future() {
    let why = Stage::new(&[3]).refused("2023-11-14T23:00:00Z", BaseChoice::Auto);
    assert_eq!(
        why,
        "2023-11-14T23:00:00.000Z is in the future, now is 2023-11-14T22:43:20.000Z: name a time that has been"
    );
}

#[test]
fn a_time_before_the_first_record_is_the_beginning_and_after_the_last_the_end() {
    let mut stage = Stage::new(&[10]);
    assert_eq!(shape(&stage.planned("1960-01-01T00:00:00Z")), [row(0, 0, "genesis")]);
    let after = stage.planned(&s(10));
    assert_eq!((shape(&after), parts(&after)[0].cut_time), (vec![row(10, 0, "genesis")], None));
}

#[test]
fn refuse_a_time_in_a_retention_gap() {
    let mut stage = Stage::new(&[100]);
    stage.truncate(0, 40);
    stage.snapshot(3, &[20]);
    let hole = "t/0: 2023-11-14T22:13:50.000Z lies in a retention gap: the log begins at 40 with a record of \
                2023-11-14T22:14:00.000Z, and the 40 offsets before it are gone";
    let retained = "`history = \"retained\"` for the topic, if a view of what is left is what you want";
    assert_eq!(
        stage.refused(&s(30), BaseChoice::Auto),
        format!(
            "{hole}; the log begins at 40 and not at 0, so it cannot be folded from its beginning; snapshot 3 does not \
             fit: it stands at 20, and the log begins at 40. Options: {retained}"
        )
    );
    assert_eq!(
        stage.refused(&s(30), BaseChoice::Empty),
        format!("{hole}. Options: a later `--from`; `--from beginning` for all that is left; {retained}")
    );
    // A snapshot from which reading can go on, but which has records of the time asked for.
    stage.snapshot(4, &[40]);
    let why = stage.refused(&s(30), BaseChoice::Auto);
    let late =
        "snapshot 4 does not fit: its last record is of 2023-11-14T22:13:59.000Z, not before 2023-11-14T22:13:50.000Z";
    assert!(why.contains(late), "{why}");
    stage.snapshots[1].parts[0].last.as_mut().unwrap().timestamp = Timestamp(T0 + 30_000);
    let same =
        "snapshot 4 does not fit: its last record is of 2023-11-14T22:13:50.000Z, not before 2023-11-14T22:13:50.000Z";
    let why = stage.refused(&s(30), BaseChoice::Auto);
    assert!(why.contains(same), "{why}");
    // One that shows that the records that are gone were older.
    stage.snapshots[1].parts[0].last.as_mut().unwrap().timestamp = Timestamp(T0 + 29_000);
    assert_eq!(shape(&stage.planned(&s(30))), [row(40, 40, "snapshot 4")]);
    // The time of the first record itself is in the log.
    assert_eq!(parts(&stage.from(&s(40), BaseChoice::Empty).unwrap())[0].cut, Position(40));
}

#[test]
fn refuse_a_beginning_that_is_gone() {
    let mut stage = Stage::new(&[100]);
    stage.truncate(0, 40);
    let gone = "t/0: the log begins at 40 and not at 0, so it cannot be folded from its beginning";
    let retained = "`history = \"retained\"` for the topic, if a view of what is left is what you want";
    let empty = "`--base empty`, as if history began at the cut";
    assert_eq!(stage.refused(&s(50), BaseChoice::Auto), format!("{gone}. Options: {empty}; {retained}"));
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Genesis),
        format!("{gone}. Options: `--base auto`, which takes a snapshot if one fits; {empty}; {retained}")
    );
    stage.snapshot(7, &[60]);
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Auto),
        format!(
            "{gone}; snapshot 7 does not fit: it stands at 60, after the cut at 50. Options: a later `--from` (snapshot 7 \
             stands at 60 with a record of 2023-11-14T22:14:19.000Z); {empty}; {retained}"
        )
    );
    // Nothing has come since live's position: live itself is the base, once it is a snapshot.
    let why = stage.refused(&s(200), BaseChoice::Genesis);
    assert!(why.starts_with(gone), "{why}");
    stage.snapshots.clear();
    let create = "`segno snapshot create`, for live stands at 100, not after the cut at 100";
    assert_eq!(stage.refused(&s(200), BaseChoice::Auto), format!("{gone}. Options: {create}; {empty}; {retained}"));
    for id in 10..15 {
        stage.snapshot(id, &[10]);
    }
    assert!(stage.refused(&s(50), BaseChoice::Auto).contains("; 2 more do not fit. Options"));
}

#[test]
fn a_retained_history_begins_where_the_log_does() {
    let mut stage = Stage::new(&[100]);
    stage.truncate(0, 40);
    stage.topics[0].history = History::Retained;
    let begins = "t/0: the log begins at 40; with `history = \"retained\"` the new rows begin there, too";
    for from in [s(50), s(30)] {
        let plan = stage.planned(&from);
        assert_eq!(parts(&plan)[0].from, Position(40));
        assert_eq!(plan.warnings, [begins]);
    }
    let empty = stage.from(&s(30), BaseChoice::Empty).unwrap();
    assert!(empty.warnings[1].starts_with("t/0: 2023-11-14T22:13:50.000Z lies in a retention gap"), "{empty:?}");
}

#[test]
fn an_empty_partition_has_nothing_to_do() {
    let mut stage = Stage::new(&[0, 5]);
    assert_eq!(shape(&stage.planned(&s(2))), [row(0, 0, "genesis"), row(2, 0, "genesis")]);
    assert_eq!(stage.planned(&s(2)).records, 5);
    // Emptied by retention.
    let mut stage = Stage::new(&[5]);
    stage.truncate(0, 5);
    let why = stage.refused(&s(10), BaseChoice::Auto);
    let hole =
        "2023-11-14T22:13:30.000Z may lie in a retention gap: the log is empty, and the 5 offsets in it are gone";
    assert!(why.starts_with(&format!("t/0: {hole}; the log begins at 5 and not at 0")), "{why}");
    assert!(why.contains("Options: `segno snapshot create`, for live stands at 5"), "{why}");
    stage.snapshot(1, &[5]);
    assert_eq!(shape(&stage.planned(&s(10))), [row(5, 5, "snapshot 1")]);
    assert!(stage.refused(&s(3), BaseChoice::Auto).contains("not before 2023-11-14T22:13:23.000Z"));
}

#[test]
fn refuse_a_time_where_no_record_has_one() {
    let mut stage = Stage::new(&[0]);
    stage.log.append("t", vec![record(0, 0, -1), record(0, 1, -1)]).unwrap();
    assert_eq!(
        stage.refused(&s(3), BaseChoice::Auto),
        "t/0: none of the records in 0..2 has a timestamp, so there is no position for 2023-11-14T22:13:23.000Z: name \
         positions (`--from @t@0:0,…`) or `--from beginning`"
    );
    assert_eq!(shape(&stage.planned("@t@0:1")), [row(1, 0, "genesis")]);
    assert_eq!(shape(&stage.planned("beginning")), [row(0, 0, "genesis")]);
    // Offsets without any record are no such records.
    let mut stage = Stage::new(&[0]);
    stage.log.push_gap(&at("t", 0), 4);
    assert_eq!(shape(&stage.planned(&s(3))), [row(4, 0, "genesis")]);
}

#[test]
fn equal_times_stay_together() {
    let mut stage = Stage::new(&[0]);
    let times = [3, 5, 5, 5, 6].map(|seconds| record(0, 0, T0 + seconds * 1000));
    stage.log.append("t", times.to_vec()).unwrap();
    for (seconds, cut, time) in [(4, 1, 5), (5, 1, 5), (6, 4, 6)] {
        let plan = stage.planned(&s(seconds));
        let time = Some(Timestamp(T0 + time * 1000));
        assert_eq!((parts(&plan)[0].cut, parts(&plan)[0].cut_time), (Position(cut), time), "{seconds}");
        assert_eq!(plan.warnings, <[String; 0]>::default());
    }
}

#[test]
fn times_out_of_order_cut_at_the_first_that_is_late_enough() {
    let mut stage = Stage::new(&[5]);
    let late = [9, 9, 2, 12].map(|seconds| record(0, 5, T0 + seconds * 1000));
    stage.log.append("t", late.to_vec()).unwrap();
    assert_eq!(parts(&stage.planned(&s(9)))[0].cut, Position(5));
    assert_eq!(parts(&stage.planned(&s(10)))[0].cut, Position(8));
    let live = part(&mut stage);
    (live.position, live.last) = (Position(8), Some(Fingerprint { offset: Offset(7), ..print(5, T0 + 2_000) }));
    let plan = stage.planned(&s(6));
    assert_eq!(parts(&plan)[0].cut, Position(5));
    assert_eq!(
        plan.warnings,
        [
            "t/0: timestamps are out of order: the record at the cut is of 2023-11-14T22:13:29.000Z, and a later one, at \
             offset 7, of 2023-11-14T22:13:22.000Z; whatever lies above the cut is folded again, late records too"
        ]
    );
}
