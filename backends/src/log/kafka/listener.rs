//! A thread that takes what librdkafka has to say about a client, which it keeps until it is asked.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a client is listened to at a time; it is closed no sooner. The tenth of a millisecond is more than what has
/// passed of it when the wait begins, so that the whole milliseconds that are waited are all of it where nothing comes.
pub(super) const LISTENING: Duration = Duration::from_micros(200_100);

/// Such a thread, until this is dropped, which waits for it: what it listens to is given back by then. A process must not end
/// while a client works, with which OpenSSL would end first.
pub(super) struct Listener {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Calls `listen`, which is to wait for [`LISTENING`], again and again.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(name: &str, listen: impl Fn() + Send + 'static) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let run = move || {
            while !ends.load(Ordering::Relaxed) {
                listen();
            }
        };
        let thread = Some(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(Self { over, thread })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // If it has panicked, that was said.
        self.thread.take().map(JoinHandle::join);
    }
}
