//! Handing messages to librdkafka without a copy of their values.
//!
//! `rdkafka` lets librdkafka copy each value into memory of its own, which another thread frees after the acknowledgement:
//! that took an eighth of all of accepting. Here what belongs to a message, and comes back with its acknowledgement, holds
//! the value.

#![expect(unsafe_code, reason = "rdkafka has no safe call that does not copy")]

use super::{
    call::Delivery,
    header::{OK, Unsent},
    void,
};
use crate::trace::{self, TraceParent};
use rdkafka::{
    bindings as native,
    error::KafkaError,
    producer::{Producer as _, ProducerContext, ThreadedProducer},
    util::IntoOpaque as _,
};
use std::ffi::{CStr, c_int, c_void};

const COPY: c_int = native::RD_KAFKA_MSG_F_COPY as c_int;

/// What is sent beside the value that its delivery holds.
pub(super) struct Outgoing<'m> {
    pub(super) topic: &'m CStr,
    pub(super) partition: i32,
    pub(super) key: &'m [u8],
    /// Goes in place of that value, and is copied.
    pub(super) framed: Option<&'m [u8]>,
    /// For [`void::HEADER`].
    pub(super) not_after: &'m [u8],
    /// For [`trace::KAFKA_HEADER`].
    pub(super) trace: Option<&'m TraceParent>,
}

/// Hands a message over. Does not wait; fails at once when it cannot be taken.
pub(super) fn send<C>(
    producer: &ThreadedProducer<C>,
    message: &Outgoing<'_>,
    delivery: Box<Delivery>,
) -> Result<(), KafkaError>
where
    C: ProducerContext<DeliveryOpaque = Box<Delivery>> + 'static,
{
    use native::rd_kafka_vtype_t as V;
    let (value, flags) = match message.framed {
        Some(framed) => (framed, COPY),
        None => (delivery.message().value.as_ref(), 0),
    };
    let (value, size) = (value.as_ptr().cast::<c_void>(), value.len());
    let mut headers = Unsent::new(1 + usize::from(message.trace.is_some()));
    headers.add(void::HEADER, message.not_after);
    if let Some(trace) = message.trace {
        headers.add(trace::KAFKA_HEADER, trace.as_str().as_bytes());
    }
    let opaque = delivery.into_ptr();
    // SAFETY: the client lives as long as `producer`. Each argument has the type that its tag asks for. Topic, key and
    // a value with COPY are copied before the call returns. Any other value belongs to the delivery, which holds it
    // unchanged, on the heap, until librdkafka gives the delivery back, and librdkafka does that once it is done with
    // the value. The headers become librdkafka's if it takes the message.
    let answer = unsafe {
        native::rd_kafka_producev(
            producer.client().native_ptr(),
            V::RD_KAFKA_VTYPE_TOPIC,
            message.topic.as_ptr(),
            V::RD_KAFKA_VTYPE_PARTITION,
            message.partition,
            V::RD_KAFKA_VTYPE_MSGFLAGS,
            flags,
            V::RD_KAFKA_VTYPE_VALUE,
            value,
            size,
            V::RD_KAFKA_VTYPE_KEY,
            message.key.as_ptr(),
            message.key.len(),
            V::RD_KAFKA_VTYPE_OPAQUE,
            opaque,
            V::RD_KAFKA_VTYPE_HEADERS,
            headers.as_ptr(),
            V::RD_KAFKA_VTYPE_END,
        )
    };
    if answer == OK {
        headers.taken();
        return Ok(());
    }
    // SAFETY: it was made by `into_ptr` above, and librdkafka, which did not take the message, never gives it back.
    drop(unsafe { Box::<Delivery>::from_ptr(opaque) });
    Err(KafkaError::MessageProduction(answer.into()))
}
