//! The bank: deposits and withdrawals on many accounts, and what must come of them, computed with nothing but a vector.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};
use segno::event::EventMeta;
use segno::views::{Reject, View};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::arguments::{Arguments, Skew, Stage};
use crate::measure::Measured;

/// The first event's time; each is a few milliseconds after the one before.
const BEGIN: i64 = 1_700_000_000_000;

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

    /// Compares what a stage saw, as far as a stage of its kind can see it.
    pub fn check(&self, stage: Stage, measured: &Measured) -> Result<(), String> {
        let seen = measured.totals;
        let want = match stage {
            Stage::Consume | Stage::EmbeddedRead => Totals { records: self.records, ..Totals::default() },
            Stage::Decode => Totals { records: self.records, balance: self.balance, ..Totals::default() },
            Stage::Resident => return Ok(()),
            _ => *self,
        };
        if seen == want { Ok(()) } else { Err(format!("{seen:?}, it must be {want:?}")) }
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
    accounts: Vec<Account>,
}

impl Generator {
    pub fn new(arguments: &Arguments) -> Self {
        Generator {
            rng: StdRng::seed_from_u64(7),
            keys: arguments.keys,
            zipf: (arguments.skew == Skew::Zipf)
                .then(|| Zipf::new(arguments.keys as f64, 1.0).expect("at least 1 key")),
            value_size: arguments.value_size,
            made: 0,
            accounts: vec![Account::default(); arguments.keys as usize],
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
        let mut totals = Totals { records: self.made, ..Totals::default() };
        for (number, account) in self.accounts.iter().enumerate().filter(|(_, account)| account.transactions > 0) {
            totals.row(key(number as u64).as_bytes(), account);
        }
        totals
    }
}

pub fn key(number: u64) -> String {
    format!("account-{number:08}")
}

fn uuid(bits: u128) -> String {
    let digits = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}
