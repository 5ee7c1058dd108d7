//! A tail's turn: each sink's cursor goes on from where it is, a quantum at most.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{CHUNK, Feedback, Reader, SETTLES, ahead::Ahead, known::begins_as_known};
use crate::{
    ledger::FileAccount,
    read::{
        pump::Stop,
        tail::{Gone, LINGER, LogFile, Tail, TailId},
        zeros,
    },
    watch::Heard,
};

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
            tail.return_to_late_writes(Instant::now());
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
            let index = tail.cursors[sink].index;
            if let Err(turn) = self.reopen(id, tail, sink) {
                return turn;
            }
            let Some(slot) = tail.slot(index) else { return Turn::Idle };
            let (file, truncated) = (slot.file.clone(), slot.truncated);
            if truncated && tail.comes_again(index) {
                // This cursor came after the file had been given a later place.
                tail.cursors[sink].pass();
                continue;
            }
            if let Some(turn) = self.stays_set_back(id, tail, sink, &file) {
                return turn;
            }
            let same = match self.enter(id, tail, sink, (&file, truncated)) {
                Ok(same) => same,
                Err(turn) => return turn,
            };
            if truncated || !same || self.is_overlooked(&tail.cursors[sink], &file) {
                if let Err(turn) = self.truncated(id, tail, sink, &file) {
                    // It is entered, and compared, once more.
                    tail.cursors[sink].entered = same;
                    return turn;
                }
                continue;
            }
            if tail.excluded {
                if !self.leave_rest(id, tail, sink, &file) {
                    return Turn::Stalled;
                }
                continue;
            }
            let piece = match self.read(&tail.cursors[sink], &file) {
                Ok(piece) => piece,
                Err(error) => return Self::unreadable(&file, &error),
            };
            if piece.bytes < tail.cursors[sink].guard_len() {
                if !piece.at_end {
                    // A compressed file that is not unpacked up to the offset yet.
                    return Turn::More;
                }
                if file.content.damage().is_some() {
                    // It ends before the offset: nothing to compare, and nothing to read.
                    match self.at_end(id, tail, sink, &file, 0..0) {
                        Some(turn) => return turn,
                        None => continue,
                    }
                }
            }
            let cursor = &tail.cursors[sink];
            if !cursor.is_continued_by(&self.buffer[..piece.bytes])
                || cursor.offset == 0 && !begins_as_known(&file, &self.buffer[..piece.bytes])
            {
                if let Err(turn) = self.truncated(id, tail, sink, &file) {
                    return turn;
                }
                continue;
            }
            let is_short = piece.bytes < self.buffer.len();
            let new = &self.buffer[cursor.guard_len()..piece.bytes];
            file.account.see(zeros::certain(new, cursor.offset, cursor.decoder.unit()));
            let (piece, doubted) = match self.up_to_doubt(id, tail, sink, &file, piece) {
                Ok(piece) => piece,
                Err(error) => return Self::unreadable(&file, &error),
            };
            let cursor = &tail.cursors[sink];
            let fresh = piece.bytes - cursor.guard_len();
            let read = &self.buffer[cursor.guard_len()..piece.bytes];
            if fresh > 0 && !self.is_known(&file, cursor.offset, read) {
                return Turn::Unregistered(file.account);
            }
            let (piece, at_cut) = self.up_to_cut(&tail.cursors[sink], &file, piece);
            let fresh = piece.bytes - tail.cursors[sink].guard_len();
            let pumped = self.pump(id, tail, sink, &file, piece);
            left = left.saturating_sub(pumped.consumed);
            let mut at_end = piece.at_end;
            let line = piece.bytes - fresh + pumped.consumed;
            let line = line..line + pumped.rest;
            let mut size = tail.cursors[sink].offset + line.len() as u64;
            match pumped.stop {
                None if at_cut => {
                    if !self.apply_cut(id, tail, sink, &file, line) {
                        return Turn::Stalled;
                    }
                    continue;
                }
                None if let Some(again) = doubted => return Turn::Later(again),
                None => {}
                Some(Stop::Budget) => return Turn::Stalled,
                Some(Stop::Probed) => return Turn::Idle,
                Some(Stop::Failed) => return Turn::Later(Instant::now() + Duration::from_secs(1)),
                Some(Stop::Zeros) => {
                    match self.past_zeros(id, tail, sink, &file, (piece, line.clone())) {
                        Ok(Ahead::Skipped) if left <= CHUNK => return Turn::More,
                        // Whatever its length, the read that found it counts.
                        Ok(Ahead::Skipped) => {
                            left -= CHUNK;
                            continue;
                        }
                        Ok(Ahead::Nothing(end)) => (size, at_end) = (end, true),
                        Ok(Ahead::Over(turn)) => return turn,
                        Err(error) => return Self::unreadable(&file, &error),
                    }
                }
            }
            if !at_end {
                if is_short {
                    self.rests.unpacked(fresh);
                    return Turn::More;
                }
                if pumped.consumed == 0 {
                    self.enlarge_buffer();
                } else if left == 0 {
                    return Turn::More;
                }
                continue;
            }
            match heard(&file, size) {
                Heard::Nothing => {}
                Heard::More => {
                    // The size follows within microseconds; the writer may need this core.
                    std::thread::yield_now();
                    continue;
                }
                Heard::Soon => return Turn::Later(Instant::now() + Duration::from_millis(1)),
            }
            match self.at_end(id, tail, sink, &file, line) {
                Some(turn) => return turn,
                None if left == 0 => return Turn::More,
                None => {}
            }
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
