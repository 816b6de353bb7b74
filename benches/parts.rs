//! What the parts of the path cost, one by one: decode, fold, the way to an actor and back, commit.
//!
//! `cargo bench --bench parts`, or with a part's name after `--`. `docs/benchmarks.md` says how to read it.

#[path = "../tests/common/bank.rs"]
mod bank;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use segno::actors::aggregate::{Outcome, Slot};
use segno::position::{Offset, PartitionId, Position, Timestamp, TopicPartition};
use segno::record::RecordRef;
use segno::state::{Books, Commit, Delta, Identity, Store, StoreOptions, ViewIdent, ViewTag, digest, keys};
use segno::streams::decode::{DecodeOptions, Decoder, Format};
use segno::views::cel::Declared;
use segno::views::{Definition, RustView};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AT: (&str, PartitionId) = ("bank.accounts", PartitionId(0));
const KEY: &[u8] = b"account-00012345";
/// 280 bytes, as the bank writes them.
const VALUE: &str = concat!(
    r#"{"event_id":"67e55044-10b1-426f-9247-bb680e5fe0c8","event_type":"MoneyDeposited","event_version":1,"#,
    r#""timestamp":"2024-02-29T12:00:00.500Z","metadata":{"correlation_id":"0b4c9a52-4a3a-4f2e-9d0f-2f3a8f1c7e11","#,
    r#""user_id":"user-1234"},"payload":{"amount":12345,"note":"thank you for bankin"}}"#
);

fn decoder() -> Decoder {
    Decoder::new(DecodeOptions { format: Format::Json, max_key_bytes: 16 << 10 })
}

fn record(offset: u64) -> RecordRef<'static> {
    RecordRef::from_parts(Offset(offset), Timestamp(1_700_000_000_000), Some(KEY), Some(VALUE.as_bytes()), &[])
}

fn decode(c: &mut Criterion) {
    let decoder = decoder();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(VALUE.len() as u64));
    group.bench_function("envelope", |b| b.iter(|| decoder.decode(AT, black_box(record(1))).unwrap().meta.timestamp));
    group.finish();
}

fn fold(c: &mut Criterion) {
    let decoder = decoder();
    let event = decoder.decode(AT, record(1)).unwrap();
    let declared = Declared::compile(&bank::declared()).unwrap_or_else(|error| panic!("{error}"));
    let views: [(&str, Box<dyn Definition>); 2] =
        [("rust", Box::new(RustView::<bank::Account>::new())), ("declared in CEL", Box::new(declared))];
    let mut group = c.benchmark_group("fold");
    group.throughput(Throughput::Elements(1));
    for (name, view) in &views {
        let mut slot = Slot::default();
        group.bench_function(*name, |b| {
            b.iter(|| assert_eq!(slot.fold(&**view, black_box(&event)), Outcome::Folded));
        });
        let mut encoded = Vec::new();
        group.bench_function(format!("{name}, row to JSON"), |b| {
            b.iter(|| {
                encoded.clear();
                slot.row.as_ref().unwrap().encode(&mut encoded);
            });
        });
    }
    group.finish();
}

/// Folds as many events as it is told, and answers.
struct Folding;

struct Told {
    events: usize,
    answer: oneshot::Sender<i64>,
}

impl Actor for Folding {
    type Msg = Told;
    type State = bank::Account;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Told>, (): ()) -> Result<bank::Account, ActorProcessingErr> {
        Ok(bank::Account::default())
    }

    async fn handle(&self, _: ActorRef<Told>, told: Told, state: &mut bank::Account) -> Result<(), ActorProcessingErr> {
        for _ in 0..told.events {
            state.balance = black_box(state.balance + 1);
        }
        let _ = told.answer.send(state.balance);
        Ok(())
    }
}

/// One message there and one answer back, with one event or many in it: what batching saves.
fn actor(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (actor, ended) = runtime.block_on(Actor::spawn(None, Folding, ())).unwrap();
    let mut group = c.benchmark_group("actor round trip");
    for events in [1, 1000] {
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(BenchmarkId::new("events in the message", events), |b| {
            b.to_async(Tokio(&runtime)).iter(|| async {
                let (answer, answered) = oneshot::channel();
                actor.cast(Told { events, answer }).unwrap();
                answered.await.unwrap()
            });
        });
    }
    group.finish();
    actor.stop(None);
    runtime.block_on(ended).unwrap();
}

/// Criterion's own executor for tokio is behind a feature that brings a second copy of tokio's features in.
struct Tokio<'a>(&'a tokio::runtime::Runtime);

impl criterion::async_executor::AsyncExecutor for Tokio<'_> {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }
}

/// A delta of so many rows, sorted, as a shard hands it over.
fn delta(view: ViewTag, rows: usize, position: u64) -> Delta {
    let mut delta = Delta::new(1);
    delta.rows.reserve(rows, 96);
    let mut sum = 0u128;
    for number in 0..rows {
        let (key, value) = delta.put(
            |into| keys::row_key(view, format!("account-{number:08}").as_bytes(), into),
            |into| {
                keys::row_value_header(Offset(position), Timestamp(1), into);
                into.extend_from_slice(br#"{"owner":"Ada Lovelace","balance":123456,"transactions":78}"#);
            },
        );
        sum = sum.wrapping_add(digest::row(key, value));
    }
    delta.views[0].digest = sum;
    delta.views[0].books = Books { consumed: rows as i64, applied: rows as i64, ..Books::default() };
    delta.sort();
    delta
}

fn commit(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let identity = Identity { at: TopicPartition::new(AT.0, 0), cluster: "bench".to_owned(), partitions: 1 };
    let ident = ViewIdent { name: "account_balance".to_owned(), version: 1, text: "bench".to_owned() };
    let generation = store.open_generation(&identity, &[ident]).unwrap();
    let writer = generation.take_writer();
    let mut position = 0;
    let mut group = c.benchmark_group("commit");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for rows in [1usize, 1000, 10_000] {
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new("sorted rows", rows), |b| {
            b.iter_batched(
                || {
                    position += 1;
                    let deltas = vec![delta(generation.tags()[0], rows, position)];
                    Commit { deltas, position: Position(position), last: None }
                },
                |commit| generation.commit(&writer, &commit).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(parts, decode, fold, actor, commit);
criterion_main!(parts);
