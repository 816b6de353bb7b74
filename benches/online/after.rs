//! How long a replay takes from a snapshot, and what has to be there before one can be measured.

use segno::actors::replay::words::BaseChoice;

use crate::arguments::{Answer, Base, Job};
use crate::session::Session;

/// Brings live to the end of the log, and takes a snapshot.
pub fn settle(job: &Job, snapshot: bool) -> Answer {
    let session = Session::open(job);
    let mut answer = Answer::default();
    if snapshot {
        let taken = session.client.block_on(session.client.node.take_snapshot(Vec::new()));
        let taken = &taken.unwrap_or_else(|error| panic!("{error}"))[0];
        let positions = taken.partitions.iter().map(|one| format!("{}:{}", one.partition, one.position));
        answer.base = Some(Base {
            snapshot: taken.id,
            token: format!("@{}@{}", job.place.topic, positions.collect::<Vec<_>>().join(",")),
            records: taken.partitions.iter().map(|one| one.position.0).sum(),
        });
    }
    session.close(job, answer)
}

/// One replay, from the request to the switch.
pub fn replay(job: &Job, base: Option<&Base>) -> Answer {
    let session = Session::open(job);
    let (done, took) = match base {
        None => session.client.replay("beginning", BaseChoice::Genesis),
        Some(base) => session.client.replay(&base.token, BaseChoice::Snapshot(base.snapshot)),
    };
    let left = job.place.records() - base.map_or(0, |base| base.records);
    assert_eq!(done.plan.records, left, "it reads what lies after its base");
    session.close(job, Answer { replays: vec![took.as_secs_f64()], ..Answer::default() })
}
