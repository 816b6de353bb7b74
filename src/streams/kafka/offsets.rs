//! Asks the broker for offsets: a partition's beginning, its end as a `read_committed` reader sees it, the first record
//! at or after a time, and the newest record, both with their timestamps.
//!
//! rdkafka wraps two older calls, and neither will do: `query_watermark_offsets` answers the high watermark, which lies
//! beyond the records of an open transaction, and `offsets_for_times` hides the timestamp that was found. The admin call
//! `ListOffsets` answers both, so its raw form is wrapped here.
//!
//! Safety, for the whole module: every object that is made here is destroyed here, on every path; nothing that points
//! into the event outlives it, for the answer is copied out first.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;

use crate::position::PartitionId;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spec {
    Start,
    /// The last stable offset.
    End,
    /// The first record at or after this time in milliseconds, which must not be negative.
    At(i64),
    /// The same, open transactions included.
    AtUncommitted(i64),
    /// The record with the largest timestamp, also among those that wait to be deleted and those in open transactions.
    Newest,
}

impl Spec {
    /// As the protocol has it.
    fn offset(self) -> i64 {
        match self {
            Spec::Start => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
            Spec::End => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
            Spec::Newest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP as i64,
            Spec::At(time) | Spec::AtUncommitted(time) => time,
        }
    }

    fn isolation(self) -> sys::rd_kafka_IsolationLevel_t {
        match self {
            Spec::AtUncommitted(_) | Spec::Newest => {
                sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
            }
            _ => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        }
    }
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub partition: PartitionId,
    /// Negative when there is no such offset.
    pub offset: i64,
    pub timestamp: i64,
    pub error: Option<Code>,
}

impl Listed {
    /// Why this is no answer, if it is none. Every log has a start and an end: where neither an offset nor an error came
    /// back, nobody knows them at the moment, and zero would be a log that was created anew.
    pub fn failed(&self, spec: Spec) -> Option<Code> {
        let must_be = matches!(spec, Spec::Start | Spec::End);
        self.error.or((must_be && self.offset < 0).then_some(Code::OffsetNotAvailable))
    }
}

/// Asks for all `partitions` of a topic at once.
pub(super) fn list(
    client: *mut sys::rd_kafka_t,
    topic: &str,
    partitions: &[PartitionId],
    spec: Spec,
    timeout: Duration,
) -> Result<Vec<Listed>, (Code, String)> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, partition.0 as i32);
    }
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).clamp(1, 3_600_000);
    let mut text = [0 as std::ffi::c_char; 256];
    // SAFETY: `client` is alive, since its owner calls us through a reference; see the module's words for the rest.
    unsafe {
        for index in 0..list.count() {
            // rdkafka's `Offset` has no word for the newest record. The list has as many elements as it says.
            (*(*list.ptr()).elems.add(index)).offset = spec.offset();
        }
        let options = sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
        let refused = sys::rd_kafka_AdminOptions_set_isolation_level(options, spec.isolation());
        let late = sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, text.as_mut_ptr(), text.len());
        if !refused.is_null() || late != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            sys::rd_kafka_error_destroy(refused);
            sys::rd_kafka_AdminOptions_destroy(options);
            return Err((Code::InvalidArgument, "ListOffsets does not take its options".to_owned()));
        }
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_ListOffsets(client, list.ptr(), options, queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        let event = sys::rd_kafka_queue_poll(queue, millis.saturating_add(500));
        let answer = read(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// Copies the answer out of the event.
///
/// # Safety
/// `event` is null or a live event.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<Vec<Listed>, (Code, String)> {
    if event.is_null() {
        return Err((Code::OperationTimedOut, String::new()));
    }
    // SAFETY: the event is alive, and so is everything it hands out until the caller destroys it. The strings are
    // C strings or null; the array has `count` valid pointers.
    unsafe {
        let error = sys::rd_kafka_event_error(event);
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let text = sys::rd_kafka_event_error_string(event);
            let text = if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
            return Err((error.into(), text));
        }
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        if result.is_null() {
            return Err((Code::Fail, "the answer to ListOffsets is of another kind".to_owned()));
        }
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
        let listed = (0..count).map(|index| {
            let info = *infos.add(index);
            let found = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
            Listed {
                partition: PartitionId(found.partition as u32),
                offset: found.offset,
                timestamp: sys::rd_kafka_ListOffsetsResultInfo_timestamp(info),
                error: (found.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| found.err.into()),
            }
        });
        Ok(listed.collect())
    }
}
