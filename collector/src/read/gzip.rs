//! What a gzip file says of the content that was packed into it, without keeping any of that.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    ops::Deref,
    os::unix::fs::FileExt,
    sync::Arc,
};

use flate2::{Crc, read::MultiGzDecoder};

use crate::identity::{checksum::Checksum, guard::GUARD_BYTES};

/// What every member of a gzip file that `gzip` writes begins with.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Header and trailer.
const LEAST: u64 = 18;

/// What stands in the trailer. Of a file that is still being written, or that has several members, it
/// is the checksum of nothing in particular, and equals nobody's. None: this is no gzip file.
pub fn trailer(file: &File, size: u64) -> Option<Checksum> {
    let (mut begin, mut end) = ([0; 3], [0; 8]);
    file.read_exact_at(&mut begin, 0).ok()?;
    file.read_exact_at(&mut end, size.checked_sub(8).filter(|_| size >= LEAST)?).ok()?;
    let number = |at: usize| u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]);
    (begin == MAGIC).then(|| Checksum { crc: number(0), length: number(4) })
}

/// Compressed bytes in which the first uncompressed ones must be.
const HEAD_INPUT: u64 = 32 << 10;

/// The first uncompressed bytes, at most `length`; fewer if it is damaged or unfinished there, or if so much
/// unpacks to nothing before.
pub fn head(file: &File, length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(length);
    let mut reader = ReadAt::new(file);
    reader.allow(HEAD_INPUT);
    // What could be unpacked before an error is in `head` all the same.
    let _damaged = MultiGzDecoder::new(reader).take(length as u64).read_to_end(&mut head);
    head
}

/// What unpacking all of a gzip file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Whether it could be unpacked to its end, and its checksums are right.
    pub whole: bool,
    /// Uncompressed length, bytes, as far as it could be unpacked.
    pub length: u64,
    /// Of these bytes.
    pub crc: u32,
    before: BTreeMap<u64, Box<[u8]>>,
}

impl Survey {
    /// The last bytes (at most [`GUARD_BYTES`]) before one of the offsets that were asked for.
    pub fn before(&self, offset: u64) -> Option<&[u8]> {
        self.before.get(&offset).map(|bytes| &**bytes)
    }
}

/// A gzip file that is being unpacked into nothing, a part at a time.
#[derive(Debug)]
pub struct Surveying {
    decoder: MultiGzDecoder<ReadAt<Arc<File>>>,
    /// What stands before these offsets is noted.
    asked: Vec<u64>,
    /// How many of them were passed.
    passed: usize,
    limit: u64,
    length: u64,
    crc: Crc,
    before: BTreeMap<u64, Box<[u8]>>,
    /// The last bytes of the piece before stand in front of the piece.
    buffer: Vec<u8>,
    kept: usize,
}

impl Surveying {
    /// Begins to unpack a file, `limit` bytes at most, to note what stands before `offsets`.
    pub fn new(file: Arc<File>, offsets: impl IntoIterator<Item = u64>, limit: u64) -> Self {
        let mut asked: Vec<u64> = offsets.into_iter().collect();
        asked.sort_unstable();
        asked.dedup();
        Self {
            decoder: MultiGzDecoder::new(ReadAt::new(file)),
            asked,
            passed: 0,
            limit,
            length: 0,
            crc: Crc::new(),
            before: BTreeMap::new(),
            buffer: vec![0; GUARD_BYTES + (64 << 10)],
            kept: 0,
        }
    }

    /// Whether it was asked about these offsets.
    pub fn was_asked(&self, offsets: impl IntoIterator<Item = u64>) -> bool {
        let mut wanted: Vec<u64> = offsets.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted == self.asked
    }

    /// Unpacks so many bytes more, of so many compressed ones at most. Some: it came to its end.
    pub fn go_on(&mut self, bytes: u64, packed: u64) -> Option<Survey> {
        let until = self.length.saturating_add(bytes);
        self.decoder.get_mut().allow(packed);
        let whole = loop {
            while let Some(offset) = self.asked.get(self.passed).filter(|at| **at <= self.length) {
                let end = GUARD_BYTES - (self.length - offset) as usize;
                self.before.insert(*offset, self.buffer[GUARD_BYTES - self.kept..end].into());
                self.passed += 1;
            }
            if self.length >= self.limit {
                break false;
            }
            if self.length >= until {
                return None;
            }
            let room = match self.asked.get(self.passed) {
                // So that a piece ends there.
                Some(next) => self.buffer.len().min(GUARD_BYTES + (next - self.length) as usize),
                None => self.buffer.len(),
            };
            match self.decoder.read(&mut self.buffer[GUARD_BYTES..room]) {
                Ok(0) => break true,
                Ok(n) => {
                    self.crc.update(&self.buffer[GUARD_BYTES..GUARD_BYTES + n]);
                    self.length += n as u64;
                    self.kept = (self.kept + n).min(GUARD_BYTES);
                    self.buffer.copy_within(n..n + GUARD_BYTES, 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_enough(&error) => return None,
                Err(_damaged) => break false,
            }
        };
        let (length, crc) = (self.length, self.crc.sum());
        let last = &self.buffer[GUARD_BYTES - self.kept..GUARD_BYTES];
        self.before.insert(length, last.into());
        Some(Survey { whole, length, crc, before: std::mem::take(&mut self.before) })
    }
}

/// All of it, in parts of any length, for tests.
#[cfg(test)]
pub fn survey(file: File, offsets: impl IntoIterator<Item = u64>, limit: u64) -> Survey {
    let mut surveying = Surveying::new(Arc::new(file), offsets, limit);
    (1..).find_map(|part| surveying.go_on(part * 10_000, part * 1_000)).unwrap()
}

/// Reads from its own position, leaving the descriptor's alone; no more than it is allowed at a time.
///
/// What a decoder takes in bounds what it costs. What it gives out does not: any number of empty members or
/// blocks unpack to nothing, and a decoder looks for the first byte behind all of them in one call.
#[derive(Debug)]
pub(super) struct ReadAt<F> {
    file: F,
    offset: u64,
    /// Bytes that may be read.
    allowed: u64,
}

/// Whether an error says that as much was read as is allowed. The decoder goes on from there in its next call.
pub(super) fn is_enough(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl<F> ReadAt<F> {
    /// Nothing may be read yet.
    pub(super) fn new(file: F) -> Self {
        Self { file, offset: 0, allowed: 0 }
    }

    /// So many bytes may be read from now on.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.allowed = bytes;
    }
}

impl<F: Deref<Target = File>> Read for ReadAt<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.allowed == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(usize::try_from(self.allowed).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += n as u64;
        self.allowed -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::checksum, read::content::gzip_bytes};

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        file
    }

    fn text() -> Vec<u8> {
        (0..60_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn the_trailer_has_the_checksum_of_the_content() {
        let (text, packed) = (text(), gzip_bytes(&text()));
        let sum = trailer(&file(&packed), packed.len() as u64).unwrap();
        assert!(sum.begins(&file(&text)).unwrap());
        assert_eq!(sum.length as usize, text.len());
        assert_eq!(trailer(&file(&text), text.len() as u64), None);
        assert_eq!(trailer(&file(b""), 0), None);
    }

    #[test]
    fn the_head_is_unpacked_without_the_rest() {
        assert_eq!(head(&file(&gzip_bytes(&vec![b'x'; 1 << 20])), 256), vec![b'x'; 256]);
    }

    #[test]
    fn a_survey_tells_length_checksum_and_what_stands_before_an_offset() {
        let text = text();
        let end = text.len() as u64;
        let offsets = [70_000, 1, 63, 64, 65, 65_536, end, end + 1, 70_001];
        let survey = survey(file(&gzip_bytes(&text)), offsets, u64::MAX);
        assert!(survey.whole);
        assert_eq!(survey.length, end);
        assert_eq!(Some(survey.crc), checksum::crc_of(&file(&text), end).unwrap());
        for offset in offsets.into_iter().filter(|offset| *offset <= end) {
            let at = offset as usize;
            let expected = &text[at.saturating_sub(GUARD_BYTES)..at];
            assert_eq!(survey.before(offset), Some(expected), "{offset}");
        }
        assert_eq!(survey.before(end + 1), None);
    }

    #[test]
    fn members_that_unpack_to_nothing_are_looked_through_a_part_at_a_time() {
        let text = b"what comes at last";
        // An empty block that is not the last one is five bytes.
        let blocks = [&gzip_bytes(b"")[..10], &[0, 0, 0, 0xff, 0xff].repeat(100_000)[..]].concat();
        for (empty, rest) in [
            (gzip_bytes(b"").repeat(20_000), gzip_bytes(text)),
            (blocks, gzip_bytes(text)[10..].to_vec()),
        ] {
            let packed = file(&[empty, rest].concat());
            assert_eq!(head(&packed, 256), b"", "it is not looked for behind all that");
            let length = packed.metadata().unwrap().len();
            let mut surveying = Surveying::new(Arc::new(packed), [], u64::MAX);
            let mut parts = 1;
            let survey = loop {
                let before = surveying.decoder.get_ref().offset;
                let done = surveying.go_on(u64::MAX, 10_000);
                assert!(surveying.decoder.get_ref().offset - before <= 10_000);
                match done {
                    Some(survey) => break survey,
                    None => parts += 1,
                }
            };
            assert!(parts >= length / 10_000, "{parts} parts of {length} bytes");
            assert!(survey.whole && survey.before(survey.length) == Some(&text[..]));
        }
    }

    #[test]
    fn what_is_still_being_written_is_not_whole_wherever_it_ends() {
        let packed = gzip_bytes(&text());
        for length in [0, 1, 9, 10, 18, packed.len() / 2, packed.len() - 8, packed.len() - 1] {
            let survey = survey(file(&packed[..length]), [0], u64::MAX);
            assert!(!survey.whole, "{length}");
        }
        assert!(!survey(file(&packed), [], 1_000).whole, "it is bounded");
        let two = [gzip_bytes(b"one"), gzip_bytes(b"two")].concat();
        let survey = survey(file(&two), [6], u64::MAX);
        assert_eq!((survey.whole, survey.before(6)), (true, Some(&b"onetwo"[..])));
    }
}
