//! A leading process that has jobs done by processes of their own: this program, started with `--child` and the job.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What every leading process is told.
#[derive(Args, Debug)]
pub struct Course {
    /// Which logs to measure on.
    #[arg(long, value_enum, default_value_t = Logs::Both)]
    pub log: Logs,
    /// How often each measurement is made; the tables show medians.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Where data goes for the time of the benchmark (default: the system's temporary directory).
    #[arg(long)]
    dir: Option<PathBuf>,
    /// `cargo bench` says it.
    #[arg(long, hide = true)]
    bench: bool,
    /// One job, told by the leading process.
    #[arg(long, hide = true)]
    child: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Logs {
    Kafka,
    Embedded,
    Both,
}

impl Course {
    /// A directory that is gone when it is dropped.
    pub fn scratch(&self) -> tempfile::TempDir {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        tempfile::Builder::new().prefix("segno-bench-").tempdir_in(dir).expect("a directory")
    }

    /// Does the job, if this process is a child.
    pub fn work<J: DeserializeOwned, R: Serialize>(&self, work: impl FnOnce(&J) -> R) -> Option<ExitCode> {
        let job: J = serde_json::from_str(self.child.as_ref()?).expect("a job");
        println!("{}", serde_json::to_string(&work(&job)).expect("a result"));
        Some(ExitCode::SUCCESS)
    }
}

/// What the child printed. A child that fails ends the benchmark.
pub fn run<R: DeserializeOwned>(job: &impl Serialize) -> R {
    let program = std::env::current_exe().expect("this program");
    let job = serde_json::to_string(job).expect("a job");
    let mut command = Command::new(program);
    let output = command.args(["--child", &job]).stderr(Stdio::inherit()).output().expect("a child");
    assert!(output.status.success(), "the stage failed: {}", output.status);
    let line = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(line.trim()).unwrap_or_else(|error| panic!("{error}: {line}"))
}
