//! A segment of the log after any damage: nothing durable is dropped or changed; see fuzz/README.md.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_backends::log::embedded::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::recover_after_harm(data));
