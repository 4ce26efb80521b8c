//! The bytes of a trace file: hashed as they lie on disk, unzipped when they are gzip or zstd, lines bounded.
//!
//! ```text
//! File -> Hashed -> (gzip, zstd by their magic bytes) -> BoundedLines -> format
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::zstd::{self, Frames};
use crate::error::TraceError;

/// No line is longer. Mooncake names a prompt's blocks one by one: a prompt of a million tokens in blocks of 16 is about
/// half of this.
pub(crate) const LONGEST_LINE: usize = 1 << 20;

/// No line of a file that may be one line is longer.
const LONGEST_DOCUMENT: usize = 1 << 30;

/// So much of a file is looked at to recognise its format, where its first line is shorter.
const HEAD: usize = 4096;

const BUFFER: usize = 1 << 16;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An opened file: its beginning for recognition, and all of it for reading.
pub(super) struct Input {
    pub(super) path: String,
    pub(super) head: Head,
    pub(super) bytes: Bytes,
    pub(super) hash: Arc<Mutex<Sha256>>,
}

/// What a file begins with.
pub(super) struct Head {
    /// The first line that is not blank, without its end; cut at the longest line.
    pub(super) first_line: Vec<u8>,
    /// The first bytes, [`HEAD`] of them where the file has so many.
    pub(super) start: Vec<u8>,
}

/// Decompressed bytes from the start of the file, in bounded lines.
pub(crate) type Bytes = BufReader<BoundedLines<Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>>>;

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| TraceError {
            path: name.clone(),
            row: None,
            problem: format!("cannot open the trace: {source}"),
            help: "check the path; a path in a scenario is relative to the scenario file".into(),
            source: Some(source),
        })?;
        let hash = Arc::new(Mutex::new(Sha256::new()));
        let mut raw = BufReader::with_capacity(BUFFER, Hashed { inner: file, hash: Arc::clone(&hash) });
        let magic = raw.fill_buf().map_err(|source| read_error(&name, None, source))?;
        let mut plain: Box<dyn Read + Send> = if magic.starts_with(&GZIP_MAGIC) {
            Box::new(MultiGzDecoder::new(raw))
        } else if magic.starts_with(&zstd::MAGIC) {
            Box::new(Frames::new(raw))
        } else {
            Box::new(raw)
        };
        let head = head(&mut plain).map_err(|source| read_error(&name, Some(1), source))?;
        let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
        let first_line = start.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
        let first_line = first_line.unwrap_or_default().trim_ascii().to_vec();
        // A byte-order mark is no content.
        let bytes = Cursor::new(start.to_vec()).chain(plain);
        let bytes = BoundedLines { inner: bytes, line_length: 0, longest: LONGEST_LINE };
        let bytes = BufReader::with_capacity(BUFFER, bytes);
        let start = start[..start.len().min(HEAD)].to_vec();
        Ok(Self { path: name, head: Head { first_line, start }, bytes, hash })
    }

    /// The whole file may be one line.
    pub(super) fn allow_long_lines(&mut self) {
        self.bytes.get_mut().longest = LONGEST_DOCUMENT;
    }

    /// Whether the first line is longer than a line may be.
    pub(super) fn begins_with_long_line(&self) -> bool {
        self.head.first_line.len() > LONGEST_LINE
    }

    /// Says so.
    pub(super) fn long_line(&self) -> TraceError {
        read_error(&self.path, Some(1), io::Error::new(io::ErrorKind::InvalidData, LineTooLong))
    }
}

/// Enough of the file to hold its first line and to know it by.
fn head(plain: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut block = [0; 4096];
    while head.len() <= LONGEST_LINE {
        let count = match plain.read(&mut block) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&block[..count]);
        let content = head.trim_ascii_start();
        if count == 0 || (head.len() >= HEAD && content.contains(&b'\n')) {
            break;
        }
    }
    Ok(head)
}

/// Says what went wrong while reading, and what to do.
pub(crate) fn read_error(path: &str, row: Option<u64>, source: io::Error) -> TraceError {
    let (problem, help) = if source.get_ref().is_some_and(|inner| inner.is::<LineTooLong>()) {
        (
            format!("the line is longer than {LONGEST_LINE} bytes"),
            "the file is damaged or is no trace with one request a line; look at it with `head -c 300`",
        )
    } else if source.get_ref().is_some_and(|inner| inner.is::<zstd::Damaged>()) {
        (
            format!("the zstd data is damaged or cut off: {source}"),
            "fetch the file again (`zstd -t` tests it)",
        )
    } else if source.kind() == io::ErrorKind::UnexpectedEof {
        (
            "the gzip file ends too early".to_owned(),
            "it was cut off on its way: fetch it again (`gzip -t` tests it)",
        )
    } else if matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) {
        (format!("the gzip data is damaged: {source}"), "fetch the file again (`gzip -t` tests it)")
    } else {
        (format!("cannot read on: {source}"), "check the file and the disk it lies on")
    };
    TraceError { path: path.to_owned(), row, problem, help: help.into(), source: Some(source) }
}

/// Bytes for a message: readable, short.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let clean: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().count() > LONGEST { format!("{clean}...") } else { clean }
}

struct Hashed<R> {
    inner: R,
    hash: Arc<Mutex<Sha256>>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..count]);
        Ok(count)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("line too long")]
struct LineTooLong;

/// Refuses a line longer than [`LONGEST_LINE`] before anything collects it.
pub(crate) struct BoundedLines<R> {
    inner: R,
    line_length: usize,
    longest: usize,
}

impl<R: Read> Read for BoundedLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = &buffer[..count];
        // Only whole blocks without a line end can make a line too long: a block is shorter than the bound.
        match read.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => self.line_length = count - last - 1,
            None => self.line_length += count,
        }
        if self.line_length > self.longest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, LineTooLong));
        }
        Ok(count)
    }
}
