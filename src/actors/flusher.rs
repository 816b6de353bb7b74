//! Makes what is applied durable, by time and by size, away from the flow: with durability `log` a crash costs what has
//! been applied since the last flush, which the log then supplies again. Without the timer a quiet partition's durable
//! position would grow old, and one day lie below the start of the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::board::{Notice, Speaker};
use super::partition::published::Published;
use super::plan::FlushOptions;
use super::shard::activate::store_failed;

/// How often the size is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The flush tasks of a topic; they end when this is dropped.
pub struct Flushers(Vec<JoinHandle<()>>);

impl Drop for Flushers {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// One task a partition.
pub fn start(partitions: &[Arc<Published>], options: FlushOptions) -> Flushers {
    let task = |partition: &Arc<Published>| tokio::spawn(flush(partition.clone(), options));
    Flushers(partitions.iter().map(task).collect())
}

async fn flush(partition: Arc<Published>, options: FlushOptions) {
    let setting = partition.setting().clone();
    let mut last = Instant::now();
    let mut ticks = tokio::time::interval(LOOK.min(options.interval));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let generation = setting.generation.clone();
        // What the shards of single cells commit moves no position, and is to be made durable like the rest.
        let behind = generation.has_unflushed();
        let due = last.elapsed() >= options.interval || generation.metrics().memtables >= options.size as u64;
        if !(behind && due) {
            continue;
        }
        let flushed = tokio::task::spawn_blocking(move || generation.flush()).await;
        last = Instant::now();
        match flushed {
            Ok(Ok(durable)) => tracing::debug!(at = %setting.at, %durable, "flushed"),
            Ok(Err(error)) => {
                let fatal = store_failed(&setting.at, &error);
                setting.board.post(Notice::Fatal { by: Speaker::Other, fatal });
                return;
            }
            // The runtime is shutting down.
            Err(_) => return,
        }
    }
}
