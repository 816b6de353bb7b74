//! A Segno of one's own: the bank's accounts as a view in Rust, with the whole command line around it.
//!
//! ```console
//! $ cargo run --release --example bank -- --data-dir /tmp/bank run
//! $ cargo run --release --example bank -- --data-dir /tmp/bank append bank.accounts events.jsonl --key aggregate_id
//! $ cargo run --release --example bank -- --data-dir /tmp/bank get account_balance account-0000001
//! ```

use std::process::ExitCode;

use segno::event::EventMeta;
use segno::views::{Reject, View};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    owner: String,
    balance: i64,
    transactions: u64,
}

#[derive(Deserialize)]
#[serde(tag = "event_type", content = "payload")]
enum AccountEvent {
    AccountOpened { owner: String },
    MoneyDeposited { amount: i64 },
    MoneyWithdrawn { amount: i64 },
}

impl View for Account {
    const NAME: &'static str = "account_balance";
    const VERSION: u32 = 1;
    type Event = AccountEvent;

    fn apply(&mut self, event: &AccountEvent, _: &EventMeta<'_>) -> Result<(), Reject> {
        let overflow = || Reject::because("the balance is beyond 64 bits");
        match event {
            AccountEvent::AccountOpened { owner } => {
                self.owner.clone_from(owner);
                return Ok(());
            }
            AccountEvent::MoneyDeposited { amount } => {
                self.balance = self.balance.checked_add(*amount).ok_or_else(overflow)?;
            }
            AccountEvent::MoneyWithdrawn { amount } if self.balance < *amount => {
                return Err(Reject::because("insufficient funds"));
            }
            AccountEvent::MoneyWithdrawn { amount } => self.balance -= amount,
        }
        self.transactions += 1;
        Ok(())
    }
}

fn main() -> ExitCode {
    segno::App::new().topic("bank.accounts", |topic| topic.view::<Account>()).run()
}
