//! Drains one partition's queue in batches: the only place where Segno touches librdkafka's messages.
//!
//! rdkafka has no wrapper for `rd_kafka_consume_batch_queue`, and going through it costs about a third of what rdkafka's
//! message-by-message calls cost. What makes the raw calls sound:
//!
//! * A [`Queue`] keeps its [`Client`] alive, and gives back its messages and its handle before it lets go of it. (The
//!   other order hangs: a client cannot be destroyed while its queues live.)
//! * A [`Message`] borrows the queue that holds it, so its bytes cannot outlive it.
//! * librdkafka's guide says that batch calls of one consumer must not run at the same time: `Client::gate` sees to it.
//! * The callback owns a reference count of the [`Notify`] that it fires. It is unset, under librdkafka's lock of the
//!   queue, before that count is given back.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;
use tokio::sync::Notify;

use super::client::Client;
use super::context::lock;
use crate::position::{Offset, Position, Timestamp};
use crate::record::pack_header;

/// One partition's own queue, and the messages that were taken from it but not used yet.
pub(super) struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// `taken[next..]` are live messages; the ones before were given back.
    taken: Vec<*mut sys::rd_kafka_message_t>,
    next: usize,
    ready: *const Notify,
    /// Last, so that it is dropped last.
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues and messages may be used from any thread, and `&mut self` keeps it to one at a time.
unsafe impl Send for Queue {}

/// What a message is.
pub(super) enum Content<'a> {
    Record {
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    },
    /// There is nothing readable between the record before and this position, and nothing after it yet.
    End(Position),
    Problem {
        code: Code,
        text: String,
    },
}

/// A message in librdkafka's memory.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    raw: *mut sys::rd_kafka_message_t,
    queue: PhantomData<&'a Queue>,
}

unsafe extern "C" fn fire(_: *mut sys::rd_kafka_t, ready: *mut c_void) {
    // SAFETY: `ready` is the pointer that `Queue::split` leaked, and it lives until the callback is unset.
    unsafe { (*ready.cast::<Notify>()).notify_one() }
}

impl Queue {
    /// Takes the partition's messages out of the client's main queue into one of their own. Must come before the
    /// partition is assigned, so that no message has gone to the main queue yet. `ready` is fired whenever the queue
    /// stops being empty. None if librdkafka does not know such a partition.
    pub fn split(client: &Arc<Client>, topic: &str, partition: u32, ready: Arc<Notify>) -> Option<Queue> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client is alive, and the queue keeps it so.
        unsafe {
            let raw = sys::rd_kafka_queue_get_partition(client.native(), topic.as_ptr(), partition as i32);
            let queue = NonNull::new(raw)?;
            sys::rd_kafka_queue_forward(raw, ptr::null_mut());
            let ready = Arc::into_raw(ready);
            sys::rd_kafka_queue_cb_event_enable(raw, Some(fire), ready.cast_mut().cast());
            Some(Queue { queue, taken: Vec::new(), next: 0, ready, client: client.clone() })
        }
    }

    /// The oldest message that was taken and not used.
    pub fn front(&self) -> Option<Message<'_>> {
        self.taken.get(self.next).map(|raw| Message { raw: *raw, queue: PhantomData })
    }

    /// Gives the front message back.
    pub fn pop(&mut self) {
        if let Some(raw) = self.taken.get(self.next) {
            // SAFETY: `taken[next..]` are live, and `next` moves past this one.
            unsafe { sys::rd_kafka_message_destroy(*raw) };
            self.next += 1;
        }
    }

    /// Takes up to `want` messages more, without waiting; true when that emptied the queue. Only when none is left
    /// from before.
    pub fn take(&mut self, want: usize) -> bool {
        debug_assert!(self.front().is_none(), "messages are left");
        self.taken.clear();
        self.next = 0;
        self.taken.reserve(want);
        let _gate = lock(&self.client.gate);
        // SAFETY: the vector has room for `want` pointers, and librdkafka fills in as many as it returns.
        let got = unsafe {
            let room = self.taken.spare_capacity_mut().as_mut_ptr().cast();
            sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, room, want)
        };
        // It returns −1 only for arguments that do not occur here; nothing was taken then.
        let got = usize::try_from(got).unwrap_or(0);
        // SAFETY: the first `got` pointers were written by the call.
        unsafe { self.taken.set_len(got) };
        got < want
    }

    /// How many taken messages are left, and the bytes of their keys and values.
    pub fn left(&self) -> (usize, usize) {
        let left = &self.taken[self.next..];
        // SAFETY: `taken[next..]` are live.
        let bytes = left.iter().map(|raw| unsafe { (**raw).key_len + (**raw).len }).sum();
        (left.len(), bytes)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while self.front().is_some() {
            self.pop();
        }
        // SAFETY: no message of this queue is left with us; after the callback is unset nobody uses `ready`.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
            drop(Arc::from_raw(self.ready));
        }
    }
}

impl<'a> Message<'a> {
    pub fn content(self) -> Content<'a> {
        // SAFETY: the message is live for `'a`, and with it the memory that it points to.
        unsafe {
            let raw = &*self.raw;
            match raw.err {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Content::Record {
                    offset: Offset(raw.offset as u64),
                    timestamp: Timestamp(sys::rd_kafka_message_timestamp(self.raw, ptr::null_mut())),
                    key: bytes(raw.key, raw.key_len),
                    value: bytes(raw.payload, raw.len),
                },
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    Content::End(Position(u64::try_from(raw.offset).unwrap_or(0)))
                }
                code => {
                    let text = sys::rd_kafka_message_errstr(self.raw);
                    let text =
                        if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into() };
                    Content::Problem { code: code.into(), text }
                }
            }
        }
    }

    /// Packs the record's headers, if it has any.
    pub fn pack_headers(self, into: &mut Vec<u8>) {
        // SAFETY: as for `content`; librdkafka's headers belong to the message. A name is a C string.
        unsafe {
            let mut headers = ptr::null_mut();
            if sys::rd_kafka_message_headers(self.raw, &mut headers)
                != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return;
            }
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            for index in 0.. {
                let found = sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut len);
                if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return;
                }
                pack_header(into, CStr::from_ptr(name).to_bytes(), bytes(value, len));
            }
        }
    }
}

/// Whether a message whose delivery failed is known not to be in the log: it was never sent, or the broker refused it.
pub(super) fn surely_not_stored(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the reference keeps the message alive, and the call only reads from it.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status == sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// # Safety
/// `start` is null, or points to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast(), len) })
}
