//! librdkafka's batches with nothing between: what a hand-written program would use.
#![allow(unsafe_code, reason = "rdkafka has no wrapper for rd_kafka_consume_batch_queue")]

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rdkafka_sys as sys;

use crate::arguments::Job;

const TAKE: usize = 10_000;
const WAIT_MS: i32 = 100;

/// All partitions in one queue, read by one thread.
pub struct Tap {
    queue: *mut sys::rd_kafka_queue_t,
    messages: Vec<*mut sys::rd_kafka_message_t>,
    /// Last, so that it outlives the queue.
    _consumer: BaseConsumer,
}

pub struct Record<'a> {
    pub partition: u32,
    pub offset: u64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Tap {
    pub fn open(job: &Job) -> Tap {
        let brokers = job.place.brokers.as_ref().expect("a broker");
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "throughput")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("queued.max.messages.kbytes", "65536")
            .set("queued.min.messages", "1000000")
            // Its default makes a loop that is slower than the broker wait for a second whenever its queue is full.
            .set("fetch.queue.backoff.ms", "5")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..job.place.ends.len() {
            list.add_partition_offset(&job.place.topic, partition as i32, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("assigned");
        // SAFETY: the consumer lives longer than the queue.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Tap { queue, messages: Vec::with_capacity(TAKE), _consumer: consumer }
    }

    /// Hands every record of the next batch to `each`.
    pub fn batch(&mut self, mut each: impl FnMut(Record<'_>)) -> usize {
        self.messages.clear();
        // SAFETY: there is room for `TAKE` pointers, and the call writes as many as it returns.
        unsafe {
            let got = sys::rd_kafka_consume_batch_queue(self.queue, WAIT_MS, self.messages.as_mut_ptr(), TAKE);
            self.messages.set_len(usize::try_from(got).unwrap_or(0));
        }
        let mut records = 0;
        for &raw in &self.messages {
            // SAFETY: the message lives until it is destroyed here, and its key and value with it.
            unsafe {
                let message = &*raw;
                assert!(message.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "{:?}", message.err);
                each(Record {
                    partition: message.partition as u32,
                    offset: message.offset as u64,
                    key: std::slice::from_raw_parts(message.key.cast(), message.key_len),
                    value: std::slice::from_raw_parts(message.payload.cast(), message.len),
                });
                records += 1;
            }
        }
        records
    }

    /// Gives the batch back. Apart from [`Tap::batch`] so that what was made of the records may borrow from them.
    pub fn give_back(&mut self) {
        for raw in self.messages.drain(..) {
            // SAFETY: each message was taken by `batch` and is destroyed once.
            unsafe { sys::rd_kafka_message_destroy(raw) };
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.give_back();
        // SAFETY: nobody uses the queue any more; the consumer goes after it.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}
