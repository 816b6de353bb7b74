//! Positions, topics, definitions, named snapshots, compaction, and a log that is not live's any more.

use segno::actors::replay::words::{Base, BaseChoice, DefinitionChange, ReplayError, ReplayRequest};
use segno::position::{Offset, Position, Timestamp};
use segno::state::{Books, Fingerprint};
use segno::streams::{Error, Log};

use super::stage::*;

fn request(from: &str) -> ReplayRequest {
    ReplayRequest { from: from.to_owned(), ..ReplayRequest::default() }
}

#[test]
fn refuse_positions_outside_the_log() {
    let mut stage = Stage::new(&[100, 10]);
    assert_eq!(
        stage.refused("@t@0:101,1:0", BaseChoice::Auto),
        "t/0: position 101 is outside the log, which holds 0..100: name a position from 0 to 100"
    );
    stage.truncate(1, 4);
    assert_eq!(
        stage.refused("@t@0:100,1:3", BaseChoice::Auto),
        "t/1: position 3 is outside the log, which holds 4..10: name a position from 4 to 10"
    );
}

#[test]
fn refuse_tokens_that_do_not_fit_the_topics() {
    let mut stage = Stage::new(&[100, 10]);
    assert_eq!(stage.bad(request("@t@0:1,2:5")), "`t@0:1,2:5` names partition 2, but topic `t` has 2, numbered from 0");
    assert_eq!(
        stage.bad(request("@t@0:1")),
        "`t@0:1` names no position for partition 1 of topic `t`: with `@t@0:1,1:10`, nothing but what is new would be \
         folded again there"
    );
    assert_eq!(stage.bad(request("@u@0:1")), "there is no topic `u` here; there are `t`");
    stage.add_topic("u", &[3]);
    let both = ReplayRequest { topics: vec!["t".into(), "u".into()], ..request("@t@0:1,1:1") };
    assert_eq!(stage.bad(both), "`--from` has positions of `t`, and none of topic `u`");
    let other = ReplayRequest { topics: vec!["u".into()], ..request("@t@0:1,1:1") };
    assert_eq!(stage.bad(other), "`--from` has positions of topic `t`, which is not among the topics to replay");
    let names = |plan: segno::actors::replay::words::ReplayPlan| {
        plan.topics.into_iter().map(|topic| topic.topic).collect::<Vec<_>>()
    };
    let mut planned = |request| names(stage.ask(&request).unwrap());
    assert_eq!(planned(request("@u@0:1")), ["u"], "a token chooses its topic");
    assert_eq!(planned(request("@u@0:1;t@0:1,1:1")), ["t", "u"]);
    assert_eq!(planned(request(&s(1))), ["t", "u"]);
    assert_eq!(planned(ReplayRequest { topics: vec!["u".into(), "u".into()], ..request(&s(1)) }), ["u"]);
}

#[test]
fn refuse_requests_that_make_no_sense() {
    let mut stage = Stage::new(&[3]);
    let unknown = ReplayRequest { topics: vec!["x".into()], ..request("today") };
    assert_eq!(stage.bad(unknown), "there is no topic `x` here; there are `t`");
    let unknown = ReplayRequest { compacted: vec!["x".into()], ..request("today") };
    assert_eq!(stage.bad(unknown), "there is no topic `x` here; there are `t`");
    let still = ReplayRequest { rate: Some(0), ..request("today") };
    assert_eq!(stage.bad(still), "`--rate 0` would never end: name a number of records a second");
    for share in [1.5, -0.1, f64::NAN] {
        let share = ReplayRequest { max_changed: Some(share), ..request("today") };
        assert!(stage.bad(share).starts_with("`--max-changed` is a share of the rows, from 0 to 1 (0 % to 100 %)"));
    }
    assert!(stage.bad(request("")).starts_with("`` is neither a time nor a position; what is understood: 2026-"));
    assert!(stage.planned("2023-11-14").warnings[0].contains("it was taken as UTC"));
}

#[test]
fn refuse_a_log_that_is_not_lives_any_more() {
    let mut stage = Stage::new(&[100]);
    stage.log.create_topic("t", 1);
    assert_eq!(
        stage.refused(&s(1), BaseChoice::Auto),
        "t/0: the store has read up to 100, but the log ends at 0: the topic was truncated or created anew. Bring the \
         records back, or use a new data directory"
    );
    // Created anew, and already longer than before.
    stage.log.append("t", (0..200).map(|i| record(0, i + 7, T0 + i * 1000)).collect()).unwrap();
    let (stored, found) = (print(99, T0 + 99_000), print(106, T0 + 99_000));
    assert_eq!(
        stage.refused(&s(1), BaseChoice::Auto),
        format!(
            "t/0: the last record applied was offset 99 with timestamp 2023-11-14T22:14:59.000Z and hash {:016x}, but the \
             log has offset 99 with timestamp 2023-11-14T22:14:59.000Z and hash {:016x} there: the topic was created \
             anew. Bring the old topic back, or use a new data directory",
            stored.hash, found.hash
        )
    );

    let mut stage = Stage::new(&[100]);
    stage.log.set_cluster("elsewhere");
    assert_eq!(
        stage.refused(&s(1), BaseChoice::Auto),
        "t/0: the store was fed from cluster `memory`, and the log is cluster `elsewhere`: go back to that cluster, or use \
         a new data directory for this one"
    );

    let mut stage = Stage::new(&[100]);
    stage.log.create_topic("t", 3);
    assert_eq!(
        stage.refused(&s(1), BaseChoice::Auto),
        "t/0: the topic had 1 partitions and now has 3, so keys have moved between partitions: use a new data directory, or \
         a new topic with 3 partitions into which the events are copied"
    );

    let mut stage = Stage::new(&[100]);
    (part(&mut stage).position, part(&mut stage).last) = (Position(10), None);
    stage.truncate(0, 20);
    assert_eq!(
        stage.refused(&s(30), BaseChoice::Auto),
        "t/0: the next record to read is 10, but the log begins at 20: retention has removed 10 records that were never \
         applied. Raise the topic's retention and rebuild from a source that still has them, or accept the loss with a new \
         data directory"
    );
}

#[test]
fn a_log_that_does_not_answer_is_no_refusal() {
    let mut stage = Stage::new(&[3]);
    let broken = Error::Unreachable { brokers: "nowhere".into(), reason: "scripted".into() };
    stage.log.fail_lookups(1, &broken);
    let failed = ReplayError::Failed(format!("topic `t`: {broken}"));
    assert_eq!(stage.from(&s(1), BaseChoice::Auto), Err(failed.clone()));
    stage.log.fail_watermarks(1, &broken);
    assert_eq!(stage.from(&s(1), BaseChoice::Auto), Err(failed));
    stage.log.delete_topic("t");
    let Err(ReplayError::Failed(why)) = stage.from(&s(1), BaseChoice::Auto) else { panic!("no error") };
    assert_eq!(why, "topic `t`: topic `t` does not exist in the memory log");
}

#[test]
fn refuse_a_compacted_topic_unless_it_is_named() {
    let mut stage = Stage::new(&[5]);
    stage.log.set_compacted("t", Some(true));
    let why = stage.refused(&s(1), BaseChoice::Auto);
    assert_eq!(
        why,
        "topic `t` is compacted: the log keeps the newest record of a key and has lost older ones, so a replay cannot \
         come to the same rows. Options: `--compacted t` replays what is left; leave it out with `--topic`; set \
         `cleanup.policy=delete` for the time to come"
    );
    let plan = stage.ask(&ReplayRequest { compacted: vec!["t".into()], ..request(&s(1)) }).unwrap();
    assert!(plan.topics[0].compacted);
    assert_eq!(plan.warnings, ["topic `t` is compacted: what compaction took is missing from the new rows"]);
    stage.log.set_compacted("t", None);
    let plan = stage.planned(&s(1));
    assert!(!plan.topics[0].compacted);
    assert_eq!(
        plan.warnings,
        ["topic `t`: the cluster does not tell whether it is compacted (is DescribeConfigs allowed?); it is taken as \
          complete"]
    );
}

#[test]
fn changed_definitions_count_from_the_base() {
    let mut stage = Stage::new(&[100, 10]);
    stage.snapshot(3, &[40, 0]);
    stage.topics[0].wanted = vec![want("a", 2)];
    let plan = stage.planned(&s(50));
    let view = &plan.topics[0].views[0];
    assert_eq!((view.live, view.wanted, view.change), (Some(1), Some(2), DefinitionChange::Changed));
    assert_eq!(shape(&plan), [row(50, 40, "snapshot 3"), row(10, 0, "genesis")]);
    assert_eq!(
        plan.warnings,
        [
            "topic `t`: the new definition of `a` counts from the base on, and what older events made of the rows stays: \
          partition 0 from position 40 (after 2023-11-14T22:13:59.000Z)"
        ]
    );
    let genesis = stage.from(&s(50), BaseChoice::Genesis).unwrap();
    assert_eq!(genesis.warnings, ["topic `t`: the new definition of `a` counts from the first event on"]);
    let empty = stage.from(&s(50), BaseChoice::Empty).unwrap();
    assert_eq!(empty.warnings[1], "topic `t`: the new definition of `a` counts from the cut on");
    // A snapshot that the wanted definition has made is no older than it.
    stage.snapshots[0].parts.iter_mut().for_each(|part| part.views = vec![super::stage::view("a", 2)]);
    assert_eq!(stage.planned(&s(50)).warnings, genesis.warnings);
    // The text alone: the version of a declared view may stay while nothing has been folded.
    stage.topics[0].wanted[0] = segno::state::ViewIdent { text: "other".into(), ..want("a", 1) };
    assert_eq!(stage.planned(&s(50)).topics[0].views[0].change, DefinitionChange::Changed);
}

#[test]
fn a_new_view_needs_the_whole_log() {
    let mut stage = Stage::new(&[100]);
    stage.snapshot(3, &[40]);
    stage.topics[0].wanted.push(want("b", 1));
    let plan = stage.planned(&s(50));
    assert_eq!(shape(&plan), [row(50, 0, "genesis")]);
    assert_eq!(
        plan.warnings,
        [
            "topic `t`: view `b` is new: every partition is folded from the beginning of the log, so that it misses nothing"
        ]
    );
    assert_eq!(plan.topics[0].views[1].change, DefinitionChange::Added);
    assert_eq!((plan.topics[0].views[1].live, plan.topics[0].same_definitions()), (None, false));
    assert_eq!(plan.disk_needed, 2000, "twice the views");
    let why = stage.refused(&s(50), BaseChoice::Snapshot(3));
    assert!(why.starts_with("t/0: snapshot 3 cannot be the base: it does not have view `b`; "), "{why}");
    stage.truncate(0, 10);
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Auto),
        "t/0: view `b` is new and needs the whole log, which begins at 10 and not at 0. Options: `--base empty`, as if \
         history began at the cut; `history = \"retained\"` for the topic, if a view of what is left is what you want"
    );
    // One that goes needs nothing.
    stage.topics[0].wanted = vec![];
    let plan = stage.planned(&s(50));
    assert_eq!(plan.topics[0].views[0].change, DefinitionChange::Removed);
    assert_eq!((plan.topics[0].views[0].live, plan.topics[0].views[0].wanted), (Some(1), None));
    assert_eq!(shape(&plan), [row(50, 40, "snapshot 3")]);
}

#[test]
fn refuse_a_named_snapshot_that_does_not_fit() {
    let mut stage = Stage::new(&[100, 10]);
    stage.snapshot(3, &[40, 5]);
    assert_eq!(stage.from(&s(50), BaseChoice::Snapshot(9)), Err(ReplayError::NoSuchSnapshot { id: 9 }));
    let auto = "`--base auto` chooses one that fits, and `segno snapshot list` shows all";
    assert_eq!(
        stage.refused(&s(30), BaseChoice::Snapshot(3)),
        format!("t/0: snapshot 3 cannot be the base: it stands at 40, after the cut at 30; {auto}")
    );
    stage.truncate(1, 6);
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Snapshot(3)),
        format!("t/1: snapshot 3 cannot be the base: it stands at 5, and the log begins at 6; {auto}")
    );
    stage.snapshot(4, &[40]);
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Snapshot(4)),
        format!("t/1: snapshot 4 does not cover this partition; {auto}")
    );
    // One that was being taken has no part yet.
    stage.snapshot(5, &[]).damaged = Some("it was being taken".into());
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Snapshot(5)),
        format!("t/0: snapshot 5 cannot be the base: it is damaged (it was being taken); {auto}")
    );
    stage.snapshots[0].damaged = Some("MANIFEST is gone".into());
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Snapshot(3)),
        format!("t/0: snapshot 3 cannot be the base: it is damaged (MANIFEST is gone); {auto}")
    );
    stage.add_topic("u", &[3]);
    let both = ReplayRequest { base: BaseChoice::Snapshot(3), ..request(&s(50)) };
    assert_eq!(
        stage.bad(both),
        "snapshot 3 is of topic `t`, and topic `u` is to be replayed, too: name the one topic, or use `--base auto`"
    );
}

#[test]
fn a_base_that_is_not_of_one_piece_with_live_is_told() {
    let mut stage = Stage::new(&[100]);
    let snapshot = stage.snapshot(3, &[40]);
    snapshot.parts[0].views = vec![super::stage::view("a", 0)];
    snapshot.parts[0].generation = 7;
    let plan = stage.from(&s(50), BaseChoice::Snapshot(3)).unwrap();
    assert_eq!(
        plan.warnings,
        [
            "t/0: snapshot 3 was taken of generation 7, and live is generation 0: what was set right between the two is \
             not in the base",
            "t/0: other definitions made snapshot 3 than live: the new rows will differ from live's"
        ]
    );
    assert_eq!(parts(&plan)[0].base, Base::Snapshot { snapshot: 3, position: Position(40) });
}

#[test]
fn a_cut_above_live_is_a_cut_like_any_other() {
    let mut stage = Stage::new(&[100]);
    let live = part(&mut stage);
    (live.position, live.last) = (Position(20), Some(print(19, T0 + 19_000)));
    stage.snapshot(3, &[20]);
    assert_eq!(shape(&stage.planned(&s(50))), [row(50, 20, "snapshot 3")]);
}

#[test]
fn what_live_has_set_aside_is_told() {
    let mut stage = Stage::new(&[10, 10]);
    part(&mut stage).books = Books { consumed: 10, applied: 3, skipped: 1, waiting: 0, parked: 4, dead: 2 };
    stage.topics[0].partitions[1].books.parked = 1;
    assert_eq!(
        stage.planned(&s(3)).warnings,
        [
            "topic `t`: live has not applied some events (2 dead letters, 5 parked, 1 skipped, summed over the views); those \
          after the base are decided again, by the definitions and the policy of now"
        ]
    );
}

#[test]
fn refuse_what_does_not_fit_on_the_disk() {
    let mut stage = Stage::new(&[100]);
    stage.disk_free = 999;
    assert_eq!(
        stage.refused(&s(50), BaseChoice::Genesis),
        "the new generations are expected to take 1000 bytes, and 999 are free on the disk: make room, or delete snapshots \
         that are not needed (`segno snapshot list`)"
    );
    stage.snapshot(3, &[40]);
    let plan = stage.planned(&s(50));
    assert!(plan.warnings[0].starts_with("the new generations may come to take 1000 bytes, and 999 are free"));
    // Live has read a tenth: ten times the rows, but not more than the log has bytes.
    let live = part(&mut stage);
    (live.position, live.last) = (Position(10), Some(Fingerprint { offset: Offset(9), ..print(9, T0 + 9_000) }));
    live.bytes = 50;
    assert_eq!(stage.from(&s(50), BaseChoice::Genesis).unwrap().disk_needed, 500);
    part(&mut stage).bytes = 500;
    stage.disk_free = 1 << 20;
    assert_eq!(stage.from(&s(50), BaseChoice::Genesis).unwrap().disk_needed, 500 + 1000);
    assert_eq!(stage.from(&s(50), BaseChoice::Genesis).unwrap().time, Some(Timestamp(T0 + 50_000)));
}
