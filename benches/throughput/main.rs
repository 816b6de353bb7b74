//! The whole path on a real broker and on the embedded log, beside what hand-written loops reach on the same records.
//!
//! `cargo bench --bench throughput -- --records 3000000 --runs 3`; `docs/benchmarks.md` says what each row means.
//!
//! Every stage of every run is a process of its own, so that no row inherits another one's memory, allocator or
//! caches, and every stage that folds is checked against the totals of the generator: a run that computes something
//! else ends the program.
//!
//! * [`arguments`]: what can be chosen. * [`workload`]: the records and their totals. * [`filling`]: into the logs.
//! * [`raw`]: librdkafka's batches, bare. * [`hand`]: the loops that people write. * [`live`]: Segno.
//! * [`replay`]: Segno's rebuild.
//! * [`measure`]: time, processor, memory. * [`table`]: what is printed.

mod arguments;
#[path = "../../tests/common/broker.rs"]
mod broker;
mod filling;
mod hand;
mod live;
mod measure;
mod raw;
mod replay;
mod table;
mod workload;

use std::process::{Command, ExitCode, Stdio};

use clap::Parser;

use arguments::{Arguments, Job, Stage};
use measure::Measured;

/// As the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(job) = &arguments.child {
        let job: Job = serde_json::from_str(job).expect("a job");
        println!("{}", serde_json::to_string(&work(&job)).expect("a result"));
        return ExitCode::SUCCESS;
    }
    lead(&arguments)
}

/// Fills the logs, has every stage run, prints.
fn lead(arguments: &Arguments) -> ExitCode {
    table::heading(arguments);
    let scratch = tempfile::Builder::new().prefix("segno-bench-").tempdir_in(arguments.scratch()).expect("a directory");
    let filled = filling::fill(arguments, scratch.path());
    let mut results: Vec<(Stage, Vec<Measured>)> = arguments.stages().into_iter().map(|s| (s, Vec::new())).collect();
    for run in 1..=arguments.runs {
        for (stage, measured) in &mut results {
            let data = scratch.path().join("data");
            let job = filled.job(arguments, *stage, &data);
            let one = in_child(&job);
            // Rows that are left from one stage would be resumed by the next.
            let _ = std::fs::remove_dir_all(&data);
            if let Err(wrong) = filled.totals.check(*stage, &one) {
                eprintln!("{stage}, run {run}: WRONG RESULT: {wrong}");
                return ExitCode::FAILURE;
            }
            eprintln!("run {run}/{}: {stage}: {:.0} records/s", arguments.runs, one.rate());
            measured.push(one);
        }
    }
    table::print(arguments, &results);
    ExitCode::SUCCESS
}

fn in_child(job: &Job) -> Measured {
    let program = std::env::current_exe().expect("this program");
    let job = serde_json::to_string(job).expect("a job");
    let mut command = Command::new(program);
    let output = command.args(["--child", &job]).stderr(Stdio::inherit()).output().expect("a child");
    assert!(output.status.success(), "the stage failed: {}", output.status);
    let line = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(line.trim()).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn work(job: &Job) -> Measured {
    match job.stage {
        Stage::Consume => hand::consume(job),
        Stage::Decode => hand::decode(job),
        Stage::Fold => hand::fold(job),
        Stage::MultiGet => hand::multi_get(job),
        Stage::Cached => hand::cached(job),
        Stage::Shared | Stage::Own | Stage::EmbeddedShared | Stage::EmbeddedOwn => live::run(job),
        Stage::Replay | Stage::EmbeddedReplay => replay::genesis(job),
        Stage::EmbeddedRead => live::read(job),
        Stage::Resident => live::resident(job),
    }
}
