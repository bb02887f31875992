//! The bytes of a segment file: one header, then frames. Pure; integers are little-endian.
//!
//! ```text
//! file header, 40 bytes          frame, 36 bytes + trace + key + value
//!   0  "TRIBLOG" + version 1       0  CRC32C of 4..36, seeded with the file's salt
//!   8  base offset                 4  CRC32C of trace, key and value
//!  16  time floor (ms)             8  length of the key; its highest bit: there is a trace
//!  24  salt                       12  length of the value
//!  28  topic code                 16  offset − first offset of the group that was synced together
//!  32  partition                  20  offset
//!  36  CRC32C of 0..36            28  time of appending (ms)
//!                                 36  trace (55 bytes, or none), key, value
//! ```
//!
//! The salt makes frames of one file mean nothing in another, and lets no sender hide a frame in a value. The place in
//! its group tells a torn write from damage: when a later group is there, everything before it had been synced.

use crate::{
    log::Topic,
    trace::{TRACE_PARENT_BYTES, TraceParent},
};
use bytes::Bytes;
use std::ops::Range;

/// Bytes of the file header.
pub const FILE_HEADER: usize = 40;
/// Bytes of a frame before its key.
pub const FRAME_HEADER: usize = 36;
/// Bytes that key and value of one message may have together; also bounds what a damaged length can ask for.
pub const MAX_MESSAGE: usize = 64 << 20;

/// In the word of the key's length, which never needs this bit.
const TRACED: u32 = 1 << 31;

const MAGIC: [u8; 8] = *b"TRIBLOG\x01";

/// What a segment file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Offset of its first message.
    pub base: i64,
    /// No message in it is older than this (ms): the time of the last message before it.
    pub time_floor: i64,
    /// Seeds the checksums of its frames.
    pub salt: u32,
    /// Whose it is.
    pub topic: Topic,
    /// Whose it is.
    pub partition: u32,
}

impl FileHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER] {
        let mut bytes = [0; FILE_HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.base.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time_floor.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.salt.to_le_bytes());
        bytes[28..32].copy_from_slice(&topic_code(self.topic).to_le_bytes());
        bytes[32..36].copy_from_slice(&self.partition.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < FILE_HEADER {
            return Err("the file header is cut off");
        }
        if bytes[..7] != MAGIC[..7] {
            return Err("this is no segment file of the log");
        }
        if crc32c::crc32c(&bytes[..36]) != u32_at(bytes, 36) {
            return Err("the file header does not match its checksum");
        }
        if bytes[7] != MAGIC[7] {
            return Err("the segment has a format that this version does not know");
        }
        let topic = topic_of(u32_at(bytes, 28)).ok_or("the segment is of an unknown topic")?;
        Ok(Self {
            base: i64_at(bytes, 8),
            time_floor: i64_at(bytes, 16),
            salt: u32_at(bytes, 24),
            topic,
            partition: u32_at(bytes, 32),
        })
    }
}

/// What a frame says about its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Checksum of trace, key and value.
    pub body_sum: u32,
    /// Whether there is a trace.
    pub traced: bool,
    /// Bytes of the key.
    pub key_len: u32,
    /// Bytes of the value.
    pub value_len: u32,
    /// How many messages before this one belong to the same group.
    pub place: u32,
    /// The message's offset.
    pub offset: i64,
    /// When it was appended (ms).
    pub appended_at: i64,
}

impl FrameHeader {
    /// Appends the header's bytes.
    pub fn encode(&self, salt: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let key_len = self.key_len | if self.traced { TRACED } else { 0 };
        for word in [self.body_sum, key_len, self.value_len, self.place] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.appended_at.to_le_bytes());
        let sum = crc32c::crc32c_append(salt, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads a header back, `None` when `bytes` do not hold a whole one that matches its checksum.
    pub fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER)?;
        if crc32c::crc32c_append(salt, &bytes[4..]) != u32_at(bytes, 0) {
            return None;
        }
        let header = Self {
            body_sum: u32_at(bytes, 4),
            traced: u32_at(bytes, 8) & TRACED != 0,
            key_len: u32_at(bytes, 8) & !TRACED,
            value_len: u32_at(bytes, 12),
            place: u32_at(bytes, 16),
            offset: i64_at(bytes, 20),
            appended_at: i64_at(bytes, 28),
        };
        (header.message_len() <= MAX_MESSAGE && i64::from(header.place) <= header.offset).then_some(header)
    }

    /// Bytes of key and value.
    pub fn message_len(&self) -> usize {
        self.key_len as usize + self.value_len as usize
    }

    fn trace_len(&self) -> usize {
        if self.traced { TRACE_PARENT_BYTES } else { 0 }
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        FRAME_HEADER + self.trace_len() + self.message_len()
    }

    /// First offset of the group that was synced together: every offset below it was durable before this was written.
    pub fn group_base(&self) -> i64 {
        self.offset - i64::from(self.place)
    }

    /// Places of trace, key and value in a buffer in which the frame starts at `at`. Without a trace its place is empty.
    pub fn body(&self, at: usize) -> [Range<usize>; 3] {
        let trace = at + FRAME_HEADER;
        let key = trace + self.trace_len();
        let value = key + self.key_len as usize;
        [trace..key, key..value, value..value + self.value_len as usize]
    }
}

/// Checksum of a message's trace, key and value.
pub fn body_sum(trace: Option<&TraceParent>, key: &Bytes, value: &Bytes) -> u32 {
    let trace = trace.map_or(0, |trace| crc32c::crc32c(trace.as_str().as_bytes()));
    crc32c::crc32c_append(crc32c::crc32c_append(trace, key), value)
}

/// What a buffer holds at one place.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole frame that is what was written.
    Frame(FrameHeader),
    /// Not all of it: this many bytes from the place on are needed.
    Short(usize),
    /// Not what was written.
    Bad(&'static str),
}

/// Reads the frame of message `expected` at the start of `bytes`; its body's checksum only when `with_body`.
pub fn parse(bytes: &[u8], salt: u32, expected: i64, with_body: bool) -> Parsed {
    if bytes.len() < FRAME_HEADER {
        return Parsed::Short(FRAME_HEADER);
    }
    let Some(header) = FrameHeader::decode(bytes, salt) else {
        return Parsed::Bad("the frame's header does not match its checksum");
    };
    if header.offset != expected {
        return Parsed::Bad("the frame is not the next one in order");
    }
    let Some(body) = bytes.get(FRAME_HEADER..header.frame_len()) else {
        return Parsed::Short(header.frame_len());
    };
    if with_body && crc32c::crc32c(body) != header.body_sum {
        return Parsed::Bad("the message does not match its checksum");
    }
    Parsed::Frame(header)
}

/// A topic's number in files, which never changes.
pub fn topic_code(topic: Topic) -> u32 {
    match topic {
        Topic::Records => 1,
        Topic::Rejects => 2,
        Topic::BatchEvents => 3,
        Topic::Attachments => 4,
        Topic::DeadLetters => 5,
    }
}

/// The topic of a number.
pub fn topic_of(code: u32) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic_code(*topic) == code)
}

/// The `u32` at byte `at`, which must be inside `bytes`.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The `i64` at byte `at`, which must be inside `bytes`.
pub fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    i64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn frame(salt: u32, traced: bool) -> Vec<u8> {
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"the value"));
        let trace = TraceParent::read(TRACE).filter(|_| traced);
        let body_sum = body_sum(trace.as_ref(), &key, &value);
        let header =
            FrameHeader { body_sum, traced, key_len: 3, value_len: 9, place: 2, offset: 7, appended_at: 1_234 };
        let mut out = Vec::new();
        header.encode(salt, &mut out);
        out.extend_from_slice(if traced { TRACE } else { b"" });
        out.extend_from_slice(&key);
        out.extend_from_slice(&value);
        out
    }

    #[test]
    fn a_frame_reads_back() {
        for (traced, expected) in [(false, &b""[..]), (true, TRACE)] {
            let bytes = frame(5, traced);
            let Parsed::Frame(header) = parse(&bytes, 5, 7, true) else { panic!("a whole frame") };
            assert_eq!((header.offset, header.appended_at, header.group_base()), (7, 1_234, 5));
            let parts = header.body(0).map(|part| &bytes[part]);
            assert_eq!(parts, [expected, &b"key"[..], &b"the value"[..]]);
            assert_eq!(header.frame_len(), bytes.len());
        }
    }

    /// Made by another program from the description above: what is on disks must stay readable.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let header = |traced| hex(&frame(5, traced)[..FRAME_HEADER]);
        assert_eq!(header(false), "959b0d22f13077e40300000009000000020000000700000000000000d204000000000000");
        assert_eq!(header(true), "3085fdc9511b34f30300008009000000020000000700000000000000d204000000000000");
        let file = FileHeader { base: 42, time_floor: 9, salt: 77, topic: Topic::Rejects, partition: 3 };
        assert_eq!(
            hex(&file.encode()),
            "545249424c4f47012a0000000000000009000000000000004d000000020000000300000068b99381"
        );
    }

    #[test]
    fn every_flipped_bit_every_cut_and_a_foreign_salt_is_noticed() {
        for bytes in [frame(5, false), frame(5, true)] {
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(parse(&bad, 5, 7, true), Parsed::Bad(_)), "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert!(matches!(parse(&bytes[..len], 5, 7, true), Parsed::Short(_)), "cut at {len}");
            }
            assert!(matches!(parse(&bytes, 6, 7, true), Parsed::Bad(_)));
            assert!(matches!(parse(&bytes, 5, 8, true), Parsed::Bad(_)), "not the next offset");
        }
    }

    #[test]
    fn a_file_header_reads_back_and_every_flipped_bit_is_noticed() {
        let header = FileHeader { base: 42, time_floor: 9, salt: 77, topic: Topic::Rejects, partition: 3 };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&bad).is_err(), "bit {bit}");
        }
    }
}
