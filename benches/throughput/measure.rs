//! Time, processor and memory of a stage.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::figures::status;
use crate::workload::Totals;

/// `sysconf(_SC_CLK_TCK)` has been 100 on Linux since there is `/proc`.
const TICKS: f64 = 100.0;

/// What one run of one stage gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub seconds: f64,
    /// Of all threads of the process, in user and in kernel mode.
    pub cpu_seconds: f64,
    /// Bytes in memory at the end, and at most.
    pub rss: u64,
    pub rss_peak: u64,
    /// Aggregates in memory at the end.
    pub resident: u64,
    /// What the rows are, for the check.
    pub totals: Totals,
}

impl Measured {
    pub fn rate(&self) -> f64 {
        self.totals.records as f64 / self.seconds
    }

    pub fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.totals.records.max(1) as f64
    }
}

/// Started before the first thing that a stage does.
pub struct Watch {
    since: Instant,
    cpu: f64,
}

impl Watch {
    pub fn start() -> Self {
        Watch { since: Instant::now(), cpu: cpu() }
    }

    /// The end of what is measured. The totals may be filled in later.
    pub fn stop(&self) -> Measured {
        Measured {
            seconds: self.since.elapsed().as_secs_f64(),
            cpu_seconds: cpu() - self.cpu,
            rss: status("VmRSS:"),
            rss_peak: status("VmHWM:"),
            resident: 0,
            totals: Totals::default(),
        }
    }
}

/// User and kernel time of this process, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    // The second field is the program's name in brackets, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name in brackets").1.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().expect("a number");
    (ticks(14) + ticks(15)) / TICKS
}
