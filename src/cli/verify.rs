//! `segno verify`.

use clap::Args;
use serde::Deserialize;

use super::exit::{Code, Failure};
use super::figures::{count, many};
use super::operator::{Method, Operator};
use super::out;
use super::replay::plan_table::{table, to_the_right};
use crate::actors::admin::ViewCheck;
use crate::app::Declared;
use crate::config::Loaded;

/// Compute the digest of every live view again, and compare it with the one that is kept with every commit
///
/// Reads every row of every view once, at one position a partition, while live goes on. A difference means that the disk
/// or a program changed rows behind Segno's back. Changes nothing.
#[derive(Debug, Args)]
pub struct Verify {}

#[derive(Deserialize)]
struct Checked {
    ok: bool,
    views: Vec<ViewCheck>,
}

impl Verify {
    pub fn run(self, loaded: &Loaded, declared: Vec<Declared>, json: bool) -> Result<(), Failure> {
        let operator = Operator::open(loaded, declared)?;
        let raw = operator.raw(Method::Post, "/v1/verify", None)?;
        let checked: Checked = operator.read(&raw)?;
        if json { out::line(String::from_utf8_lossy(&raw)) } else { out::line(show(&checked.views)) }?;
        if checked.ok {
            return Ok(());
        }
        let wrong = checked.views.iter().filter(|view| !view.ok).count() as u64;
        let message = format!("{} not what was committed", many(wrong, "digest is", "digests are"));
        Err(Failure::new(Code::Differs, message)
            .next("build the rows again from the log: `segno replay --from TIME --base genesis --plan` shows the cost"))
    }
}

fn show(views: &[ViewCheck]) -> String {
    let mut table = table(&["topic", "partition", "view", "position", "rows", "kept", "found", "result"]);
    for view in views {
        table.add_row(vec![
            view.topic.clone(),
            view.partition.to_string(),
            view.view.clone(),
            view.position.to_string(),
            count(view.rows),
            view.kept.clone(),
            view.found.clone(),
            if view.ok { "ok" } else { "DIFFERS" }.to_owned(),
        ]);
    }
    to_the_right(&mut table, &[1, 3, 4]);
    table.trim_fmt()
}
