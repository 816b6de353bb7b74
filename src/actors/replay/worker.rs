//! The thread that rebuilds one partition. It belongs to the job alone: its low priority must not pass on to whoever
//! would use it next.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use super::gate::Gate;
use super::rebuild::{Arrival, Gauge, Rebuild, RebuildOptions, RunEnd};
use crate::actors::plan::Fatal;
use crate::actors::shard::Setting;
use crate::position::{Position, TopicPartition};
use crate::state::Generation;
use crate::streams::{Fault, Log};

type Task = Box<dyn FnOnce(&mut Rebuild, &dyn Log) + Send>;

/// One partition that is being rebuilt.
pub struct Worker {
    setting: Arc<Setting>,
    pub gauge: Arc<Gauge>,
    tasks: Option<mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    /// So many workers of a job run at a time.
    turns: Arc<Semaphore>,
}

impl Worker {
    /// Starts the thread.
    pub fn start(
        setting: Arc<Setting>,
        options: RebuildOptions,
        gate: Arc<Gate>,
        log: Arc<dyn Log>,
        turns: Arc<Semaphore>,
    ) -> Result<Worker, Fatal> {
        let gauge = Arc::new(Gauge::default());
        let mut rebuild = Rebuild::new(setting.clone(), options, gate, gauge.clone())?;
        let (tasks, inbox) = mpsc::channel::<Task>();
        let run = move || {
            for task in inbox {
                task(&mut rebuild, &*log);
            }
        };
        let name = format!("replay {}", setting.at);
        let thread = std::thread::Builder::new().name(name).spawn(run);
        let thread = thread.map_err(|error| ended(&setting.at, &format!("cannot start a thread: {error}")))?;
        Ok(Worker { setting, gauge, tasks: Some(tasks), thread: Some(thread), turns })
    }

    pub fn at(&self) -> &TopicPartition {
        &self.setting.at
    }

    /// The generation that is being made.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.setting.generation
    }

    /// Runs `task` on the worker's thread, in its turn.
    pub async fn call<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Rebuild, &dyn Log) -> T + Send + 'static,
    ) -> Result<T, Fatal> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |rebuild, log| {
            let _ = reply.send(task(rebuild, log));
        });
        let sent = self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok());
        match answer.await {
            Ok(answer) if sent => Ok(answer),
            _ => Err(ended(self.at(), "the thread that rebuilds it ended by a fault of the program")),
        }
    }

    /// Folds up to exactly `target`.
    pub async fn run_to(&self, target: Position, arrival: Arrival) -> Result<RunEnd, Fatal> {
        self.call(move |rebuild, log| rebuild.run_to(log, target, arrival)).await?
    }

    /// Ends the thread and lets go of its reader; the generation stays open as long as somebody else has it.
    pub async fn finish(mut self) {
        self.tasks.take();
        if let Some(thread) = self.thread.take() {
            // A panic in it was answered to whoever had called.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn ended(at: &TopicPartition, reason: &str) -> Fatal {
    Fatal {
        at: Some(at.clone()),
        fault: Fault::Internal,
        reason: reason.to_owned(),
        next: "live is as it was; resume the job, and report it".to_owned(),
    }
}
