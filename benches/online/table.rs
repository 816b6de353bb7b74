//! What is printed: two tables, with what they are held against in them.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::arguments::{Answer, Arguments};
use crate::figures::{self, median, mib, thousands};
use crate::session::MEMORY;

/// The measurements of live on one log.
#[derive(Default)]
pub struct Live {
    pub log: &'static str,
    pub alone: Vec<Answer>,
    pub replaying: Vec<Answer>,
    pub switches: Vec<Answer>,
}

/// The replays of one log after one base.
pub struct After {
    pub log: &'static str,
    /// Those after the base, of all.
    pub records: u64,
    pub all: u64,
    pub answers: Vec<Answer>,
}

pub fn heading(arguments: &Arguments) {
    figures::print_machine();
    let workload = &arguments.workload;
    println!(
        "workload:   {} records of about {} bytes, {} keys ({:?}), {} partitions; runs: {}",
        workload.records, workload.value_size, workload.keys, workload.skew, workload.partitions, arguments.course.runs
    );
    println!(
        "segno:      defaults, memory.total {}, in process through the node's handle; embedded log: fsync {:?}",
        mib(MEMORY as f64),
        arguments.fsync
    );
    println!("live:       {} appends a run, one every {} ms, one after the other", arguments.probes, arguments.pace);
}

pub fn print_live(all: &[Live]) {
    if all.is_empty() {
        return;
    }
    let header = [
        "from an append to the answer that has it",
        "p50",
        "p99",
        "p99 / no replay",
        "longest",
        "append alone p99",
        "replays",
        "peak",
    ];
    let mut table = empty(&header);
    for live in all {
        let alone = over_runs(&live.alone, |answer| share(&answer.queryable, 99));
        for (what, answers) in [("no replay", &live.alone), ("replays from genesis, all the time", &live.replaying)] {
            let p99 = over_runs(answers, |answer| share(&answer.queryable, 99));
            table.add_row([
                format!("{}: {what}", live.log),
                ms(over_runs(answers, |answer| share(&answer.queryable, 50))),
                spread(answers, |answer| share(&answer.queryable, 99)),
                format!("{:.2}", p99 / alone),
                spread(answers, |answer| share(&answer.queryable, 100)),
                ms(over_runs(answers, |answer| share(&answer.appended, 99))),
                format!("{}", answers.iter().map(|answer| answer.replays.len()).sum::<usize>()),
                mib(over_runs(answers, |answer| answer.peak as f64)),
            ]);
        }
    }
    finish(table);

    let header =
        ["live stands still at a switch", "median", "least..most", "switches", "usual pause p50 / p99", "peak"];
    let mut table = empty(&header);
    for live in all {
        let still: Vec<f64> = live.switches.iter().flat_map(|answer| &answer.still).map(|&us| us as f64).collect();
        let (least, most) = ends(&still);
        table.add_row([
            live.log.to_owned(),
            ms(median(still.iter().copied())),
            format!("{}..{}", ms(least), ms(most)),
            format!("{}", still.len()),
            format!(
                "{} / {}",
                ms(over_runs(&live.switches, |answer| share(&answer.usual, 50))),
                ms(over_runs(&live.switches, |answer| share(&answer.usual, 99)))
            ),
            mib(over_runs(&live.switches, |answer| answer.peak as f64)),
        ]);
    }
    finish(table);
}

pub fn print_after(all: &[After]) {
    if all.is_empty() {
        return;
    }
    let mut table = empty(&["records after the base", "of all", "the whole job", "least..most", "records/s", "peak"]);
    for after in all {
        let seconds: Vec<f64> = after.answers.iter().flat_map(|answer| answer.replays.clone()).collect();
        let (least, most) = ends(&seconds);
        let typical = median(seconds.iter().copied());
        table.add_row([
            format!("{}: {}", after.log, thousands(after.records as f64)),
            format!("{:.0} %", after.records as f64 * 100.0 / after.all as f64),
            format!("{typical:.2} s"),
            format!("{least:.2}..{most:.2}"),
            thousands(after.records as f64 / typical),
            mib(over_runs(&after.answers, |answer| answer.peak as f64)),
        ]);
    }
    finish(table);
}

fn empty(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(header.iter().copied());
    table
}

fn finish(mut table: Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{table}\n");
    println!("every row was compared with what the records make of it after every measurement: equal");
}

/// The value that so many of a hundred do not exceed.
fn share(values: &[u64], of_hundred: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    let index = (values.len() * of_hundred).div_ceil(100).saturating_sub(1);
    values.get(index).map_or(f64::NAN, |&value| value as f64)
}

fn over_runs(answers: &[Answer], of: impl Fn(&Answer) -> f64) -> f64 {
    median(answers.iter().map(of))
}

/// The median of the runs, and the least and the most of them.
fn spread(answers: &[Answer], of: impl Fn(&Answer) -> f64) -> String {
    let values: Vec<f64> = answers.iter().map(of).collect();
    let (least, most) = ends(&values);
    format!("{} ({}..{})", ms(median(values.into_iter())), ms(least), ms(most))
}

fn ends(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, 0.0), |(least, most), &value| (least.min(value), most.max(value)))
}

/// Microseconds as milliseconds.
fn ms(micros: f64) -> String {
    format!("{:.2} ms", micros / 1000.0)
}
