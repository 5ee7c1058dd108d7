//! What a reader does where a file ends: it waits, goes on to the next file, or is done with the source.

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use super::{AtEnd, LogFile, Reader, Tail, Turn, lane_of, pump};
use crate::read::tail::TailId;

/// How soon one is looked at again whose follower may be there.
const FOLLOWED_AGAIN: Duration = Duration::from_millis(200);

/// Sources of which newer files may be there that are not handed over yet: until when none is the last.
/// A message may go on there, which must not be cut in two.
#[derive(Debug, Default)]
pub(super) struct Follows {
    any: Option<Instant>,
    of: HashMap<TailId, Instant>,
}

impl Follows {
    /// Of one source, or of any.
    pub(super) fn note(&mut self, id: Option<TailId>, until: Instant) {
        match id {
            None => self.any = Some(until),
            Some(id) => {
                let now = Instant::now();
                self.of.retain(|_, until| *until > now);
                self.of.insert(id, until);
            }
        }
    }

    /// Until when a source's last file may not be its last.
    fn until(&self, id: TailId, now: Instant) -> Option<Instant> {
        let until = self.of.get(&id).copied().into_iter().chain(self.any).max();
        until.filter(|until| *until > now)
    }
}

impl Reader {
    /// At the end of what a file holds. None: go on (with the next file).
    pub(super) fn at_end(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        line: Range<usize>,
    ) -> Option<Turn> {
        let cursor = &tail.cursors[sink];
        let (index, offset) = (cursor.index, cursor.offset);
        let size = offset + line.len() as u64;
        // Half a character at the end is none yet: nothing is cut there while the other half may come.
        let whole = cursor.decoder.whole(offset, &self.buffer[line.clone()]);
        let whole = line.start..line.start + whole;
        let now = Instant::now();
        match tail.at_end(index, size, line.len(), now) {
            AtEnd::Finish if let Some(until) = self.follows.until(id, now) => {
                // The file that follows wakes the tail before that.
                Some(Turn::Later(until.min(now + FOLLOWED_AGAIN)))
            }
            AtEnd::Stay => Some(self.await_end(id, tail, sink, file, &whole).unwrap_or(Turn::Idle)),
            AtEnd::Later(at) => Some(Turn::Later(at)),
            AtEnd::Pass(at) => {
                tail.cursors[sink].leave(&file.account);
                let slot = tail.cursors[sink].sink();
                self.leave_set_back(id, slot, file.account.id);
                self.look_again(id, tail, at);
                None
            }
            AtEnd::Next if self.cuts_first(id, tail, sink, file, (&line, false)) => {
                Some(Turn::Cutting)
            }
            AtEnd::Finish if self.cuts_first(id, tail, sink, file, (&line, true)) => {
                Some(Turn::Cutting)
            }
            AtEnd::Next => {
                if !self.flush(id, tail, sink, file, (line, false)) {
                    return Some(Turn::Stalled);
                }
                self.skip_last(id, tail, sink, file);
                self.next_file(id, tail, sink, file);
                None
            }
            AtEnd::Finish => {
                if !self.flush(id, tail, sink, file, (line, true)) {
                    return Some(Turn::Stalled);
                }
                self.skip_last(id, tail, sink, file);
                if let Some(slot) = tail.slot(index) {
                    slot.finished = true;
                }
                self.next_file(id, tail, sink, file);
                Some(Turn::Idle)
            }
        }
    }

    /// At the end of a copy, what is unfinished is over there and was not in the original: it has a name of its own.
    fn end_copied(
        &mut self,
        id: TailId,
        tail: &Tail,
        sink: usize,
        file: &LogFile,
        line: &Range<usize>,
    ) {
        let cursor = &tail.cursors[sink];
        let message = cursor.decoder.resume().filter(|origin| origin.file == file.account.id);
        let line_begins = (!line.is_empty()).then_some(cursor.offset);
        let from = message.map(|origin| origin.offset).into_iter().chain(line_begins).min();
        let end = cursor.offset + line.len() as u64;
        if self.setup.accounts.copies.end(file.account.id, end, from) {
            let lanes = &mut self.sinks[sink].lanes;
            let lane = lane_of(id.0, lanes.len() as u32) as usize;
            lanes[lane].forget_name();
        }
    }

    /// Delivers what stands behind the last newline (where in the buffer); `last`: and messages that
    /// wait for more. False: the sink's budget is used up.
    pub(super) fn flush(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        (line, last): (Range<usize>, bool),
    ) -> bool {
        self.end_copied(id, tail, sink, file, &line);
        let (mut target, encoding, buffer) = self.target(id, tail, sink);
        let read = (&buffer[..line.end], line.len());
        pump::flush(&mut target, &mut tail.cursors[sink], encoding, &file.account, read, last)
    }
}
