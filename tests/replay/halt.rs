//! What ends a job early, at whatever moment: a cancel, a stop of the node, a log that has moved on.

use std::future::Future;
use std::time::Duration;

use segno::actors::replay::words::{BaseChoice, JobAction, Phase, ReplayError, ReplayRequest};
use segno::position::{Position, TopicPartition};

use crate::moody::{Hanging, MOODY, moody};
use crate::oracle::{Code, all};
use crate::resume::{genesis, send};
use crate::stage::{Setup, Stage, TOPIC};
use crate::views::{TALLY, Tally, What};

const OLD: Tally = Tally { version: 1, factor: 1, floor: None };

fn check(stage: &Stage) {
    stage.settle();
    let expected = all(Code::Tally(OLD), &stage.pen.tracks(), &stage.setup.policy);
    assert_eq!(stage.rows(TALLY), expected.seen(Code::Tally(OLD)));
    assert_eq!(stage.books(TALLY), expected.books);
}

/// An answer, or none for so long that there will not be one.
fn answered<T>(stage: &Stage, what: &str, asked: impl Future<Output = T>) -> T {
    let answer = stage.block(async { tokio::time::timeout(Duration::from_secs(20), asked).await });
    answer.unwrap_or_else(|_| panic!("no answer: {what}"))
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

#[test]
fn a_cancel_is_heard_while_the_job_waits_for_live_to_come_up() {
    let stage = Stage::new(Setup { partitions: 1, ..Setup::of(&[OLD.definition()]) });
    send(&stage, 0..100);
    stage.settle();
    stage.pen.script().hold_at(&partition(0), Position(100));
    send(&stage, 100..200);
    // It begins above live.
    let from = format!("@{TOPIC}@0:150");
    let job = stage.replay(&ReplayRequest { from, base: BaseChoice::Empty, ..genesis() }).unwrap();
    stage.until("it waits", || stage.job(job.id).phase == Phase::Verifying);
    let cancelled = answered(&stage, "cancel", stage.node().act(Some(job.id), JobAction::Cancel)).unwrap();
    assert_eq!(cancelled.phase, Phase::Cancelled);
    stage.pen.script().release(&partition(0));
    stage.until_directories(1);
    check(&stage);
}

/// Whatever it answers is so, and it leaves one generation or the switch done.
#[test]
fn a_cancel_at_any_moment_answers_what_became_of_the_job() {
    // More partitions than are rebuilt at once.
    let stage = Stage::new(Setup { partitions: 5, ..Setup::of(&[OLD.definition()]) });
    send(&stage, 0..300);
    stage.settle();
    let (mut cancelled, mut too_late) = (0, 0);
    for round in 0..60u64 {
        let before = stage.generations();
        let begun = stage.replay(&genesis()).unwrap();
        send(&stage, 300 + round..301 + round);
        match round % 6 {
            4 => stage.until("switched", || stage.generations() != before || stage.job(begun.id).phase.ended()),
            5 => stage.until("seen", || {
                let phase = stage.job(begun.id).phase;
                phase == Phase::CuttingOver || phase.ended()
            }),
            _ => std::thread::sleep(Duration::from_millis(round)),
        }
        let answer = answered(&stage, "cancel", stage.node().act(Some(begun.id), JobAction::Cancel));
        let (job, now) = (stage.job(begun.id), stage.generations());
        match answer {
            Ok(status) => {
                assert_eq!((status.phase, job.phase), (Phase::Cancelled, Phase::Cancelled));
                assert_eq!(now, before, "round {round}");
                cancelled += 1;
            }
            Err(ReplayError::NotNow(why)) => {
                assert!(why.contains("rollback"), "{why}");
                assert_eq!(job.phase, Phase::Done);
                assert!(now.iter().zip(&before).all(|(now, before)| now > before), "{now:?} {before:?}");
                too_late += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
        stage.until_directories(if too_late > 0 { 2 } else { 1 });
    }
    assert!(cancelled > 0 && too_late > 0, "{cancelled} {too_late}");
    check(&stage);
}

#[test]
fn a_stop_at_any_moment_of_a_cut_over_loses_nothing() {
    let mut stage = Stage::new(Setup { partitions: 3, ..Setup::of(&[OLD.definition()]) });
    send(&stage, 0..300);
    stage.settle();
    for round in 0..10u64 {
        let before = stage.generations();
        let job = stage.replay(&genesis()).unwrap();
        send(&stage, 300 + round * 10..310 + round * 10);
        stage.until("at it", || {
            let phase = stage.job(job.id).phase;
            phase == Phase::CuttingOver || phase.ended()
        });
        std::thread::sleep(Duration::from_micros(round * 500));
        if round % 3 == 2 {
            stage.crash()
        } else {
            stage.restart()
        }
        stage.done(job.id);
        assert!(stage.generations().iter().zip(&before).all(|(now, before)| now > before));
        check(&stage);
    }
}

/// Retention has taken what the rebuild has to read next: nothing helps, and nobody tries for ever.
#[test]
fn a_log_that_has_moved_on_fails_the_job_once() {
    let mut stage = Stage::new(Setup { partitions: 1, ..Setup::of(&[OLD.definition()]) });
    send(&stage, 0..300);
    stage.settle();
    let job = stage.replay(&ReplayRequest { rate: Some(20), ..genesis() }).unwrap();
    stage.until("it reads", || stage.job(job.id).topics.first().is_some_and(|topic| topic.done > 0));
    stage.stop();
    stage.pen.script().truncate_before(&partition(0), Position(250));
    stage.start();
    let failed = stage.outcome(job.id);
    let why = failed.reason.as_ref().unwrap();
    assert_eq!(failed.phase, Phase::Failed);
    for part in ["ledger/0", "no longer holds", "250", "live is untouched", "--from"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    check(&stage);
    send(&stage, 300..310);
    stage.restart();
    let still = stage.job(job.id);
    assert_eq!((still.phase, still.ended), (Phase::Failed, failed.ended), "it is not tried again by itself");
    stage.act(job.id, JobAction::Resume).unwrap();
    let again = stage.outcome(job.id);
    assert!(again.phase == Phase::Failed && again.reason.as_ref().unwrap().contains("no longer holds"), "{again:#?}");
    check(&stage);
    assert_eq!(stage.act(job.id, JobAction::Cancel).unwrap().phase, Phase::Cancelled);
    stage.until_directories(1);
    // While it reads, and not between two runs.
    let from = format!("@{TOPIC}@0:255");
    let request = ReplayRequest { from, base: BaseChoice::Empty, rate: Some(20), ..genesis() };
    stage.setup.history = segno::actors::plan::History::Retained;
    stage.restart();
    let job = stage.replay(&request).unwrap();
    stage.until("it reads", || stage.job(job.id).topics.first().is_some_and(|topic| topic.done > 0));
    let end = stage.pen.log.watermarks(&partition(0)).unwrap().end;
    stage.pen.script().truncate_before(&partition(0), end);
    let failed = stage.outcome(job.id);
    assert!(failed.phase == Phase::Failed && failed.reason.unwrap().contains("no longer holds"));
    check(&stage);
}

/// A question whose fold does not come back is answered all the same.
#[test]
fn a_fold_that_hangs_ends_the_question_and_not_the_node() {
    let mut setup = Setup { partitions: 1, ..Setup::of(&[moody::<5>()]) };
    setup.fold_time_limit = Duration::from_millis(500);
    let stage = Stage::new(setup);
    for n in 0..20 {
        stage.pen.send("a", n, &What::Add { n: n as u64, amount: 1 });
    }
    stage.settle();
    let node = stage.node();
    let at = format!("@{TOPIC}@0:10");
    let end = format!("@{TOPIC}@0:20");
    let hanging = Hanging::<5>::begin();
    let said = |error: ReplayError| {
        let why = error.to_string();
        for part in ["ledger/0", "`moody`", "offset 0", "fold-time-limit"] {
            assert!(why.contains(part), "{part}: {why}");
        }
    };
    said(answered(&stage, "get --at", node.get_at(MOODY, b"a".to_vec(), at.clone())).unwrap_err());
    let view = MOODY.to_owned();
    let question = segno::actors::admin::Explain { view, key: b"a".to_vec(), from: None, to: None, limit: 5 };
    said(answered(&stage, "explain", node.explain(question)).unwrap_err());
    said(answered(&stage, "diff", node.changes(MOODY, at.clone(), end)).unwrap_err());
    // Rows are read, and what does not hang is answered.
    assert_eq!(stage.rows(MOODY)["a"].json["n"], 20);
    drop(hanging);
    let as_of = answered(&stage, "get --at", node.get_at(MOODY, b"a".to_vec(), at)).unwrap();
    assert!(as_of.row.unwrap().json.get().contains("10"));
}
