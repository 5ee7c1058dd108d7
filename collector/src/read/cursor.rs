//! One sink's place in one source: which file, which byte, and the decoder's state there.

use std::{
    hash::BuildHasher,
    sync::{Arc, atomic::Ordering},
};

use foldhash::fast::FixedState;

use crate::{
    batch::lane::{Advance, Lane, Outlet, RangeSlot},
    decode::Decoder,
    ledger::FileAccount,
    reason::{ByReason, Reason},
};

/// Bytes before the offset that are read again at the next read, and compared by their hash: a file
/// that was truncated and written anew past the offset differs in them.
pub const GUARD_BYTES: usize = 64;

/// One sink's place in one source. Sources are many and mostly quiet: it is kept small.
pub struct Cursor {
    /// Whose.
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
    guard_len: u8,
    guard: u64,
    covered: u64,
    slot: RangeSlot,
    /// Earlier files of the source that ended inside a message that is not complete yet.
    carried: Vec<Arc<FileAccount>>,
    /// Bytes that no record carries, since `covered`.
    given_up: ByReason,
}

impl Cursor {
    /// The cursor of sink number `sink` before the tail's file number `index`.
    pub fn new(sink: usize, index: u64, decoder: Decoder) -> Self {
        Self {
            sink: sink as u16,
            index,
            offset: 0,
            decoder,
            replay_until: 0,
            entered: false,
            stalled: false,
            guard_len: 0,
            guard: 0,
            covered: 0,
            slot: RangeSlot::default(),
            carried: Vec::new(),
            given_up: ByReason::default(),
        }
    }

    /// Takes up a file where its account says that this sink stopped.
    pub fn enter(&mut self, account: &FileAccount) {
        let place = &account.sinks[usize::from(self.sink)];
        let offset = place.offset();
        let (from, covered) = if place.entered.swap(true, Ordering::AcqRel) {
            // This run was here before and holds the state that belongs to what it read.
            let read = place.read.load(Ordering::Acquire);
            (read, read)
        } else {
            (offset.resume, offset.settled)
        };
        self.offset = from;
        self.replay_until = covered;
        self.covered = covered;
        self.guard_len = 0;
        self.entered = true;
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

    /// How many bytes before `offset` are known.
    pub fn guard_len(&self) -> usize {
        usize::from(self.guard_len)
    }

    /// Whether what was read, from `guard_len()` bytes before the offset on, still is the file that
    /// was read before.
    pub fn is_continued_by(&self, bytes: &[u8]) -> bool {
        self.guard_len == 0
            || bytes.get(..self.guard_len()).is_some_and(|guard| hash(guard) == self.guard)
    }

    /// Moves on by `consumed` bytes of `input` (which begins with the guard). `keep`: false for
    /// contents that cannot change.
    pub fn consume(&mut self, input: &[u8], consumed: usize, keep: bool) {
        let end = self.guard_len() + consumed;
        self.offset += consumed as u64;
        if !keep {
            return;
        }
        let start = end.saturating_sub(GUARD_BYTES);
        self.guard = hash(&input[start..end]);
        self.guard_len = (end - start) as u8;
    }

    /// Forgets the bytes before the offset (the file is read anew at some other place).
    pub fn forget_guard(&mut self) {
        self.guard_len = 0;
    }

    /// Bytes that no record will carry; they are booked with what is covered next.
    pub fn give_up(&mut self, reason: Reason, bytes: u64) {
        self.given_up.add(reason, bytes);
    }

    /// NULs that no record will carry: those that were not counted before.
    pub fn skip(&mut self, start: u64, end: u64) {
        self.give_up(Reason::Hole, end.saturating_sub(start.max(self.covered)));
    }

    /// Goes on at another offset of the same file, behind what was skipped.
    pub fn jump(&mut self, offset: u64) {
        self.offset = offset;
        self.forget_guard();
    }

    /// Tells the lane how far it now covers the file: up to `end`, with `lines` more records.
    pub fn cover(
        &mut self,
        (outlet, lane): (&Outlet, &mut Lane),
        account: &Arc<FileAccount>,
        end: u64,
        lines: u32,
    ) {
        if end < self.covered || (end == self.covered && lines == 0 && self.carried.is_empty()) {
            return;
        }
        let origin = self.decoder.resume();
        let resume = match origin {
            None => end,
            Some(origin) if origin.file == account.id => origin.offset.min(end),
            Some(_) => 0,
        };
        let bytes = end - self.covered;
        let given_up = std::mem::take(&mut self.given_up);
        let advance = Advance { end, resume, bytes, given_up, lines };
        lane.cover(outlet, &mut self.slot, account, advance);
        account.sinks[usize::from(self.sink)].read_to(end);
        self.covered = end;
        self.release_carried((outlet, lane), account);
    }

    /// Messages that began in earlier files and are complete now hold those files no longer.
    fn release_carried(
        &mut self,
        (outlet, lane): (&Outlet, &mut Lane),
        current: &Arc<FileAccount>,
    ) {
        let waiting = self.decoder.resume().filter(|origin| origin.file != current.id);
        let keep = match waiting {
            None => 0,
            Some(origin) => match self.carried.iter().position(|file| file.id == origin.file) {
                // Everything from the oldest unfinished message on is still needed.
                Some(at) => self.carried.len() - at,
                None => return,
            },
        };
        let done = self.carried.len() - keep;
        for file in self.carried.drain(..done) {
            let end = file.sinks[usize::from(self.sink)].read.load(Ordering::Acquire);
            let mut slot = RangeSlot::default();
            let given_up = ByReason::default();
            let advance = Advance { end, resume: end, bytes: 0, given_up, lines: 0 };
            lane.cover(outlet, &mut slot, &file, advance);
        }
    }

    /// Bytes up to here are covered by batches.
    pub fn covered(&self) -> u64 {
        self.covered
    }
}

fn hash(guard: &[u8]) -> u64 {
    FixedState::default().hash_one(guard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Limits, discover::Format};

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
        cursor.consume(b"one\ntwo", 4, true);
        assert_eq!((cursor.offset, cursor.guard_len()), (4, 4));
        assert!(cursor.is_continued_by(b"one\n") && cursor.is_continued_by(b"one\ntwo\n"));
        assert!(!cursor.is_continued_by(b"one") && !cursor.is_continued_by(b"eno\ntwo\n"));
        let long = [b"one\n".to_vec(), vec![b'x'; 2 * GUARD_BYTES]].concat();
        cursor.consume(&long, 2 * GUARD_BYTES, true);
        assert_eq!(cursor.guard_len(), GUARD_BYTES);
        assert!(cursor.is_continued_by(&[b'x'; GUARD_BYTES + 1]));
        assert!(!cursor.is_continued_by(&[b'x'; GUARD_BYTES - 1]));
        cursor.forget_guard();
        assert!(cursor.is_continued_by(b"anything"));
    }
}
