//! A message's headers by their names.
//!
//! Whoever can write to a topic chooses its headers, and `rdkafka` panics when it comes by a name that is not UTF-8. So
//! librdkafka itself is asked for the one header that is wanted.

#![expect(unsafe_code, reason = "rdkafka has no safe call for one header by its name")]

use rdkafka::{bindings as native, message::BorrowedMessage};
use std::{ffi::CStr, ptr, slice};

const OK: native::rd_kafka_resp_err_t = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

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
