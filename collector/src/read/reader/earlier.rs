//! Messages that began in an earlier file and that there was no room to keep: what earlier files hold of them
//! is read again.
//!
//! Those files are held until the message is settled. They are read for the decoder's state only: nothing of
//! them is sent, and no offset moves. See `set_back` for when.

use std::{
    io,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{LogFile, Reader, Tail, Turn, lane_of, pump, set_back::SetBack, turns};
use crate::{
    descriptors,
    ledger::FileAccount,
    messages,
    read::{
        content::Content,
        cursor::Cursor,
        pump::Stop,
        tail::TailId,
        zeros::{self, Behind},
    },
    reason::Reason,
    record::Origin,
};

/// A message that goes over more files than this is not read again.
const FILES: usize = 64;

/// Why an earlier file was not read.
enum Unread {
    /// The turn is over; all of them are read another time.
    Over(Turn),
    /// What it held of the message is gone.
    Lost(Reason),
}

impl From<Turn> for Unread {
    fn from(turn: Turn) -> Self {
        Self::Over(turn)
    }
}

impl Reader {
    /// How many bytes have to be read again for a message that began at `origin`, in a file before the one
    /// that the cursor is in. None: they do not stand in the files any more, or are not read in one go.
    pub(super) fn distance(
        &self,
        tail: &Tail,
        sink: usize,
        origin: Origin,
        file: &LogFile,
    ) -> Option<u64> {
        let cursor = &tail.cursors[sink];
        let read = |account: &FileAccount| account.sink(cursor.sink()).read.load(Ordering::Acquire);
        let earlier = cursor.carried_since(origin.file)?;
        if earlier.len() > FILES {
            return None;
        }
        let mut bytes = read(&file.account);
        for (at, account) in earlier.iter().enumerate() {
            // One that was written to after it had been left is read at two places.
            let held = tail.only_place_of(account)?;
            let later = earlier[at + 1..].iter().chain([&file.account]);
            if later.into_iter().any(|later| Arc::ptr_eq(later, account)) {
                return None;
            }
            // A compressed one is unpacked from its beginning.
            let skipped = account.id == origin.file && !held.content.is_compressed();
            let from = if skipped { origin.offset } else { 0 };
            bytes += read(account).saturating_sub(from);
        }
        Some(bytes)
    }

    /// Before a cursor enters a file: if it was set back to an earlier one, its decoder learns what it knew.
    ///
    /// # Errors
    /// They cannot be read now: what is to be done instead.
    pub(super) fn read_earlier(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
    ) -> Result<(), Turn> {
        let slot = tail.cursors[sink].sink();
        let Some(SetBack { file: last, origin, .. }) = self.set_back_over_files(id, slot) else {
            return Ok(());
        };
        let mut earlier =
            tail.cursors[sink].carried_since(origin.file).unwrap_or_default().to_vec();
        let returns = last != file.account.id;
        if returns {
            // It was in a later file, and comes back to one that has grown.
            let was_in = tail.files().map(|file| &file.account).find(|account| account.id == last);
            earlier.extend(was_in.cloned());
        }
        let mut again = Cursor::new(slot, 0, tail.cursors[sink].decoder.anew());
        for account in &earlier {
            let from = if account.id == origin.file { origin.offset } else { 0 };
            let is_left = account.id != last;
            match self.read_one_again(id, tail, sink, (account, from, is_left), &mut again) {
                Ok(()) => {}
                Err(Unread::Over(turn)) => return Err(turn),
                Err(Unread::Lost(reason)) => {
                    let lanes = &mut self.sinks[sink];
                    let lane = lane_of(id.0, lanes.lanes.len() as u32) as usize;
                    let lane = (&lanes.outlet, &mut lanes.lanes[lane]);
                    let bytes = tail.cursors[sink].lose_carried(lane, account, from, reason);
                    messages::say_lost(&account.path(), reason, bytes);
                }
            }
        }
        tail.cursors[sink].decoder = again.decoder;
        if returns {
            self.forget_unfinished_for(id, slot);
        }
        Ok(())
    }

    /// Decodes what was covered of a file, from an offset on. Of one that is left, the last line ends there.
    fn read_one_again(
        &mut self,
        id: TailId,
        tail: &Tail,
        sink: usize,
        (account, from, is_left): (&Arc<FileAccount>, u64, bool),
        again: &mut Cursor,
    ) -> Result<(), Unread> {
        let place = account.sink(again.sink());
        let until = place.read.load(Ordering::Acquire);
        let held = tail.files().find(|file| Arc::ptr_eq(&file.account, account));
        let Some(held) = held.cloned() else { return Err(Unread::Lost(Reason::DeletedUnseen)) };
        let file = LogFile { content: self.open_earlier(&held)?, ..held };
        // What is in a compressed file does not change.
        let same = match file.content.plain() {
            Some(plain) => place.read_guard().holds_in_file(plain, until),
            None => Ok(true),
        };
        if !same.map_err(|error| Self::unreadable(&file, &error))? {
            return Err(Unread::Lost(Reason::Truncated));
        }
        again.read_again(from, until);
        while again.offset < until {
            self.read_chunk_again(id, tail, sink, (&file, is_left), (again, until))?;
        }
        Ok(())
    }

    /// The same of a chunk.
    fn read_chunk_again(
        &mut self,
        id: TailId,
        tail: &Tail,
        sink: usize,
        (file, is_left): (&LogFile, bool),
        (again, until): (&mut Cursor, u64),
    ) -> Result<(), Unread> {
        let unreadable = |error: io::Error| Self::unreadable(file, &error);
        let guard = again.guard_len();
        let piece = self.read(again, file).map_err(unreadable)?;
        let left = usize::try_from(until - again.offset).unwrap_or(usize::MAX);
        let fresh = piece.bytes.saturating_sub(guard).min(left);
        if fresh < left && piece.at_end {
            let reason = match file.content.damage() {
                Some(_) => Reason::DamagedGzip,
                None => Reason::Truncated,
            };
            return Err(Unread::Lost(reason));
        }
        if fresh == 0 {
            // It is being unpacked up to there.
            return Ok(());
        }
        if !again.is_continued_by(&self.buffer[..guard + fresh]) {
            return Err(Unread::Lost(Reason::Truncated));
        }
        let pumped = {
            let (target, encoding, buffer) = self.target(id, tail, sink);
            let read = &buffer[..guard + fresh];
            let pumped = pump::pump(target, again, encoding, &file.account, read);
            again.consume(read, pumped.consumed);
            pumped
        };
        let line = guard + pumped.consumed;
        let line = line..line + pumped.rest;
        match pumped.stop {
            Some(Stop::Budget) => return Err(Turn::Stalled.into()),
            Some(Stop::Failed | Stop::Probed) => return Err(Turn::More.into()),
            Some(Stop::Zeros) if fresh < left => {
                let zeros = again.offset + line.len() as u64;
                let data = behind(&file.content, zeros).map_err(unreadable)?.min(until);
                self.end_line_again(id, tail, sink, file, (again, line))?;
                again.read_again(data, until);
            }
            Some(Stop::Zeros) | None if fresh == left => {
                let line = if is_left { line } else { line.start..line.start };
                self.end_line_again(id, tail, sink, file, (again, line))?;
                again.read_again(until, until);
            }
            None if pumped.consumed == 0 && piece.bytes == self.buffer.len() => {
                self.enlarge_buffer()
            }
            Some(Stop::Zeros) | None => {}
        }
        Ok(())
    }

    /// The line that stands in the buffer has no other end.
    fn end_line_again(
        &mut self,
        id: TailId,
        tail: &Tail,
        sink: usize,
        file: &LogFile,
        (again, line): (&mut Cursor, Range<usize>),
    ) -> Result<(), Turn> {
        let (mut target, encoding, buffer) = self.target(id, tail, sink);
        let read = (&buffer[..line.end], line.len());
        match pump::flush(&mut target, again, encoding, &file.account, read, false) {
            true => Ok(()),
            false => Err(Turn::Stalled),
        }
    }

    /// An earlier file's bytes; one that is not held open is opened for the moment.
    fn open_earlier(&mut self, held: &LogFile) -> Result<Content, Unread> {
        let Content::Closed(closed) = &held.content else { return Ok(held.content.clone()) };
        let now = Instant::now();
        match self.open_closed(closed, &held.account) {
            Ok(content) => Ok(content),
            Err(error) if descriptors::is_shortage(&error) => {
                Err(Turn::Later(now + turns::NO_ROOM).into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = now.saturating_duration_since(closed.missing_since(now));
                match missing < turns::give_up_after(&held.account) {
                    true => Err(Turn::Later(now + turns::LOOK_AGAIN).into()),
                    false => Err(Unread::Lost(Reason::DeletedUnseen)),
                }
            }
            Err(error) => Err(Self::unreadable(held, &error).into()),
        }
    }
}

/// Where a run of NULs ends, of which `from` is a part, and the file's end at the latest.
fn behind(content: &Content, mut from: u64) -> io::Result<u64> {
    loop {
        match zeros::behind(content, from)? {
            Behind::Data(end) | Behind::Nothing(end) => return Ok(end),
            Behind::NotYet(to) => from = to,
        }
    }
}
