//! Law *Atomic*, seen from beside: what is live and what the job's record says change in one write.

use std::sync::atomic::{AtomicBool, Ordering};

use segno::position::Timestamp;
use segno::state::Switch;

use crate::harness::*;
use crate::shadows::{same_of, store};
use crate::switching::{NOTHING, PARTITIONS, of};

#[test]
fn atomic_whoever_looks_during_a_switch_sees_all_of_it_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    // Kept open, so that looking at them is quick.
    let live = (0..PARTITIONS).map(|partition| store.open_generation(&of(partition), &views()).unwrap());
    let _live: Vec<_> = live.collect();
    let _new: Vec<_> = (0..PARTITIONS).map(|partition| same_of(&store, &of(partition), &NOTHING).unwrap()).collect();
    let to = |round: u64| (round + 1) % 2;
    let switch = |round: u64| {
        let switches: Vec<_> = (0..PARTITIONS).map(|p| Switch { at: of(p).at, to: to(round) }).collect();
        store.cut_over(&switches, Timestamp(round as i64), (1, round.to_string().as_bytes())).unwrap();
    };
    switch(0);
    let (over, mut whole) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..60).for_each(switch);
            over.store(true, Ordering::Release);
        });
        let round = || std::str::from_utf8(&store.jobs().unwrap()[0].1).unwrap().parse::<u64>().unwrap();
        while !over.load(Ordering::Acquire) {
            let before = round();
            let seen: Vec<_> = (0..PARTITIONS).map(|p| store.live(&of(p).at).unwrap().unwrap().number).collect();
            // What was switched meanwhile is no matter for this look.
            if round() == before {
                assert!(seen.iter().all(|number| *number == to(before)), "{seen:?} under the record of {before}");
                whole += 1;
            }
        }
    });
    assert!(whole > 0);
}
