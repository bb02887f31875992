//! What a segment's bytes still say after a crash. Reads only; what to do about it is the caller's.
//!
//! A group of messages is written, synced, then acknowledged, and the next group is written only after that. So a
//! frame that cannot be read is one of two things. It is *torn* when its offset is not known to be durable: the write
//! had not ended, nobody was told anything, and it is cut off with all that follows. It is *damage* when the durable
//! mark covers its offset, or when anywhere behind it there is a frame of a later group: then it had been synced, and
//! cutting it off would lose what was acknowledged. Frames of the same group may well stand behind a torn one: a disk
//! writes the pages of one group in any order.

use super::frame::{self, FILE_HEADER, FRAME_HEADER, FrameHeader, Parsed};
use std::{fs::File, io, os::unix::fs::FileExt};

/// Bytes read at once while walking through a segment.
const WINDOW: usize = 1 << 20;

/// Bytes that can be read at a place: a file, or a slice in tests and fuzzing.
pub trait ReadAt {
    /// Fills the start of `buf` from byte `at` on; how much, less than asked only at the end.
    ///
    /// # Errors
    /// Those of the file system.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match FileExt::read_at(self, &mut buf[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// A place in a segment: before the frame of message `offset`, at byte `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset of the message.
    pub offset: i64,
    /// Byte in the file.
    pub at: u64,
}

/// What [`Walk::step`] came upon.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame; the walk stands behind it.
    Frame(FrameHeader),
    /// The end, exactly behind the last frame.
    End,
    /// Bytes that are not the next frame, and why; the walk stands before them.
    Bad(&'static str),
}

/// A walk through the frames of a segment, one after the other.
pub struct Walk<'s, S: ReadAt + ?Sized> {
    source: &'s S,
    salt: u32,
    with_bodies: bool,
    end: u64,
    place: Place,
    window: Vec<u8>,
    window_at: u64,
}

impl<'s, S: ReadAt + ?Sized> Walk<'s, S> {
    /// A walk from `place` to byte `end`. Checksums of headers are always checked, those of bodies `with_bodies`.
    pub fn new(source: &'s S, salt: u32, place: Place, end: u64, with_bodies: bool) -> Self {
        Self { source, salt, with_bodies, end, place, window: Vec::new(), window_at: place.at }
    }

    /// Where the walk stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Goes over the next frame.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn step(&mut self) -> io::Result<Step> {
        if self.place.at >= self.end {
            return Ok(Step::End);
        }
        let mut wanted = FRAME_HEADER;
        loop {
            if !self.load(wanted)? {
                return Ok(Step::Bad("the frame is cut off"));
            }
            let start = (self.place.at - self.window_at) as usize;
            match frame::parse(&self.window[start..], self.salt, self.place.offset, self.with_bodies) {
                Parsed::Short(needs) => wanted = needs,
                Parsed::Bad(reason) => return Ok(Step::Bad(reason)),
                Parsed::Frame(header) => {
                    self.place = Place { offset: header.offset + 1, at: self.place.at + header.frame_len() as u64 };
                    return Ok(Step::Frame(header));
                }
            }
        }
    }

    /// Makes the window hold `wanted` bytes from the place on; false when there are not so many before the end.
    fn load(&mut self, wanted: usize) -> io::Result<bool> {
        let left = self.end - self.place.at;
        if (wanted as u64) > left {
            return Ok(false);
        }
        let have = (self.window_at + self.window.len() as u64).saturating_sub(self.place.at);
        if have >= wanted as u64 {
            return Ok(true);
        }
        let size = wanted.max(WINDOW).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.window.resize(size, 0);
        self.window_at = self.place.at;
        let read = self.source.read_at(&mut self.window, self.place.at)?;
        self.window.truncate(read);
        Ok(read >= wanted)
    }
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Behind the last sound frame.
    pub end: Place,
    /// Time of the last message, or the segment's floor.
    pub last_time: i64,
    /// Places for the sparse index, in order.
    pub index: Vec<Place>,
    /// Why the bytes behind `end`, if there are any, were never acknowledged frames.
    pub torn: Option<&'static str>,
}

/// Damage, as opposed to a torn end.
#[derive(Debug)]
pub enum Damage {
    /// Byte, and what is wrong there.
    At(u64, String),
    /// The file system failed.
    Io(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Walks through a segment of `len` bytes, of which offsets below `durable` are known to have been synced.
///
/// # Errors
/// [`Damage`]; never because of bytes that had not been acknowledged.
pub fn recover<S: ReadAt + ?Sized>(source: &S, len: u64, base: i64, durable: i64) -> Result<Recovered, Damage> {
    let mut header = [0; FILE_HEADER];
    let read = source.read_at(&mut header, 0)?;
    let header = frame::FileHeader::decode(&header[..read]).map_err(|reason| Damage::At(0, reason.to_owned()))?;
    if header.base != base {
        return Err(Damage::At(8, format!("the segment starts at offset {}, its name says {base}", header.base)));
    }
    let first = Place { offset: base, at: FILE_HEADER as u64 };
    let mut walk = Walk::new(source, header.salt, first, len, true);
    let mut recovered = Recovered { end: first, last_time: header.time_floor, index: Vec::new(), torn: None };
    let reason = loop {
        let place = walk.place();
        match walk.step()? {
            Step::Frame(frame) => {
                super::segment::note(&mut recovered.index, place);
                recovered.last_time = frame.appended_at;
                recovered.end = walk.place();
            }
            Step::End => break None,
            Step::Bad(reason) => break Some(reason),
        }
    };
    let end = recovered.end;
    if end.offset < durable {
        let reason = reason.unwrap_or("the file ends");
        return Err(Damage::At(end.at, format!("{reason}, but messages {}..{durable} were acknowledged", end.offset)));
    }
    if let Some(reason) = reason
        && let Some(later) = later_group(source, header.salt, end, len)?
    {
        return Err(Damage::At(end.at, format!("{reason}, but a later one at byte {later} shows it was durable")));
    }
    recovered.torn = reason;
    Ok(recovered)
}

/// The byte at which, behind `from`, there is a frame of a group that was written after message `from.offset` had
/// been synced. A header that matches its salted checksum is proof enough.
fn later_group<S: ReadAt + ?Sized>(source: &S, salt: u32, from: Place, len: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; WINDOW];
    let mut at = from.at + 1;
    while at < len {
        let size = usize::try_from(len - at).unwrap_or(usize::MAX).min(WINDOW);
        let read = source.read_at(&mut window[..size], at)?;
        let starts = (read + 1).saturating_sub(FRAME_HEADER);
        for start in 0..starts {
            let bytes = &window[start..start + FRAME_HEADER];
            // The cheap test first: offsets behind this one, and not by more than could fit.
            let ahead = frame::i64_at(bytes, 20).wrapping_sub(from.offset);
            if (1..=(len / FRAME_HEADER as u64) as i64).contains(&ahead)
                && FrameHeader::decode(bytes, salt).is_some_and(|header| header.group_base() > from.offset)
            {
                return Ok(Some(at + start as u64));
            }
        }
        if starts == 0 {
            break;
        }
        at += starts as u64;
    }
    Ok(None)
}
