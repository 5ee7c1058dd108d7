//! A file's bytes at an offset, compressed or not.
//!
//! A plain file is read in place. A gzip file (kubelet's and logrotate's) is unpacked as it is read
//! (`unpack`), into temporary files of bounded size: offsets are those of its uncompressed bytes, memory and
//! disk stay bounded, and nothing is left behind by a crash.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use super::{
    permits::{self, Permit},
    piece::Piece,
    unpack::{Unpacked, Unpacking},
};
use crate::{
    descriptors::{self, Waiting},
    identity::{self, Identity, InodeKey, beneath, sys},
};

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
    /// How it is unpacked, if it is compressed.
    unpack: Option<Box<Unpacking>>,
    missing_since: OnceLock<Instant>,
    _waiting: Waiting,
}

impl Content {
    /// A gzip file, unpacked when it is read.
    pub fn gzip(file: File, how: Unpacking, permit: Permit) -> Self {
        Self::Gzip(Arc::new(Mutex::new(Unpacked::new(file, how, permit))))
    }

    /// Reads at an offset of the uncompressed bytes.
    ///
    /// # Errors
    /// As `pread(2)`; for gzip also those of the temporary file (the state directory is full), and
    /// `ResourceBusy`: there is no room to unpack it now.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Piece> {
        match self {
            Self::Plain(file) => read_plain(file, buffer, offset),
            Self::Gzip(unpacked) => {
                unpacked.lock().unwrap_or_else(PoisonError::into_inner).read_at(buffer, offset)
            }
            Self::Closed(_) => Err(io::Error::other("it is not open")),
        }
    }

    /// The same, not held open any more. It is opened again where it lies then.
    #[must_use]
    pub fn to_closed(&self, key: InodeKey) -> Self {
        match self {
            Self::Plain(_) => Self::closed(key),
            Self::Gzip(unpacked) => {
                let how = unpacked.lock().unwrap_or_else(PoisonError::into_inner).how().clone();
                Self::closed_gzip(key, how)
            }
            Self::Closed(_) => self.clone(),
        }
    }

    /// A plain file that is not open, or no more.
    pub fn closed(key: InodeKey) -> Self {
        Self::Closed(Closed::new(key, None))
    }

    /// A compressed file that is not open yet; the rest as for [`Content::gzip`].
    pub fn closed_gzip(key: InodeKey, how: Unpacking) -> Self {
        Self::Closed(Closed::new(key, Some(Box::new(how))))
    }

    /// Its reader waits for a sink: what is unpacked of it may be needed elsewhere.
    pub fn wait(&self) {
        if let Self::Gzip(unpacked) = self {
            unpacked.lock().unwrap_or_else(PoisonError::into_inner).wait();
        }
    }

    /// Nobody reads it now: what is unpacked of it is given back.
    pub fn rest(&self) {
        if let Self::Gzip(unpacked) = self {
            unpacked.lock().unwrap_or_else(PoisonError::into_inner).give_back();
        }
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

    /// The file that is held open, compressed or not.
    pub fn held(&self) -> Option<Arc<File>> {
        match self {
            Self::Plain(file) => Some(Arc::clone(file)),
            Self::Gzip(unpacked) => {
                Some(unpacked.lock().unwrap_or_else(PoisonError::into_inner).file())
            }
            Self::Closed(_) => None,
        }
    }

    /// Why a gzip file could not be read to its end, once it could not.
    pub fn damage(&self) -> Option<String> {
        let Self::Gzip(unpacked) = self else { return None };
        unpacked.lock().unwrap_or_else(PoisonError::into_inner).damage()
    }
}

impl Closed {
    fn new(key: InodeKey, unpack: Option<Box<Unpacking>>) -> Arc<Self> {
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
        let Some(how) = &self.unpack else {
            return Ok(Content::Plain(Arc::new(file)));
        };
        let permit = permits::permit(Arc::clone(&how.tenant), &file);
        let permit = permit.ok_or(rustix::io::Errno::MFILE)?;
        Ok(Content::gzip(file, how.as_ref().clone(), permit))
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

/// Compresses for the tests of other modules.
#[cfg(test)]
pub fn gzip_bytes(bytes: &[u8]) -> Vec<u8> {
    use io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
