//! A question on a thread of its own, which is left behind when a fold does not come back: whoever asks gets an answer,
//! and live has its threads to itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::actors::progress::{Observed, Progress};
use crate::actors::replay::words::ReplayError;
use crate::position::TopicPartition;
use crate::views::guard::panic_text;

/// How often a fold is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What is seen of a question from outside. A question folds in one place at a time.
#[derive(Debug, Default)]
pub struct Watch {
    pub(super) progress: Arc<Progress>,
    folding: Mutex<Option<Folding>>,
    given_up: AtomicBool,
}

/// A fold that is under way.
#[derive(Clone, Debug)]
struct Folding {
    at: TopicPartition,
    view: String,
    limit: Duration,
}

impl Watch {
    /// A fold begins, in which one event may take no longer than `limit`.
    pub(super) fn folds(&self, at: &TopicPartition, view: &str, limit: Duration) {
        let folding = Folding { at: at.clone(), view: view.to_owned(), limit };
        *self.folding.lock().unwrap_or_else(PoisonError::into_inner) = Some(folding);
    }

    /// Nobody waits for the answer any more.
    pub(super) fn check(&self) -> Result<(), ReplayError> {
        if self.given_up.load(Ordering::Relaxed) { Err(ReplayError::Stopping) } else { Ok(()) }
    }

    /// Why the question has to be given up, if so.
    fn overrun(&self, observed: &mut Observed) -> Option<ReplayError> {
        let folding = self.folding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Folding { at, view, limit } = folding?;
        let (offset, _) = observed.overrun(&self.progress, Instant::now(), limit)?;
        Some(ReplayError::Failed(format!(
            "{at}: view `{view}`: the fold of the event at offset {offset} runs over `fold-time-limit` ({limit:?}), so the \
             question is given up; its thread is left behind until the fold comes back: correct the view's code"
        )))
    }
}

/// Asks, and gives up when one fold takes longer than it may. Blocks.
pub fn watched<T: Send + 'static>(
    watch: &Arc<Watch>,
    ask: impl FnOnce() -> Result<T, ReplayError> + Send + 'static,
) -> Result<T, ReplayError> {
    let (tell, told) = mpsc::channel();
    let work = move || {
        // Nobody listens when this thread was given up.
        let _ = tell.send(ask());
    };
    let thread = thread::Builder::new().name("segno-question".to_owned()).spawn(work);
    let thread = thread.map_err(|error| {
        ReplayError::Failed(format!("no thread for the question: {error}: raise the limit of threads of the process"))
    })?;
    let mut observed = Observed::default();
    loop {
        match told.recv_timeout(LOOK) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(error) = watch.overrun(&mut observed) {
                    watch.given_up.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let text = thread.join().err().map(|panic| panic_text(&*panic)).unwrap_or_default();
                return Err(ReplayError::Failed(format!("the question panicked, and live is not touched: {text}")));
            }
        }
    }
}
