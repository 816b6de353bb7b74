//! The embedded log: the same as on Kafka, with fewer kills.

use std::sync::Arc;

use crate::feeding::Embedded;
use crate::harness::*;
use crate::readers::Front;
use crate::replaying::{Size, replays_and_kills};

#[test]
fn on_the_embedded_log_no_kill_during_a_replay_changes_an_answer() {
    let _alone = alone();
    let seed = seed("replay_embedded");
    let place = bank("bank.accounts", "");
    let front: Arc<Front> = Arc::default();
    let size = Size { first: 20_000, events: 150_000, accounts: 2_000, kills: 6, rollback_kills: 3 };
    replays_and_kills(&place, Embedded(front.clone()), front, &size.scaled(), seed);
}
