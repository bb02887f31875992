//! A message's headers: those that are read, by their names, and those of a message that is sent without `rdkafka`'s copy.
//!
//! Whoever can write to a topic chooses its headers, and `rdkafka` panics when it comes by a name that is not UTF-8. So
//! librdkafka itself is asked for the one header that is wanted.

#![expect(unsafe_code, reason = "rdkafka has no safe call for one header by its name, nor gives its own away")]

use rdkafka::{bindings as native, message::BorrowedMessage};
use std::{ffi::CStr, ptr, slice};

/// What librdkafka answers when it has done as it was told.
pub(super) const OK: native::rd_kafka_resp_err_t = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// The value of the last header of that name.
pub(super) fn find<'m>(message: &'m BorrowedMessage<'_>, name: &CStr) -> Option<&'m [u8]> {
    let (mut headers, mut value, mut size) = (ptr::null_mut(), ptr::null(), 0);
    // SAFETY: the message is alive, and its headers and their values are its own for as long as it is; what librdkafka gives
    // is used only when it says that it is there, and it says how long the value is.
    unsafe {
        if native::rd_kafka_message_headers(message.ptr(), &raw mut headers) != OK
            || native::rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut size) != OK
            || value.is_null()
        {
            return None;
        }
        Some(slice::from_raw_parts(value.cast::<u8>(), size))
    }
}

/// Headers that are not librdkafka's yet.
pub(super) struct Unsent(*mut native::rd_kafka_headers_t);

impl Unsent {
    /// Room for `count`.
    pub(super) fn new(count: usize) -> Self {
        // SAFETY: it only allocates.
        Self(unsafe { native::rd_kafka_headers_new(count) })
    }

    pub(super) fn add(&mut self, name: &CStr, value: &[u8]) {
        let size = isize::try_from(value.len()).unwrap_or(isize::MAX);
        // SAFETY: these are headers of ours; name, which ends with a zero (-1: count it), and value are copied. It fails
        // only for headers that cannot be written to.
        unsafe { native::rd_kafka_header_add(self.0, name.as_ptr(), -1, value.as_ptr().cast(), size) };
    }

    pub(super) fn as_ptr(&self) -> *mut native::rd_kafka_headers_t {
        self.0
    }

    /// They are librdkafka's now.
    pub(super) fn taken(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        // SAFETY: librdkafka has not taken them.
        unsafe { native::rd_kafka_headers_destroy(self.0) };
    }
}
