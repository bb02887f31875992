//! Reading a request's body: within the size limit, within the memory budget, and no slower than a sender may be.

use crate::{
    budget::{Budget, Reservation},
    config::Timeouts,
    decode::reserve,
    failure::Failure,
};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use futures::StreamExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A body as it came, with the memory reserved for it.
#[derive(Debug)]
pub struct Received {
    /// The bytes, still encoded.
    pub bytes: Vec<u8>,
    /// Holds at least as many bytes of the budget.
    pub held: Reservation,
}

/// Reads the whole body.
///
/// # Errors
/// 413 before anything is read when `Content-Length` says so, or once more than `limit` bytes came; 503 when the budget
/// has no room; 408 for a slow sender; 400 for a body that ends too early.
pub async fn receive(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    budget: &Budget,
    timeouts: &Timeouts,
) -> Result<Received, Failure> {
    let announced = match announced_length(headers, limit) {
        Ok(announced) => announced,
        Err(failure) => {
            drain(headers, body, limit);
            return Err(failure);
        }
    };
    let Ok(mut held) = budget.admit(announced.unwrap_or(limit)) else {
        drain(headers, body, limit);
        return Err(Failure::overloaded());
    };
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    let pace = Pace::start(timeouts);
    loop {
        let next = match timeout_at(pace.deadline(bytes.len()), stream.next()).await {
            Ok(next) => next,
            Err(_) => return Err(too_slow()),
        };
        let chunk: Bytes = match next {
            None => return Ok(Received { bytes, held }),
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Err(incomplete(&error)),
        };
        let wanted = bytes.len() + chunk.len();
        let refused = if wanted > limit {
            Some(Failure::too_large(limit, "as sent"))
        } else {
            // Whoever has filled the first room is believed about the rest, so that it is copied once at most.
            let room = announced.filter(|_| bytes.capacity() > 0).unwrap_or(wanted).max(wanted);
            reserve(&mut bytes, room, announced.unwrap_or(limit), &mut held).err().map(|_| Failure::overloaded())
        };
        if let Some(failure) = refused {
            drop((bytes, held));
            drain(headers, Body::from_stream(stream), limit);
            return Err(failure);
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// `Content-Length`, when there is one; hyper has already refused a malformed one.
fn announced_length(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, Failure> {
    let text = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = text.and_then(|text| text.parse::<u64>().ok());
    match announced.map(usize::try_from) {
        Some(Ok(length)) if length <= limit => Ok(Some(length)),
        Some(_) => Err(Failure::too_large(limit, "as announced by Content-Length")),
        None => Ok(None),
    }
}

/// Reads and forgets what a sender still sends after it was refused, within bounds, while the answer goes out: a server
/// that closes instead makes many clients see a reset connection and not the answer.
pub fn drain(headers: &HeaderMap, body: Body, limit: usize) {
    // Whoever waits for `100 Continue` has not begun to send, and reading would invite it to.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    tokio::spawn(tokio::time::timeout(Duration::from_secs(2), async move {
        let mut stream = body.into_data_stream();
        let mut read = 0usize;
        while let Some(Ok(chunk)) = stream.next().await {
            read += chunk.len();
            if read > 2 * limit {
                break;
            }
        }
    }));
}

/// How long the next bytes may take.
struct Pace<'a> {
    start: Instant,
    timeouts: &'a Timeouts,
}

impl<'a> Pace<'a> {
    fn start(timeouts: &'a Timeouts) -> Self {
        Self { start: Instant::now(), timeouts }
    }

    /// By when more must have come, when `received` bytes have: those carry the sender for as long as they would take
    /// at the least rate, never shorter than the grace nor longer than the whole body may take.
    fn deadline(&self, received: usize) -> Instant {
        let paid = Duration::from_secs_f64(received as f64 / self.timeouts.min_body_rate.max(1) as f64);
        self.start + self.timeouts.body_grace.max(paid).min(self.timeouts.body)
    }
}

fn too_slow() -> Failure {
    let message = "the body came too slowly: send it again over a faster connection, or in smaller batches";
    Failure::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message).closing()
}

fn incomplete(error: &axum::Error) -> Failure {
    Failure::bad_request(
        "INCOMPLETE_BODY",
        format!("the body ended before it was complete, nothing was stored: {error}"),
    )
    .closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use prometheus_client::metrics::gauge::Gauge;

    fn budget() -> Budget {
        Budget::new(1 << 20, Gauge::default())
    }

    async fn read(body: Body, headers: &HeaderMap, budget: &Budget) -> Result<Received, Failure> {
        receive(headers, body, 100_000, budget, &Timeouts::default()).await
    }

    #[tokio::test]
    async fn a_body_comes_whole_and_its_memory_is_given_back() {
        let budget = budget();
        let chunks = stream::iter((0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 9_999]))));
        let received = read(Body::from_stream(chunks), &HeaderMap::new(), &budget).await.expect("whole");
        assert_eq!(received.bytes.len(), 99_990);
        assert!(budget.used() >= received.bytes.capacity());
        drop(received);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn the_announced_length_is_believed_when_it_is_too_large() {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, "100001".parse().expect("value"))]);
        let failure = read(Body::empty(), &headers, &budget()).await.expect_err("too large");
        assert_eq!(failure.status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_sender_that_stops_sending_is_cut_off_and_holds_little() {
        let budget = budget();
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        let then_nothing = first.chain(stream::pending());
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, "90000".parse().expect("value"))]);
        let timeouts = Timeouts { body_grace: Duration::from_millis(20), ..Timeouts::default() };
        let failure = receive(&headers, Body::from_stream(then_nothing), 100_000, &budget, &timeouts).await;
        let failure = failure.expect_err("slow");
        assert_eq!(failure.status, StatusCode::REQUEST_TIMEOUT);
        assert!(failure.close);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn bytes_buy_time_within_bounds() {
        let timeouts = Timeouts::default();
        let pace = Pace::start(&timeouts);
        let seconds = |received| (pace.deadline(received) - pace.start).as_secs();
        assert_eq!(seconds(0), 5, "the grace");
        assert_eq!(seconds(30), 5, "a byte a second buys nothing");
        assert_eq!(seconds(10 * 1_024), 10, "a steady sender gets its time");
        assert_eq!(seconds(5_000_000), 30, "no body takes longer than it may");
    }

    #[tokio::test]
    async fn no_room_in_the_budget_is_503_at_once() {
        let small = Budget::new(50_000, Gauge::default());
        let failure = read(Body::empty(), &HeaderMap::new(), &small).await.expect_err("no room");
        assert_eq!((failure.status, failure.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(1)));
    }
}
