//! The bank: deposits and withdrawals on many accounts, and what must come of them, computed with nothing but a vector.

use clap::{Args, ValueEnum};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};
use segno::event::EventMeta;
use segno::views::{Reject, View};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The first event's time; each is a few milliseconds after the one before.
const BEGIN: i64 = 1_700_000_000_000;

/// What the records are like.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// Records in the topic.
    #[arg(long, default_value_t = 3_000_000)]
    pub records: u64,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Bytes of a record's value, roughly; at least 230.
    #[arg(long, default_value_t = 280)]
    pub value_size: usize,
    /// How the keys are drawn.
    #[arg(long, value_enum, default_value_t = Skew::Uniform)]
    pub skew: Skew,
    #[arg(long, default_value_t = 4)]
    pub partitions: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Skew {
    Uniform,
    /// Key number k is drawn in proportion to 1/k.
    Zipf,
}

/// The row of an account, in every stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub balance: i64,
    pub transactions: u64,
}

#[derive(Deserialize)]
#[serde(tag = "event_type", content = "payload")]
pub enum AccountEvent {
    MoneyDeposited { amount: i64 },
    MoneyWithdrawn { amount: i64 },
}

impl View for Account {
    const NAME: &'static str = "account_balance";
    const VERSION: u32 = 1;
    type Event = AccountEvent;

    fn apply(&mut self, event: &AccountEvent, _: &EventMeta<'_>) -> Result<(), Reject> {
        let (AccountEvent::MoneyDeposited { amount } | AccountEvent::MoneyWithdrawn { amount }) = event;
        let signed = if matches!(event, AccountEvent::MoneyDeposited { .. }) { *amount } else { -amount };
        self.add(signed).ok_or_else(|| Reject::because("the balance is beyond 64 bits"))
    }
}

impl Account {
    pub fn add(&mut self, signed: i64) -> Option<()> {
        self.balance = self.balance.checked_add(signed)?;
        self.transactions += 1;
        Some(())
    }
}

/// What all rows together must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub records: u64,
    pub rows: u64,
    pub balance: i64,
    pub transactions: u64,
    /// The sum of a hash of every row: tells apart what sums alone would not.
    pub digest: u64,
}

impl Totals {
    pub fn row(&mut self, key: &[u8], account: &Account) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&account.balance.to_le_bytes());
        bytes[8..].copy_from_slice(&account.transactions.to_le_bytes());
        self.rows += 1;
        self.balance += account.balance;
        self.transactions += account.transactions;
        self.digest = self.digest.wrapping_add(xxh3_64_with_seed(&bytes, xxh3_64_with_seed(key, 0)));
    }

    /// Of everything that is in the accounts, by their numbers.
    pub fn of(records: u64, accounts: &[Account]) -> Totals {
        let mut totals = Totals { records, ..Totals::default() };
        for (number, account) in accounts.iter().enumerate().filter(|(_, account)| account.transactions > 0) {
            totals.row(key(number as u64).as_bytes(), account);
        }
        totals
    }
}

/// One record.
pub struct Made {
    pub key: String,
    pub value: Vec<u8>,
    pub timestamp: i64,
}

/// Makes the records, always the same ones for the same arguments.
pub struct Generator {
    rng: StdRng,
    keys: u64,
    zipf: Option<Zipf<f64>>,
    value_size: usize,
    made: u64,
    /// As they must be by now, by their numbers.
    pub accounts: Vec<Account>,
}

impl Generator {
    pub fn new(workload: &Workload) -> Self {
        Generator::going_on(workload, 0, vec![Account::default(); workload.keys as usize])
    }

    /// Goes on after `made` records that have made these accounts.
    pub fn going_on(workload: &Workload, made: u64, accounts: Vec<Account>) -> Self {
        Generator {
            rng: StdRng::seed_from_u64(7 + made),
            keys: workload.keys,
            zipf: (workload.skew == Skew::Zipf).then(|| Zipf::new(workload.keys as f64, 1.0).expect("at least 1 key")),
            value_size: workload.value_size,
            made,
            accounts,
        }
    }

    pub fn next(&mut self) -> Made {
        let number = match &self.zipf {
            // Scattered, so that the frequent keys are not neighbours.
            Some(zipf) => (zipf.sample(&mut self.rng) as u64 - 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.keys,
            None => self.rng.random_range(0..self.keys),
        };
        let deposit = self.rng.random_ratio(3, 5);
        let amount: i64 = self.rng.random_range(1..100_000);
        self.accounts[number as usize].add(if deposit { amount } else { -amount }).expect("small amounts");
        let key = key(number);
        let timestamp = BEGIN + self.made as i64 * 3;
        self.made += 1;
        let event_type = if deposit { "MoneyDeposited" } else { "MoneyWithdrawn" };
        let time = jiff::Timestamp::from_millisecond(timestamp).expect("a time of this century");
        let (id, flow) = (uuid(self.rng.random()), uuid(self.rng.random()));
        let user = number % 10_000;
        let mut value = format!(
            r#"{{"event_id":"{id}","event_type":"{event_type}","event_version":1,"timestamp":"{time:.3}","metadata":{{"correlation_id":"{flow}","user_id":"user-{user:04}"}},"payload":{{"amount":{amount},"note":""#
        );
        let room = self.value_size.saturating_sub(value.len() + 3);
        value.extend("thank you for banking with us ".chars().cycle().take(room));
        value.push_str("\"}}");
        Made { key, value: value.into_bytes(), timestamp }
    }

    /// The totals of everything made so far.
    pub fn totals(&self) -> Totals {
        Totals::of(self.made, &self.accounts)
    }
}

pub fn key(number: u64) -> String {
    format!("account-{number:08}")
}

fn uuid(bits: u128) -> String {
    let digits = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}
