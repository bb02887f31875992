//! The id that Kafka gave a topic when it was made. A topic that is deleted and made anew gets another.
//!
//! `rdkafka` does not wrap this call, so it is made on librdkafka directly.

#![expect(unsafe_code, reason = "rdkafka has no safe call for a topic's id")]

use super::reports::Reports;
use crate::log::LogError;
use rdkafka::{
    bindings as native,
    consumer::{BaseConsumer, Consumer},
};
use std::{
    ffi::{CStr, CString},
    time::Duration,
};

/// What Kafka says for a topic without an id.
const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Calls `destroy` at the end.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T), what: &str) -> Result<Self, LogError> {
        if pointer.is_null() {
            return Err(LogError::Unavailable(format!("librdkafka gave no {what}")));
        }
        Ok(Self(pointer, destroy))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the call that `destroy` belongs to, was not null, and is used nowhere later.
        unsafe { (self.1)(self.0) }
    }
}

/// The id of `topic`, as Kafka's tools print it. Blocks for up to `patience`.
pub(super) fn of(consumer: &BaseConsumer<Reports>, topic: &str, patience: Duration) -> Result<String, LogError> {
    let client = consumer.client().native_ptr();
    let unavailable = |reason: &str| LogError::Unavailable(format!("cannot learn the id of topic {topic}: {reason}"));
    let name = CString::new(topic).map_err(|_| LogError::Halted(format!("{topic:?} cannot be a topic's name")))?;
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the consumer keeps the client alive; `name` and the collection outlive the request, which copies
    // what it needs; every pointer from librdkafka is checked for null, and lives until its owner, the event, is
    // dropped at the end of this function, after its text was copied.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, native::rd_kafka_TopicCollection_destroy, "collection")?;
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::rd_kafka_AdminOptions_new(client, operation);
        let options = Owned::new(options, native::rd_kafka_AdminOptions_destroy, "options")?;
        native::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, std::ptr::null_mut(), 0);
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy, "queue")?;
        native::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        let event = native::rd_kafka_queue_poll(queue.0, millis.saturating_add(1_000));
        let event = Owned::new(event, native::rd_kafka_event_destroy, "answer in time")?;
        if native::rd_kafka_event_error(event.0) != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
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
        if !error.is_null()
            && native::rd_kafka_error_code(error) != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
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
