//! What a reader does with messages whose end does not come: it waits a while, then cuts the file where
//! it ends, durably, and only then sends what the cut has ended.
//!
//! Knows what is unfinished only by what the decoder says of it. See ARCHITECTURE.md, "Cuts".

use std::{
    collections::HashMap,
    ops::Range,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{LogFile, Reader, Registration, Tail, Turn};
use crate::{
    decode::{MESSAGES, Unfinished},
    identity::{self, FileId},
    read::{cursor::Cursor, piece::Piece, tail::TailId},
};

/// A message that is still being written waits up to so many times as long with another one that is
/// not, before both are cut.
const PATIENCE: u32 = 4;
/// A cut that could not be made durable (a full disk) is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// A file that is in the middle of a write at the first look goes on within this time.
const STANDS: Duration = Duration::from_millis(500);
/// A container that was started anew writes nothing more to its former log.
const OVER: Duration = Duration::from_secs(2);
/// Whether it was is looked for this often.
const LOOK: Duration = Duration::from_secs(5);

/// What waits at the ends of files, per tail.
pub(super) type Waiting = HashMap<TailId, Box<Wait>, foldhash::fast::RandomState>;

/// What is unfinished in one tail, and since when nothing followed it.
#[derive(Debug)]
pub(super) struct Wait {
    file: FileId,
    /// Where the file ended, and since when it does.
    end: (u64, Instant),
    /// The messages, and since when each is as it is.
    messages: [(Option<Unfinished>, Instant); MESSAGES],
    /// The cut that is being made durable.
    cut: Option<u64>,
    /// Not to be cut before then.
    not_before: Instant,
}

/// What to do at the end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Cut,
    Wait(Instant),
}

impl Wait {
    fn new(file: FileId, end: u64, now: Instant) -> Self {
        let messages = [(None, now); MESSAGES];
        Self { file, end: (end, now), messages, cut: None, not_before: now }
    }

    /// Notes what there is now.
    fn look(&mut self, end: u64, messages: [Option<Unfinished>; MESSAGES], now: Instant) {
        if self.end.0 != end {
            self.end = (end, now);
        }
        for (known, message) in self.messages.iter_mut().zip(messages) {
            if known.0 != message {
                *known = (message, now);
            }
        }
    }

    /// Whether to cut: something has waited for `patience`, and nothing else is in the middle of being
    /// written, or has been for long. `line`: the last line has no end.
    fn judge(&self, line: bool, patience: Duration, now: Instant) -> Verdict {
        let open = self.messages.iter().filter(|(message, _)| message.is_some());
        let since = open.map(|(_, since)| *since).chain(line.then_some(self.end.1));
        let (first, last) = since.fold((None, None), |(first, last), since| {
            let first = first.map_or(since, |first: Instant| first.min(since));
            let last = last.map_or(since, |last: Instant| last.max(since));
            (Some(first), Some(last))
        });
        let (Some(first), Some(last)) = (first, last) else { return Verdict::Wait(now + patience) };
        let due = (last + patience).min(first + patience * PATIENCE).max(self.not_before);
        if due <= now { Verdict::Cut } else { Verdict::Wait(due) }
    }
}

impl Reader {
    /// The end of a file that may go on. None: nothing is unfinished there.
    pub(super) fn await_end(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        line: &Range<usize>,
    ) -> Option<Turn> {
        let cursor = &tail.cursors[sink];
        let index = cursor.index;
        let messages = cursor.decoder.unfinished();
        if line.is_empty() && messages.iter().all(Option::is_none) {
            self.waiting.remove(&id);
            return None;
        }
        let now = Instant::now();
        let patience = match container_is_over(&file.account.path()) {
            true => self.setup.unfinished_after.min(OVER),
            false => self.setup.unfinished_after,
        };
        let end = cursor.offset + line.len() as u64;
        let wait =
            self.waiting.entry(id).or_insert_with(|| Wait::new(file.account.id, end, now).into());
        if wait.file != file.account.id {
            **wait = Wait::new(file.account.id, end, now);
        }
        wait.look(end, messages, now);
        // What lay there before this agent started has waited already, if nobody is writing it just now.
        let old = wait.not_before <= now && tail.is_old(index, patience);
        let verdict = match wait.judge(!line.is_empty(), patience, now) {
            Verdict::Wait(_) if old && now >= wait.end.1 + STANDS => Verdict::Cut,
            Verdict::Wait(at) if old => Verdict::Wait(at.min(wait.end.1 + STANDS)),
            verdict => verdict,
        };
        Some(match verdict {
            Verdict::Wait(at) => Turn::Later(at.min(now + LOOK)),
            Verdict::Cut if self.request_cut(id, tail, (index, file), end) => Turn::Cutting,
            Verdict::Cut => Turn::Later(now + AGAIN),
        })
    }

    /// Before a file is left in the middle of a message, which so ends: has the cut made durable, if it
    /// is not yet. False: go on.
    pub(super) fn cuts_first(
        &mut self,
        id: TailId,
        tail: &Tail,
        sink: usize,
        file: &LogFile,
        (line, last): (&Range<usize>, bool),
    ) -> bool {
        let cursor = &tail.cursors[sink];
        let unfinished = !line.is_empty() || last && cursor.decoder.resume().is_some();
        let tried = self.waiting.get(&id).is_some_and(|wait| wait.not_before > Instant::now());
        // What cannot grow ends where it ends.
        let grows = file.content.plain().is_some();
        unfinished && grows && !tried && {
            let end = cursor.offset + line.len() as u64;
            self.request_cut(id, tail, (cursor.index, file), end)
        }
    }

    /// Has a cut made durable; until then the tail is not read. False: it cannot be cut there.
    pub(super) fn request_cut(
        &mut self,
        id: TailId,
        tail: &Tail,
        (index, file): (u64, &LogFile),
        at: u64,
    ) -> bool {
        // Of a cursor that was set back, only its account tells how far it was.
        let read = |sink| file.account.sink(sink).read.load(Ordering::Acquire);
        let beyond = |cursor: &Cursor| {
            let here = cursor.index == index;
            let offset = if cursor.entered { cursor.offset } else { 0 };
            cursor.index > index || here && offset.max(read(cursor.sink())) > at
        };
        let sinks = tail.cursors.iter().map(Cursor::sink).chain(self.awaited.iter().copied());
        let resumes = sinks.map(|sink| file.account.sink(sink).resume.load(Ordering::Acquire));
        let needed = resumes.min().unwrap_or(0);
        // Records that a sink has beyond it already were made without it.
        if tail.cursors.iter().any(beyond)
            || !self.setup.accounts.cuts.add(file.account.id, at, needed)
        {
            return false;
        }
        let now = Instant::now();
        let wait =
            self.waiting.entry(id).or_insert_with(|| Wait::new(file.account.id, at, now).into());
        wait.file = file.account.id;
        wait.cut = Some(at);
        let registration = Registration {
            accounts: vec![Arc::clone(&file.account)],
            cuts: vec![(file.account.id, at)],
            tails: vec![id],
            reply: self.setup.own_address.clone(),
        };
        let _going_down = self.setup.registrations.send(registration);
        true
    }

    /// Where a file ended when something unfinished was seen to wait there.
    pub(super) fn waits_at(&self, id: TailId, file: FileId) -> Option<u64> {
        self.waiting.get(&id).filter(|wait| wait.file == file).map(|wait| wait.end.0)
    }

    /// Whether a tail waits for a cut.
    pub(super) fn is_cutting(&self, id: TailId) -> bool {
        self.waiting.get(&id).is_some_and(|wait| wait.cut.is_some())
    }

    /// The settling thread has answered: the cut is durable, or was withdrawn.
    pub(super) fn cut_is_made(&mut self, id: TailId) {
        let Some(wait) = self.waiting.get_mut(&id) else { return };
        let Some(at) = wait.cut.take() else { return };
        if self.setup.accounts.cuts.next(wait.file, at) == Some(at) {
            self.waiting.remove(&id);
        } else {
            wait.not_before = Instant::now() + AGAIN;
        }
    }

    /// A chunk as far as the next cut. True: the cut is where it ends now.
    pub(super) fn up_to_cut(&self, cursor: &Cursor, file: &LogFile, piece: Piece) -> (Piece, bool) {
        let ahead = self.cut_ahead(cursor, file).map(|ahead| cursor.guard_len() as u64 + ahead);
        match ahead {
            Some(bytes) if bytes <= piece.bytes as u64 => {
                (Piece { bytes: bytes as usize, at_end: false }, true)
            }
            Some(_) | None => (piece, false),
        }
    }

    /// Ends what is unfinished at a cut: the last line, which stands in the buffer, and messages. False:
    /// the sink's budget is used up.
    pub(super) fn apply_cut(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        line: Range<usize>,
    ) -> bool {
        if !self.flush(id, tail, sink, file, (line, true)) {
            return false;
        }
        fail::fail_point!("cut.applied");
        true
    }

    /// Where a chunk that begins at the cursor's offset must end, if a cut is in it: bytes from there.
    fn cut_ahead(&self, cursor: &Cursor, file: &LogFile) -> Option<u64> {
        let cut = self.setup.accounts.cuts.next(file.account.id, cursor.offset)?;
        let there = cut > cursor.offset || cursor.decoder.resume().is_some();
        match there {
            true => Some(cut - cursor.offset),
            // Nothing is left of what it has ended; the next one counts.
            false => {
                let next = self.setup.accounts.cuts.next(file.account.id, cut + 1)?;
                Some(next - cursor.offset)
            }
        }
    }
}

/// Whether a container's log `N.log` has a successor `N+1.log`.
fn container_is_over(log: &Path) -> bool {
    let number = log.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
    number.is_some_and(|number: u32| {
        identity::look_at(&log.with_file_name(format!("{}.log", number.saturating_add(1)))).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Origin;

    const PATIENCE_OF_FIVE: Duration = Duration::from_secs(5);

    fn message(offset: u64, parts: u32) -> Option<Unfinished> {
        Some(Unfinished { origin: Origin { file: FileId(1), offset }, parts })
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_message_that_nothing_follows_is_cut_whatever_other_streams_do() {
        let start = Instant::now();
        let mut wait = Wait::new(FileId(1), 100, start);
        wait.look(100, [message(0, 1), None, None, None], start);
        let judge = |wait: &Wait, at| wait.judge(false, PATIENCE_OF_FIVE, after(start, at));
        assert_eq!(judge(&wait, 4), Verdict::Wait(after(start, 5)));
        wait.look(200, [message(0, 1), None, None, None], after(start, 4));
        assert_eq!(judge(&wait, 5), Verdict::Cut);
    }

    #[test]
    fn one_that_goes_on_is_not_cut_until_another_has_waited_long() {
        let start = Instant::now();
        let mut wait = Wait::new(FileId(1), 0, start);
        for second in 0..20 {
            let now = after(start, second);
            wait.look(second, [message(0, second as u32), None, None, None], now);
            assert!(matches!(wait.judge(false, PATIENCE_OF_FIVE, now), Verdict::Wait(_)));
        }
        let mut wait = Wait::new(FileId(1), 0, start);
        for second in 0..20 {
            let now = after(start, second);
            wait.look(second, [message(0, 1), message(9, second as u32), None, None], now);
            assert!(matches!(wait.judge(false, PATIENCE_OF_FIVE, now), Verdict::Wait(_)));
        }
        assert_eq!(wait.judge(false, PATIENCE_OF_FIVE, after(start, 20)), Verdict::Cut);
    }

    #[test]
    fn the_last_line_is_cut_once_the_file_has_not_grown_for_long() {
        let start = Instant::now();
        let mut wait = Wait::new(FileId(1), 10, start);
        wait.look(11, [None; MESSAGES], after(start, 3));
        let judge = |wait: &Wait, at| wait.judge(true, PATIENCE_OF_FIVE, after(start, at));
        assert_eq!(judge(&wait, 7), Verdict::Wait(after(start, 8)));
        assert_eq!(judge(&wait, 8), Verdict::Cut);
        wait.not_before = after(start, 9);
        assert_eq!(judge(&wait, 8), Verdict::Wait(after(start, 9)));
    }
}
