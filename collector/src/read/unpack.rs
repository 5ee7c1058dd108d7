//! A compressed file's bytes at an offset that moves forward.
//!
//! Its uncompressed bytes are kept in a piece of bounded size, in an unlinked temporary file in the state
//! directory: the last ones before what was unpacked furthest, which is where a reader is. Whoever wants earlier
//! ones has the file unpacked again, in a piece of his own; so sinks that are far apart hold up each other as
//! little as in plain files, and a file takes the same room whatever it unpacks to.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use flate2::read::MultiGzDecoder;

use super::{
    gzip::{self, ReadAt},
    permits::Permit,
    piece::Piece,
    room::{self, Room},
};
use crate::{identity::guard::GUARD_BYTES, source::Source};

/// Unpacked at most per call beyond what was asked for, so that one archive cannot hold a reader.
const STEP: usize = 1 << 20;
/// So many compressed bytes are read at most per call beyond the length of what was asked for: they may unpack to
/// nothing.
const INPUT: usize = 64 << 10;
/// Unpacked at once.
const UNIT: usize = 64 << 10;
/// Room for a piece; more where a reader reads more at once (a line that is longer).
const ROOM: u64 = 1 << 20;
/// Pieces of one file: sinks that are far apart.
const PIECES: usize = 4;
/// First bytes that are kept beside the pieces: a reader that enters a file looks at them.
const HEAD: usize = 64;
/// So are a few short reads: a guard is compared while the reader is elsewhere.
const SHORT: usize = 8;

/// How files are unpacked, and for whom.
#[derive(Debug, Clone)]
pub struct Unpacking {
    /// Takes the temporary files.
    pub state_dir: Arc<Path>,
    /// What one file may unpack to, bytes.
    pub limit: u64,
    /// Whose file it is.
    pub tenant: Arc<str>,
}

/// A gzip file and what has been unpacked of it.
#[derive(Debug)]
pub struct Unpacked {
    file: Arc<File>,
    how: Unpacking,
    head: Vec<u8>,
    /// The latest last. What is in a compressed file does not change.
    short: VecDeque<(u64, Box<[u8]>)>,
    pieces: Vec<Unpacker>,
    /// Its length, and what was wrong with it there.
    end: Option<(u64, Option<String>)>,
    _permit: Permit,
}

/// Unpacks from the beginning on.
#[derive(Debug)]
struct Unpacker {
    decoder: MultiGzDecoder<ReadAt<Arc<File>>>,
    room: Room,
    /// Bytes unpacked so far.
    done: u64,
    /// Where the reader is that it was begun for, until it has come there.
    on_its_way_to: Option<u64>,
}

/// There is no room for it now.
fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "there is no room to unpack it now")
}

/// Whether an error of [`super::content::Content::read_at`] says that there is no room now.
pub fn is_no_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

/// It is not unpacked so far yet; the next read goes on.
pub(super) fn not_yet() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "it is not unpacked up to there yet")
}

/// Whether an error says that.
pub fn is_not_yet(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Unpacking {
    /// How a source's files are unpacked.
    pub fn of(source: &Source, state_dir: &Arc<Path>, limit: u64) -> Self {
        Self { state_dir: Arc::clone(state_dir), limit, tenant: source.tenant() }
    }
}

impl Unpacked {
    pub(super) fn new(file: File, how: Unpacking, permit: Permit) -> Self {
        let (file, head, short) = (Arc::new(file), Vec::new(), VecDeque::new());
        Self { file, how, head, short, pieces: Vec::new(), end: None, _permit: permit }
    }

    /// Why it could not be read to its end, once it could not.
    pub(super) fn damage(&self) -> Option<String> {
        self.end.as_ref().and_then(|(_, damage)| damage.clone())
    }

    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<Piece> {
        let from_head = self.head.get(usize::try_from(offset).unwrap_or(usize::MAX)..);
        if let Some(head) = from_head.filter(|head| head.len() >= buffer.len()) {
            buffer.copy_from_slice(&head[..buffer.len()]);
            return Ok(Piece { bytes: buffer.len(), at_end: false });
        }
        let is_it = |read: &&(u64, Box<[u8]>)| read.0 == offset && read.1.len() == buffer.len();
        if let Some((_, bytes)) = self.short.iter().find(is_it) {
            buffer.copy_from_slice(bytes);
            let end = offset + buffer.len() as u64;
            let at_end = self.end.as_ref().is_some_and(|(length, _)| end >= *length);
            return Ok(Piece { bytes: buffer.len(), at_end });
        }
        if let Some((length, _)) = self.end
            && offset >= length
        {
            return Ok(Piece { bytes: 0, at_end: true });
        }
        let wanted = offset + buffer.len() as u64;
        let room = ROOM.max((buffer.len() + 2 * UNIT).next_power_of_two() as u64);
        let at = self.piece_for(offset, room)?;
        let mut budget = STEP + buffer.len();
        self.pieces[at].decoder.get_mut().allow((INPUT + buffer.len()) as u64);
        while self.pieces[at].done < wanted && budget > 0 && !self.is_at_end(at) {
            match self.unpack(at)? {
                Some(bytes) => budget = budget.saturating_sub(bytes),
                None => break,
            }
        }
        let done = self.pieces[at].done;
        let bytes = usize::try_from(done.min(wanted).saturating_sub(offset)).unwrap_or(0);
        self.pieces[at].read(&mut buffer[..bytes], offset)?;
        let at_end = self.is_at_end(at) && offset + bytes as u64 >= done;
        self.pieces[at].room.set_done(at_end);
        if bytes == buffer.len() && bytes <= GUARD_BYTES && bytes > 0 {
            if self.short.len() >= SHORT {
                self.short.pop_front();
            }
            self.short.push_back((offset, buffer[..bytes].into()));
        }
        Ok(Piece { bytes, at_end })
    }

    pub(super) fn how(&self) -> &Unpacking {
        &self.how
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Nobody reads it now: its rooms and their descriptors are others'. Whoever comes back unpacks again.
    pub(super) fn give_back(&mut self) {
        self.pieces.clear();
    }

    /// A reader of it waits for a sink: its rooms may be taken away soon.
    pub(super) fn wait(&self) {
        self.pieces.iter().for_each(|piece| piece.room.wait());
    }

    fn is_at_end(&self, at: usize) -> bool {
        self.end.as_ref().is_some_and(|(length, _)| self.pieces[at].done >= *length)
    }

    /// The piece that an offset is read from.
    fn piece_for(&mut self, offset: u64, room: u64) -> io::Result<usize> {
        self.pieces.retain(|piece| piece.room.is_there());
        let holds = |piece: &&Unpacker| {
            piece.room.bytes() >= room && piece.begin() <= offset && offset <= piece.done
        };
        if let Some(at) = self.pieces.iter().position(|piece| holds(&piece)) {
            self.pieces[at].on_its_way_to = None;
            return Ok(at);
        }
        // One that another reader took beyond the offset meanwhile holds it no more.
        let was_begun_for = |piece: &Unpacker| {
            piece.on_its_way_to == Some(offset)
                && piece.done <= offset
                && piece.room.bytes() >= room
        };
        if let Some(at) = self.pieces.iter().position(was_begun_for) {
            return Ok(at);
        }
        if let Some(at) = self.pieces.iter().position(|piece| piece.is_lost(offset, room)) {
            // Its reader wants more at once, or goes on from where it was taken away.
            drop(self.pieces.swap_remove(at));
        }
        if self.pieces.len() >= PIECES
            && let Some(at) = self.pieces.iter().position(|piece| piece.room.can_go())
        {
            drop(self.pieces.swap_remove(at));
        }
        if self.pieces.len() < PIECES
            && let Some(room) = room::take(&self.how.tenant, room, &self.how.state_dir)?
        {
            let decoder = MultiGzDecoder::new(ReadAt::new(Arc::clone(&self.file)));
            self.pieces.push(Unpacker { decoder, room, done: 0, on_its_way_to: Some(offset) });
            return Ok(self.pieces.len() - 1);
        }
        // One that is before it goes on from there. None is begun anew that another reader is at: they would
        // take it from each other for ever. Whoever is behind waits until the other one is through.
        let fits = |piece: &Unpacker| piece.done <= offset && piece.room.bytes() >= room;
        let before = self.pieces.iter().enumerate().filter(|(_, piece)| fits(piece));
        let at = before.max_by_key(|(_, piece)| piece.done).map(|(at, _)| at);
        at.ok_or_else(no_room)
    }

    /// One unit more; None: enough was read of the file. After an error the piece is begun anew: its decoder may have gone on, and what it gave out
    /// would be missing.
    fn unpack(&mut self, at: usize) -> io::Result<Option<usize>> {
        let unpacked = self.unpack_unit(at);
        if unpacked.is_err() {
            drop(self.pieces.swap_remove(at));
        }
        unpacked
    }

    fn unpack_unit(&mut self, at: usize) -> io::Result<Option<usize>> {
        let Self { how, head, pieces, end, .. } = self;
        let piece = &mut pieces[at];
        let mut unit = vec![0; UNIT];
        match piece.decoder.read(&mut unit) {
            Ok(0) => *end = Some((piece.done, None)),
            Ok(n) if piece.done + n as u64 > how.limit => {
                let limit = how.limit;
                let why =
                    format!("it unpacks to more than {limit} bytes (read.max_unpacked_bytes)");
                *end = Some((piece.done, Some(why)));
            }
            Ok(n) => {
                if head.len() < HEAD && piece.done == head.len() as u64 {
                    head.extend_from_slice(&unit[..n.min(HEAD - head.len())]);
                }
                piece.write(&unit[..n])?;
                return Ok(Some(n));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if gzip::is_enough(&error) => return Ok(None),
            Err(error) if is_damage(&error) => *end = Some((piece.done, Some(error.to_string()))),
            // The file could not be read; it may be whole all the same.
            Err(error) => return Err(error),
        }
        Ok(Some(1))
    }
}

/// Whether an error of a decoder is about what it was given, not about reading it.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

impl Unpacker {
    /// The first byte that is still there.
    fn begin(&self) -> u64 {
        self.done.saturating_sub(self.room.bytes())
    }

    /// Whether it is too small for who reads at this offset.
    fn is_lost(&self, offset: u64, room: u64) -> bool {
        self.room.bytes() < room && self.begin() <= offset && offset <= self.done
    }

    /// In the file, what is at an offset lies where the room begins again each time it is full.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let file = self.room.file().ok_or_else(no_room)?;
        while !bytes.is_empty() {
            let at = self.done % self.room.bytes();
            let fits =
                bytes.len().min(usize::try_from(self.room.bytes() - at).unwrap_or(usize::MAX));
            file.write_all_at(&bytes[..fits], at)?;
            self.done += fits as u64;
            bytes = &bytes[fits..];
        }
        Ok(())
    }

    fn read(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        // What was there has been written over.
        if offset < self.begin() {
            return Err(no_room());
        }
        let file = self.room.file().ok_or_else(no_room)?;
        while !buffer.is_empty() {
            let at = offset % self.room.bytes();
            let fits =
                buffer.len().min(usize::try_from(self.room.bytes() - at).unwrap_or(usize::MAX));
            let (now, rest) = buffer.split_at_mut(fits);
            file.read_exact_at(now, at)?;
            (buffer, offset) = (rest, offset + fits as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{content::gzip_bytes, permits::permit};

    fn packed(packed: &[u8], limit: u64) -> (tempfile::TempDir, Unpacked) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gz");
        std::fs::write(&path, packed).unwrap();
        let tenant = path.to_string_lossy().into();
        let how = Unpacking { state_dir: dir.path().into(), limit, tenant };
        let file = File::open(&path).unwrap();
        let permit = permit(Arc::clone(&how.tenant), &file).unwrap();
        (dir, Unpacked::new(file, how, permit))
    }

    fn unpack(bytes: &[u8], limit: u64) -> (Vec<u8>, Option<String>) {
        let (_dir, mut content) = packed(bytes, limit);
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

    /// Reads until it has everything that it wants, or all that there is.
    fn read(content: &mut Unpacked, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        loop {
            let piece = content.read_at(&mut buffer, offset).unwrap();
            if piece.bytes == length || piece.at_end {
                buffer.truncate(piece.bytes);
                return buffer;
            }
        }
    }

    fn on_disk(content: &Unpacked) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let files = content.pieces.iter().filter_map(|piece| piece.room.file());
        files.map(|file| file.metadata().unwrap().blocks() * 512).sum()
    }

    #[test]
    fn a_file_takes_the_same_room_whatever_it_unpacks_to() {
        let bytes: Vec<u8> = (0..10_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (_dir, mut content) = packed(&gzip_bytes(&bytes), u64::MAX);
        let mut at = 0;
        while at < bytes.len() {
            let piece = read(&mut content, at as u64, 100_000);
            assert!(piece == bytes[at..at + piece.len()], "{at}");
            at += piece.len();
            assert!(on_disk(&content) <= ROOM + (64 << 10), "{}", on_disk(&content));
        }
    }

    #[test]
    fn readers_that_are_far_apart_get_the_same_bytes_and_bounded_room() {
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (_dir, mut content) = packed(&gzip_bytes(&bytes), u64::MAX);
        for round in 0..8_usize {
            for reader in 0..PIECES {
                let at = reader * 1_900_000 + round * 100_000;
                assert!(read(&mut content, at as u64, 90_000) == bytes[at..at + 90_000], "{at}");
                // A guard behind it, and the file's beginning, take no piece of their own.
                assert!(read(&mut content, at as u64, 64) == bytes[at..at + 64]);
                assert_eq!(read(&mut content, 0, 3), bytes[..3]);
            }
        }
        assert!(content.pieces.len() <= PIECES);
        let lost = content.pieces.remove(0);
        drop(lost);
        assert!(read(&mut content, 11_000_000, 500_000) == bytes[11_000_000..11_500_000]);
    }

    /// However readers share pieces and take turns, none is ever given other bytes than the file's.
    #[test]
    fn readers_that_share_pieces_get_their_own_bytes_or_wait() {
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed_bytes = gzip_bytes(&bytes);
        for seed in 0..12_u64 {
            let (_dir, mut content) = packed(&packed_bytes, u64::MAX);
            let mut state = seed;
            let mut next = move |bound: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
                (state >> 33) as usize % bound
            };
            let mut readers: Vec<usize> = (0..PIECES + 3).map(|_| next(bytes.len())).collect();
            let mut buffer = vec![0; 100_000];
            for _ in 0..400 {
                let reader = next(readers.len());
                let at = readers[reader];
                match content.read_at(&mut buffer, at as u64) {
                    Ok(piece) => {
                        assert!(
                            buffer[..piece.bytes] == bytes[at..at + piece.bytes],
                            "{seed} {at}"
                        );
                        readers[reader] += piece.bytes;
                    }
                    Err(error) => assert!(is_no_room(&error), "{error}"),
                }
            }
        }
    }

    #[test]
    fn whoever_comes_back_takes_one_piece() {
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (_dir, mut content) = packed(&gzip_bytes(&bytes), u64::MAX);
        let mut buffer = vec![0; 100_000];
        let mut calls = 0;
        while content.read_at(&mut buffer, 9_000_000).unwrap().bytes < buffer.len() {
            assert_eq!(content.pieces.len(), 1);
            calls += 1;
        }
        assert!(calls > 4 && content.pieces.len() == 1 && buffer == bytes[9_000_000..9_100_000]);
    }

    #[test]
    fn what_could_not_be_written_is_unpacked_again() {
        let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (dir, mut content) = packed(&gzip_bytes(&bytes), u64::MAX);
        let mut at = 0;
        let mut buffer = vec![0; 200_000];
        while at < bytes.len() {
            let piece = read(&mut content, at as u64, 200_000);
            assert!(piece == bytes[at..at + piece.len()], "{at}");
            at += piece.len();
            // They can be read only; then they are as before.
            let full = File::open(dir.path().join("a.gz")).unwrap();
            let replace = |piece: &Unpacker| piece.room.replace_file(full.try_clone().unwrap());
            let before: Vec<_> = content.pieces.iter().map(replace).collect();
            let count = content.pieces.len();
            assert!(at == bytes.len() || content.read_at(&mut buffer, at as u64).is_err(), "{at}");
            if content.pieces.len() == count {
                for (piece, before) in content.pieces.iter().zip(before) {
                    piece.room.replace_file(before.unwrap().try_clone().unwrap());
                }
            } else {
                content.pieces.clear();
            }
        }
    }

    #[test]
    fn a_line_longer_than_a_piece_gets_a_larger_one() {
        let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (_dir, mut content) = packed(&gzip_bytes(&bytes), u64::MAX);
        for length in [200_000, 400_000, 1_000_000, 3_000_000] {
            assert!(
                read(&mut content, 1_000_000, length) == bytes[1_000_000..][..length],
                "{length}"
            );
        }
    }

    #[test]
    fn a_gzip_file_reads_as_its_uncompressed_bytes_at_any_offset() {
        let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
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
