//! Opening what is to be sent: files and stdin, plain, gzip or zstd.

use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

/// Bytes read from the disk at once, and decompressed at once.
const BUFFER: usize = 256 * 1024;
/// Bytes of a file's beginning that go into its fingerprint.
const HEAD: u64 = 64 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// One thing to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `-`
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Input {
    /// What the user called it.
    pub fn named(path: &Path) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path.to_owned()) }
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Bytes on the disk, when that is known beforehand.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Stdin => None,
            Self::File(path) => path.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len()),
        }
    }

    /// True when the name says NDJSON, whatever compression comes after.
    pub fn named_ndjson(&self) -> bool {
        let Self::File(path) = self else { return false };
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let name = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        name.ends_with(".ndjson") || name.ends_with(".jsonl")
    }

    /// What tells whether it is still the same input: a resumed run must not skip parts of another file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn fingerprint(&self) -> io::Result<String> {
        let Self::File(path) = self else { return Ok("stdin".to_owned()) };
        let full = std::fs::canonicalize(path)?;
        let meta = full.metadata()?;
        let changed = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let mut head = Vec::new();
        File::open(&full)?.take(HEAD).read_to_end(&mut head)?;
        let head = blake3::hash(&head).to_hex();
        Ok(format!("{}|{}|{changed}|{}", full.display(), meta.len(), &head[..16]))
    }

    /// Opens it for reading, decompressed; `taken` counts the bytes before decompression.
    ///
    /// # Errors
    /// It cannot be opened or its first bytes cannot be read.
    pub fn open(&self, taken: Arc<AtomicU64>) -> io::Result<Box<dyn BufRead + Send>> {
        let raw: Box<dyn Read + Send> = match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) if path.is_dir() => return Err(io::Error::other("is a directory; name the files in it")),
            Self::File(path) => Box::new(File::open(path)?),
        };
        decompressed(Counted { inner: raw, taken })
    }
}

/// By the first bytes, not by the name: `curl … | tributary send -` has no name.
fn decompressed(raw: Counted) -> io::Result<Box<dyn BufRead + Send>> {
    let mut raw = BufReader::with_capacity(BUFFER, raw);
    let magic = first_bytes(&mut raw)?;
    let rest = io::Cursor::new(magic.clone()).chain(raw);
    Ok(if magic.starts_with(GZIP) {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(rest)))
    } else if magic.starts_with(ZSTD) {
        Box::new(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::with_buffer(rest)?))
    } else {
        Box::new(rest)
    })
}

/// A pipe may give its bytes one by one, so looking into the buffer is not enough.
fn first_bytes(raw: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(ZSTD.len());
    raw.take(ZSTD.len() as u64).read_to_end(&mut magic)?;
    Ok(magic)
}

struct Counted {
    inner: Box<dyn Read + Send>,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("input");
        std::fs::write(&path, bytes)?;
        let taken = Arc::new(AtomicU64::new(0));
        let mut all = Vec::new();
        Input::File(path).open(Arc::clone(&taken))?.read_to_end(&mut all)?;
        assert_eq!(taken.load(Ordering::Relaxed), bytes.len() as u64, "every byte on the disk is counted");
        Ok(all)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compression_is_recognised_by_content() {
        for text in [&b""[..], b"{", b"{}\n{}\n"] {
            assert_eq!(read(text).unwrap(), text);
            assert_eq!(read(&gzip(text)).unwrap(), text);
            assert_eq!(read(&zstd::encode_all(text, 1).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn members_one_after_the_other_are_all_read() {
        let two = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(read(&two).unwrap(), b"one\ntwo\n");
        let two = [zstd::encode_all(&b"one\n"[..], 1).unwrap(), zstd::encode_all(&b"two\n"[..], 1).unwrap()].concat();
        assert_eq!(read(&two).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_file_cut_short_is_an_error_not_an_end() {
        let whole = gzip(&b"{\"a\":1}\n".repeat(1_000));
        assert!(read(&whole[..whole.len() - 9]).is_err());
    }

    #[test]
    fn a_changed_file_has_another_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        std::fs::write(&path, "{}\n").unwrap();
        let first = Input::File(path.clone()).fingerprint().unwrap();
        assert_eq!(Input::File(path.clone()).fingerprint().unwrap(), first);
        std::fs::write(&path, "{}\n{}\n").unwrap();
        assert_ne!(Input::File(path).fingerprint().unwrap(), first);
    }

    #[test]
    fn names_that_mean_one_record_per_line() {
        let named = |name: &str| Input::named(Path::new(name)).named_ndjson();
        assert!(named("a.ndjson") && named("a.JSONL") && named("a.ndjson.gz") && named("a.jsonl.zst"));
        assert!(!named("a.json") && !named("a.json.gz") && !named("-") && !named("ndjson"));
    }
}
