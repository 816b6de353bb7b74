//! *Once for all*: a job of two topics switches both or none, whenever the process dies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segno::actors::handle::Node;
use segno::actors::plan::OnChange;
use segno::actors::replay::words::{JobAction, Phase, ReplayRequest};

use crate::moody::{Hanging, moody};
use crate::resume::genesis;
use crate::stage::{Setup, Stage};
use crate::tape::Pen;
use crate::views::{TALLY, Tally, What};

const OTHER: &str = "others";
const OTHER_VIEW: &str = "other_tally";
const KEYS: u64 = 5;

fn of(version: u32) -> Tally {
    Tally { version, factor: i64::from(version), floor: None }
}

fn stage() -> (Stage, Pen) {
    let beside = Some((OTHER, of(1).named(OTHER_VIEW)));
    let stage = Stage::new(Setup { beside, ..Setup::of(&[of(1).definition()]) });
    let other = stage.pen.beside(OTHER);
    (stage, other)
}

fn send(pens: [&Pen; 2], events: std::ops::Range<u64>) {
    for n in events {
        pens.iter().for_each(|pen| {
            pen.send(&format!("key-{}", n % KEYS), n as i64, &What::Add { n, amount: 1 });
        });
    }
}

fn settled(node: &dyn Node, pens: [&Pen; 2]) -> bool {
    let status = node.status();
    status.topics.iter().zip(pens).all(|(topic, pen)| {
        let end = pen.end();
        topic.partitions.iter().all(|partition| partition.applied >= end.positions[&partition.partition])
    })
}

/// The version that made the rows of each topic, seen by reading them.
fn versions(stage: &Stage) -> [Vec<u64>; 2] {
    [TALLY, OTHER_VIEW].map(|view| {
        let rows = stage.rows(view);
        assert_eq!(rows.len() as u64, KEYS);
        let mut by: Vec<u64> = rows.values().map(|row| row.json["by"].as_u64().unwrap()).collect();
        by.dedup();
        by
    })
}

/// The generations of each topic.
fn numbers(node: &dyn Node) -> Vec<Vec<u64>> {
    let status = node.status();
    status.topics.iter().map(|topic| topic.partitions.iter().map(|one| one.generation).collect()).collect()
}

#[test]
fn a_crash_at_any_moment_of_a_cut_over_finds_both_topics_old_or_both_new() {
    let (mut stage, other) = stage();
    send([&stage.pen, &other], 0..100);
    stage.until("settled", || settled(&**stage.node(), [&stage.pen, &other]));
    let [mut before, mut after, mut near] = [0; 3];
    for round in 0..6 {
        let (old, new) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        if round == 0 {
            stage.restart_with(|setup| {
                (setup.views, setup.beside) = (vec![of(2).definition()], Some((OTHER, of(2).named(OTHER_VIEW))));
            });
        }
        let was = numbers(&**stage.node());
        let mut copies = vec![(Phase::Building, stage.copy())];
        let job = match round {
            0 => stage.replay(&ReplayRequest { yes: true, ..genesis() }),
            _ => stage.roll_back(),
        };
        let job = job.unwrap().id;
        for n in 100 * (round + 1)..100 * (round + 2) {
            send([&stage.pen, &other], n..n + 1);
            let phase = stage.job(job).phase;
            copies.push((phase, stage.copy()));
            if phase.ended() {
                break;
            }
        }
        stage.done(job);
        copies.push((Phase::Done, stage.copy()));
        for (phase, copy) in copies {
            let copy = stage.looking_at(copy);
            let (found, made_by) = (numbers(&**copy.node()), versions(&copy));
            let moved =
                |(now, was): (&Vec<u64>, &Vec<u64>)| now.iter().zip(was).filter(|(now, was)| now != was).count();
            let moved: usize = found.iter().zip(&was).map(moved).sum();
            let all: usize = found.iter().map(Vec::len).sum();
            assert!(moved == 0 || moved == all, "round {round}, {phase}: {was:?} {found:?}");
            let by = if moved == 0 { old } else { new };
            assert_eq!(made_by, [vec![by], vec![by]], "round {round}, {phase}");
            let recorded = copy.node().replay(Some(job)).map(|job| job.phase);
            assert_eq!(recorded == Ok(Phase::Done), moved > 0, "round {round}, {phase}: {recorded:?}");
            *(if moved == 0 { &mut before } else { &mut after }) += 1;
            near += usize::from(!phase.ended());
        }
        stage.until("settled", || settled(&**stage.node(), [&stage.pen, &other]));
        assert_eq!(versions(&stage), [vec![new], vec![new]]);
    }
    println!("{before} copies before the decision and {after} after it; {near} were begun before the job had ended");
    assert!(before >= 6 && after >= 6, "{before} {after}");
}

/// Readers of both topics change over together: who has seen one topic new does not see the other old after that.
#[test]
fn nobody_sees_a_topic_old_after_another_of_the_job_new() {
    let (stage, other) = stage();
    send([&stage.pen, &other], 0..100);
    stage.until("settled", || settled(&**stage.node(), [&stage.pen, &other]));
    let (stop, node) = (AtomicBool::new(false), stage.node().clone());
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = 0;
            loop {
                let last = stop.load(Ordering::Relaxed);
                for number in numbers(&*node).concat() {
                    if number < seen {
                        return Err(format!("generation {number} after {seen}"));
                    }
                    seen = number;
                }
                if last {
                    return Ok(seen);
                }
            }
        });
        for _ in 0..30 {
            let job = stage.replay(&genesis()).unwrap();
            stage.done(job.id);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(looking.join().unwrap(), Ok(30));
    });
}

/// One topic does not stop in time, so the cut-over is given up. The other was never told to stop.
#[test]
fn once_a_topic_that_was_not_stopped_is_not_started_again() {
    let beside = Some((OTHER, of(1).named(OTHER_VIEW)));
    let mut setup = Setup { beside, partitions: 1, ..Setup::of(&[moody::<7>()]) };
    setup.fold_time_limit = Duration::from_secs(120);
    setup.replay.patience = Duration::from_millis(500);
    let mut stage = Stage::new(setup);
    let other = stage.pen.beside(OTHER);
    send([&stage.pen, &other], 0..100);
    stage.until("settled", || settled(&**stage.node(), [&stage.pen, &other]));
    // A change that has to be looked at, so that the job waits where the test wants it to.
    stage.restart_with(|setup| setup.beside = Some((OTHER, of(2).named(OTHER_VIEW))));
    let job = stage.replay(&genesis()).unwrap();
    stage.until("it waits", || stage.job(job.id).phase == Phase::Waiting);
    let hanging = Hanging::<7>::begin();
    stage.pen.send("key-0", 1000, &What::Add { n: 1000, amount: 1 });
    let in_flight = || stage.node().status().topics[0].partitions[0].in_flight;
    stage.until("in flight", || in_flight() == 1);
    stage.act(job.id, JobAction::Approve).unwrap();
    stage.until("given up", || stage.job(job.id).phase.ended());
    drop(hanging);
    let reason = stage.job(job.id).reason.unwrap();
    assert!(reason.contains("live could not be stopped"), "{reason}");
    // A few at a time, so that a second set of actors would take turns with the first.
    for n in 2000..2400 {
        other.send(&format!("key-{}", n % KEYS), n as i64, &What::Add { n, amount: 1 });
        if n % 16 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    stage.until("settled", || settled(&**stage.node(), [&stage.pen, &other]));
    assert_eq!(stage.node().status().reason, None);
    let events: u64 = stage.rows(OTHER_VIEW).values().map(|row| row.json["n"].as_u64().unwrap()).sum();
    assert_eq!(events, 500);
    stage.verify();
    // What was not stopped is made durable as before.
    let durable = || stage.node().status().topics[1].partitions.iter().all(|one| one.durable == one.applied);
    stage.until("durable", durable);
}

/// A node whose new definitions were built by themselves and rolled back, and another topic that was replayed since.
#[test]
fn what_was_rolled_back_is_not_built_again_after_a_replay_of_another_topic() {
    let (mut stage, other) = stage();
    send([&stage.pen, &other], 0..100);
    stage.until("settled", || settled(&**stage.node(), [&stage.pen, &other]));
    stage.restart_with(|setup| (setup.views, setup.replay.on_change) = (vec![of(2).definition()], OnChange::Replay));
    stage.until("built", || stage.node().replays().iter().any(|job| job.phase == Phase::Done));
    let back = stage.roll_back().unwrap();
    stage.done(back.id);
    stage.restart();
    let job = stage.replay(&ReplayRequest { topics: vec![OTHER.to_owned()], ..genesis() }).unwrap();
    stage.done(job.id);
    stage.restart();
    // Were one begun, it would be before this.
    let another = stage.replay(&ReplayRequest { topics: vec![OTHER.to_owned()], ..genesis() }).unwrap();
    stage.done(another.id);
    assert_eq!(stage.node().replays().len(), 4, "{:#?}", stage.node().replays());
    assert_eq!(versions(&stage)[0], [1]);
    // And what was rolled back in one topic does not keep another from being built.
    stage.restart_with(|setup| setup.beside = Some((OTHER, of(2).named(OTHER_VIEW))));
    stage.until("built", || {
        stage.node().replays().first().is_some_and(|job| job.id > another.id && job.phase == Phase::Done)
    });
    assert_eq!(versions(&stage), [vec![1], vec![2]]);
}
