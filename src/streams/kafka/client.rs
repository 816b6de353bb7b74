//! A Kafka client with the thread that serves it: events must be fetched, and a client must be let go of where waiting
//! hurts nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message as _, TopicPartitionList};
use rdkafka_sys::types::RDKafka;

use super::context::{Context, lock};
use super::{KafkaOptions, properties};
use crate::streams::{Error, Result};

/// Tells that a client is gone.
#[derive(Default)]
pub(super) struct Ended {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    pub fn tell(&self) {
        *lock(&self.ended) = true;
        self.changed.notify_all();
    }

    /// Waits until the client is gone, or until `deadline`; false then.
    pub fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = self.changed.wait_timeout_while(lock(&self.ended), left, |ended| !*ended);
        *wait.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A consumer and its thread. Dropping it does not wait: the thread closes the consumer and ends.
pub(super) struct Client {
    consumer: Option<Arc<BaseConsumer<Context>>>,
    /// Held during a batch call.
    pub gate: Mutex<()>,
    stop: Arc<AtomicBool>,
    pub ended: Arc<Ended>,
    /// Set by `Kafka::close`; readers answer [`Error::Closed`] from then on.
    pub closed: AtomicBool,
}

impl Client {
    pub fn start(options: &KafkaOptions, config: &ClientConfig, context: Context) -> Result<Client> {
        properties::native(config)?;
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|error| properties::creation(options, &error))?;
        let consumer = Arc::new(consumer);
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(Ended::default());
        let (served, stopped, gone) = (consumer.clone(), stop.clone(), ended.clone());
        thread::Builder::new()
            .name("segno-kafka".to_owned())
            .spawn(move || {
                serve(&served, &stopped);
                drop(served);
                gone.tell();
            })
            .map_err(|error| Error::Other(format!("no thread for the Kafka client: {error}")))?;
        Ok(Client { consumer: Some(consumer), gate: Mutex::new(()), stop, ended, closed: AtomicBool::new(false) })
    }

    pub fn consumer(&self) -> &BaseConsumer<Context> {
        // Proven: it is taken in `drop` only.
        self.consumer.as_ref().expect("a client that lives has its consumer")
    }

    pub fn context(&self) -> &Context {
        self.consumer().context()
    }

    pub fn native(&self) -> *mut RDKafka {
        self.consumer().client().native_ptr()
    }

    pub fn assign(&self, list: &TopicPartitionList) -> Result<()> {
        self.consumer().assign(list).map_err(|error| Error::Other(format!("the assignment failed: {error}")))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // First our reference, then the word to stop: so it is the thread that drops the last one and waits.
        self.consumer = None;
        self.stop.store(true, Ordering::Release);
    }
}

/// Fetches events until told to stop. Records never come this way: each partition has its own queue.
fn serve(consumer: &BaseConsumer<Context>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        if let Some(Ok(stray)) = consumer.poll(Duration::from_millis(100)) {
            let at = format!("{}/{}@{}", stray.topic(), stray.partition(), stray.offset());
            consumer.context().broken(format!("record {at} came outside its partition's queue and would be lost"));
        }
    }
}
