//! One append, from the hand-over of its messages to the last acknowledgement.

use crate::log::{Append, LogError};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The offsets of a call's messages.
pub(super) type Answer = oneshot::Receiver<Result<Vec<i64>, Failed>>;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// All of it has been appended, and some of it too late.
    Late,
    Log(LogError),
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<Failed> for LogError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Late => Self::Unavailable("the brokers appended it too late".to_owned()),
            Failed::Log(error) => error,
        }
    }
}

/// A message under way: where its acknowledgement belongs, and what it holds.
pub(super) struct Delivery {
    pub(super) call: Arc<Call>,
    /// Its place in the call.
    pub(super) index: usize,
    /// The last millisecond at which it may be appended.
    pub(super) not_after: i64,
}

impl Delivery {
    pub(super) fn message(&self) -> &Append {
        &self.call.messages[self.index]
    }

    /// Says how it ended.
    pub(super) fn answered(&self, outcome: Result<i64, Failed>) {
        self.call.answered(self.index, outcome);
    }
}

/// One append. It is there until the last of its messages was acknowledged or given up.
pub(super) struct Call {
    /// librdkafka reads their values.
    messages: Vec<Append>,
    offsets: Vec<AtomicI64>,
    /// Messages without an answer.
    left: AtomicUsize,
    state: Mutex<CallState>,
    _room: OwnedSemaphorePermit,
}

struct CallState {
    failed: Option<Failed>,
    reply: Option<oneshot::Sender<Result<Vec<i64>, Failed>>>,
}

impl Call {
    /// With the share of the queue that `messages` take.
    pub(super) fn new(messages: Vec<Append>, room: OwnedSemaphorePermit) -> (Arc<Self>, Answer) {
        let (reply, answer) = oneshot::channel();
        let offsets = messages.iter().map(|_| AtomicI64::new(-1)).collect();
        let left = AtomicUsize::new(messages.len());
        let state = Mutex::new(CallState { failed: None, reply: Some(reply) });
        (Arc::new(Self { messages, offsets, left, state, _room: room }), answer)
    }

    pub(super) fn messages(&self) -> &[Append] {
        &self.messages
    }

    /// The answer for the message `index`; the last one answers the caller.
    fn answered(&self, index: usize, outcome: Result<i64, Failed>) {
        match outcome {
            Ok(offset) => self.offsets[index].store(offset, Ordering::Relaxed),
            Err(error) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                // What was late tells least: the rest of the call is not known to be there.
                if matches!(state.failed, None | Some(Failed::Late)) {
                    state.failed = Some(error);
                }
            }
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match state.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.offsets.iter().map(|offset| offset.load(Ordering::Relaxed)).collect()),
        };
        if let Some(reply) = state.reply.take() {
            // A caller that has gone away needs no answer.
            let _ = reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Topic;
    use bytes::Bytes;
    use tokio::sync::Semaphore;

    async fn call(count: usize) -> (Arc<Call>, Answer, Arc<Semaphore>) {
        let room = Arc::new(Semaphore::new(10));
        let message = Append { topic: Topic::Records, partition: 0, key: Bytes::new(), value: Bytes::new() };
        let (call, answer) = Call::new(vec![message; count], room.clone().acquire_many_owned(10).await.unwrap());
        (call, answer, room)
    }

    #[tokio::test]
    async fn a_call_is_answered_with_offsets_in_its_own_order_once_all_are_there() {
        let (call, mut answer, room) = call(3).await;
        for (index, offset) in [(2, 9), (0, 7)] {
            call.answered(index, Ok(offset));
            assert!(answer.try_recv().is_err());
        }
        call.answered(1, Ok(8));
        assert_eq!(answer.await.unwrap().unwrap(), [7, 8, 9]);
        drop(call);
        assert_eq!(room.available_permits(), 10, "its share of the queue is free again");
    }

    #[tokio::test]
    async fn one_failure_fails_the_call_but_only_when_nothing_of_it_waits_any_more() {
        let (call, mut answer, room) = call(2).await;
        call.answered(0, Err(LogError::Unavailable("first".to_owned()).into()));
        assert!(answer.try_recv().is_err());
        assert_eq!(room.available_permits(), 0);
        call.answered(1, Ok(3));
        assert!(matches!(answer.await.unwrap(), Err(Failed::Log(LogError::Unavailable(reason))) if reason == "first"));
    }
}
