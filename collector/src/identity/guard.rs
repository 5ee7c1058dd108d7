//! The guard: a checksum of the bytes before an offset, kept together with the offset.
//!
//! A file that was truncated and written anew past the offset differs in these bytes, a file that
//! is shorter than the offset has not got them. It is stored in the checkpoint, so its value must
//! be the same in every version. It is a means to doubt: a file that matches may still be another.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many bytes before an offset a guard covers at most. Lines of one message often differ in their time alone, which
/// stands at their beginning: it reaches back over more than most lines. A state of a former version has guards of 64.
pub const GUARD_BYTES: usize = u8::MAX as usize;

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
            Ok(len) if len > 0 => Self { checksum: bits as u32, len },
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

    /// The file's `from..to`; nothing if not all of it is at hand.
    pub fn range(self, from: u64, to: u64) -> &'a [u8] {
        let at = |offset: u64| usize::try_from(offset.checked_sub(self.from)?).ok();
        let range = at(from).zip(at(to)).and_then(|(from, to)| self.bytes.get(from..to));
        range.unwrap_or_default()
    }

    /// The guard of an offset in them.
    pub fn guard(self, offset: u64) -> Guard {
        let length = offset.checked_sub(self.from).and_then(|length| usize::try_from(length).ok());
        length.and_then(|length| self.bytes.get(..length)).map_or(Guard::NONE, Guard::of)
    }
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
    use super::*;

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
        for damaged in [256 << 32 | 1, u64::MAX, 1 << 40, 0xffff_ffff] {
            assert_eq!(Guard::from_bits(damaged), Guard::NONE);
        }
    }
}
