//! A file's bytes at an offset, compressed or not.
//!
//! A plain file is read in place. A gzip file (kubelet's and logrotate's) is unpacked, piece by
//! piece as it is read, into an unlinked temporary file in the state directory: offsets are those
//! of its uncompressed bytes, memory stays bounded, and nothing is left behind by a crash.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;

use super::{
    beneath,
    descriptors::{self, Waiting},
    identity::{self, Identity, InodeKey},
    sys,
};

/// Unpacked at most per call beyond what was asked for, so that one archive cannot hold a reader.
const STEP: usize = 1 << 20;

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum Content {
    /// The file itself.
    Plain(Arc<File>),
    /// A compressed former file, unpacked as far as it was read.
    Gzip(Arc<Mutex<Unpacked>>),
    /// Not open at the moment: there are more files than descriptors.
    Closed(Arc<Closed>),
}

/// A file that is known and not held open.
#[derive(Debug)]
pub struct Closed {
    key: InodeKey,
    /// Where it is unpacked, and how far at most, if it is compressed.
    unpack: Option<(Box<Path>, u64)>,
    missing_since: OnceLock<Instant>,
    _waiting: Waiting,
}

/// A gzip file and what has been unpacked of it.
#[derive(Debug)]
pub struct Unpacked {
    decoder: MultiGzDecoder<File>,
    spool: File,
    spooled: u64,
    limit: u64,
    state: Progress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Unpacking,
    Complete,
    Damaged(String),
}

/// What one read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes read.
    pub bytes: usize,
    /// False if more can be read now.
    pub at_end: bool,
}

impl Content {
    /// Prepares to unpack a gzip file. `state_dir` takes the temporary file; `limit` bounds it,
    /// bytes.
    ///
    /// # Errors
    /// The temporary file cannot be made.
    pub fn gzip(file: File, state_dir: &Path, limit: u64) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let spool = File::from(rustix::fs::open(state_dir, flags, 0o600.into())?);
        let decoder = MultiGzDecoder::new(file);
        let state = Progress::Unpacking;
        Ok(Self::Gzip(Arc::new(Mutex::new(Unpacked { decoder, spool, spooled: 0, limit, state }))))
    }

    /// Reads at an offset of the uncompressed bytes.
    ///
    /// # Errors
    /// As `pread(2)`; for gzip also those of the temporary file (the state directory is full).
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Piece> {
        match self {
            Self::Plain(file) => read_plain(file, buffer, offset),
            Self::Gzip(unpacked) => {
                unpacked.lock().unwrap_or_else(PoisonError::into_inner).read_at(buffer, offset)
            }
            Self::Closed(_) => Err(io::Error::other("it is not open")),
        }
    }

    /// A plain file that is not open, or no more.
    pub fn closed(key: InodeKey) -> Self {
        Self::Closed(Closed::new(key, None))
    }

    /// A compressed file that is not open yet; the rest as for [`Content::gzip`].
    pub fn closed_gzip(key: InodeKey, state_dir: &Path, limit: u64) -> Self {
        Self::Closed(Closed::new(key, Some((state_dir.into(), limit))))
    }

    /// Whether it is a compressed copy, which nobody writes to.
    pub fn is_compressed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Gzip(_) => true,
            Self::Closed(closed) => closed.unpack.is_some(),
        }
    }

    /// The plain file, if it is one that is open.
    pub fn plain(&self) -> Option<&Arc<File>> {
        match self {
            Self::Plain(file) => Some(file),
            Self::Gzip(_) | Self::Closed(_) => None,
        }
    }

    /// Why a gzip file could not be read to its end, once it could not.
    pub fn damage(&self) -> Option<String> {
        let Self::Gzip(unpacked) = self else { return None };
        match &unpacked.lock().unwrap_or_else(PoisonError::into_inner).state {
            Progress::Damaged(why) => Some(why.clone()),
            Progress::Unpacking | Progress::Complete => None,
        }
    }
}

impl Closed {
    fn new(key: InodeKey, unpack: Option<(Box<Path>, u64)>) -> Arc<Self> {
        let (missing_since, _waiting) = (OnceLock::new(), Waiting::new());
        Arc::new(Self { key, unpack, missing_since, _waiting })
    }

    /// Opens it where it lies now, or by its handle; what there is of it is its bytes again. A
    /// compressed one only where that finds room: it stays open to its end.
    ///
    /// # Errors
    /// As `open(2)`; `NotFound` where another file has its name; EMFILE where no room was found.
    pub fn open(&self, path: &Path, identity: &Identity) -> io::Result<Content> {
        let file = match identity::open(path) {
            Ok((file, look)) if look.key == self.key => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => self.open_by_handle(path, identity)?,
        };
        let Some((state_dir, limit)) = &self.unpack else {
            return Ok(Content::Plain(Arc::new(file)));
        };
        if !descriptors::admits(&file) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        Content::gzip(file, state_dir, *limit)
    }

    fn open_by_handle(&self, path: &Path, identity: &Identity) -> io::Result<File> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let handle = identity.handle.as_ref().ok_or_else(gone)?;
        let near = beneath::open_directory(path.parent().unwrap_or(path))?;
        let file = sys::open_by_handle(&near, handle)
            .map_err(|error| if descriptors::is_shortage(&error) { error } else { gone() })?;
        let look = identity::look(&file)?;
        if look.key == self.key { Ok(file) } else { Err(gone()) }
    }

    /// It was not where it should be; since when.
    pub fn missing_since(&self, now: Instant) -> Instant {
        *self.missing_since.get_or_init(|| now)
    }
}

fn read_plain(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Piece> {
    loop {
        match file.read_at(buffer, offset) {
            Ok(bytes) => return Ok(Piece { bytes, at_end: bytes < buffer.len() }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Unpacked {
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<Piece> {
        let wanted = offset + buffer.len() as u64;
        let mut budget = STEP + buffer.len();
        while self.spooled < wanted && self.state == Progress::Unpacking && budget > 0 {
            budget = budget.saturating_sub(self.unpack()?);
        }
        let Piece { bytes, .. } = read_plain(&self.spool, buffer, offset)?;
        let at_end = self.state != Progress::Unpacking && offset + bytes as u64 >= self.spooled;
        Ok(Piece { bytes, at_end })
    }

    fn unpack(&mut self) -> io::Result<usize> {
        let mut piece = vec![0; 64 << 10];
        match self.decoder.read(&mut piece) {
            Ok(0) => self.state = Progress::Complete,
            Ok(n) if self.spooled + n as u64 > self.limit => {
                self.state = Progress::Damaged(format!(
                    "it unpacks to more than {} bytes (read.max_unpacked_bytes)",
                    self.limit
                ));
            }
            Ok(n) => {
                self.spool.write_all_at(&piece[..n], self.spooled)?;
                self.spooled += n as u64;
                return Ok(n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.state = Progress::Damaged(error.to_string()),
        }
        Ok(1)
    }
}

/// Compresses for the tests of other modules.
#[cfg(test)]
pub fn gzip_bytes(bytes: &[u8]) -> Vec<u8> {
    use io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8], limit: u64) -> (Vec<u8>, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gz");
        std::fs::write(&path, packed).unwrap();
        let content = Content::gzip(File::open(&path).unwrap(), dir.path(), limit).unwrap();
        let mut all = Vec::new();
        let mut buffer = vec![0; 10_000];
        loop {
            let piece = content.read_at(&mut buffer, all.len() as u64).unwrap();
            all.extend_from_slice(&buffer[..piece.bytes]);
            if piece.at_end {
                return (all, content.damage());
            }
        }
    }

    #[test]
    fn a_gzip_file_reads_as_its_uncompressed_bytes_at_any_offset() {
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n as u16).to_le_bytes()).collect();
        assert_eq!(unpack(&gzip_bytes(&bytes), u64::MAX), (bytes, None));
    }

    #[test]
    fn a_truncated_gzip_file_yields_what_it_holds_and_says_so() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let packed = gzip_bytes(&bytes);
        let (got, damage) = unpack(&packed[..packed.len() / 2], u64::MAX);
        assert!(bytes.starts_with(&got) && !got.is_empty());
        assert!(damage.is_some());
    }

    #[test]
    fn a_bomb_is_bounded() {
        let (got, damage) = unpack(&gzip_bytes(&vec![0; 10 << 20]), 1 << 20);
        assert!(got.len() <= 1 << 20);
        assert!(damage.unwrap().contains("max_unpacked_bytes"));
    }
}
