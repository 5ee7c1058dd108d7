//! What a reader keeps of unfinished messages between its visits: as much as it may, and of the rest only
//! where they began.
//!
//! The bytes of an unfinished message stand in its file. A cursor whose decoder holds more text than
//! there is room for is set back to where its oldest unfinished message begins, with a decoder that
//! knows nothing; when the file has grown, or the message has waited long enough, it reads again from
//! there; if it began in an earlier file, the files from there on (`earlier`). What a message costs is bounded:
//! one that is read again too often, or from too far back, is cut.

use std::{collections::HashMap, io, sync::atomic::Ordering, time::Instant};

use super::{LogFile, Reader, Tail, Turn, lane_of};
use crate::{
    identity::{self, FileId, guard::Guard},
    read::{content::Content, tail::TailId},
    record::Origin,
};

/// So often a message is read again before it is cut.
const TIMES: u32 = 16;
/// From no farther back is it read again, bytes.
const FAR: u64 = 16 << 20;

/// A source, and the slot of the sink that it is read for.
type Reading = (TailId, u16);

/// Text held by decoders, and cursors that were set back.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    held: HashMap<Reading, usize, foldhash::fast::RandomState>,
    total: usize,
    set_back: HashMap<Reading, SetBack, foldhash::fast::RandomState>,
}

/// A cursor that was set back.
#[derive(Debug, Clone, Copy)]
pub(super) struct SetBack {
    /// The file that it is in.
    pub(super) file: FileId,
    /// Where its oldest unfinished message begins.
    pub(super) origin: Origin,
    /// How large the file was.
    size: u64,
    /// When it is to be read again if it stays so. None: not.
    due: Option<Instant>,
    times: u32,
}

impl SetBack {
    /// Where its file is read again from.
    fn from(&self) -> u64 {
        if self.is_over_files() { 0 } else { self.origin.offset }
    }

    fn is_over_files(&self) -> bool {
        self.origin.file != self.file
    }
}

impl Reader {
    /// One cursor's turn. It does not end before the end of the file with more in its decoder than there
    /// is room for: it would be set back, and never come further.
    pub(super) fn whole_turn(&mut self, id: TailId, tail: &mut Tail, sink: usize) -> Turn {
        let mut turn = self.take_turn(id, tail, sink);
        for _ in 0..FAR >> 20 {
            let bytes = tail.cursors[sink].decoder.pending_bytes();
            let reading = (id, tail.cursors[sink].sink());
            if !matches!(turn, Turn::More) || self.has_room(reading, bytes) {
                break;
            }
            turn = self.take_turn(id, tail, sink);
        }
        turn
    }

    fn has_room(&self, reading: Reading, bytes: usize) -> bool {
        let held = self.unfinished.held.get(&reading).copied().unwrap_or(0);
        self.unfinished.total - held + bytes <= self.setup.unfinished_bytes
    }

    /// The cursor's turn is over: gives back what can be had again. True: the source must wait for a cut.
    pub(super) fn give_back(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        turn: &Turn,
    ) -> bool {
        let cursor = &mut tail.cursors[sink];
        cursor.decoder.give_back();
        let (at, bytes) = ((id, cursor.sink()), cursor.decoder.pending_bytes());
        let has_room = self.has_room(at, bytes);
        self.unfinished.total -= self.unfinished.held.remove(&at).unwrap_or(0);
        let before = self.unfinished.set_back.remove(&at);
        let still = before.filter(|_| !cursor.entered);
        if let Some(still) = still.filter(|it| bytes == 0 || it.is_over_files()) {
            // It was let alone, or is in a file that comes before, or knows no more than the earlier files.
            cursor.let_alone();
            self.unfinished.set_back.insert(at, still);
            return false;
        }
        if bytes == 0 {
            // Nothing of what it was set back for is read again yet.
            let waits = before.filter(|_| cursor.offset < cursor.covered());
            self.unfinished.set_back.extend(waits.map(|it| (at, it)));
            return false;
        }
        if has_room {
            self.unfinished.held.insert(at, bytes);
            self.unfinished.total += bytes;
            return false;
        }
        let Some(origin) = cursor.decoder.resume() else { return false };
        let (index, offset) = (cursor.index, cursor.offset);
        let Some(file) = tail.slot(index).map(|slot| slot.file.clone()) else { return false };
        let cursor = &mut tail.cursors[sink];
        // Unless it waits at the end, it is not to be let alone.
        let (due, size) = match turn {
            Turn::Later(at) => (Some(*at), self.waits_at(id, file.account.id).unwrap_or(0)),
            _ => (None, 0),
        };
        let again = before.filter(|it| it.origin == origin);
        let times = again.map_or(0, |it| it.times) + u32::from(due.is_some());
        let is_inside_line = cursor.decoder.is_inside_line();
        // A file that was left and is returned to is not all that the message stands in.
        let is_within =
            origin.file == file.account.id && cursor.carried_since(origin.file).is_none();
        let distance = match is_within {
            true => Some(offset - origin.offset.min(offset)),
            false if is_inside_line => None,
            false => self.distance(tail, sink, origin, &file),
        };
        if distance.is_none_or(|bytes| bytes > FAR) || times > TIMES {
            let between = tail.cursors[sink].entered && !is_inside_line;
            return between && self.request_cut(id, tail, (index, &file), offset);
        }
        tail.cursors[sink].let_alone();
        let set_back = SetBack { file: file.account.id, origin, size, due, times };
        self.unfinished.set_back.insert(at, set_back);
        false
    }

    /// A cursor that was set back and has nothing new to read: what its turn comes to.
    pub(super) fn stays_set_back(
        &self,
        id: TailId,
        tail: &Tail,
        sink: usize,
        file: &LogFile,
    ) -> Option<Turn> {
        let cursor = &tail.cursors[sink];
        let set_back = self.unfinished.set_back.get(&(id, cursor.sink()))?;
        let last = !cursor.entered && !tail.has_successor(cursor.index) && !tail.closed;
        let same = set_back.file == file.account.id
            && file.content.plain().is_some_and(|plain| {
                identity::look(plain).is_ok_and(|look| look.links > 0 && look.size == set_back.size)
            });
        // At the beginning of a file, a cut ends what began before it.
        let from = set_back.from() + u64::from(!set_back.is_over_files());
        let cut = self.setup.accounts.cuts.next(file.account.id, from).is_some();
        if !last || !same || cut {
            return None;
        }
        match set_back.due {
            None => Some(Turn::Idle),
            Some(due) if due > Instant::now() => Some(Turn::Later(due)),
            Some(_) => None,
        }
    }

    /// A cursor enters a file, if it is not in it. Whether the file holds what was read of it by then.
    ///
    /// # Errors
    /// It cannot be read now: what is to be done instead.
    pub(super) fn enter(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        (file, truncated): (&LogFile, bool),
    ) -> Result<bool, Turn> {
        if tail.cursors[sink].entered {
            return Ok(true);
        }
        self.read_earlier(id, tail, sink, file)?;
        let content = (!truncated).then_some(&file.content);
        let sent = match content {
            Some(content) => self.sent_otherwise(file, content, tail.cursors[sink].sink()),
            None => Ok(None),
        };
        let sent = sent.map_err(|error| Self::unreadable(file, &error))?;
        let cursor = &mut tail.cursors[sink];
        let same = cursor.enter(&file.account, content);
        let same = same.map_err(|error| Self::unreadable(file, &error))?;
        if same && let Some(sent) = sent {
            let lanes = &mut self.sinks[sink];
            let lane = lane_of(id.0, lanes.lanes.len() as u32) as usize;
            cursor.move_to(sent.0, sent.1);
            // It is settled when the batches before it in the lane are.
            cursor.cover((&lanes.outlet, &mut lanes.lanes[lane]), &file.account, sent, 0);
        }
        if same && let Some(plain) = content.and_then(|_| file.marked()) {
            let read = tail.cursors[sink].offset;
            self.setup.accounts.prefixes.take_up(file.account.id, plain, read);
        }
        self.enter_set_back(id, tail, sink, file);
        Ok(same)
    }

    /// Up to where a sink that was not in a copy yet gets its bytes from the original, and the guard there. None: up
    /// to where it is settled.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    fn sent_otherwise(
        &self,
        file: &LogFile,
        content: &Content,
        slot: u16,
    ) -> io::Result<Option<(u64, Guard)>> {
        let (account, place) = (&file.account, file.account.sink(slot));
        if place.entered.load(Ordering::Acquire) {
            return Ok(None);
        }
        let Some(sent) = self.setup.accounts.originals.sent(account.id, slot) else {
            return Ok(None);
        };
        let sent = sent.min(account.seen.load(Ordering::Acquire));
        match sent > place.settled.load(Ordering::Acquire) {
            true => content.guard(sent).map(|guard| Some((sent, guard))),
            false => Ok(None),
        }
    }

    /// A file is entered: by a cursor that was set back in it, where that was.
    pub(super) fn enter_set_back(&self, id: TailId, tail: &mut Tail, sink: usize, file: &LogFile) {
        if let Some(set_back) = self.unfinished.set_back.get(&(id, tail.cursors[sink].sink()))
            && set_back.file == file.account.id
        {
            tail.cursors[sink].set_back(set_back.from());
        }
    }

    /// A file is over for a cursor, wherever it stands in it, and with it what is unfinished. How many bytes
    /// it was to read again, which it does not. None: the sink's budget is used up.
    pub(super) fn end_here(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
    ) -> Option<u64> {
        let cursor = &mut tail.cursors[sink];
        let set_back = self.unfinished.set_back.get(&(id, cursor.sink()));
        let (before, covered) = (cursor.offset, cursor.covered());
        let unread = match set_back {
            Some(set_back) if set_back.file == file.account.id => covered.saturating_sub(before),
            Some(_) | None => 0,
        };
        if unread > 0 {
            cursor.move_to(covered, file.account.sink(cursor.sink()).read_guard());
        }
        if self.flush(id, tail, sink, file, (0..0, true)) {
            return Some(unread);
        }
        if unread > 0 {
            tail.cursors[sink].move_to(before, Guard::NONE);
        }
        None
    }

    /// How a cursor was set back whose message began in an earlier file.
    pub(super) fn set_back_over_files(&self, id: TailId, sink: u16) -> Option<SetBack> {
        let set_back = self.unfinished.set_back.get(&(id, sink)).copied();
        set_back.filter(SetBack::is_over_files)
    }

    /// A file is left for good.
    pub(super) fn leave_set_back(&mut self, id: TailId, sink: u16, file: FileId) {
        if self.unfinished.set_back.get(&(id, sink)).is_some_and(|it| it.file == file) {
            self.unfinished.set_back.remove(&(id, sink));
        }
    }

    /// The source is finished.
    pub(super) fn forget_unfinished(&mut self, id: TailId) {
        self.unfinished.forget(|(tail, _)| tail == id);
    }

    /// The source goes back to what is settled, for one sink.
    pub(super) fn forget_unfinished_for(&mut self, id: TailId, sink: u16) {
        self.unfinished.forget(|reading| reading == (id, sink));
    }

    /// The sink is gone, or begins anew where its accounts say.
    pub(super) fn forget_unfinished_of(&mut self, sink: u16) {
        self.unfinished.forget(|(_, slot)| slot == sink);
    }
}

impl Unfinished {
    fn forget(&mut self, over: impl Fn(Reading) -> bool) {
        self.set_back.retain(|reading, _| !over(*reading));
        self.held.retain(|reading, _| !over(*reading));
        self.total = self.held.values().sum();
    }
}
