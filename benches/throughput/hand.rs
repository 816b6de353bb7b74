//! The loops that people write: one thread, librdkafka in batches, serde_json into two fields, states in a HashMap or
//! in RocksDB. State and positions go into one `WriteBatch`, without a write-ahead log, as Segno's do by default.

use std::path::Path;

use hashbrown::HashMap;
use rocksdb::{BlockBasedOptions, Cache, DB, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions};
use serde::Deserialize;

use crate::arguments::Job;
use crate::measure::{Measured, Watch};
use crate::raw::Tap;
use crate::workload::{Account, Totals};

/// Batches that go into one write.
const COALESCED: usize = 10;
/// Before the positions of the partitions; accounts begin with a letter.
const POSITION: u8 = 0;

#[derive(Deserialize)]
struct Envelope<'a> {
    event_type: &'a str,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    amount: i64,
}

fn signed(value: &[u8]) -> i64 {
    let event: Envelope<'_> = serde_json::from_slice(value).expect("an event");
    match event.event_type {
        "MoneyDeposited" => event.payload.amount,
        "MoneyWithdrawn" => -event.payload.amount,
        other => panic!("{other}"),
    }
}

pub fn consume(job: &Job) -> Measured {
    let watch = Watch::start();
    let mut tap = Tap::open(job);
    let mut totals = Totals::default();
    while totals.records < job.records() {
        totals.records += tap.batch(|_| {}) as u64;
        tap.give_back();
    }
    Measured { totals, ..watch.stop() }
}

pub fn decode(job: &Job) -> Measured {
    let watch = Watch::start();
    let mut tap = Tap::open(job);
    let mut totals = Totals::default();
    while totals.records < job.records() {
        let balance = &mut totals.balance;
        totals.records += tap.batch(|record| *balance += signed(record.value)) as u64;
        tap.give_back();
    }
    Measured { totals, ..watch.stop() }
}

pub fn fold(job: &Job) -> Measured {
    let watch = Watch::start();
    let mut tap = Tap::open(job);
    let mut accounts: HashMap<Vec<u8>, Account> = HashMap::new();
    let mut records = 0;
    while records < job.records() {
        records += tap.batch(|record| {
            let account = accounts.entry_ref(record.key).or_default();
            account.add(signed(record.value)).expect("small amounts");
        }) as u64;
        tap.give_back();
    }
    let measured = watch.stop();
    let mut totals = Totals { records, ..Totals::default() };
    accounts.iter().for_each(|(key, account)| totals.row(key, account));
    Measured { totals, resident: accounts.len() as u64, ..measured }
}

/// Reads the states of each batch from RocksDB and writes them back.
pub fn multi_get(job: &Job) -> Measured {
    let watch = Watch::start();
    let db = open(job.data());
    let writing = writing();
    let mut tap = Tap::open(job);
    let mut positions = vec![0u64; job.place.ends.len()];
    let mut records = 0;
    let mut changes: Vec<(Vec<u8>, i64)> = Vec::new();
    while records < job.records() {
        changes.clear();
        records += tap.batch(|record| {
            changes.push((record.key.to_vec(), signed(record.value)));
            positions[record.partition as usize] = record.offset + 1;
        }) as u64;
        tap.give_back();
        changes.sort();
        let mut keys: Vec<&[u8]> = changes.iter().map(|(key, _)| key.as_slice()).collect();
        keys.dedup();
        let family = db.cf_handle("default").expect("the default family");
        let found = db.batched_multi_get_cf_opt(family, keys.iter().copied(), true, &ReadOptions::default());
        let mut batch = WriteBatch::default();
        let mut rest = changes.as_slice();
        for (key, found) in keys.iter().zip(found) {
            let mut account = found.expect("read").as_deref().map(parse).unwrap_or_default();
            while let Some((_, amount)) = rest.first().filter(|(changed, _)| changed == key) {
                account.add(*amount).expect("small amounts");
                rest = &rest[1..];
            }
            batch.put(key, encode(&account));
        }
        put_positions(&mut batch, &positions);
        db.write_opt(batch, &writing).expect("written");
    }
    let measured = watch.stop();
    Measured { totals: rows(&db, records), ..measured }
}

/// Keeps every state in a HashMap, and writes those that ten batches changed in one sorted write.
pub fn cached(job: &Job) -> Measured {
    struct Cell {
        key: Box<[u8]>,
        account: Account,
        changed: bool,
    }
    let watch = Watch::start();
    let db = open(job.data());
    let writing = writing();
    let mut cells: Vec<Cell> = Vec::new();
    let mut by_key: HashMap<Vec<u8>, u32> = HashMap::new();
    for item in db.iterator(IteratorMode::Start) {
        let (key, value) = item.expect("read");
        if key[0] != POSITION {
            by_key.insert(key.to_vec(), cells.len() as u32);
            cells.push(Cell { key, account: parse(&value), changed: false });
        }
    }
    let mut tap = Tap::open(job);
    let mut positions = vec![0u64; job.place.ends.len()];
    let (mut records, mut batches) = (0, 0);
    let mut changed: Vec<u32> = Vec::new();
    while records < job.records() {
        records += tap.batch(|record| {
            let index = *by_key.entry_ref(record.key).or_insert_with(|| {
                cells.push(Cell { key: record.key.into(), account: Account::default(), changed: false });
                cells.len() as u32 - 1
            });
            let cell = &mut cells[index as usize];
            cell.account.add(signed(record.value)).expect("small amounts");
            if !std::mem::replace(&mut cell.changed, true) {
                changed.push(index);
            }
            positions[record.partition as usize] = record.offset + 1;
        }) as u64;
        tap.give_back();
        batches += 1;
        if batches % COALESCED == 0 || records == job.records() {
            changed.sort_unstable_by(|a, b| cells[*a as usize].key.cmp(&cells[*b as usize].key));
            let mut batch = WriteBatch::default();
            for index in changed.drain(..) {
                let cell = &mut cells[index as usize];
                cell.changed = false;
                batch.put(&cell.key, encode(&cell.account));
            }
            put_positions(&mut batch, &positions);
            db.write_opt(batch, &writing).expect("written");
        }
    }
    let measured = watch.stop();
    Measured { totals: rows(&db, records), resident: cells.len() as u64, ..measured }
}

fn open(path: &Path) -> DB {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(128 << 20));
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(64 << 20);
    options.set_max_background_jobs(2);
    DB::open_cf(&options, path, ["default"]).expect("a database")
}

fn writing() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

fn put_positions(batch: &mut WriteBatch, positions: &[u64]) {
    for (partition, position) in positions.iter().enumerate() {
        batch.put([POSITION, partition as u8], position.to_be_bytes());
    }
}

fn encode(account: &Account) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&account.balance.to_le_bytes());
    bytes[8..].copy_from_slice(&account.transactions.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Account {
    let (balance, transactions) = bytes.split_at(8);
    Account {
        balance: i64::from_le_bytes(balance.try_into().expect("8 bytes")),
        transactions: u64::from_le_bytes(transactions.try_into().expect("8 bytes")),
    }
}

/// Reads everything back: what counts is what is in the database.
fn rows(db: &DB, records: u64) -> Totals {
    let mut totals = Totals { records, ..Totals::default() };
    for item in db.iterator(IteratorMode::Start) {
        let (key, value) = item.expect("read");
        if key[0] != POSITION {
            totals.row(&key, &parse(&value));
        }
    }
    totals
}
