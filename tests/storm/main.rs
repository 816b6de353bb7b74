//! A storm over the flow: random starts, stops, crashes, pauses between the steps of the protocol, folds that hang, panics
//! in all of a view's code, lost shards and retries, in both placements, with an oracle for each key.
//!
//! Each round has a seed, which is printed when the round fails. `SEGNO_SEED=7 SEGNO_ROUNDS=1` runs one again, `SEGNO_LOG=warn`
//! shows what it logs, and `SEGNO_SOAK` multiplies the rounds: `make soak` runs thousands.

#[allow(dead_code, reason = "the flow's tests use more of it")]
#[path = "../flow/stage.rs"]
mod stage;
#[allow(dead_code, reason = "the flow's tests use more of it")]
#[path = "../flow/workshop.rs"]
mod workshop;

mod rebuilds;
mod rounds;
mod troubled;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use segno::actors::interleave::{Widen, widen};

/// Rounds that run side by side: they wait most of the time.
const SIDE_BY_SIDE: usize = 6;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs so many rounds, and fails with all that failed.
fn storm(name: &str, rounds: u64, round: impl Fn(u64) + Sync) {
    quieten();
    if std::env::var_os("SEGNO_LOG").is_some() {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(std::env::var("SEGNO_LOG").unwrap())
            .with_writer(std::io::stderr)
            .try_init();
    }
    widen(Some(Widen { one_in: 12, most: Duration::from_millis(12) }));
    let first = number("SEGNO_SEED").unwrap_or(1);
    let rounds = number("SEGNO_ROUNDS").unwrap_or(rounds * number("SEGNO_SOAK").unwrap_or(1));
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + rounds {
                        break;
                    }
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| round(seed))) {
                        let why = segno::views::guard::panic_text(&*panic);
                        eprintln!("{name}: SEGNO_SEED={seed}: {why}");
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{name}: {} of {rounds} rounds failed: {failed:?}", failed.len());
}

/// What panics on purpose is not reported.
fn quieten() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !segno::views::guard::panic_text(panic.payload()).contains("on purpose") {
                report(panic);
            }
        }));
    });
}

/// Laws *Once*, *Order*, *Accounted* and *Isolated*, in any weather.
#[test]
fn once_order_and_accounted_hold_in_a_storm() {
    storm("flow", 200, rounds::round);
}

/// A rebuild that is stopped, crashed and resumed anywhere gives the rows that it would have given alone.
#[test]
fn once_holds_for_a_rebuild_in_a_storm() {
    storm("rebuild", 100, rebuilds::round);
}
