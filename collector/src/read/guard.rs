//! The guard: a checksum of the bytes before an offset, kept together with the offset.
//!
//! A file that was truncated and written anew past the offset differs in these bytes, a file that
//! is shorter than the offset has not got them. It is stored in the checkpoint, so its value must
//! be the same in every version. It is a means to doubt: a file that matches may still be another.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{content::Content, unpack};

/// How many bytes before an offset a guard covers at most.
pub const GUARD_BYTES: usize = 64;

/// A checksum (CRC-32C) of up to [`GUARD_BYTES`] bytes before an offset, and of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guard {
    checksum: u32,
    len: u8,
}

impl Guard {
    /// Nothing is known of the bytes before the offset.
    pub const NONE: Self = Self { checksum: 0, len: 0 };

    /// The guard of the offset at which `before` ends.
    pub fn of(before: &[u8]) -> Self {
        let last = &before[before.len().saturating_sub(GUARD_BYTES)..];
        Self { checksum: crc32c::crc32c(last), len: last.len() as u8 }
    }

    /// The guard of a file at an offset, as far as its bytes can be read now.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    pub fn at(content: &Content, offset: u64) -> io::Result<Self> {
        let mut buffer = [0; GUARD_BYTES];
        let wanted = offset.min(GUARD_BYTES as u64) as usize;
        let bytes = read_before(content, offset, &mut buffer[..wanted])?;
        Ok(if bytes == wanted { Self::of(&buffer[..wanted]) } else { Self::NONE })
    }

    /// The guard of an offset behind a run of `zeros` NULs.
    pub fn behind_zeros(content: &Content, offset: u64, zeros: u64) -> Self {
        if zeros >= GUARD_BYTES as u64 {
            return Self::of(&[0; GUARD_BYTES]);
        }
        Self::at(content, offset).unwrap_or_default()
    }

    /// The guard of a plain file at an offset; it holds the bytes before it.
    ///
    /// # Errors
    /// As `pread(2)`.
    pub fn in_file(file: &File, offset: u64) -> io::Result<Self> {
        let mut buffer = [0; GUARD_BYTES];
        let before = &mut buffer[..offset.min(GUARD_BYTES as u64) as usize];
        file.read_exact_at(before, offset - before.len() as u64)?;
        Ok(Self::of(before))
    }

    /// How many bytes before the offset it covers; 0: nothing is known of them.
    pub fn length(self) -> usize {
        usize::from(self.len)
    }

    /// Whether nothing is known.
    pub fn is_none(&self) -> bool {
        self.len == 0
    }

    /// Whether `bytes`, which begin `length()` bytes before the offset, can be those it was taken of.
    pub fn matches(self, bytes: &[u8]) -> bool {
        self.len == 0
            || bytes
                .get(..self.length())
                .is_some_and(|bytes| crc32c::crc32c(bytes) == self.checksum)
    }

    /// Whether the file's bytes before `offset` can be those it was taken of.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    pub fn holds_in(self, content: &Content, offset: u64) -> io::Result<bool> {
        let mut buffer = [0; GUARD_BYTES];
        let wanted = &mut buffer[..self.length()];
        let bytes = read_before(content, offset, wanted)?;
        Ok(self.matches(&wanted[..bytes]))
    }

    /// Whether the plain file's bytes before `offset` can be those it was taken of.
    ///
    /// # Errors
    /// As `pread(2)`.
    pub fn holds_in_file(self, file: &File, offset: u64) -> io::Result<bool> {
        let mut buffer = [0; GUARD_BYTES];
        let wanted = &mut buffer[..self.length()];
        let start = offset.saturating_sub(wanted.len() as u64);
        match file.read_exact_at(wanted, start) {
            Ok(()) => Ok(self.matches(wanted)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As one number, for an atomic or the checkpoint.
    pub fn to_bits(self) -> u64 {
        u64::from(self.len) << 32 | u64::from(self.checksum)
    }

    /// Back from [`Guard::to_bits`]. What cannot have come from there knows nothing.
    pub fn from_bits(bits: u64) -> Self {
        match u8::try_from(bits >> 32) {
            Ok(len) if usize::from(len) <= GUARD_BYTES && len > 0 => {
                Self { checksum: bits as u32, len }
            }
            Ok(_) | Err(_) => Self::NONE,
        }
    }
}

/// Bytes of a file that are at hand, and where they begin.
#[derive(Debug, Clone, Copy)]
pub struct AtHand<'a> {
    bytes: &'a [u8],
    from: u64,
}

impl<'a> AtHand<'a> {
    /// Bytes that end at an offset.
    pub fn before(bytes: &'a [u8], end: u64) -> Self {
        Self { bytes, from: end - bytes.len() as u64 }
    }

    /// The guard of an offset in them.
    pub fn guard(self, offset: u64) -> Guard {
        let length = offset.checked_sub(self.from).and_then(|length| usize::try_from(length).ok());
        length.and_then(|length| self.bytes.get(..length)).map_or(Guard::NONE, Guard::of)
    }
}

/// Reads the bytes that end at `offset`; how many of them there are.
fn read_before(content: &Content, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let start = offset.saturating_sub(buffer.len() as u64);
    let mut filled = 0;
    while filled < buffer.len() {
        let piece = content.read_at(&mut buffer[filled..], start + filled as u64)?;
        filled += piece.bytes;
        if piece.at_end {
            break;
        }
        if piece.bytes == 0 {
            return Err(unpack::not_yet());
        }
    }
    Ok(filled)
}

impl Serialize for Guard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.to_bits())
    }
}

impl<'de> Deserialize<'de> for Guard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::read::{content::gzip_bytes, permits::permit, unpack::Unpacking};

    #[test]
    fn its_value_is_the_same_in_every_version() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(Guard::of(&[0; 32]).to_bits(), 32 << 32 | 0x8a91_36aa);
        assert_eq!(Guard::of(b"").to_bits(), 0);
        let long = [vec![b'a'; 100], vec![0; GUARD_BYTES]].concat();
        assert_eq!(Guard::of(&long), Guard::of(&[0; GUARD_BYTES]));
    }

    #[test]
    fn it_matches_the_bytes_it_was_taken_of_and_no_fewer() {
        let guard = Guard::of(b"one\n");
        assert!(guard.matches(b"one\n") && guard.matches(b"one\ntwo\n"));
        assert!(!guard.matches(b"one") && !guard.matches(b"eno\ntwo\n") && !guard.matches(b""));
        assert!(Guard::NONE.matches(b"") && Guard::NONE.matches(b"anything"));
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        for guard in [Guard::NONE, Guard::of(b"a"), Guard::of(&[7; 200])] {
            assert_eq!(Guard::from_bits(guard.to_bits()), guard);
            let json = serde_json::to_string(&guard).unwrap();
            assert_eq!(serde_json::from_str::<Guard>(&json).unwrap(), guard);
        }
        for damaged in [65 << 32 | 1, u64::MAX, 1 << 40, 0xffff_ffff] {
            assert_eq!(Guard::from_bits(damaged), Guard::NONE);
        }
    }

    /// What comes of it once it is unpacked as far as it has to be.
    fn in_the_end<T>(ask: impl Fn() -> io::Result<T>) -> T {
        loop {
            match ask() {
                Err(error) if unpack::is_not_yet(&error) => {}
                done => return done.unwrap(),
            }
        }
    }

    #[test]
    fn a_file_and_its_compressed_copy_have_the_same_guard() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(dir.path().join("a"), &text).unwrap();
        std::fs::write(dir.path().join("a.gz"), gzip_bytes(&text)).unwrap();
        let plain = Content::Plain(Arc::new(File::open(dir.path().join("a")).unwrap()));
        let packed = File::open(dir.path().join("a.gz")).unwrap();
        let tenant = dir.path().to_string_lossy().into();
        let how = Unpacking { state_dir: dir.path().into(), limit: u64::MAX, tenant };
        let permit = permit(Arc::clone(&how.tenant), &packed).unwrap();
        let packed = Content::gzip(packed, how, permit);
        let end = text.len() as u64;
        for offset in [1, 63, 64, 65, 4_096, end - 1, end] {
            let guard = Guard::of(&text[..offset as usize]);
            for content in [&plain, &packed] {
                assert_eq!(in_the_end(|| Guard::at(content, offset)), guard);
                assert!(in_the_end(|| guard.holds_in(content, offset)));
            }
        }
        let guard = Guard::of(&text);
        assert!(!guard.holds_in(&plain, end + 1).unwrap(), "the file is shorter");
        assert!(!in_the_end(|| guard.holds_in(&packed, end + 1)));
        assert!(!guard.holds_in(&plain, end - 1).unwrap(), "other bytes are there");
        assert!(Guard::at(&plain, end + 1).unwrap().is_none());
    }
}
