//! Low priority for the threads of a rebuild, so that live comes first where processors are short.

/// How nice the threads are: of two that want one processor, one that is not nice gets about nine tenths.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lowers the priority of this thread, and of those that it starts from now on. Best effort.
#[cfg(target_os = "linux")]
pub fn lower() {
    // Linux keeps a priority for each thread, and `None` is the calling one.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a rebuild's thread keeps its priority");
    }
}

/// Elsewhere priorities belong to processes.
#[cfg(not(target_os = "linux"))]
pub fn lower() {}
