//! `segno explain VIEW KEY`.

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::exit::Failure;
use super::figures::many;
use super::get::key_of;
use super::operator::{Method, Operator};
use super::out;
use super::replay::verdict::short;
use crate::api::body::{ExplainAnswer, StepAnswer};
use crate::api::percent;
use crate::app::Declared;
use crate::config::Loaded;

/// Show the records that made a row, with what each of them changed
///
/// Reads the log of the key's partition, from the nearest snapshot before --from, or from its beginning, to --to, and
/// folds this one key. The last line says how many records that took. Changes nothing.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The view's name.
    view: String,
    /// The row's key.
    key: String,
    /// The key is percent-encoded: for keys that are not text.
    #[arg(long)]
    encoded: bool,
    /// Only records from this time or position on, as --from of a replay.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Only records before this time or position.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// The most records that are shown: the newest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

impl ExplainArgs {
    pub fn run(self, loaded: &Loaded, declared: Vec<Declared>, json: bool) -> Result<(), Failure> {
        let key = key_of(&self.key, self.encoded)?;
        let view = percent::encode(self.view.as_bytes());
        let mut path = format!("/v1/explain/{view}/{}?limit={}", percent::encode(&key), self.limit);
        for (name, value) in [("from", &self.from), ("to", &self.to)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", percent::encode(value.as_bytes())));
            }
        }
        let operator = Operator::open(loaded, declared)?;
        let raw = operator.raw(Method::Get, &path, None)?;
        if json {
            return out::line(String::from_utf8_lossy(&raw));
        }
        let answer: ExplainAnswer = operator.read(&raw)?;
        out::line(show(&answer))?;
        let cost = &answer.cost;
        eprintln!("read {} of the log, from {}", many(cost.records, "record", "records"), cost.base);
        Ok(())
    }
}

fn show(answer: &ExplainAnswer) -> String {
    let mut text = String::new();
    if answer.left_out > 0 {
        text.push_str(&format!("{} before these (--limit)\n", many(answer.left_out, "record", "records")));
    }
    let mut before = value(answer.before.as_deref());
    match &before {
        Some(row) => text.push_str(&format!("before: {}\n", short(row))),
        None => text.push_str("before: no row\n"),
    }
    for step in &answer.steps {
        text.push_str(&head(step));
        let after = value(step.state.as_deref());
        text.push_str(&changes(before.as_ref(), after.as_ref()));
        before = after;
    }
    if answer.steps.is_empty() {
        text.push_str("no record of this key in that time\n");
    }
    text.push_str(&match before {
        Some(row) => format!("after: {}", short(&row)),
        None => "after: no row".to_owned(),
    });
    text
}

fn value(raw: Option<&RawValue>) -> Option<Value> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn head(step: &StepAnswer) -> String {
    let event = step.event_type.as_deref().unwrap_or("(no event)");
    let id = step.event_id.as_ref().map_or(String::new(), |id| format!(" {id}"));
    let detail = step.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
    format!(
        "{}  partition {}, offset {}  {event}{id}  {}{detail}\n",
        step.timestamp, step.partition, step.offset, step.outcome
    )
}

/// The fields that a record changed.
fn changes(before: Option<&Value>, after: Option<&Value>) -> String {
    match (before, after) {
        (before, after) if before == after => String::new(),
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut text = String::new();
            let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
            for name in names.filter(|name| before.get(*name) != after.get(*name)) {
                let side = |side: Option<&Value>| side.map_or("(none)".to_owned(), short);
                text.push_str(&format!("    {name}: {} -> {}\n", side(before.get(name)), side(after.get(name))));
            }
            text
        }
        (_, Some(after)) => format!("    {}\n", short(after)),
        (_, None) => "    the row is removed\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_shows_what_it_changed() {
        let answer = serde_json::from_str::<ExplainAnswer>(
            r#"{"view":"account","key":"a","before":{"balance":5,"owner":"Ada"},"left_out":1,
            "cost":{"base":"snapshot 3","records":12},"steps":[
            {"partition":0,"offset":7,"timestamp":0,"event_type":"Deposited","event_id":"e7","outcome":"applied",
             "detail":null,"state":{"balance":9,"owner":"Ada"}},
            {"partition":0,"offset":8,"timestamp":1,"event_type":null,"event_id":null,"outcome":"dead",
             "detail":"not JSON","state":{"balance":9,"owner":"Ada"}},
            {"partition":0,"offset":9,"timestamp":2,"event_type":"Closed","event_id":null,"outcome":"removed",
             "detail":null,"state":null}]}"#,
        );
        let text = show(&answer.unwrap());
        assert_eq!(
            text,
            "1 record before these (--limit)\n\
             before: {\"balance\":5,\"owner\":\"Ada\"}\n\
             1970-01-01T00:00:00.000Z  partition 0, offset 7  Deposited e7  applied\n\
             \x20   balance: 5 -> 9\n\
             1970-01-01T00:00:00.001Z  partition 0, offset 8  (no event)  dead: not JSON\n\
             1970-01-01T00:00:00.002Z  partition 0, offset 9  Closed  removed\n\
             \x20   the row is removed\n\
             after: no row"
        );
    }
}
