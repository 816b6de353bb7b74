//! What live feels: the way from an append to the answer that has it, with and without replays, and how long it stands
//! still at a switch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use segno::actors::handle::Bound;
use segno::actors::replay::words::BaseChoice;
use segno::position::{PartitionId, Position};
use segno::streams::murmur2;
use segno::views::View;

use crate::arguments::{Answer, Job};
use crate::session::{Client, Session};
use crate::workload::{Account, key};

/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// While switches are looked at: appends at once, and how long each of them rests after one.
const FEEDERS: usize = 4;
const REST: Duration = Duration::from_millis(1);
/// How often the positions are looked at.
const LOOK: Duration = Duration::from_micros(500);

/// Says that a measurement is over when it is dropped, however it ended: nobody goes on for ever.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Appends one record after the other, and follows each to the answer that has it. With `replaying` there is a replay
/// from the beginning at every moment of it.
pub fn follow(job: &Job, replaying: bool) -> Answer {
    let session = Session::open(job);
    let mut answer = Answer::default();
    let (client, over) = (&session.client, AtomicBool::new(!replaying));
    thread::scope(|scope| {
        let end = End(&over);
        let replays = scope.spawn(|| {
            let mut took = Vec::new();
            while !over.load(Ordering::Acquire) {
                took.push(client.replay("beginning", BaseChoice::Genesis).1.as_secs_f64());
            }
            took
        });
        while !replays.is_finished() && client.node.status().replay.is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        probe(job, client, &mut answer);
        drop(end);
        answer.replays = replays.join().expect("replays that end well");
    });
    session.close(job, answer)
}

fn probe(job: &Job, client: &Client, answer: &mut Answer) {
    let pace = Duration::from_millis(job.pace);
    let mut due = Instant::now();
    for _ in 0..job.probes {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let (key, record) = client.record();
        let from = Instant::now();
        // Where an answer takes longer than the pace, what would have come meanwhile is left out.
        due = (due + pace).max(from);
        client.block_on(async {
            let token = client.append(record).await;
            answer.appended.push(from.elapsed().as_micros() as u64);
            let bound = Some(Bound { at_least: token, wait: PATIENCE });
            let read = client.node.get(Account::NAME, key, bound).await;
            let row = read.unwrap_or_else(|error| panic!("{error}")).value;
            assert!(row.is_some(), "WRONG RESULT: a row that was just written is missing");
            answer.queryable.push(from.elapsed().as_micros() as u64);
        });
    }
}

/// A position that a reader saw, and when.
struct Seen {
    at: Instant,
    position: Position,
    /// The generation that was live just before.
    generation: u64,
}

/// Replays with next to nothing to read, one after the other, while records come in all the time.
pub fn switches(job: &Job, count: usize) -> Answer {
    let session = Session::open(job);
    let mut answer = Answer::default();
    let (client, over) = (&session.client, AtomicBool::new(false));
    thread::scope(|scope| {
        let end = End(&over);
        for _ in 0..FEEDERS {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    let (_, record) = client.record();
                    client.block_on(client.append(record));
                    thread::sleep(REST);
                }
            });
        }
        let watch = scope.spawn(|| look(job, client, &over));
        for _ in 0..count {
            let status = client.node.status();
            let at = status.topics[0].partitions.iter().map(|one| format!("{}:{}", one.partition, one.applied));
            let from = format!("@{}@{}", job.place.topic, at.collect::<Vec<_>>().join(","));
            answer.replays.push(client.replay(&from, BaseChoice::Auto).1.as_secs_f64());
        }
        drop(end);
        let seen = watch.join().expect("a reader that ends well");
        (answer.still, answer.usual) = pauses(&seen, count);
    });
    session.close(job, answer)
}

/// Reads a row of each partition again and again, as any reader does, and keeps what moved, a partition each.
fn look(job: &Job, client: &Client, over: &AtomicBool) -> Vec<Vec<Seen>> {
    let partitions = job.place.ends.len() as u32;
    let of = |partition| {
        let mut keys = (0..job.workload.keys).map(|number| key(number).into_bytes());
        keys.find(|key| murmur2::partition_of(key, partitions) == partition).expect("a key in every partition")
    };
    let keys: Vec<Vec<u8>> = (0..partitions).map(of).collect();
    let mut seen: Vec<Vec<Seen>> = keys.iter().map(|_| Vec::new()).collect();
    while !over.load(Ordering::Acquire) {
        let status = client.node.status();
        for (number, (key, seen)) in keys.iter().zip(&mut seen).enumerate() {
            let generation = status.topics[0].partitions[number].generation;
            let read = client.block_on(client.node.get(Account::NAME, key.clone(), None));
            let read = read.unwrap_or_else(|error| panic!("{error}"));
            let position = read.position.positions.get(&PartitionId(number as u32)).copied().unwrap_or_default();
            if seen.last().is_none_or(|last| position > last.position) {
                seen.push(Seen { at: Instant::now(), position, generation });
            }
        }
        thread::sleep(LOOK);
    }
    seen
}

/// For each switch the longest pause of any partition around it, and the pauses everywhere else. The generation was looked
/// at a moment before the position: the pause is one of the three around the change.
fn pauses(seen: &[Vec<Seen>], count: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut still, mut usual) = (vec![0; count], Vec::new());
    for seen in seen {
        let pause = |index: usize| (seen[index].at - seen[index - 1].at).as_micros() as u64;
        let changed = (1..seen.len()).filter(|&index| seen[index].generation != seen[index - 1].generation);
        let changed: Vec<usize> = changed.collect();
        assert_eq!(changed.len(), count, "every switch is seen in every partition");
        for (still, &index) in still.iter_mut().zip(&changed) {
            let around = index.saturating_sub(1).max(1)..(index + 2).min(seen.len());
            *still = around.map(pause).chain([*still]).max().unwrap_or_default();
        }
        let near = |index: usize| changed.iter().any(|&one| index.abs_diff(one) <= 1);
        usual.extend((1..seen.len()).filter(|&index| !near(index)).map(pause));
    }
    (still, usual)
}
