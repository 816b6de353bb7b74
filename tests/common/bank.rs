//! The bank of the README, in Rust and as a declaration.

use std::collections::BTreeMap;
use std::sync::Arc;

use segno::event::EventMeta;
use segno::views::cel::{GuardSpec, Literal, Located, ViewSpec};
use segno::views::{Reject, View};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub owner: String,
    pub balance: i64,
    pub transactions: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "event_type", content = "payload")]
pub enum AccountEvent {
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
            AccountEvent::MoneyWithdrawn { amount } => {
                if self.balance < *amount {
                    return Err(Reject::because("insufficient funds"));
                }
                self.balance = self.balance.checked_sub(*amount).ok_or_else(overflow)?;
            }
        }
        self.transactions += 1;
        Ok(())
    }
}

/// The same fold, declared.
pub fn declared() -> ViewSpec {
    let to = |text: &str| Located { text: text.to_owned(), line: 1, column: 1 };
    let sets = |sets: &[(&str, &str)]| -> BTreeMap<String, Located> {
        sets.iter().map(|(field, text)| (field.to_string(), to(text))).collect()
    };
    let counted = ("transactions", "state.transactions + 1");
    let deposit = sets(&[("balance", "state.balance + event.payload.amount"), counted]);
    let withdraw = sets(&[("balance", "state.balance - event.payload.amount"), counted]);
    ViewSpec {
        file: "config.toml".into(),
        source: Arc::from(""),
        line: 1,
        column: 1,
        name: "account_balance".into(),
        version: 1,
        initial: BTreeMap::from([
            ("owner".into(), Literal::Text(String::new())),
            ("balance".into(), Literal::Int(0)),
            ("transactions".into(), Literal::Int(0)),
        ]),
        on: BTreeMap::from([
            ("AccountOpened".into(), sets(&[("owner", "event.payload.owner")])),
            ("MoneyDeposited".into(), deposit),
            ("MoneyWithdrawn".into(), withdraw),
        ]),
        ignore: Vec::new(),
        reject_when: vec![GuardSpec {
            on: "MoneyWithdrawn".into(),
            when: to("state.balance < event.payload.amount"),
            reason: "insufficient funds".into(),
        }],
        max_event_version: None,
    }
}
