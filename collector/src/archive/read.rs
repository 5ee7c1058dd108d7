//! Read: the frames of an archive's segments, also while they are being written.
//!
//! Walks headers; payloads are read separately ([`Frame::payload`]), by whoever wants them and on
//! whatever thread. Takes no lock: the writer only appends whole frames or cuts off uncommitted
//! ones, and a frame whose end is not there yet (or never will be) is where reading stops. Damage
//! is passed over to the next header that stands where it says it stands.
//!
//! Decompresses nothing and decides nothing about what is interesting; see `search`.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::segment::{self, Header, MAGIC, Parsed};

/// Bytes read at a time while looking for headers, after a large payload and after a small one.
const WINDOW_SPARSE: usize = 4 << 10;
const WINDOW_DENSE: usize = 128 << 10;

/// One of an archive's files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Ascends by one from segment to segment; gaps are where segments were removed.
    pub sequence: u64,
    /// Where it lies.
    pub path: PathBuf,
}

/// The segments in `dir`, oldest first.
pub fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(sequence) = name.to_str().and_then(segment::sequence_of) {
            found.push(Segment { sequence, path: entry.path() });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A frame whose end is there.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What it covers.
    pub header: Header,
    /// Where its payload begins.
    pub payload_at: u64,
    file: Arc<File>,
}

impl Frame {
    /// Where the next frame begins.
    pub fn end(&self) -> u64 {
        self.payload_at + self.header.payload_len as u64
    }

    /// Reads the payload, compressed, into `into`. False: it is not what the header was written
    /// for, and nothing of it can be believed.
    pub fn payload(&self, into: &mut Vec<u8>) -> io::Result<bool> {
        into.resize(self.header.payload_len, 0);
        match self.file.read_exact_at(into, self.payload_at) {
            Ok(()) => Ok(self.header.fits(into)),
            // The writer cut the frame off again: it was not committed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What stands next in a segment.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Frame),
    /// This many bytes that are no frame, before one that is.
    Damaged(u64),
}

/// Walks one segment's frames.
#[derive(Debug)]
pub struct Frames {
    file: Arc<File>,
    /// Where the next header is looked for.
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    window_size: usize,
}

impl Frames {
    /// From the beginning of the segment at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = Arc::new(File::open(path)?);
        Ok(Self { file, at: 0, window: Vec::new(), window_at: 0, window_size: WINDOW_DENSE })
    }

    /// From a frame on that is known to begin at `at`.
    pub fn at(file: Arc<File>, at: u64) -> Self {
        Self { file, at, window: Vec::new(), window_at: 0, window_size: WINDOW_SPARSE }
    }

    /// The segment.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Where the next header is looked for: the end of the last good frame.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next frame. `None`: the end, as far as the segment is written; asking again later may
    /// give more.
    pub fn advance(&mut self) -> io::Result<Option<Next>> {
        // Never trust what was read before: the file may have grown, or been cut and grown again.
        let length = self.file.metadata()?.len();
        if length < self.at {
            return self.after_cut(length);
        }
        if let Some((header, header_len)) = self.header(self.at, length)? {
            let frame = self.frame(self.at, header, header_len);
            if frame.end() > length {
                return Ok(None);
            }
            self.at = frame.end();
            self.window_size = match frame.header.payload_len > WINDOW_DENSE / 4 {
                true => WINDOW_SPARSE,
                false => WINDOW_DENSE,
            };
            return Ok(Some(Next::Frame(frame)));
        }
        let Some(next) = self.resync(self.at + 1, length)? else { return Ok(None) };
        let damaged = next - self.at;
        self.at = next;
        Ok(Some(Next::Damaged(damaged)))
    }

    fn frame(&self, at: u64, header: Header, header_len: usize) -> Frame {
        Frame { header, payload_at: at + header_len as u64, file: Arc::clone(&self.file) }
    }

    /// The writer restarted and cut off frames that were not committed: go on at its new end. (If
    /// it has grown beyond our place again meanwhile, `resync` finds the next frame.)
    fn after_cut(&mut self, length: u64) -> io::Result<Option<Next>> {
        self.at = length;
        self.window.clear();
        Ok(None)
    }

    fn header(&mut self, at: u64, length: u64) -> io::Result<Option<(Header, usize)>> {
        let mut needed = 8;
        loop {
            match Header::parse(self.bytes(at, needed, length)?, at) {
                Parsed::Header(header, header_len) => return Ok(Some((header, header_len))),
                Parsed::Incomplete(more) if at + more as u64 <= length && more > needed => {
                    needed = more;
                }
                Parsed::Incomplete(_) | Parsed::Invalid => return Ok(None),
            }
        }
    }

    /// The first place from `from` on where a complete frame stands.
    fn resync(&mut self, from: u64, length: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        while at < length {
            let bytes = self.bytes(at, MAGIC.len(), length)?;
            let Some(found) = memchr::memmem::find(bytes, &MAGIC) else {
                // The magic may straddle the window's end.
                at += (bytes.len().saturating_sub(MAGIC.len() - 1)).max(1) as u64;
                continue;
            };
            let candidate = at + found as u64;
            if let Some((header, header_len)) = self.header(candidate, length)?
                && self.frame(candidate, header, header_len).end() <= length
            {
                return Ok(Some(candidate));
            }
            at = candidate + 1;
        }
        Ok(None)
    }

    /// At least `needed` bytes at `at`, fewer only if the file ends before.
    fn bytes(&mut self, at: u64, needed: usize, length: u64) -> io::Result<&[u8]> {
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || (at + needed as u64).min(length) > window_end {
            let left = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX);
            self.window.resize(needed.max(self.window_size).min(left), 0);
            self.window_at = at;
            let filled = read_up_to(&self.file, &mut self.window, at)?;
            self.window.truncate(filled);
        }
        let start = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.get(start..).unwrap_or_default())
    }
}

fn read_up_to(file: &File, mut into: &mut [u8], mut at: u64) -> io::Result<usize> {
    let wanted = into.len();
    while !into.is_empty() {
        match file.read_at(into, at) {
            Ok(0) => break,
            Ok(count) => {
                into = &mut into[count..];
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - into.len())
}
