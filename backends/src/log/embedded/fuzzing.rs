//! Recovery against any damage that bytes can describe; driven by the fuzz target and by a property test.

use super::{
    frame::{FILE_HEADER, FileHeader, FrameHeader},
    recovery::{self, Damage},
};
use crate::{log::Topic, trace::TRACE_PARENT_BYTES};

/// Takes `data` as a plan: a segment to build, which of its groups are known to be durable, and what harm is done to
/// it. Panics when recovery then changes or drops what was durable.
pub fn recover_after_harm(data: &[u8]) {
    let mut plan = data.iter().copied();
    let mut next = || plan.next().unwrap_or_default();
    let header = FileHeader { base: 0, time_floor: 0, salt: 0xC0FF_EE11, topic: Topic::Records, partition: 0 };
    let (mut bytes, mut offset, mut durable) = (header.encode().to_vec(), 0i64, 0);
    let groups = next() % 8;
    let known = next() % 8;
    for group in 0..groups {
        for place in 0..=next() % 4 {
            let body = vec![next(); usize::from(next()) * 3];
            let body_sum = crc32c::crc32c(&body);
            let (place, value_len) = (u32::from(place), body.len() as u32);
            // Long enough for a trace, some have one.
            let traced = body.len() >= TRACE_PARENT_BYTES && body[0] % 2 == 1;
            let value_len = value_len - if traced { TRACE_PARENT_BYTES as u32 } else { 0 };
            let frame = FrameHeader { body_sum, traced, key_len: 0, value_len, place, offset, appended_at: 0 };
            frame.encode(header.salt, &mut bytes);
            bytes.extend_from_slice(&body);
            offset += 1;
        }
        // Only what a later group followed, or what the mark covers, is known to have been synced.
        if group < known.min(groups) {
            durable = offset;
        }
    }
    let sound = bytes.clone();
    for _ in 0..next() % 4 {
        let (kind, at) = (next(), u16::from_le_bytes([next(), next()]));
        let at = usize::from(at) % bytes.len().max(1);
        match kind % 4 {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (kind / 32)),
            1 => bytes.truncate(at),
            2 => bytes.iter_mut().skip(at).for_each(|byte| *byte = 0),
            _ => bytes.iter_mut().skip(at).take(40).for_each(|byte| *byte = next()),
        }
    }
    bytes.extend(plan);
    match recovery::recover(&bytes[..], bytes.len() as u64, 0, durable) {
        Ok(recovered) => {
            assert!(recovered.end.offset >= durable, "durable messages were dropped");
            let end = recovered.end.at as usize;
            assert!(end <= sound.len() && bytes[..end] == sound[..end], "a message was changed");
        }
        Err(Damage::At(at, _)) => {
            assert!(at <= bytes.len() as u64);
            assert!(at < FILE_HEADER as u64 || bytes != sound, "sound bytes were called damaged");
        }
        Err(Damage::Io(error)) => panic!("memory does not fail: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn no_harm_drops_or_changes_what_was_durable(data in prop::collection::vec(any::<u8>(), 0..300)) {
            super::recover_after_harm(&data);
        }
    }
}
