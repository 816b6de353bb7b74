//! The end of the process. A fold that hangs leaves its thread behind, which may come back at any moment and touch the
//! store; the usual end of a process takes down what RocksDB has in static memory, and such a thread with it, with an
//! abort. So where a thread may be left, the process ends at once: what there was to be made durable is.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::exit::Code;

/// The longest that the threads may take to end.
const LET_GO_WITHIN: Duration = Duration::from_secs(3);

static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// Ends the runtime. The stores are closed when the last task lets go of them, and must be before the process's own end.
/// What blocks a thread for longer (a log that does not answer, a fold that hangs) must not hold that up.
pub fn let_go(runtime: Runtime) {
    let begun = Instant::now();
    runtime.shutdown_timeout(LET_GO_WITHIN);
    if begun.elapsed() >= LET_GO_WITHIN {
        LEFT_BEHIND.store(true, Ordering::Relaxed);
    }
}

/// The exit code for `main`, unless a thread was left behind: then the process ends here.
pub fn leave(code: Code) -> ExitCode {
    if LEFT_BEHIND.load(Ordering::Relaxed) {
        // A closed output ends it all the same.
        let _ = (std::io::stdout().flush(), std::io::stderr().flush());
        signal_hook::low_level::exit(code as i32);
    }
    ExitCode::from(code as u8)
}
