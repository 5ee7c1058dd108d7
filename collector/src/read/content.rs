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
    sync::{Arc, Mutex, PoisonError},
};

use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;

/// Unpacked at most per call beyond what was asked for, so that one archive cannot hold a reader.
const STEP: usize = 1 << 20;

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum Content {
    /// The file itself.
    Plain(Arc<File>),
    /// A compressed former file, unpacked as far as it was read.
    Gzip(Arc<Mutex<Unpacked>>),
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
        }
    }

    /// The plain file, if it is one.
    pub fn plain(&self) -> Option<&Arc<File>> {
        match self {
            Self::Plain(file) => Some(file),
            Self::Gzip(_) => None,
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
