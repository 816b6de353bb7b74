//! Builds one partition's generation from the log: folds inline, on a thread of its own, with the aggregates, the
//! decoder, the decisions and the commits of the live flow, and gives the same bytes (law *Pure*).
//!
//! * [`Rebuild`]: the thread's owner. It watches the fold, and when one hangs it leaves the thread behind and goes on
//!   from the committed position without that event.
//! * `inline`: reads, folds, commits, up to an exact position. * `redrives`: the cells whose events wait for a retry.
//! * `quiet`: low priority, so that live comes first.

mod inline;
pub mod quiet;
mod redrives;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::inline::Inline;
use super::gate::Gate;
pub use super::gate::Gauge;
use crate::actors::board::Cell;
use crate::actors::plan::{Fatal, RetryOptions};
use crate::actors::progress::{Observed, Progress};
use crate::actors::retry::Retry;
use crate::actors::shard::{Setting, Suspect};
use crate::position::{Offset, Position};
use crate::streams::{self, Fault, Limit, Log, Prefetch, Reader};

/// How a rebuild goes about its work.
#[derive(Clone, Debug)]
pub struct RebuildOptions {
    /// Estimated bytes of the resident aggregates and of what is not committed, of this partition. When they are
    /// reached, what has changed is committed, and aggregates are let go until they take half of it.
    pub memory: usize,
    /// What is committed is made durable after so many records.
    pub epoch_records: usize,
    /// And at least so often, as long as there are any.
    pub epoch_time: Duration,
    pub prefetch: Prefetch,
    /// The most that is taken from the reader at once.
    pub batch: Limit,
    pub fold_time_limit: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    Reached,
    /// The gate was stopped; what was folded is durable.
    Stopped,
}

/// What becomes of what is folded when a run reaches its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is committed and made durable. The run gives way to live.
    Durable,
    /// It is committed, and made durable by epochs only: another run follows, and each flush is a wait for the disk, which
    /// live shares. The run gives way to live.
    Committed,
    /// It is committed, and not flushed: live stands still meanwhile. What is not durable the log has, as for live. The
    /// run has live's priority.
    AtOnce,
}

/// The rebuild of one partition.
pub struct Rebuild {
    setting: Arc<Setting>,
    options: RebuildOptions,
    gate: Arc<Gate>,
    gauge: Arc<Gauge>,
    /// `None` before the first run, and after one that failed: the next begins at the committed position.
    inline: Option<Box<Inline>>,
    suspects: Vec<Suspect>,
    /// The cell whose own fold hung while it was being tried again.
    overran: Option<(Cell, Offset)>,
}

impl Rebuild {
    /// Goes on where the setting's generation stands. Its policy, decoder and retries are those of the setting.
    pub fn new(
        setting: Arc<Setting>,
        options: RebuildOptions,
        gate: Arc<Gate>,
        gauge: Arc<Gauge>,
    ) -> Result<Rebuild, Fatal> {
        let mut rebuild = Rebuild { setting, options, gate, gauge, inline: None, suspects: Vec::new(), overran: None };
        rebuild.inline = Some(rebuild.begin()?);
        Ok(rebuild)
    }

    /// Applies exactly the records below `target`, commits with the position `target`, tries what waits until nothing
    /// does, and makes all of it durable if that is how it is to arrive. Blocks. What the reader gave beyond the target is
    /// kept for the next run.
    ///
    /// A target that the log has not reached yet is waited for. After an error nothing is lost that was committed, and
    /// another run may be tried.
    pub fn run_to(&mut self, log: &dyn Log, target: Position, arrival: Arrival) -> Result<RunEnd, Fatal> {
        loop {
            let mut inline = match self.inline.take() {
                Some(inline) => inline,
                None => self.begin()?,
            };
            if inline.position > target {
                let reason = format!("it stands at {}, beyond the target {target}", inline.position);
                self.inline = Some(inline);
                return Err(self.fault_of_ours(reason));
            }
            if inline.needs_reader(target) {
                match self.open(log, inline.position)? {
                    Some(reader) => inline.set_reader(reader),
                    None => {
                        self.inline = Some(inline);
                        return Ok(RunEnd::Stopped);
                    }
                }
            }
            if let Some(end) = self.run_watched(inline, target, arrival)? {
                return Ok(end);
            }
        }
    }

    /// The reader, if it stands exactly at the rebuild's position and nothing was kept back. On Kafka the threads that
    /// fetch for it have the rebuild's low priority.
    pub fn into_reader(self) -> Option<Box<dyn Reader>> {
        self.inline.and_then(|inline| inline.into_reader())
    }

    fn begin(&mut self) -> Result<Box<Inline>, Fatal> {
        let setting = self.setting.clone();
        // From whoever was given up: its commit is over when the right is taken, and it makes no other.
        let token = setting.generation.take_writer();
        let applied = setting.generation.applied();
        self.suspects.retain(|suspect| !suspect.is_past(applied));
        let (gate, gauge, suspects) = (self.gate.clone(), self.gauge.clone(), self.suspects.clone());
        Inline::new(setting, token, self.options.clone(), gate, gauge, suspects, self.overran.take()).map(Box::new)
    }

    /// Opens the log, again and again while that may help; `None` when the job is stopped meanwhile. On a quiet thread,
    /// for the threads that a log starts for its readers inherit the priority.
    fn open(&self, log: &dyn Log, position: Position) -> Result<Option<Box<dyn Reader>>, Fatal> {
        let (at, prefetch) = (&self.setting.at, self.options.prefetch);
        let mut again = read_again();
        while !self.gate.stopped() {
            let opened = thread::scope(|scope| {
                let open = scope.spawn(move || {
                    quiet::lower();
                    log.readers(&at.topic, &[(at.partition, position)], prefetch)
                });
                open.join()
            });
            let opened = opened.map_err(|_| self.fault_of_ours("opening the log panicked".to_owned()))?;
            match opened.and_then(|readers| readers.into_iter().next().ok_or(streams::Error::Closed)) {
                Ok(reader) => return Ok(Some(reader)),
                Err(error) if error.retryable() => {
                    tracing::warn!(%at, %position, %error, "the rebuild cannot open the log; trying again");
                    self.gate.sleep(again.next(1).unwrap_or_default());
                }
                Err(error) => return Err(log_failed(&self.setting, &error)),
            }
        }
        Ok(None)
    }

    /// Runs on a thread of its own, and watches it. `None` when it was given up because a fold hung.
    fn run_watched(
        &mut self,
        inline: Box<Inline>,
        target: Position,
        arrival: Arrival,
    ) -> Result<Option<RunEnd>, Fatal> {
        let (watched, mut observed) = (inline.watched.clone(), Observed::default());
        let limit = self.options.fold_time_limit;
        let tick = (limit / 4).max(Duration::from_millis(5));
        let (tell, told) = mpsc::channel();
        let mut inline = inline;
        let work = move || {
            if arrival != Arrival::AtOnce {
                quiet::lower();
            }
            let end = inline.run_to(target, arrival);
            // Nobody listens when this thread was given up.
            let _ = tell.send((inline, end));
        };
        let name = format!("segno-rebuild-{}", self.setting.at.partition);
        let thread = thread::Builder::new().name(name).spawn(work).map_err(|error| Fatal {
            at: Some(self.setting.at.clone()),
            fault: Fault::Environment,
            reason: format!("no thread for the rebuild: {error}"),
            next: "raise the limit of threads or memory of the process, and resume the job".to_owned(),
        })?;
        loop {
            match told.recv_timeout(tick) {
                Ok((mut inline, end)) => {
                    let _ = thread.join();
                    if let Some(suspect) = inline.suspect.take() {
                        self.suspects.push(suspect);
                        return Ok(None);
                    }
                    let end = end?;
                    self.inline = Some(inline);
                    return Ok(Some(end));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((offset, view)) = observed.overrun(&watched.progress, Instant::now(), limit) {
                        self.give_up(&watched, offset, view);
                        return Ok(None);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let panic = thread.join().err();
                    let text = panic.map(|panic| crate::views::guard::panic_text(&*panic)).unwrap_or_default();
                    return Err(self.fault_of_ours(format!("the rebuild panicked: {text}")));
                }
            }
        }
    }

    /// Leaves a thread behind whose fold hangs. It will never commit anything: the next run takes the right to.
    fn give_up(&mut self, watched: &Watched, offset: Offset, view: usize) {
        watched.given_up.store(true, Ordering::Release);
        let (at, limit) = (&self.setting.at, self.options.fold_time_limit);
        tracing::error!(
            %at, %offset, view = self.setting.definitions[view].name(), ?limit,
            "a fold of the rebuild runs over its time limit; its thread is left behind until the fold comes back, and \
             the rebuild goes on from the committed position without that event"
        );
        match watched.redriven() {
            Some(cell) if cell.view == view => self.overran = Some((cell, offset)),
            _ => self.suspects.push(Suspect::Fold { view, offset }),
        }
    }

    fn fault_of_ours(&self, reason: String) -> Fatal {
        Fatal {
            at: Some(self.setting.at.clone()),
            fault: Fault::Internal,
            reason,
            next: "this is a fault of the program: live is untouched; resume the job, and report it".to_owned(),
        }
    }
}

/// What the owner of a run sees of it from outside.
#[derive(Clone, Default)]
struct Watched {
    progress: Arc<Progress>,
    given_up: Arc<AtomicBool>,
    redriven: Arc<Mutex<Option<Cell>>>,
}

impl Watched {
    /// The cell that is being tried again at this moment.
    fn redriven(&self) -> Option<Cell> {
        self.redriven.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_redriven(&self, cell: Option<Cell>) {
        *self.redriven.lock().unwrap_or_else(PoisonError::into_inner) = cell;
    }
}

/// The waits before a log that failed for a while is asked again.
fn read_again() -> Retry {
    Retry::new(&RetryOptions {
        attempts: u32::MAX,
        initial: Duration::from_millis(250),
        factor: 2.0,
        max: Duration::from_secs(10),
    })
}

/// The log cannot be read on.
fn log_failed(setting: &Setting, error: &streams::Error) -> Fatal {
    let next = match error {
        streams::Error::OutOfRange { .. } => {
            "the log no longer holds what the rebuild has to read next: live is untouched; cancel the job, and replay \
             from a snapshot that is newer, or with another `--from`"
        }
        streams::Error::Closed => "the node is stopping: the job goes on when it starts again",
        _ => "live is untouched: correct the cause and resume the job",
    };
    let reason = format!("the rebuild cannot read the log: {error}");
    Fatal { at: Some(setting.at.clone()), fault: error.fault(), reason, next: next.to_owned() }
}
