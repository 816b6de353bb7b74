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
//! * [`node`]: a node as the daemon runs it, and its rows. * [`child`]: one process a stage.
//! * [`measure`]: time, processor, memory. * [`table`], [`figures`]: what is printed.

mod arguments;
#[path = "../../tests/common/broker.rs"]
mod broker;
mod child;
mod figures;
mod filling;
mod hand;
mod live;
mod measure;
mod node;
mod raw;
mod replay;
mod table;
mod workload;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use arguments::{Arguments, Job, Stage};
use child::Logs;
use filling::Filling;
use measure::Measured;

/// As the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.course.work(work).unwrap_or_else(|| lead(&arguments))
}

/// Fills the logs, has every stage run, prints.
fn lead(arguments: &Arguments) -> ExitCode {
    table::heading(arguments);
    let scratch = arguments.course.scratch();
    let needs = |log: Logs| arguments.stages().iter().any(|stage| stage.log() == Some(log));
    let mut filling = Filling::begin(&arguments.workload, needs(Logs::Kafka), needs(Logs::Embedded), scratch.path());
    let started = Instant::now();
    filling.put(arguments.workload.records);
    eprintln!("filled the logs in {:.1} s", started.elapsed().as_secs_f64());
    let totals = filling.generator.totals();
    let mut results: Vec<(Stage, Vec<Measured>)> = arguments.stages().into_iter().map(|s| (s, Vec::new())).collect();
    for run in 1..=arguments.course.runs {
        for (stage, measured) in &mut results {
            let data = scratch.path().join("data");
            let job = arguments.job(*stage, &filling, &data);
            let one: Measured = child::run(&job);
            // Rows that are left from one stage would be resumed by the next.
            let _ = std::fs::remove_dir_all(&data);
            if let Err(wrong) = stage.check(&totals, &one) {
                eprintln!("{stage}, run {run}: WRONG RESULT: {wrong}");
                return ExitCode::FAILURE;
            }
            eprintln!("run {run}/{}: {stage}: {:.0} records/s", arguments.course.runs, one.rate());
            measured.push(one);
        }
    }
    table::print(arguments, &results);
    ExitCode::SUCCESS
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
