//! A replay from genesis without the daemon around it: one rebuild a partition, each on a thread of its own, into new
//! generations; everything is durable at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use segno::actors::board::Board;
use segno::actors::meter::Meter;
use segno::actors::plan::Policy;
use segno::actors::replay::gate::{Gate, Gauge};
use segno::actors::replay::rebuild::{Arrival, Rebuild, RebuildOptions, RunEnd};
use segno::actors::serving::idents;
use segno::actors::shard::Setting;
use segno::position::{Position, TopicPartition};
use segno::state::{Generation, Identity, Store, StoreOptions};
use segno::streams::Limit;
use segno::streams::decode::Decoder;
use segno::views::Definitions;

use crate::arguments::Job;
use crate::live::log;
use crate::measure::{Measured, Watch};
use crate::node::{self, PREFETCH};

/// Records of a partition between two flushes.
const EPOCH: usize = 1_000_000;

pub fn genesis(job: &Job) -> Measured {
    let watch = Watch::start();
    let log = log(job);
    let info = log.topic(&job.place.topic).expect("the topic");
    let store = Store::open(job.data(), StoreOptions::default()).expect("a store");
    let definitions = node::definitions();
    let open = |partition: u32| {
        let at = TopicPartition::new(&*info.name, partition);
        let identity = Identity { at, cluster: info.cluster.clone(), partitions: info.partitions };
        store.open_generation(&identity, &idents(&definitions)).expect("a generation")
    };
    let generations: Vec<_> = (0..info.partitions).map(open).collect();
    let (gate, gauge) = (Gate::new(None), Arc::new(Gauge::default()));
    std::thread::scope(|scope| {
        for (generation, end) in generations.iter().zip(&job.place.ends) {
            let (definitions, gate, gauge, log) = (&definitions, &gate, &gauge, &*log);
            scope.spawn(move || {
                let setting = Arc::new(setting(definitions, generation));
                let options = RebuildOptions {
                    memory: job.residency as usize / job.place.ends.len(),
                    epoch_records: EPOCH,
                    epoch_time: Duration::from_secs(10),
                    prefetch: PREFETCH,
                    batch: Limit { records: job.batch_records, bytes: 8 << 20 },
                    fold_time_limit: Duration::from_secs(1),
                };
                let rebuild = Rebuild::new(setting, options, gate.clone(), gauge.clone());
                let end = rebuild.and_then(|mut rebuild| rebuild.run_to(log, Position(*end), Arrival::Durable));
                assert_eq!(end.unwrap_or_else(|fatal| panic!("{fatal}")), RunEnd::Reached);
            });
        }
    });
    let mut measured = watch.stop();
    for generation in &generations {
        let tag = generation.tags()[0];
        for (key, row) in generation.snapshot_read().list(tag, &[], None, usize::MAX).expect("rows").rows {
            measured.totals.row(&key, &serde_json::from_slice(&row.json).expect("an account"));
        }
        let totals = generation.view_totals()[0];
        assert_eq!(generation.recompute(tag).expect("rows"), totals);
        assert!(totals.books.balanced() && totals.books.consumed == totals.books.applied, "{totals:?}");
        measured.totals.records += totals.books.applied as u64;
    }
    assert_eq!(gauge.records.load(Ordering::Relaxed), job.records(), "every record is folded once");
    measured
}

fn setting(definitions: &Definitions, generation: &Arc<Generation>) -> Setting {
    Setting {
        at: generation.at().clone(),
        definitions: definitions.clone(),
        tags: generation.tags().to_vec(),
        decoder: Decoder::new(node::decoding()),
        policy: Policy::default(),
        retry: node::retry(),
        generation: generation.clone(),
        board: Arc::new(Board::default()),
        meter: Meter::new(generation.at()),
        residency: 0,
        committed: AtomicU64::new(0),
        resident: Mutex::default(),
    }
}
