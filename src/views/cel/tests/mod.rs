use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::event::{Event, EventMeta};
use crate::moment::Moment;
use crate::position::{Offset, PartitionId, Timestamp};
use crate::views::{Applied, Definition, Failure, Row};

#[cfg(test)]
mod fold;
#[cfg(test)]
mod refuse;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod times;

/// A declaration whose expressions stand one under the other in a pretended file.
struct Draft {
    spec: ViewSpec,
    source: String,
}

fn view(initial: &[(&str, Literal)]) -> Draft {
    let spec = ViewSpec {
        file: "config.toml".into(),
        source: "".into(),
        line: 1,
        column: 1,
        name: "account".into(),
        version: 1,
        initial: initial.iter().map(|(name, literal)| (name.to_string(), literal.clone())).collect(),
        on: BTreeMap::new(),
        ignore: Vec::new(),
        reject_when: Vec::new(),
        max_event_version: None,
    };
    Draft { spec, source: "[[topics.views]]\n".into() }
}

fn text(text: &str) -> Literal {
    Literal::Text(text.into())
}

impl Draft {
    fn located(&mut self, before: &str, expression: &str) -> Located {
        let line = self.source.lines().count() + 1;
        self.source += &format!("{before}'''{expression}'''\n");
        Located { text: expression.into(), line, column: before.chars().count() + 4 }
    }

    fn on(mut self, event_type: &str, field: &str, expression: &str) -> Draft {
        let to = self.located(&format!("{event_type}.{field} = "), expression);
        self.spec.on.entry(event_type.into()).or_default().insert(field.into(), to);
        self
    }

    fn also(mut self, event_type: &str) -> Draft {
        self.spec.on.entry(event_type.into()).or_default();
        self
    }

    fn guard(mut self, on: &str, when: &str, reason: &str) -> Draft {
        let when = self.located("when = ", when);
        self.spec.reject_when.push(GuardSpec { on: on.into(), when, reason: reason.into() });
        self
    }

    fn ignore(mut self, types: &[&str]) -> Draft {
        self.spec.ignore = types.iter().map(|name| name.to_string()).collect();
        self
    }

    fn spec(mut self) -> ViewSpec {
        self.spec.source = Arc::from(self.source);
        self.spec
    }

    fn compile(self) -> Result<Declared, SpecError> {
        Declared::compile(&self.spec())
    }

    fn row(self) -> Box<dyn Row> {
        self.compile().unwrap_or_else(|error| panic!("{error}")).initial()
    }
}

fn event<'a>(event_type: &'a str, payload: &'a str) -> Event<'a> {
    let meta = EventMeta {
        topic: "bank",
        partition: PartitionId(3),
        offset: Offset(7),
        record_timestamp: Timestamp(0),
        key: b"k1",
        event_id: Some(Cow::Borrowed("e1")),
        event_type: Cow::Borrowed(event_type),
        event_version: 2,
        timestamp: Timestamp(1_714_557_600_123),
        correlation_id: None,
        causation_id: None,
        user_id: Some(Cow::Borrowed("u1")),
    };
    Event { meta, payload: payload.as_bytes() }
}

fn json(row: &dyn Row) -> String {
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// The bank of the README.
fn bank() -> Draft {
    view(&[("owner", text("")), ("balance", Literal::Int(0)), ("transactions", Literal::Int(0))])
        .on("AccountOpened", "owner", "event.payload.owner")
        .on("MoneyDeposited", "balance", "state.balance + event.payload.amount")
        .on("MoneyDeposited", "transactions", "state.transactions + 1")
        .on("MoneyWithdrawn", "balance", "state.balance - event.payload.amount")
        .on("MoneyWithdrawn", "transactions", "state.transactions + 1")
        .guard("MoneyWithdrawn", "state.balance < event.payload.amount", "insufficient funds")
}
