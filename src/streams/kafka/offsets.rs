//! Asks the broker for offsets: a partition's beginning, its end as a `read_committed` reader sees it, and the first
//! record at or after a time, with that record's timestamp.
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

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
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

/// Asks for all `partitions` of a topic at once.
pub(super) fn list(
    client: *mut sys::rd_kafka_t,
    topic: &str,
    partitions: &[PartitionId],
    spec: Spec,
    timeout: Duration,
) -> Result<Vec<Listed>, (Code, String)> {
    let offset = match spec {
        Spec::Start => Offset::Beginning,
        Spec::End => Offset::End,
        Spec::At(time) => Offset::Offset(time),
    };
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        let added = list.add_partition_offset(topic, partition.0 as i32, offset);
        added.map_err(|error| (Code::InvalidArgument, error.to_string()))?;
    }
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).clamp(1, 3_600_000);
    let mut text = [0 as std::ffi::c_char; 256];
    // SAFETY: `client` is alive, since its owner calls us through a reference; see the module's words for the rest.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
        let committed = sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
        let refused = sys::rd_kafka_AdminOptions_set_isolation_level(options, committed);
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
