//! What administrators ask: for a topic's id, and for what a group has committed.
//!
//! `rdkafka` does not wrap these calls, so they are made on librdkafka directly.

#![expect(unsafe_code, reason = "rdkafka has no safe calls for a topic's id, nor for the offsets of any group")]

use super::reports::Reports;
use crate::log::LogError;
use native::rd_kafka_admin_op_t as Operation;
use rdkafka::{
    bindings as native,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    ptr, slice,
    time::Duration,
};

const OK: native::rd_kafka_resp_err_t = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// What Kafka says for a topic without an id.
const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Calls `destroy` at the end.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T), what: &'static str) -> Result<Self, &'static str> {
        if pointer.is_null() { Err(what) } else { Ok(Self(pointer, destroy)) }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the call that `destroy` belongs to, was not null, and is used nowhere later.
        unsafe { (self.1)(self.0) }
    }
}

type Event = Owned<native::rd_kafka_event_t>;

/// Has `send` put a request to the client, and waits for the answer; says what is missing if there is none.
///
/// # Safety
/// `send` must make the request of this operation, with the options and the queue that it is given.
unsafe fn ask(
    client: *mut native::rd_kafka_t,
    operation: Operation,
    patience: Duration,
    send: impl FnOnce(*const native::rd_kafka_AdminOptions_t, *mut native::rd_kafka_queue_t),
) -> Result<Event, &'static str> {
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the caller keeps the client alive. Options and queue are there until the answer is, or the wait is given up:
    // librdkafka has copied the options then, and throws an answer away whose queue is gone.
    unsafe {
        let options = native::rd_kafka_AdminOptions_new(client, operation);
        let options = Owned::new(options, native::rd_kafka_AdminOptions_destroy, "options")?;
        native::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, ptr::null_mut(), 0);
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy, "queue")?;
        send(options.0, queue.0);
        let event = native::rd_kafka_queue_poll(queue.0, millis.saturating_add(1_000));
        Owned::new(event, native::rd_kafka_event_destroy, "answer in time")
    }
}

/// What `group` has committed of the partitions of `topic`, of whichever it ever did. Blocks for up to `patience`.
pub(super) fn committed(
    consumer: &BaseConsumer<Reports>,
    group: &str,
    topic: &str,
    patience: Duration,
) -> Result<HashMap<u32, i64>, KafkaError> {
    let client = consumer.client().native_ptr();
    let failed = |code: native::rd_kafka_resp_err_t| Err(KafkaError::OffsetFetch(code.into()));
    let missing = |_| KafkaError::OffsetFetch(RDKafkaErrorCode::OperationTimedOut);
    let name = CString::new(group).map_err(KafkaError::Nul)?;
    // SAFETY: the consumer keeps the client alive; `name` and the question outlive the request, which copies them. What is read
    // of the answer lives as long as the event, and is copied; each pointer is checked for null, and librdkafka says how many
    // there are behind it.
    unsafe {
        let asked = native::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null());
        let asked =
            Owned::new(asked, native::rd_kafka_ListConsumerGroupOffsets_destroy, "question").map_err(missing)?;
        let mut questions = [asked.0];
        let send = |options, queue| {
            native::rd_kafka_ListConsumerGroupOffsets(client, questions.as_mut_ptr(), questions.len(), options, queue);
        };
        let operation = Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let event = ask(client, operation, patience, send).map_err(missing)?;
        let code = native::rd_kafka_event_error(event.0);
        if code != OK {
            return failed(code);
        }
        let result = native::rd_kafka_event_ListConsumerGroupOffsets_result(event.0);
        let mut count = 0;
        let groups = match result.is_null() {
            true => ptr::null_mut(),
            false => native::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count),
        };
        if groups.is_null() || count != 1 {
            return failed(native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__BAD_MSG);
        }
        let error = native::rd_kafka_group_result_error(*groups);
        if !error.is_null() && native::rd_kafka_error_code(error) != OK {
            return failed(native::rd_kafka_error_code(error));
        }
        let list = native::rd_kafka_group_result_partitions(*groups);
        if list.is_null() || (*list).elems.is_null() {
            return Ok(HashMap::new());
        }
        let mut offsets = HashMap::new();
        for place in slice::from_raw_parts((*list).elems, usize::try_from((*list).cnt).unwrap_or(0)) {
            if text(place.topic) != topic {
                continue;
            }
            if place.err != OK {
                return failed(place.err);
            }
            if let (Ok(partition), 0..) = (u32::try_from(place.partition), place.offset) {
                offsets.insert(partition, place.offset);
            }
        }
        Ok(offsets)
    }
}

/// The id that Kafka gave `topic` when it was made, as Kafka's tools print it: one that is deleted and made anew gets another.
/// Blocks for up to `patience`.
pub(super) fn topic_id(consumer: &BaseConsumer<Reports>, topic: &str, patience: Duration) -> Result<String, LogError> {
    let client = consumer.client().native_ptr();
    let unavailable = |reason: &str| LogError::Unavailable(format!("cannot learn the id of topic {topic}: {reason}"));
    let name = CString::new(topic).map_err(|_| LogError::Halted(format!("{topic:?} cannot be a topic's name")))?;
    let missing = |what: &str| unavailable(&format!("librdkafka gave no {what}"));
    // SAFETY: the consumer keeps the client alive; `name` and the collection outlive the request, which copies
    // what it needs; every pointer from librdkafka is checked for null, and lives until its owner, the event, is
    // dropped at the end of this function, after its text was copied.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, native::rd_kafka_TopicCollection_destroy, "collection").map_err(missing)?;
        let send = |options, queue| native::rd_kafka_DescribeTopics(client, topics.0, options, queue);
        let event = ask(client, Operation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, patience, send).map_err(missing)?;
        if native::rd_kafka_event_error(event.0) != OK {
            return Err(unavailable(&text(native::rd_kafka_event_error_string(event.0))));
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(unavailable("the answer is of another kind"));
        }
        let mut count = 0;
        let described = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if described.is_null() || count != 1 {
            return Err(unavailable("the answer names no topic"));
        }
        let error = native::rd_kafka_TopicDescription_error(*described);
        if !error.is_null() && native::rd_kafka_error_code(error) != OK {
            return Err(unavailable(&text(native::rd_kafka_error_string(error))));
        }
        let id = native::rd_kafka_TopicDescription_topic_id(*described);
        if id.is_null() {
            return Err(unavailable("the answer has no id"));
        }
        let id = text(native::rd_kafka_Uuid_base64str(id));
        if id.is_empty() || id == NONE {
            let reason = format!("topic {topic} has no id: brokers older than Kafka 2.8 are not supported");
            return Err(LogError::Halted(reason));
        }
        Ok(id)
    }
}

/// A copy of librdkafka's text.
///
/// # Safety
/// `text` must be null or a C string that lives during the call.
unsafe fn text(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and a C string as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
