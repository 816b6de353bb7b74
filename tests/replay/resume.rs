//! Going on with a job that ended without a cut-over: only where it would still come to something right, and by one at
//! a time.

use std::sync::Arc;

use segno::actors::replay::record::JobRecord;
use segno::actors::replay::words::{BaseChoice, JobAction, JobStatus, Phase, ReplayError, ReplayRequest};

use crate::moody::{MOODY, moody, set_mood};
use crate::stage::{Setup, Stage};
use crate::views::What;

pub fn genesis() -> ReplayRequest {
    let base = BaseChoice::Genesis;
    ReplayRequest { from: "beginning".to_owned(), base, ..ReplayRequest::default() }
}

pub fn send(stage: &Stage, events: std::ops::Range<u64>) {
    for n in events {
        stage.pen.send(&format!("key-{}", n % 10), n as i64, &What::Add { n, amount: 1 });
    }
}

/// Every event of the view counts once.
fn check(stage: &Stage, events: u64) {
    stage.settle();
    let rows = stage.rows(MOODY);
    let sum = |field: &str| rows.values().map(|row| row.json[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("n"), sum("total")), (events, events));
    stage.verify();
}

fn stage<const N: usize>() -> Stage {
    let stage = Stage::new(Setup::of(&[moody::<N>()]));
    send(&stage, 0..100);
    stage.settle();
    stage
}

/// One that takes half a second.
fn slow() -> ReplayRequest {
    ReplayRequest { rate: Some(200), ..genesis() }
}

/// A replay whose rows come out other than live's.
fn failed<const N: usize>(stage: &Stage) -> JobStatus {
    set_mood::<N>(1);
    let job = stage.replay(&slow()).unwrap();
    let job = stage.outcome(job.id);
    assert_eq!(job.phase, Phase::Failed, "{job:#?}");
    assert!(job.reason.as_ref().unwrap().contains("the same definitions gave other rows"), "{job:#?}");
    set_mood::<N>(0);
    job
}

#[test]
fn a_failed_job_is_not_resumed_after_another_has_become_live() {
    let stage = stage::<0>();
    let job = failed::<0>(&stage);
    let other = stage.replay(&genesis()).unwrap();
    stage.done(other.id);
    let generations = stage.generations();
    let error = stage.act(job.id, JobAction::Resume).unwrap_err();
    let ReplayError::NotNow(why) = &error else { panic!("{error:?}") };
    assert!(why.contains("generation 2 is live") && why.contains("start a new one"), "{why}");
    assert_eq!((stage.job(job.id).phase, stage.generations()), (Phase::Failed, generations));
    stage.until_directories(2);
    let back = stage.roll_back().unwrap();
    stage.done(back.id);
    check(&stage, 100);
    // Of the first generation again, and live is that again: but what the job had made is gone and live has moved.
    let resumed = stage.act(job.id, JobAction::Resume).unwrap();
    stage.done(resumed.id);
    check(&stage, 100);
}

/// One that is found under way at the start, of a directory that was put together from two.
#[test]
fn an_interrupted_job_does_not_go_on_against_another_live() {
    let mut stage = stage::<1>();
    let job = stage.replay(&ReplayRequest { rate: Some(20), ..genesis() }).unwrap();
    stage.until("made", || stage.job(job.id).topics.iter().all(|t| t.partitions.iter().all(|p| p.generation > 0)));
    stage.stop();
    let edit = |record: &mut JobRecord| record.shadows.iter_mut().for_each(|shadow| shadow.live = 7);
    rewrite(&stage, edit);
    stage.start();
    let after = stage.outcome(job.id);
    let why = after.reason.as_ref().unwrap();
    assert!(after.phase == Phase::Failed && why.contains("generation 0 is live"), "{after:#?}");
    stage.until_directories(1);
    check(&stage, 100);
}

/// Changes the records of all jobs while no node runs.
pub fn rewrite(stage: &Stage, edit: impl Fn(&mut JobRecord)) {
    let store = stage.open_store().unwrap();
    for (id, stored) in store.jobs().unwrap() {
        let mut record = JobRecord::decode(&stored).unwrap();
        edit(&mut record);
        store.put_job(id, &record.encode()).unwrap();
    }
}

/// What was wrong may have been set right since, so what came of it is not gone on with.
#[test]
fn a_job_whose_rows_differed_builds_again_from_its_base() {
    let stage = stage::<2>();
    let job = failed::<2>(&stage);
    stage.act(job.id, JobAction::Resume).unwrap();
    let done = stage.done(job.id);
    assert!(done.verification.unwrap().identical);
    stage.until_directories(2);
    check(&stage, 100);
    // A cause that is still there fails it again, and not for ever.
    let again = failed::<2>(&stage);
    set_mood::<2>(1);
    stage.act(again.id, JobAction::Resume).unwrap();
    let again = stage.outcome(again.id);
    set_mood::<2>(0);
    assert_eq!(again.phase, Phase::Failed);
    check(&stage, 100);
}

#[test]
fn of_many_who_resume_and_start_one_drives() {
    let stage = stage::<3>();
    for round in 0..5 {
        let job = failed::<3>(&stage);
        let together = Arc::new(tokio::sync::Barrier::new(12));
        let calls: Vec<_> = (0..12)
            .map(|number| {
                let (node, together) = (stage.node().clone(), together.clone());
                stage.spawn(async move {
                    together.wait().await;
                    match number % 3 {
                        0 => node.start_replay(slow()).await,
                        _ => node.act(Some(job.id), JobAction::Resume).await,
                    }
                })
            })
            .collect();
        let answers: Vec<_> = calls.into_iter().map(|call| stage.block(call).unwrap()).collect();
        let begun: Vec<_> = answers.iter().flatten().collect();
        assert_eq!(begun.len(), 1, "round {round}: {answers:#?}");
        let under_way = stage.node().replays().into_iter().filter(|job| !job.phase.ended());
        assert_eq!(under_way.map(|job| job.id).collect::<Vec<_>>(), [begun[0].id]);
        stage.done(begun[0].id);
    }
    check(&stage, 100);
}

#[test]
fn cancelling_and_resuming_at_once_leaves_one_truth() {
    let stage = stage::<4>();
    for _ in 0..5 {
        let job = failed::<4>(&stage);
        let together = Arc::new(tokio::sync::Barrier::new(4));
        let actions = [JobAction::Cancel, JobAction::Resume, JobAction::Cancel, JobAction::Resume];
        let calls = actions.map(|action| {
            let (node, together) = (stage.node().clone(), together.clone());
            stage.spawn(async move {
                together.wait().await;
                node.act(Some(job.id), action).await
            })
        });
        let answers = calls.map(|call| stage.block(call).unwrap());
        // A cancel that comes after the resume ends it, and one that comes before leaves nothing to resume.
        assert!(answers[0].is_ok() || answers[2].is_ok(), "{answers:#?}");
        for cancelled in [&answers[0], &answers[2]].into_iter().flatten() {
            assert_eq!(cancelled.phase, Phase::Cancelled);
        }
        assert_eq!(stage.job(job.id).phase, Phase::Cancelled);
        stage.until_directories(1);
    }
    check(&stage, 100);
}
