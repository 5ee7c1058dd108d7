//! A tail's turn: each sink's cursor goes on from where it is, a quantum at most.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{CHUNK, Feedback, Reader, SETTLES, ahead::Ahead, doubt::Fresh, known::begins_as_known};
use crate::{
    ledger::FileAccount,
    read::{
        piece::Piece,
        pump::Stop,
        tail::{Gone, LINGER, LogFile, Tail, TailId},
        zeros,
    },
    watch::Heard,
};

/// A file's size shows a write that was announced in about this time.
const ANNOUNCED: Duration = Duration::from_millis(1);

/// What one cursor's turn came to.
pub(super) enum Turn {
    /// Nothing to read now.
    Idle,
    /// The quantum is used up.
    More,
    /// The lane's share of the sink's budget is used up.
    Stalled,
    /// The file must be registered first.
    Unregistered(Arc<FileAccount>),
    /// A cut must be made durable first.
    Cutting,
    /// Look again then.
    Later(Instant),
}

/// What is to be done instead of reading on.
enum Instead {
    /// The cursor is elsewhere now, or before another life: begin again.
    Again,
    /// The turn is over.
    Over(Turn),
}

impl From<Turn> for Instead {
    fn from(turn: Turn) -> Self {
        Self::Over(turn)
    }
}

/// What was read in one go, and may be sent.
struct Chunk {
    piece: Piece,
    /// When to read the zeros behind it again, which are in doubt.
    doubted: Option<Instant>,
    /// As much was read as the buffer has room for.
    is_full: bool,
}

impl Reader {
    /// One tail's turn: every sink's cursor, a quantum each.
    pub(super) fn visit(&mut self, id: TailId) {
        if self.awaits_description(id) || self.rests(id) {
            return;
        }
        let began = Instant::now();
        if self.is_cutting(id) {
            return self.with_tail(id, |tail| tail.queued = false);
        }
        let Some(mut tail) = self.tails.remove(&id) else { return };
        tail.queued = false;
        if !tail.excluded {
            let now = Instant::now();
            if tail.return_to_late_writes(now) {
                self.look_again(id, &mut tail, now + ANNOUNCED);
            }
        }
        let mut again = false;
        for sink in 0..self.sinks.len() {
            if tail.cursors[sink].stalled {
                continue;
            }
            let turn = self.whole_turn(id, &mut tail, sink);
            let cutting = self.give_back(id, &mut tail, sink, &turn);
            match if cutting { Turn::Cutting } else { turn } {
                Turn::Idle => {}
                Turn::More => again = true,
                Turn::Stalled => {
                    tail.cursors[sink].stalled = true;
                    self.sinks[sink].stall(id);
                    tail.lend_unpacked(sink);
                }
                Turn::Unregistered(account) => {
                    self.unregistered.push((id, account));
                    break;
                }
                Turn::Cutting => break,
                Turn::Later(at) => self.look_again(id, &mut tail, at),
            }
        }
        self.close_the_rest(&mut tail);
        self.let_go(id, &mut tail);
        if tail.closed && tail.is_empty() {
            self.forget_parked(&tail);
            self.looked_through.retain(|(tail, _), _| *tail != id);
            self.doubts.forget(id);
            self.waiting.remove(&id);
            self.forget_unfinished(id);
            self.tell(Feedback::Closed(id));
            return;
        }
        let again = again && !self.is_to_rest(id, &mut tail, began);
        tail.queued = again;
        if again {
            self.ready.push_back(id);
        }
        self.tails.insert(id, tail);
    }

    /// One cursor's turn.
    pub(super) fn turn(&mut self, id: TailId, tail: &mut Tail, sink: usize) -> Turn {
        let mut left = self.setup.quantum;
        loop {
            let done = self
                .file_to_read(id, tail, sink)
                .and_then(|file| self.read_on(id, tail, sink, &file, &mut left));
            match done {
                Ok(()) | Err(Instead::Again) => {}
                Err(Instead::Over(turn)) => return turn,
            }
        }
    }

    /// The file that the cursor is in, entered, if its life has not ended.
    fn file_to_read(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
    ) -> Result<LogFile, Instead> {
        let index = tail.cursors[sink].index;
        self.reopen(id, tail, sink)?;
        let slot = tail.slot(index).ok_or(Turn::Idle)?;
        let (file, truncated) = (slot.file.clone(), slot.truncated);
        if truncated && tail.comes_again(index) {
            // This cursor came after the file had been given a later place.
            tail.cursors[sink].pass();
            return Err(Instead::Again);
        }
        if let Some(turn) = self.stays_set_back(id, tail, sink, &file) {
            return Err(turn.into());
        }
        let same = self.enter(id, tail, sink, (&file, truncated))?;
        if truncated || !same || self.is_overlooked(&tail.cursors[sink], &file) {
            if let Err(turn) = self.truncated(id, tail, sink, &file) {
                // It is entered, and compared, once more.
                tail.cursors[sink].entered = same;
                return Err(turn.into());
            }
            return Err(Instead::Again);
        }
        if tail.excluded {
            let left = self.leave_rest(id, tail, sink, &file);
            return Err(if left { Instead::Again } else { Turn::Stalled.into() });
        }
        Ok(file)
    }

    /// Reads a chunk and uses it up.
    fn read_on(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        left: &mut usize,
    ) -> Result<(), Instead> {
        let Chunk { piece, doubted, is_full } = self.read_chunk(id, tail, sink, file)?;
        let (piece, at_cut) = self.up_to_cut(&tail.cursors[sink], file, piece);
        let fresh = piece.bytes - tail.cursors[sink].guard_len();
        let pumped = self.pump(id, tail, sink, file, piece);
        *left = left.saturating_sub(pumped.consumed);
        let mut at_end = piece.at_end;
        let line = piece.bytes - fresh + pumped.consumed;
        let line = line..line + pumped.rest;
        let mut size = tail.cursors[sink].offset + line.len() as u64;
        match pumped.stop {
            None if at_cut => {
                let applied = self.apply_cut(id, tail, sink, file, line);
                return if applied { Ok(()) } else { Err(Turn::Stalled.into()) };
            }
            None if let Some(again) = doubted => return Err(Turn::Later(again).into()),
            None => {}
            Some(Stop::Budget) => return Err(Turn::Stalled.into()),
            Some(Stop::Probed) => return Err(Turn::Idle.into()),
            Some(Stop::Failed) => {
                return Err(Turn::Later(Instant::now() + Duration::from_secs(1)).into());
            }
            Some(Stop::Zeros) => {
                match self.past_zeros(id, tail, sink, file, (piece, line.clone())) {
                    Ok(Ahead::Skipped) if *left <= CHUNK => return Err(Turn::More.into()),
                    // Whatever its length, the read that found it counts.
                    Ok(Ahead::Skipped) => {
                        *left -= CHUNK;
                        return Ok(());
                    }
                    Ok(Ahead::Nothing(end)) => (size, at_end) = (end, true),
                    Ok(Ahead::Over(turn)) => return Err(turn.into()),
                    Err(error) => return Err(Self::unreadable(file, &error).into()),
                }
            }
        }
        if at_end {
            return self.read_to_end(id, tail, sink, file, (line, size), *left);
        }
        if !is_full {
            self.rests.unpacked(fresh);
            return Err(Turn::More.into());
        }
        if pumped.consumed == 0 {
            self.enlarge_buffer();
        } else if *left == 0 {
            return Err(Turn::More.into());
        }
        Ok(())
    }

    /// Reads a chunk, and looks whether it continues what was read before and may be sent.
    fn read_chunk(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
    ) -> Result<Chunk, Instead> {
        let unreadable = |error| Self::unreadable(file, &error);
        let piece = self.read(&tail.cursors[sink], file).map_err(unreadable)?;
        if piece.bytes < tail.cursors[sink].guard_len() {
            if !piece.at_end {
                // A compressed file that is not unpacked up to the offset yet.
                return Err(Turn::More.into());
            }
            if file.content.damage().is_some() {
                // It ends before the offset: nothing to compare, and nothing to read.
                let turn = self.at_end(id, tail, sink, file, 0..0);
                return Err(turn.map_or(Instead::Again, Instead::Over));
            }
        }
        let cursor = &tail.cursors[sink];
        if !cursor.is_continued_by(&self.buffer[..piece.bytes])
            || cursor.offset == 0 && !begins_as_known(file, &self.buffer[..piece.bytes])
        {
            self.truncated(id, tail, sink, file)?;
            return Err(Instead::Again);
        }
        let is_full = piece.bytes == self.buffer.len();
        let new = &self.buffer[cursor.guard_len()..piece.bytes];
        file.account.see(zeros::certain(new, cursor.offset, cursor.decoder.unit()));
        let guard = cursor.guard_len();
        let (cursor, bytes) = (&mut tail.cursors[sink], &self.buffer[guard..piece.bytes]);
        let fresh = Fresh { tail: id, cursor, file, bytes };
        let (piece, doubted) = match self.doubts.first_in(fresh).map_err(unreadable)? {
            Some((bytes, again)) => (Piece { bytes: guard + bytes, at_end: false }, Some(again)),
            None => (piece, None),
        };
        let cursor = &tail.cursors[sink];
        let read = &self.buffer[guard..piece.bytes];
        if !read.is_empty() && !self.is_known(file, cursor.offset, read) {
            return Err(Turn::Unregistered(Arc::clone(&file.account)).into());
        }
        Ok(Chunk { piece, doubted, is_full })
    }

    /// All of the file is read, as far as `size`, but for a `line` without its end.
    fn read_to_end(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        (line, size): (Range<usize>, u64),
        left: usize,
    ) -> Result<(), Instead> {
        match heard(file, size) {
            Heard::Nothing => {}
            Heard::More => {
                // The size follows within microseconds; the writer may need this core.
                std::thread::yield_now();
                return Ok(());
            }
            Heard::Soon => {
                return Err(Turn::Later(Instant::now() + ANNOUNCED).into());
            }
        }
        match self.at_end(id, tail, sink, file, line) {
            Some(turn) => Err(turn.into()),
            None if left == 0 => Err(Turn::More.into()),
            None => Ok(()),
        }
    }

    /// Leaves a file for the next one.
    pub(super) fn next_file(&mut self, id: TailId, tail: &mut Tail, sink: usize, file: &LogFile) {
        if let Some(why) = file.content.damage() {
            self.damaged(id, tail, sink, file, &why);
        }
        tail.cursors[sink].leave(&file.account);
        self.leave_set_back(id, tail.cursors[sink].sink(), file.account.id);
        self.look_again(id, tail, Instant::now() + LINGER + Duration::from_millis(50));
    }

    /// Lets go of the files that nobody needs any more.
    pub(super) fn let_go(&mut self, id: TailId, tail: &mut Tail) {
        let released = tail.release(Instant::now(), &self.awaited);
        for Gone { file, is_former_life } in released {
            if is_former_life {
                self.tell(Feedback::CutOff(file.account));
                continue;
            }
            if tail.files().any(|other| other.token == file.token) {
                continue;
            }
            if let Some(plain) = file.content.plain() {
                let finished = (Arc::clone(plain), Arc::clone(&file.account));
                let _going_down = self.setup.checksums.send(finished);
            }
            self.tell(Feedback::Released(file.token, file.account));
        }
        if tail.is_hinted() {
            self.look_again(id, tail, Instant::now());
            return;
        }
        let mut wait = None;
        for slot in tail.left_behind() {
            slot.file.content.rest();
            // The sinks are all that a compressed one waits for.
            let longest = if slot.file.content.is_compressed() { SETTLES } else { LINGER };
            wait.get_or_insert(longest);
        }
        if let Some(wait) = wait {
            self.look_again(id, tail, Instant::now() + wait);
        }
    }
}

/// Asks to be woken when the file is written beyond `size`; what was written already is told now.
fn heard(file: &LogFile, size: u64) -> Heard {
    file.bell.as_ref().map_or(Heard::Nothing, |bell| bell.set(size))
}
