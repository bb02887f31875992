//! Any bytes as a body: no panic, and what comes out is a part of what went in, in order and not overlapping.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_ingest_api::split::{Form, split};

const MAX: usize = 1_000;

fuzz_target!(|body: &[u8]| {
    for form in [Form::Json, Form::Ndjson] {
        let Ok(pieces) = split(body, form, MAX) else { continue };
        assert!(!pieces.is_empty() && pieces.len() <= MAX);
        let mut behind = body.as_ptr() as usize;
        for piece in pieces {
            let start = piece.text.as_ptr() as usize;
            assert!(!piece.text.is_empty() && start >= behind);
            behind = start + piece.text.len();
            assert!(behind <= body.as_ptr() as usize + body.len());
        }
    }
});
