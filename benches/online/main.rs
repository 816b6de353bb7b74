//! What live feels of a replay, and how long a replay takes from a snapshot, on a real broker and on the embedded log.
//!
//! `cargo bench --bench online -- --records 3000000 --runs 3`; `docs/benchmarks.md` says what each row means.
//!
//! Every measurement is a process of its own on one store, which goes from one to the next as the data directory of a
//! daemon does. At the end of each, every row is compared with what the records make of it: one that is wrong ends the
//! program.
//!
//! * [`arguments`]: what can be chosen. * [`session`]: the node of a measurement, and the check. * [`live`], [`after`]:
//!   the two tables' measurements. * [`table`]: what is printed.
//! * With `throughput`: [`workload`], [`filling`], [`node`], [`child`], [`figures`].

mod after;
mod arguments;
#[path = "../../tests/common/broker.rs"]
mod broker;
#[path = "../throughput/child.rs"]
mod child;
#[path = "../throughput/figures.rs"]
mod figures;
#[path = "../throughput/filling.rs"]
mod filling;
mod live;
#[path = "../throughput/node.rs"]
mod node;
mod session;
mod table;
#[path = "../throughput/workload.rs"]
mod workload;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Answer, Arguments, Base, Job, Table, Task};
use child::Logs;
use filling::{Filling, Place};
use table::{After, Live};

/// As the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.course.work(work).unwrap_or_else(|| lead(&arguments))
}

/// Has everything measured, prints.
fn lead(arguments: &Arguments) -> ExitCode {
    table::heading(arguments);
    let (mut live, mut after) = (Vec::new(), Vec::new());
    for log in arguments.logs() {
        let scratch = arguments.course.scratch();
        measure(arguments, log, scratch.path(), &mut live, &mut after);
    }
    table::print_live(&live);
    table::print_after(&after);
    ExitCode::SUCCESS
}

/// Both tables on one log.
fn measure(arguments: &Arguments, log: Logs, scratch: &Path, live: &mut Vec<Live>, after: &mut Vec<After>) {
    let kafka = log == Logs::Kafka;
    let mut filling = Filling::begin(&arguments.workload, kafka, !kafka, scratch);
    let records = arguments.workload.records;
    let (ten, one) = (records / 10, records / 100);
    let mut lead = Lead { arguments, kafka, scratch, place: filling.place(kafka) };
    let mut bases = Vec::new();
    for (part, snapshot) in [(records - ten, true), (ten - one, true), (one, false)] {
        filling.put(part);
        lead.place = filling.place(kafka);
        session::store(&lead.accounts(), &filling.generator.accounts);
        bases.extend(lead.run("settle", Task::Settle { snapshot }).base);
    }
    bases.reverse();
    if arguments.wants(Table::After) {
        after.extend(lead.after(&bases));
    }
    if arguments.wants(Table::Live) {
        live.push(lead.live());
    }
}

/// Has the measurements of one log made.
struct Lead<'a> {
    arguments: &'a Arguments,
    kafka: bool,
    scratch: &'a Path,
    place: Place,
}

impl Lead<'_> {
    fn accounts(&self) -> std::path::PathBuf {
        self.scratch.join("accounts.json")
    }

    fn log(&self) -> &'static str {
        if self.kafka { "kafka" } else { "embedded" }
    }

    fn run(&mut self, what: &str, task: Task) -> Answer {
        let job = Job {
            task,
            place: self.place.clone(),
            workload: self.arguments.workload.clone(),
            fsync: self.arguments.fsync,
            probes: self.arguments.probes,
            pace: self.arguments.pace,
            data: self.scratch.join("data"),
            accounts: self.accounts(),
        };
        let answer: Answer = child::run(&job);
        self.place.ends.clone_from(&answer.ends);
        let took: Vec<String> = answer.replays.iter().map(|seconds| format!("{seconds:.2} s")).collect();
        eprintln!("{}: {what}: {} replays {}", self.log(), took.len(), took.join(", "));
        answer
    }

    fn after(&mut self, bases: &[Base]) -> Vec<After> {
        let bases: Vec<Option<Base>> = bases.iter().cloned().map(Some).chain([None]).collect();
        let all = self.place.records();
        let mut rows: Vec<After> = Vec::new();
        for base in &bases {
            let records = all - base.as_ref().map_or(0, |base| base.records);
            rows.push(After { log: self.log(), records, all, answers: Vec::new() });
        }
        for _ in 0..self.arguments.course.runs {
            for (base, row) in bases.iter().zip(&mut rows) {
                row.answers.push(self.run("after a base", Task::After(base.clone())));
            }
        }
        rows
    }

    fn live(&mut self) -> Live {
        let mut live = Live { log: self.log(), ..Live::default() };
        for _ in 0..self.arguments.course.runs {
            live.alone.push(self.run("no replay", Task::Live { replaying: false }));
            live.replaying.push(self.run("during replays", Task::Live { replaying: true }));
            live.switches.push(self.run("switches", Task::Switches(self.arguments.switches)));
        }
        live
    }
}

fn work(job: &Job) -> Answer {
    match &job.task {
        Task::Settle { snapshot } => after::settle(job, *snapshot),
        Task::After(base) => after::replay(job, base.as_ref()),
        Task::Live { replaying } => live::follow(job, *replaying),
        Task::Switches(count) => live::switches(job, *count),
    }
}
