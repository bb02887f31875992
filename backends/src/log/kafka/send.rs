//! Handing messages to librdkafka without a copy of their values and without looking for their topics by name, and
//! hearing of them again.
//!
//! `rdkafka` lets librdkafka copy each value into memory of its own, which another thread frees after the acknowledgement:
//! that took an eighth of all of accepting. Here what belongs to a message, and comes back with its acknowledgement, holds
//! the value. And it names the topic of each, which librdkafka finds under a lock that all of its threads share.
//!
//! `rdkafka`'s own thread that takes acknowledgements spins in the last millisecond of each tenth of a second, for it waits
//! in whole milliseconds: on an idle machine that is a hundredth of a core.

#![expect(unsafe_code, reason = "rdkafka has no safe call that does not copy")]

use super::{
    call::Delivery,
    header::{OK, Unsent},
    listener::{LISTENING, Listener},
    void,
};
use crate::{
    log::Topic,
    trace::{self, TraceParent},
};
use rdkafka::{
    bindings as native,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, Producer as _, ProducerContext},
    util::IntoOpaque as _,
};
use std::{
    ffi::{CString, c_int, c_void},
    io,
    ops::Deref,
    ptr,
    sync::{Arc, OnceLock},
};

const COPY: c_int = native::RD_KAFKA_MSG_F_COPY as c_int;

/// A client, what it sends to, and the thread that takes the acknowledgements.
pub(super) struct Sender<C: ProducerContext + 'static> {
    /// By [`Topic`], in the order of their declaration. Given back before the client is closed, for they are declared before.
    topics: Vec<(CString, OnceLock<Handle>)>,
    _listener: Listener,
    client: Arc<BaseProducer<C>>,
}

impl<C: ProducerContext + 'static> Sender<C> {
    /// `names` by [`Topic`]. None of them is looked for before something is sent to it.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn new(client: BaseProducer<C>, names: Vec<CString>) -> io::Result<Self> {
        let client = Arc::new(client);
        let listened = client.clone();
        let _listener = Listener::start("kafka-acks", move || {
            listened.poll(LISTENING);
        })?;
        let topics = names.into_iter().map(|name| (name, OnceLock::new())).collect();
        Ok(Self { topics, _listener, client })
    }

    /// Null when librdkafka cannot make it: it takes each name that Kafka does.
    fn topic(&self, topic: Topic) -> *mut native::rd_kafka_topic_t {
        let Some((name, handle)) = self.topics.get(topic as usize) else { return ptr::null_mut() };
        // SAFETY: the client is alive, the name ends with a zero and is copied; without a configuration the client's counts.
        let make =
            || unsafe { native::rd_kafka_topic_new(self.client.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        handle.get_or_init(|| Handle(make())).0
    }
}

impl<C: ProducerContext + 'static> Deref for Sender<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

/// A topic of a client.
struct Handle(*mut native::rd_kafka_topic_t);

// SAFETY: librdkafka's handles may be used, and given back, by any thread.
unsafe impl Send for Handle {}
// SAFETY: and by several at once.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is ours, and its client is still there, see [`Sender`].
            unsafe { native::rd_kafka_topic_destroy(self.0) };
        }
    }
}

/// What is sent beside the value that its delivery holds.
pub(super) struct Outgoing<'m> {
    pub(super) topic: Topic,
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
pub(super) fn send<C>(sender: &Sender<C>, message: &Outgoing<'_>, delivery: Box<Delivery>) -> Result<(), KafkaError>
where
    C: ProducerContext<DeliveryOpaque = Box<Delivery>> + 'static,
{
    use native::rd_kafka_vtype_t as V;
    let topic = sender.topic(message.topic);
    if topic.is_null() {
        return Err(KafkaError::MessageProduction(RDKafkaErrorCode::UnknownTopic));
    }
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
    // SAFETY: client and topic live as long as `sender`. Each argument has the type that its tag asks for. The key and
    // a value with COPY are copied before the call returns. Any other value belongs to the delivery, which holds it
    // unchanged, on the heap, until librdkafka gives the delivery back, and librdkafka does that once it is done with
    // the value. The headers become librdkafka's if it takes the message.
    let answer = unsafe {
        native::rd_kafka_producev(
            sender.client.client().native_ptr(),
            V::RD_KAFKA_VTYPE_RKT,
            topic,
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
