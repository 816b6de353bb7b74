//! `segno status`.

use std::time::Duration;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::reader::Reader;
use super::{Code, Failure, out};
use crate::actors::handle::{PartitionStatus, Status, ViewStatus};
use crate::actors::replay::words::ViewReplay;
use crate::config::{Loaded, quantity};

/// Show how far every partition is
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show it again and again, every second or as often as is said here.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "1s", value_parser = quantity::duration)]
    watch: Option<Duration>,
}

impl StatusArgs {
    pub fn run(self, loaded: &Loaded, json: bool) -> Result<(), Failure> {
        loop {
            let status = status(loaded)?;
            if json {
                out::json(&status)?;
            } else {
                if self.watch.is_some() {
                    // Clears the screen and goes to its corner.
                    out::line("\x1b[2J\x1b[H")?;
                }
                out::line(show(&status))?;
            }
            match self.watch {
                Some(pause) => std::thread::sleep(pause.max(Duration::from_millis(100))),
                None => return Ok(()),
            }
        }
    }
}

fn status(loaded: &Loaded) -> Result<Status, Failure> {
    match Reader::open(&loaded.config)? {
        Reader::Daemon(client) => client.get("/v1/status"),
        Reader::Store(offline) => {
            let (status, trouble) = offline.status(&loaded.config);
            if let Some(trouble) = trouble.filter(|trouble| trouble.code != Code::Ok) {
                eprintln!("segno: the end of the log is not known: {trouble}");
            }
            Ok(status)
        }
    }
}

/// The tables that a person reads.
fn show(status: &Status) -> String {
    let reason = status.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let mut text = format!("{} is {}{reason}; log: {}", status.node, status.state, status.log);
    if let Some(replay) = &status.replay {
        text.push_str(&format!("\nreplay {} is {} ({:.0} %)", replay.id, replay.phase, replay.share * 100.0));
    }
    for topic in &status.topics {
        text.push_str(&format!("\n\n{}\n", topic.name));
        for view in &topic.pending {
            text.push_str(&pending_line(view));
        }
        let mut table = table(&PARTITION_COLUMNS);
        table.add_rows(topic.partitions.iter().map(partition_row));
        table.add_row(total_row(&topic.partitions));
        align(&mut table, 2);
        text.push_str(&table.trim_fmt());
        for partition in topic.partitions.iter().filter(|partition| partition.reason.is_some()) {
            let reason = partition.reason.as_deref().unwrap_or_default();
            text.push_str(&format!("\npartition {}: {reason}", partition.partition));
        }
        if !topic.views.is_empty() {
            let mut table = self::table(&VIEW_COLUMNS);
            table.add_rows(topic.views.iter().map(view_row));
            align(&mut table, 1);
            text.push_str("\n\n");
            text.push_str(&table.trim_fmt());
        }
    }
    text
}

/// A definition that waits for a replay.
fn pending_line(view: &ViewReplay) -> String {
    let wanted = view.wanted.map(|version| format!("version {version}")).unwrap_or_default();
    let live = view.live.map_or_else(|| "it is new".to_owned(), |version| format!("live is version {version}"));
    format!("view {} waits for its {wanted} ({live}): `segno replay --from <time>` builds it\n", view.view)
}

const PARTITION_COLUMNS: [&str; 12] = [
    "partition",
    "state",
    "applied",
    "durable",
    "log end",
    "lag",
    "lag s",
    "resident",
    "batch",
    "waiting",
    "parked",
    "dead",
];

const VIEW_COLUMNS: [&str; 9] =
    ["view", "version", "rows", "consumed", "applied", "skipped", "waiting", "parked", "dead"];

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.to_vec());
    table
}

/// Numbers to the right, the first `words` columns to the left.
fn align(table: &mut Table, words: usize) {
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn known<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn partition_row(status: &PartitionStatus) -> Vec<String> {
    vec![
        status.partition.to_string(),
        status.state.to_string(),
        status.applied.to_string(),
        status.durable.to_string(),
        known(status.log_end),
        known(status.lag_records),
        known(status.lag_seconds.map(|seconds| format!("{seconds:.1}"))),
        status.resident.to_string(),
        status.batch_records.to_string(),
        status.waiting.to_string(),
        status.parked.to_string(),
        status.dead.to_string(),
    ]
}

/// Sums; of the lag in seconds the largest. A sum of which a part is not known is not known.
fn total_row(partitions: &[PartitionStatus]) -> Vec<String> {
    let sum = |of: fn(&PartitionStatus) -> u64| partitions.iter().map(of).sum::<u64>().to_string();
    let lag: Option<u64> = partitions.iter().map(|partition| partition.lag_records).sum();
    let end: Option<u64> = partitions.iter().map(|partition| partition.log_end.map(|end| end.0)).sum();
    let seconds: Option<Vec<f64>> = partitions.iter().map(|partition| partition.lag_seconds).collect();
    let seconds = seconds.map(|all| format!("{:.1}", all.into_iter().fold(0.0, f64::max)));
    vec![
        "total".to_owned(),
        String::new(),
        sum(|partition| partition.applied.0),
        sum(|partition| partition.durable.0),
        known(end),
        known(lag),
        known(seconds),
        sum(|partition| partition.resident),
        sum(|partition| partition.batch_records),
        sum(|partition| partition.waiting),
        sum(|partition| partition.parked),
        sum(|partition| partition.dead),
    ]
}

fn view_row(status: &ViewStatus) -> Vec<String> {
    let books = &status.books;
    let mut row = vec![status.view.clone(), status.version.to_string(), status.rows.to_string()];
    let columns = [books.consumed, books.applied, books.skipped, books.waiting, books.parked, books.dead];
    row.extend(columns.map(|count| count.to_string()));
    row
}
