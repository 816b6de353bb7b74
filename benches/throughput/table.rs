//! What is printed: the machine, the parameters, one row a stage.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::arguments::{Arguments, Stage};
use crate::measure::Measured;

pub fn heading(arguments: &Arguments) {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: f64 = field(&meminfo, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "machine:    {cores} cores ({}), {:.1} GiB memory",
        field(&cpuinfo, "model name"),
        memory / (1 << 20) as f64
    );
    println!("            load {} at the start; the broker runs on the same machine", load.trim());
    println!(
        "workload:   {} records of about {} bytes, {} keys ({:?}), {} partitions, lz4; runs: {}",
        arguments.records, arguments.value_size, arguments.keys, arguments.skew, arguments.partitions, arguments.runs
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
            let each = (large - small) / arguments.keys as f64;
            println!("a shard of its own on top of it ({log}, difference of the two RSS): {each:.0} bytes");
        }
    }
    for (stage, runs) in results.iter().filter(|(stage, _)| stage.segno()) {
        let each = median(runs.iter().map(|run| run.rss as f64)) / arguments.keys as f64;
        println!("{stage}: the whole process, memtables and read-ahead included, by keys: {each:.0} bytes");
    }
    println!("every row of every run was compared with the generator's totals: equal");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / (1 << 20) as f64)
}

/// 1234567 as 1,234,567.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("?")).collect();
    groups.join(",")
}
