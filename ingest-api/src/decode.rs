//! Decompression with a limit: stops at the first byte too many, so that a bomb costs no more than a full body.

use crate::budget::Reservation;
use std::io::{self, Write};

/// `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// None.
    Identity,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than the limit came out.
    #[error("the body is too large when decompressed")]
    TooLarge,
    /// The memory budget has no room for what comes out.
    #[error("the memory budget is used up")]
    Exhausted,
    /// Not what the header promised, or cut short.
    #[error("the body is not {encoding} or is cut short: {reason}")]
    Invalid {
        /// Which encoding was promised.
        encoding: &'static str,
        /// What the decoder says.
        reason: String,
    },
}

/// A larger window than RFC 8878 asks decoders to support would let a few bytes claim 128 MB of memory.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
/// How much output room is reserved at first, and how much less never.
const FIRST_ROOM: usize = 64 * 1024;

/// Decompresses `body` into at most `limit` bytes, reserving memory as they come.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(body: &[u8], encoding: Encoding, limit: usize, held: &mut Reservation) -> Result<Vec<u8>, DecodeError> {
    let mut out = Bounded { bytes: Vec::new(), limit, held, refused: None };
    let (name, result) = match encoding {
        Encoding::Identity => ("identity", out.write_all(body)),
        Encoding::Gzip => ("gzip", gunzip(body, &mut out)),
        Encoding::Zstd => ("zstd", unzstd(body, &mut out)),
    };
    match (result, out.refused) {
        (_, Some(refused)) => Err(refused),
        (Ok(()), None) => Ok(out.bytes),
        (Err(error), None) => Err(DecodeError::Invalid { encoding: name, reason: error.to_string() }),
    }
}

fn gunzip(body: &[u8], out: &mut Bounded<'_>) -> io::Result<()> {
    let mut decoder = flate2::write::MultiGzDecoder::new(out);
    decoder.write_all(body)?;
    decoder.finish().map(|_| ())
}

fn unzstd(body: &[u8], out: &mut Bounded<'_>) -> io::Result<()> {
    let mut decoder = zstd::stream::write::Decoder::new(out)?;
    decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
    decoder.write_all(body)?;
    // Flushing alone does not say whether the last frame is whole.
    decoder.finish().map(|_| ())
}

/// Takes bytes up to a limit, and remembers why it refused the rest.
struct Bounded<'a> {
    bytes: Vec<u8>,
    limit: usize,
    held: &'a mut Reservation,
    refused: Option<DecodeError>,
}

impl Bounded<'_> {
    fn refuse(&mut self, why: DecodeError) -> io::Error {
        let error = io::Error::other(why.to_string());
        self.refused = Some(why);
        error
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        let wanted = self.bytes.len() + chunk.len();
        if wanted > self.limit {
            return Err(self.refuse(DecodeError::TooLarge));
        }
        if reserve(&mut self.bytes, wanted, self.limit, self.held).is_err() {
            return Err(self.refuse(DecodeError::Exhausted));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives `bytes` room for `wanted` bytes, in few steps and never past `limit`, reserving what it allocates.
pub(crate) fn reserve(
    bytes: &mut Vec<u8>,
    wanted: usize,
    limit: usize,
    held: &mut Reservation,
) -> Result<(), crate::budget::Exhausted> {
    let room = bytes.capacity();
    if wanted <= room {
        return Ok(());
    }
    let room_then = wanted.max(room * 4).max(FIRST_ROOM).min(limit.max(wanted));
    held.grow(room_then - room)?;
    bytes.reserve_exact(room_then - bytes.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use prometheus_client::metrics::gauge::Gauge;
    use proptest::prelude::*;

    fn budget() -> Budget {
        Budget::new(64 << 20, Gauge::default())
    }

    fn run(body: &[u8], encoding: Encoding, limit: usize) -> Result<Vec<u8>, DecodeError> {
        decode(body, encoding, limit, &mut budget().admit(0).expect("empty"))
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        zstd::encode_all(body, 3).expect("memory")
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = vec![b' '; 50 << 20];
        for (body, encoding) in [(gzip(&bomb), Encoding::Gzip), (zstd(&bomb), Encoding::Zstd)] {
            let budget = budget();
            let mut held = budget.admit(0).expect("empty");
            assert_eq!(decode(&body, encoding, 1 << 20, &mut held), Err(DecodeError::TooLarge));
            assert!(budget.used() <= 1 << 20, "{} bytes", budget.used());
        }
    }

    #[test]
    fn exactly_the_limit_passes_and_one_more_does_not() {
        let body = vec![b'x'; 100_000];
        for (packed, encoding) in [(gzip(&body), Encoding::Gzip), (zstd(&body), Encoding::Zstd)] {
            assert_eq!(run(&packed, encoding, 100_000).as_deref(), Ok(&body[..]));
            assert_eq!(run(&packed, encoding, 99_999), Err(DecodeError::TooLarge));
        }
    }

    #[test]
    fn the_budget_is_asked_for_what_comes_out() {
        let budget = Budget::new(100_000, Gauge::default());
        let mut held = budget.admit(0).expect("empty");
        let packed = gzip(&vec![b'x'; 200_000]);
        assert_eq!(decode(&packed, Encoding::Gzip, 1 << 20, &mut held), Err(DecodeError::Exhausted));
    }

    #[test]
    fn several_members_or_frames_are_one_body() {
        let gz = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(run(&gz, Encoding::Gzip, 100).as_deref(), Ok(&b"one\ntwo\n"[..]));
        let zst = [zstd(b"one\n"), zstd(b"two\n")].concat();
        assert_eq!(run(&zst, Encoding::Zstd, 100).as_deref(), Ok(&b"one\ntwo\n"[..]));
    }

    #[test]
    fn a_window_of_128_megabytes_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(27).expect("window");
        encoder.write_all(b"small").expect("memory");
        let body = encoder.finish().expect("memory");
        assert!(matches!(run(&body, Encoding::Zstd, 1 << 20), Err(DecodeError::Invalid { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_cut_is_an_error(body in prop::collection::vec(any::<u8>(), 1..5_000), at in 0.0f64..1.0) {
            for (packed, encoding) in [(gzip(&body), Encoding::Gzip), (zstd(&body), Encoding::Zstd)] {
                prop_assert_eq!(run(&packed, encoding, 5_000), Ok(body.clone()));
                let cut = 1 + (at * (packed.len() - 1) as f64) as usize;
                if cut < packed.len() {
                    let result = run(&packed[..cut], encoding, 5_000);
                    prop_assert!(matches!(result, Err(DecodeError::Invalid { .. })), "{result:?}");
                }
            }
        }

        #[test]
        fn any_bytes_are_an_error_or_within_the_limit(body in prop::collection::vec(any::<u8>(), 0..300)) {
            for encoding in [Encoding::Gzip, Encoding::Zstd] {
                if let Ok(out) = run(&body, encoding, 1_000) {
                    prop_assert!(out.len() <= 1_000);
                }
            }
        }
    }
}
