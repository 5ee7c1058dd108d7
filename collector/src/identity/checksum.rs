//! Length and CRC-32 of a file's bytes, as a gzip file's trailer has them: what a finished file is
//! recognised by once it was compressed.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use flate2::Crc;

use super::holes;

/// A file that is shorter may have holes.
const HOLLOW: u64 = 64 << 20;
/// Bytes read at once.
const PIECE: usize = 128 << 10;

/// A content's CRC-32 and its length modulo 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// CRC-32.
    pub crc: u32,
    /// Length, bytes, modulo 2³².
    pub length: u32,
}

impl Checksum {
    /// That of bytes that are at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self { crc: crc32fast::hash(bytes), length: bytes.len() as u32 }
    }

    /// Whether a plain file begins with a content of this checksum: more may have been written to it
    /// since it was copied.
    ///
    /// # Errors
    /// As `pread(2)`.
    pub fn begins(self, file: &File) -> io::Result<bool> {
        let size = file.metadata()?.len();
        let length = if size as u32 == self.length { size } else { self.length.into() };
        if is_hollow(file)? {
            return Ok(false);
        }
        Ok(length <= size && crc_of(file, length)? == Some(self.crc))
    }
}

/// Whether a file has holes that are worth something to whoever has others read them. It is recognised by
/// less than its checksum then, or read again.
pub fn is_hollow(file: &File) -> io::Result<bool> {
    let about = file.metadata()?;
    // A filesystem that compresses needs few blocks too.
    let few = about.len() > HOLLOW && about.blocks() * 512 < about.len() / 2;
    Ok(few && holes::has_hole(file)?)
}

/// The CRC-32 of a plain file's first `length` bytes; None: it has not got as many.
///
/// # Errors
/// As `pread(2)`.
pub fn crc_of(file: &File, length: u64) -> io::Result<Option<u32>> {
    let mut crc = Crc::new();
    let mut piece = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
    let mut at = 0;
    while at < length {
        let wanted = piece.len().min(usize::try_from(length - at).unwrap_or(PIECE));
        match file.read_at(&mut piece[..wanted], at) {
            Ok(0) => return Ok(None),
            Ok(n) => {
                crc.update(&piece[..n]);
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(crc.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_holes_is_not_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("a")).unwrap();
        file.set_len(1 << 42).unwrap();
        let file = File::open(dir.path().join("a")).unwrap();
        let began = std::time::Instant::now();
        assert!(!Checksum { crc: 0, length: 0 }.begins(&file).unwrap());
        assert!(began.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_file_begins_with_what_was_copied_of_it_and_with_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(dir.path().join("a"), &text).unwrap();
        let file = File::open(dir.path().join("a")).unwrap();
        for length in [0, 1, 255, PIECE, PIECE + 1, text.len()] {
            let mut crc = Crc::new();
            crc.update(&text[..length]);
            let sum = Checksum { crc: crc.sum(), length: length as u32 };
            assert!(sum.begins(&file).unwrap(), "{length}");
            let other = Checksum { crc: sum.crc ^ 1, ..sum };
            assert!(!other.begins(&file).unwrap());
        }
        let length = text.len() as u32 + 1;
        assert!(!Checksum { crc: 0, length }.begins(&file).unwrap(), "it is not that long");
    }
}
