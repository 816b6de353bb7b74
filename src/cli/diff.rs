//! `segno diff VIEW --from --to`.

use clap::Args;

use super::exit::Failure;
use super::figures::{count, many};
use super::operator::{Method, Operator};
use super::out;
use super::replay::verdict::lines;
use crate::actors::admin::Changes;
use crate::api::percent;
use crate::app::Declared;
use crate::config::Loaded;

/// Show what changed in a view between two times
///
/// Reads the log of the view's topic from the nearest snapshot before --from, or from its beginning, to --to, folds it in
/// memory, and compares. The last line says how many records that took. Changes nothing.
#[derive(Debug, Args)]
pub struct Diff {
    /// The view's name.
    view: String,
    /// The earlier time or position, as --from of a replay.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: String,
    /// The later one.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: String,
}

impl Diff {
    pub fn run(self, loaded: &Loaded, declared: Vec<Declared>, json: bool) -> Result<(), Failure> {
        let encoded = |text: &str| percent::encode(text.as_bytes());
        let path = format!("/v1/changes/{}?from={}&to={}", encoded(&self.view), encoded(&self.from), encoded(&self.to));
        let operator = Operator::open(loaded, declared)?;
        let raw = operator.raw(Method::Get, &path, None)?;
        if json {
            return out::line(String::from_utf8_lossy(&raw));
        }
        let changes: Changes = operator.read(&raw)?;
        out::line(show(&changes))?;
        let cost = &changes.cost;
        eprintln!("read {} of the log, from {}", many(cost.records, "record", "records"), cost.base);
        Ok(())
    }
}

fn show(changes: &Changes) -> String {
    let Changes { view, from, to, added, removed, changed, unchanged, rows, .. } = changes;
    let mut text = format!(
        "{view} from {from} to {to}: {} added, {} removed, {} changed, {} unchanged",
        count(*added),
        count(*removed),
        count(*changed),
        count(*unchanged)
    );
    for row in rows {
        text.push_str(&lines(row, "the earlier state", "the later state"));
    }
    let more = (added + removed + changed).saturating_sub(rows.len() as u64);
    if more > 0 {
        text.push_str(&format!("\n  and {}", many(more, "row more", "rows more")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_that_differ_are_shown_field_by_field() {
        let changes: Changes = serde_json::from_value(json!({
            "view": "account", "from": "bank@0:3", "to": "bank@0:9", "added": 1, "removed": 0, "changed": 2,
            "unchanged": 1000, "cost": { "base": "genesis", "records": 9 },
            "rows": [
                { "partition": 0, "key": "a", "live": { "balance": 1 }, "new": { "balance": 2 },
                  "fields": [{ "field": "balance", "live": 1, "new": 2 }] },
                { "partition": 0, "key": "b", "live": null, "new": { "balance": 3 }, "fields": [] },
            ],
        }))
        .unwrap();
        assert_eq!(
            show(&changes),
            "account from bank@0:3 to bank@0:9: 1 added, 0 removed, 2 changed, 1,000 unchanged\n  \
             a (partition 0)\n    balance: 1 -> 2\n  b (partition 0): only in the later state\n    {\"balance\":3}\n  \
             and 1 row more"
        );
    }
}
