//! Kafka: replayed, switched, rolled back and killed while events arrive and readers ask; no row, no book and no answer
//! is ever wrong.

use std::sync::Arc;

use crate::common::broker;
use crate::feeding::Kafka;
use crate::harness::*;
use crate::replaying::{Size, replays_and_kills};

#[test]
fn on_kafka_no_kill_during_a_replay_changes_an_answer() {
    let _alone = alone();
    let seed = seed("replay_kafka");
    let broker = broker::shared();
    let topic = broker.topic("bank", 4);
    let place = bank(&topic, &format!("[node]\nlog = \"kafka\"\n[kafka]\nbrokers = \"{}\"\n", broker.plaintext));
    let size = Size { first: 30_000, events: 200_000, accounts: 2_500, kills: 12, rollback_kills: 3 };
    replays_and_kills(&place, Kafka(topic), Arc::default(), &size.scaled(), seed);
}
