//! What a replay would do, in a table and plain words.

use comfy_table::{CellAlignment, Table, presets};

use crate::actors::replay::words::{PartitionReplay, ReplayPlan, TopicReplay};
use crate::cli::figures::{bytes, count, many, percent, seconds};

use super::verdict::definition;

/// All of it.
pub fn show(plan: &ReplayPlan) -> String {
    let from = plan.time.map_or_else(|| plan.request.from.clone(), |time| time.to_string());
    let mut text = format!("Replay from {from}");
    for topic in &plan.topics {
        text.push_str(&format!("\n\n{}{}\n", topic.topic, if topic.compacted { " (compacted)" } else { "" }));
        text.push_str(&partitions(topic).trim_fmt());
        text.push_str("\n\n");
        text.push_str(&views(topic).trim_fmt());
    }
    text.push_str("\n\n");
    text.push_str(&costs(plan));
    for warning in &plan.warnings {
        text.push_str(&format!("\nwarning: {warning}"));
    }
    text.push_str("\n\n");
    text.push_str(&consequences(plan));
    text
}

/// A table without lines, under these words.
pub fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.to_vec());
    table
}

/// Numbers to the right: the columns at these places.
pub fn to_the_right(table: &mut Table, numbers: &[usize]) {
    for &at in numbers {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn partitions(topic: &TopicReplay) -> Table {
    let columns =
        ["partition", "cut", "record at the cut", "base", "base ends", "reads from", "live", "log", "records", "bytes"];
    let mut table = table(&columns);
    table.add_rows(topic.partitions.iter().map(row));
    let records = topic.partitions.iter().map(|partition| partition.records).sum();
    let size: Option<u64> = topic.partitions.iter().map(|partition| partition.bytes).sum();
    let mut total = vec!["total".to_owned()];
    total.resize(columns.len() - 2, String::new());
    total.extend([count(records), size.map_or("?".to_owned(), bytes)]);
    table.add_row(total);
    to_the_right(&mut table, &[1, 5, 6, 8, 9]);
    table
}

fn row(partition: &PartitionReplay) -> Vec<String> {
    let time = |time: Option<crate::position::Timestamp>| time.map_or("-".to_owned(), |time| time.to_string());
    vec![
        partition.partition.to_string(),
        partition.cut.to_string(),
        match partition.cut_time {
            None if partition.cut == partition.log_end => "none: the end".to_owned(),
            found => time(found),
        },
        partition.base.to_string(),
        time(partition.base_time),
        partition.from.to_string(),
        partition.live.to_string(),
        format!("{}..{}", partition.log_start, partition.log_end),
        count(partition.records),
        partition.bytes.map_or("?".to_owned(), bytes),
    ]
}

fn views(topic: &TopicReplay) -> Table {
    let mut table = table(&["view", "live", "rebuild", "definition"]);
    let version = |version: Option<u32>| version.map_or("-".to_owned(), |version| format!("v{version}"));
    for view in &topic.views {
        table.add_row(vec![
            view.view.clone(),
            version(view.live),
            version(view.wanted),
            definition(view.change).to_owned(),
        ]);
    }
    table
}

fn costs(plan: &ReplayPlan) -> String {
    let records = many(plan.records, "record", "records");
    let size = plan.bytes.map_or(String::new(), |size| format!(", {}", bytes(size)));
    let exact = if plan.exact { "counted" } else { "estimated" };
    let time = match plan.seconds {
        Some(time) => format!("about {} at the measured rate", seconds(time)),
        None => "how long is not known: too little is read to measure a rate".to_owned(),
    };
    let short = if plan.disk_needed > plan.disk_free { "  NOT ENOUGH" } else { "" };
    format!(
        "reads  {records}{size} ({exact})\ntime   {time}\ndisk   needs {}, {} free{short}",
        bytes(plan.disk_needed),
        bytes(plan.disk_free)
    )
}

/// What happens to live, when, and how to undo it.
fn consequences(plan: &ReplayPlan) -> String {
    let request = &plan.request;
    let same = plan.topics.iter().all(TopicReplay::same_definitions);
    let gate = match (same, request.yes, request.max_changed) {
        (true, ..) => {
            "Then it is compared with live. The definitions are those of live: every row must come out the same, and if \
             one does not, nothing is switched."
                .to_owned()
        }
        (false, true, _) => "Then it is compared with live, and switched however much differs: the yes is given.".to_owned(),
        (false, false, Some(most)) => format!(
            "Then it is compared with live, and switched if at most {} of the rows differ; else it asks.",
            percent(most)
        ),
        (false, false, None) => {
            "Then it is compared with live. Definitions changed: what differs is shown, and nothing is switched without \
             a yes."
                .to_owned()
        }
    };
    format!(
        "Live keeps consuming and serving while new generations are built beside it; nothing it has changes before the \
         cut-over.\n{gate}\nUndo: `segno replay cancel` before the cut-over, `segno replay rollback` after it."
    )
}
