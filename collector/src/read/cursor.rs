//! One sink's place in one source: which file, which byte, and the decoder's state there.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use super::content::Content;
use crate::{
    batch::lane::{Advance, Lane, Outlet, RangeSlot},
    decode::Decoder,
    identity::{FileId, guard::Guard},
    ledger::FileAccount,
    reason::{ByReason, Reason},
};

/// One sink's place in one source. Sources are many and mostly quiet: it is kept small.
pub struct Cursor {
    /// The slot of the sink that it reads for.
    sink: u16,
    /// The file's place in the tail, counted from the tail's first file ever.
    pub index: u64,
    /// The next byte to read.
    pub offset: u64,
    /// The state machine at `offset`.
    pub decoder: Decoder,
    /// Records that end at or before this are settled already: they are decoded for the state only.
    pub replay_until: u64,
    /// True once `offset` belongs to the file at `index`.
    pub entered: bool,
    /// Waits for the sink's budget, and is in the reader's list of those that do.
    pub stalled: bool,
    /// The sink has parked the source: what is read now was in a batch before.
    pub again: bool,
    /// Of the bytes before `offset`, which are read again at every read.
    guard: Guard,
    covered: u64,
    slot: RangeSlot,
    /// Earlier files of the source that ended inside a message that is not complete yet.
    carried: Vec<Arc<FileAccount>>,
    /// Bytes that no record carries, since `covered`.
    given_up: ByReason,
}

impl Cursor {
    /// The cursor of the sink in slot `sink` before the tail's file number `index`.
    pub fn new(sink: u16, index: u64, decoder: Decoder) -> Self {
        Self {
            sink,
            index,
            offset: 0,
            decoder,
            replay_until: 0,
            entered: false,
            stalled: false,
            again: false,
            guard: Guard::NONE,
            covered: 0,
            slot: RangeSlot::default(),
            carried: Vec::new(),
            given_up: ByReason::default(),
        }
    }

    /// The slot of the sink that it belongs to.
    pub fn sink(&self) -> u16 {
        self.sink
    }

    /// Takes up a file where its account says that this sink stopped. False: the file does not hold
    /// what was read of it by then, so it was truncated. `content`: none where that is known already.
    ///
    /// # Errors
    /// The file cannot be read; nothing has changed.
    pub fn enter(&mut self, account: &FileAccount, content: Option<&Content>) -> io::Result<bool> {
        let place = account.sink(self.sink);
        let (from, covered, guard) = if place.entered.load(Ordering::Acquire) {
            // This run was here before and holds the state that belongs to what it read.
            let read = place.read.load(Ordering::Acquire);
            (read, read, place.read_guard())
        } else {
            let offset = place.offset();
            (offset.resume, offset.settled, offset.guard)
        };
        let (same, guard) = match content {
            Some(content) => guard_at(content, guard, from, covered)?,
            None => (true, Guard::NONE),
        };
        // Nothing but its beginning tells how a file is encoded that is read on.
        if let Some(content) = content.filter(|_| from > 0 && self.decoder.heeds_marks()) {
            let mut beginning = [0; Decoder::MARK];
            let piece = content.read_at(&mut beginning, 0)?;
            let _mark = self.decoder.begin_file(&beginning[..piece.bytes]);
        }
        place.entered.store(true, Ordering::Release);
        self.offset = from;
        self.replay_until = covered;
        self.covered = covered;
        self.guard = guard;
        self.entered = true;
        Ok(same)
    }

    /// Goes back to what is settled in the file at `index`. Of what is in batches beyond that, nothing
    /// will be settled.
    pub fn rewind(&mut self, index: u64) {
        (self.index, self.decoder) = (index, self.decoder.anew());
        (self.entered, self.again) = (false, true);
        self.slot = RangeSlot::default();
        self.carried = Vec::new();
        self.given_up = ByReason::default();
    }

    /// Decodes what follows by another decoder. False: it is in the middle of a message.
    pub fn decode_by(&mut self, decoder: Decoder) -> bool {
        let clean = self.decoder.resume().is_none() && !self.decoder.is_inside_line();
        if clean {
            // Entering the file again tells the decoder how it begins.
            (self.decoder, self.entered) = (decoder, false);
        }
        clean
    }

    /// Goes on to the next file of the source.
    pub fn leave(&mut self, account: &Arc<FileAccount>) {
        // A message that spans whole files holds those as well, not only the one it began in.
        if self.decoder.resume().is_some() {
            self.carried.push(Arc::clone(account));
        }
        self.index += 1;
        self.entered = false;
    }

    /// Goes on to the next place without having read at this one.
    pub fn pass(&mut self) {
        self.index += 1;
        self.entered = false;
    }

    /// How many bytes before `offset` are known.
    pub fn guard_len(&self) -> usize {
        self.guard.length()
    }

    /// Whether what was read, from `guard_len()` bytes before the offset on, still is the file that
    /// was read before.
    pub fn is_continued_by(&self, bytes: &[u8]) -> bool {
        self.guard.matches(bytes)
    }

    /// Moves on by `consumed` bytes of `input`, which begins with the guard.
    pub fn consume(&mut self, input: &[u8], consumed: usize) {
        let guard = Guard::of(&input[..self.guard_len() + consumed]);
        self.move_to(self.offset + consumed as u64, guard);
    }

    /// Forgets what its decoder holds. It must be set back before it reads on.
    pub fn let_alone(&mut self) {
        self.decoder = self.decoder.anew();
        self.entered = false;
    }

    /// Having entered a file, goes back to where the oldest unfinished message begins.
    pub fn set_back(&mut self, offset: u64) {
        self.replay_until = self.replay_until.max(self.covered);
        self.move_to(offset, Guard::NONE);
    }

    /// Reads what was covered of a file again, from an offset on, for the decoder's state only.
    pub fn read_again(&mut self, from: u64, until: u64) {
        (self.covered, self.replay_until) = (until, until);
        self.move_to(from, Guard::NONE);
    }

    /// The earlier files that hold its unfinished messages, from this one on.
    pub fn carried_since(&self, first: FileId) -> Option<&[Arc<FileAccount>]> {
        let at = self.carried.iter().position(|file| file.id == first)?;
        Some(&self.carried[at..])
    }

    /// What an earlier file holds of its unfinished messages, from an offset on, is gone. How much that is.
    pub fn lose_carried(
        &mut self,
        (outlet, lane): (&Outlet, &mut Lane),
        account: &Arc<FileAccount>,
        from: u64,
        reason: Reason,
    ) -> u64 {
        self.carried.retain(|file| !Arc::ptr_eq(file, account));
        let place = account.sink(self.sink);
        let (end, guard) = (place.read.load(Ordering::Acquire), place.read_guard());
        let lost = end.saturating_sub(from);
        let mut given_up = ByReason::default();
        given_up.add(reason, lost);
        let (bytes, lines, again) = (0, 0, self.again);
        let advance = Advance { end, resume: end, guard, bytes, given_up, lines, again };
        lane.cover(outlet, &mut RangeSlot::default(), account, advance);
        lost
    }

    /// Moves on to an offset whose guard this is.
    pub fn move_to(&mut self, offset: u64, guard: Guard) {
        (self.offset, self.guard) = (offset, guard);
    }

    /// Bytes that no record will carry; they are booked with what is covered next.
    pub fn give_up(&mut self, reason: Reason, bytes: u64) {
        self.given_up.add(reason, bytes);
    }

    /// NULs that no record will carry: those that were not counted before.
    pub fn skip(&mut self, start: u64, end: u64) {
        self.give_up(Reason::Hole, end.saturating_sub(start.max(self.covered)));
    }

    /// Tells the lane how far it now covers the file: up to `end` (whose guard this is), with `lines`
    /// more records.
    pub fn cover(
        &mut self,
        (outlet, lane): (&Outlet, &mut Lane),
        account: &Arc<FileAccount>,
        (end, guard): (u64, Guard),
        lines: u32,
    ) {
        if end < self.covered || (end == self.covered && lines == 0 && self.carried.is_empty()) {
            return;
        }
        self.advance((outlet, lane), account, (end, guard), lines);
    }

    /// The file's life ends at `end`. Its entry is written even where no offset moves: it says that
    /// the life is over.
    pub fn end_life(
        &mut self,
        lane: (&Outlet, &mut Lane),
        account: &Arc<FileAccount>,
        (end, guard): (u64, Guard),
    ) {
        // What was read before has its guard: a cursor that is set back, or finds another life, has not.
        let (end, guard) = match end <= self.covered {
            true => (self.covered, account.sink(self.sink).read_guard()),
            false => (end, guard),
        };
        self.advance(lane, account, (end, guard), 0);
    }

    fn advance(
        &mut self,
        (outlet, lane): (&Outlet, &mut Lane),
        account: &Arc<FileAccount>,
        (end, guard): (u64, Guard),
        lines: u32,
    ) {
        let origin = self.decoder.resume();
        let resume = match origin {
            None => end,
            Some(origin) if origin.file == account.id => origin.offset.min(end),
            Some(_) => 0,
        };
        let bytes = end - self.covered;
        let given_up = std::mem::take(&mut self.given_up);
        let again = self.again;
        let advance = Advance { end, resume, guard, bytes, given_up, lines, again };
        lane.cover(outlet, &mut self.slot, account, advance);
        account.sink(self.sink).read_to(end, guard);
        self.covered = end;
        self.release_carried((outlet, lane), account);
    }

    /// Messages that began in earlier files and are complete now hold those files no longer.
    fn release_carried(
        &mut self,
        (outlet, lane): (&Outlet, &mut Lane),
        current: &Arc<FileAccount>,
    ) {
        let waiting = self.decoder.resume();
        let keep = match waiting {
            None => 0,
            // Everything from the oldest unfinished message on is still needed. It may have begun in the current file, which was
            // left before and has grown.
            Some(origin) => match self.carried.iter().position(|file| file.id == origin.file) {
                Some(at) => self.carried.len() - at,
                None if origin.file == current.id => 0,
                None => return,
            },
        };
        let done = self.carried.len() - keep;
        for file in self.carried.drain(..done) {
            let place = file.sink(self.sink);
            let (end, guard) = (place.read.load(Ordering::Acquire), place.read_guard());
            let mut slot = RangeSlot::default();
            let given_up = ByReason::default();
            let (bytes, lines, again) = (0, 0, self.again);
            let advance = Advance { end, resume: end, guard, bytes, given_up, lines, again };
            lane.cover(outlet, &mut slot, &file, advance);
        }
    }

    /// Bytes up to here are covered by batches.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// The guard of `offset`.
    pub fn guard(&self) -> Guard {
        self.guard
    }
}

/// Whether a file holds what was read of it up to `covered`, and the guard of `from`, where it is read
/// on. `guard` is `covered`'s. Where the two are one place, the next read compares it.
fn guard_at(content: &Content, guard: Guard, from: u64, covered: u64) -> io::Result<(bool, Guard)> {
    if covered == 0 || from == covered && !guard.is_none() {
        return Ok((true, guard));
    }
    let same = match content.plain() {
        // Nothing but the size can tell: a state of a version that kept no guards.
        Some(file) if guard.is_none() => file.metadata()?.len() >= covered,
        None if guard.is_none() => return Ok((true, Guard::NONE)),
        Some(_) | None => content.is_guarded_by(guard, covered)?,
    };
    let guard = if same { content.guard(from)? } else { Guard::NONE };
    Ok((same, guard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decode::Limits,
        identity::{self, Identity, guard::GUARD_BYTES},
        source::{Format, Source},
    };

    fn cursor(format: Format) -> Cursor {
        let limits = Limits { max_line_bytes: 1 << 20, long_lines: Default::default() };
        Cursor::new(0, 0, Decoder::new(format, limits))
    }

    #[test]
    fn a_quiet_source_costs_little() {
        assert!(size_of::<Cursor>() <= 128, "{}", size_of::<Cursor>());
    }

    #[test]
    fn a_file_is_continued_by_the_bytes_that_were_read_before() {
        let mut cursor = cursor(Format::Plain);
        assert!(cursor.is_continued_by(b""), "nothing was read yet");
        cursor.consume(b"one\ntwo", 4);
        assert_eq!((cursor.offset, cursor.guard_len()), (4, 4));
        assert!(cursor.is_continued_by(b"one\n") && cursor.is_continued_by(b"one\ntwo\n"));
        assert!(!cursor.is_continued_by(b"one") && !cursor.is_continued_by(b"eno\ntwo\n"));
        let long = [b"one\n".to_vec(), vec![b'x'; 2 * GUARD_BYTES]].concat();
        cursor.consume(&long, 2 * GUARD_BYTES);
        assert_eq!(cursor.guard_len(), GUARD_BYTES);
        assert!(cursor.is_continued_by(&[b'x'; GUARD_BYTES + 1]));
        assert!(!cursor.is_continued_by(&[b'x'; GUARD_BYTES - 1]));
    }

    /// A file that held `before`, of which `settled` bytes are settled (and `resume` is where to begin
    /// again), holds `now`: whether a cursor that enters it takes it for the same.
    fn enters(before: &[u8], settled: u64, resume: u64, guarded: bool, now: &[u8]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, now).unwrap();
        let (file, look) = identity::open(&path).unwrap();
        let source = Arc::new(Source::anonymous(path.clone(), Format::Plain));
        let identity = Identity { key: look.key, handle: None };
        let account = FileAccount::new(identity, 0, source, &path, 1);
        let guard = if guarded { Guard::of(&before[..settled as usize]) } else { Guard::NONE };
        account.sink(0).settle(settled, resume, guard);
        let content = Content::Plain(Arc::new(file));
        let mut cursor = cursor(Format::Plain);
        if !cursor.enter(&account, Some(&content)).unwrap() {
            return false;
        }
        assert_eq!((cursor.offset, cursor.covered()), (resume, settled));
        // As a reader does: the first read begins with the guard.
        let start = cursor.offset as usize - cursor.guard_len();
        cursor.is_continued_by(now.get(start..).unwrap_or_default())
    }

    #[test]
    fn a_cursor_that_enters_a_file_compares_what_was_settled_of_it() {
        let before: Vec<u8> = (0..200_u8).collect();
        let grown = [&before[..], b"more"].concat();
        let anew: Vec<u8> = (0..250_u8).rev().collect();
        for (settled, resume) in [(200, 200), (200, 120), (200, 0), (3, 3), (150, 149)] {
            let enters = |guarded, now: &[u8]| enters(&before, settled, resume, guarded, now);
            assert!(enters(true, &before) && enters(true, &grown), "{settled} {resume}");
            assert!(!enters(true, &anew), "written anew past {settled}, from {resume}");
            assert!(!enters(true, &[]) && !enters(true, &before[..settled as usize - 1]));
            // What a version without guards left: only the size tells.
            assert!(enters(false, &before) && !enters(false, &before[..settled as usize - 1]));
        }
        assert!(enters(&before, 0, 0, true, &anew) && enters(&before, 0, 0, true, b""));
    }

    #[test]
    fn a_cursor_that_comes_back_to_a_file_compares_what_it_read_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let (file, look) = identity::open(&path).unwrap();
        let source = Arc::new(Source::anonymous(path.clone(), Format::Plain));
        let identity = Identity { key: look.key, handle: None };
        let account = FileAccount::new(identity, 0, source, &path, 1);
        let content = Content::Plain(Arc::new(file));
        let mut cursor = cursor(Format::Plain);
        assert!(cursor.enter(&account, Some(&content)).unwrap());
        account.sink(0).read_to(8, Guard::of(b"one\ntwo\n"));
        assert!(cursor.enter(&account, Some(&content)).unwrap());
        assert_eq!((cursor.offset, cursor.guard_len()), (8, 8));
        assert!(!cursor.is_continued_by(b"eno\nowt\nthree\n"));
        assert!(cursor.is_continued_by(b"one\ntwo\nthree\n"));
    }
}
