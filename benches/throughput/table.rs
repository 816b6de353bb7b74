//! What is printed: the parameters, one row a stage.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::arguments::{Arguments, Stage};
use crate::figures::{self, median, mib, thousands};
use crate::measure::Measured;

pub fn heading(arguments: &Arguments) {
    figures::print_machine();
    let workload = &arguments.workload;
    println!(
        "workload:   {} records of about {} bytes, {} keys ({:?}), {} partitions, lz4; runs: {}",
        workload.records, workload.value_size, workload.keys, workload.skew, workload.partitions, arguments.course.runs
    );
    println!(
        "segno:      {} shards a partition, batches up to {}, credits {} records / {} a partition, residency {}",
        arguments.shards,
        arguments.batch_records,
        arguments.credit_records,
        arguments.credit_bytes,
        arguments.residency
    );
}

pub fn print(arguments: &Arguments, results: &[(Stage, Vec<Measured>)]) {
    let median_of = |stage: Stage, what: fn(&Measured) -> f64| {
        let runs = &results.iter().find(|(one, _)| *one == stage)?.1;
        Some(median(runs.iter().map(what)))
    };
    let base = median_of(Stage::Cached, Measured::rate);
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["stage", "records/s", "least..most", "of cached", "CPU us/record", "RSS", "peak", "resident"]);
    for (stage, runs) in results.iter().filter(|(stage, _)| *stage != Stage::Resident) {
        let rate = median(runs.iter().map(Measured::rate));
        let rates = runs.iter().map(Measured::rate);
        let (least, most) = rates.fold((f64::MAX, 0f64), |(least, most), rate| (least.min(rate), most.max(rate)));
        table.add_row([
            stage.label().to_owned(),
            thousands(rate),
            format!("{}..{}", thousands(least), thousands(most)),
            base.map_or("-".to_owned(), |base| format!("{:.2}", rate / base)),
            format!("{:.2}", median(runs.iter().map(Measured::cpu_micros))),
            mib(median(runs.iter().map(|run| run.rss as f64))),
            mib(median(runs.iter().map(|run| run.rss_peak as f64))),
            format!("{:.0}", median(runs.iter().map(|run| run.resident as f64))),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{table}\n");

    if let (Some(rss), Some(count)) =
        (median_of(Stage::Resident, |run| run.rss as f64), median_of(Stage::Resident, |run| run.resident as f64))
    {
        println!("a resident aggregate (key, row, digest, its place in the table): {:.0} bytes", rss / count);
    }
    for (shared, own) in [(Stage::Shared, Stage::Own), (Stage::EmbeddedShared, Stage::EmbeddedOwn)] {
        if let (Some(small), Some(large)) =
            (median_of(shared, |run| run.rss as f64), median_of(own, |run| run.rss as f64))
        {
            let log = if shared == Stage::Shared { "kafka" } else { "embedded" };
            let each = (large - small) / arguments.workload.keys as f64;
            println!("a shard of its own on top of it ({log}, difference of the two RSS): {each:.0} bytes");
        }
    }
    for (stage, runs) in results.iter().filter(|(stage, _)| stage.segno()) {
        let each = median(runs.iter().map(|run| run.rss as f64)) / arguments.workload.keys as f64;
        println!("{stage}: the whole process, memtables and read-ahead included, by keys: {each:.0} bytes");
    }
    println!("every row of every run was compared with the generator's totals: equal");
}
