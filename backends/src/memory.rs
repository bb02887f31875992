//! How the process's allocator (mimalloc, chosen by the binary) treats memory that is freed.

use std::{ffi::c_long, time::Duration};

/// How long a thread for blocking work stays when there is none: the allocator keeps what a thread has freed for that
/// thread, and a runtime gives its work to all that are there in turn, so those that a burst has called would hold tens
/// of megabytes each for as long as there is any work.
pub const BLOCKING_THREAD_STAYS: Duration = Duration::from_millis(500);

/// `mi_option_purge_delay` in mimalloc's enumeration of options, milliseconds; the crate has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Gives freed memory back to the system after 100 ms rather than a second. A lane frees tens of megabytes with every
/// chunk, and 64 large requests hundreds; kept for a second they add up to three times what is in use. Given back at
/// once, every request and every chunk would fetch its memory from the system again, which costs up to a third of
/// accepting and of landing.
///
/// To be called first in `main`, before there are other threads.
#[expect(unsafe_code, reason = "the only way to mimalloc's options but the environment")]
pub fn give_back_soon() {
    let delay: c_long = 100;
    // SAFETY: it stores a number; not thread-safe, hence the call before any other thread.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, delay) };
}
