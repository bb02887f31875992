//! What tells a lane that a record comes for the second time: the message's key, which is the record's identity and behind
//! it, in eight bytes, the offset that the record had at first. Pure.
//!
//! That offset is its *version*, wherever its bytes are now, so that the lane can tell whether what the table has is newer
//! ([`crate::dedup`]). It is in the key because the bytes are to be those of the letter, and a key is what every log
//! carries.

use bytes::Bytes;
use tributary_schemas::frame::DeadLetter;

const IDENTITY: usize = 16;
/// In place of the first offset: the record counts as sent now.
const AS_NEW: i64 = -1;

/// The key under which a letter's record is appended again. One that was appended again before keeps its version, unless it
/// is to be `as_new`.
pub(super) fn key(letter: &DeadLetter, as_new: bool) -> Bytes {
    let (identity, before) = split(&letter.key);
    let version = match before {
        _ if as_new => AS_NEW,
        Some(version) => version_of(version, letter.offset),
        None => letter.offset,
    };
    [identity, &version.to_be_bytes()].concat().into()
}

/// A message's key → that of its record, and of a record that comes again what it was at first.
pub(crate) fn split(key: &[u8]) -> (&[u8], Option<i64>) {
    match key.split_at_checked(IDENTITY) {
        Some((identity, behind)) => match behind.try_into() {
            Ok(version) => (identity, Some(i64::from_be_bytes(version))),
            Err(_) => (key, None),
        },
        None => (key, None),
    }
}

/// What stands in a key at `offset` is a version only if it can be: a log made anew counts from 0 again, and anybody may
/// write anything.
pub(crate) fn version_of(said: i64, offset: i64) -> i64 {
    if (0..offset).contains(&said) { said } else { offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(key: &[u8], offset: i64) -> DeadLetter {
        let topic = "records".to_owned();
        let (stage, reason) = (String::new(), String::new());
        DeadLetter { topic, partition: 0, offset, stage, reason, at: 0, key: key.to_vec(), payload: Vec::new() }
    }

    fn version(letter: &DeadLetter) -> i64 {
        split(&letter.key).1.map_or(letter.offset, |version| version_of(version, letter.offset))
    }

    #[test]
    fn a_version_survives_any_number_of_replays() {
        let identity = [7; IDENTITY];
        let once = key(&letter(&identity, 5), false);
        assert_eq!(split(&once), (&identity[..], Some(5)));
        let twice = key(&letter(&once, 9), false);
        assert_eq!((twice.clone(), version(&letter(&twice, 12))), (once, 5));
        let new = key(&letter(&twice, 12), true);
        assert_eq!((split(&new), version(&letter(&new, 20))), ((&identity[..], Some(AS_NEW)), 20));
        assert_eq!(split(&key(&letter(&new, 20), false)), (&identity[..], Some(20)));
    }

    #[test]
    fn what_cannot_be_a_version_is_none() {
        for key in [&b""[..], b"short", &[1; 16], &[1; 17], &[1; 23], &[1; 25]] {
            assert_eq!(split(key), (key, None));
        }
        assert_eq!([version_of(-5, 7), version_of(7, 7), version_of(i64::MAX, 7), version_of(6, 7)], [7, 7, 7, 6]);
    }
}
