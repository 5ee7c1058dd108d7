//! More files than descriptors: a file that found no room is open for a visit and closed after it;
//! where bytes would wait in it unread, one that has none gives way.
//!
//! A deleted file is never closed before it is read to its end: nobody could open it again.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{LogFile, Reader, Tail, TailId, Turn};
use crate::{
    ledger::FileAccount,
    messages,
    read::{
        content::{Closed, Content},
        descriptors,
        guard::Guard,
        identity,
        tail::Slot,
    },
    reason::Reason,
};

/// A file that cannot be found is looked for again after this: a listing is on its way that says
/// what it is called now.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// It is given up for lost when nobody has found it for so long.
pub(super) const GIVE_UP: Duration = Duration::from_secs(3);
/// Where there is no descriptor at all, it is tried again after this.
pub(super) const NO_ROOM: Duration = Duration::from_millis(250);
/// Files that give way at once where there is no descriptor at all: the sinks may need some.
const GIVE_WAY: usize = 8;

impl Reader {
    /// Has the file that a cursor is in open.
    pub(super) fn reopen(&mut self, id: TailId, tail: &mut Tail, sink: usize) -> Result<(), Turn> {
        let index = tail.cursors[sink].index;
        let Some(slot) = tail.slot(index) else { return Ok(()) };
        let Content::Closed(closed) = &slot.file.content else { return Ok(()) };
        if slot.truncated {
            return Ok(());
        }
        let (closed, account, gone) =
            (Arc::clone(closed), Arc::clone(&slot.file.account), slot.gone.is_some());
        let opened = self.open_closed(&closed, &account);
        let now = Instant::now();
        match opened {
            Ok(content) => {
                if let Some(file) = content.plain() {
                    account.hold(file);
                }
                tail.set_content(index, &content);
                Ok(())
            }
            Err(error) if descriptors::is_shortage(&error) => Err(Turn::Later(now + NO_ROOM)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = now.saturating_duration_since(closed.missing_since(now));
                let over = gone || tail.has_successor(index);
                if !over || missing < GIVE_UP {
                    return Err(Turn::Later(now + LOOK_AGAIN));
                }
                if let Some(file) = tail.slot(index).map(|slot| slot.file.clone()) {
                    self.read_earlier(id, tail, sink, &file)?;
                }
                match self.vanished(id, tail, sink) {
                    true => Err(Turn::More),
                    false => Err(Turn::Stalled),
                }
            }
            Err(error) => {
                let Some(slot) = tail.slot(index) else { return Ok(()) };
                let file = slot.file.clone();
                Err(Self::unreadable(&file, &error))
            }
        }
    }

    /// Opens a file that is not held open; others give way if there is no descriptor for it.
    pub(super) fn open_closed(
        &mut self,
        closed: &Closed,
        account: &FileAccount,
    ) -> io::Result<Content> {
        let opened = closed.open(&account.path(), &account.identity);
        if opened.as_ref().is_err_and(descriptors::is_shortage) && self.make_room(GIVE_WAY) > 0 {
            return closed.open(&account.path(), &account.identity);
        }
        opened
    }

    /// A file went while nobody held it open. What is known to have been in it and was not read is
    /// lost. False: the sink's budget has no room.
    fn vanished(&mut self, id: TailId, tail: &mut Tail, sink: usize) -> bool {
        let index = tail.cursors[sink].index;
        let Some(slot) = tail.slot(index) else { return true };
        let file: LogFile = slot.file.clone();
        slot.finished = true;
        if !tail.cursors[sink].entered {
            // Nothing is read: nothing can fail.
            let _entered = tail.cursors[sink].enter(&file.account, None);
            self.enter_set_back(id, tail, sink, &file);
        }
        let Some(unread) = self.end_here(id, tail, sink, &file) else { return false };
        let seen = file.account.seen.load(Ordering::Acquire);
        let lost = seen.saturating_sub(tail.cursors[sink].offset) + unread;
        if lost > 0 {
            let lanes = &mut self.sinks[sink];
            let lane = super::lane_of(id.0, lanes.lanes.len() as u32) as usize;
            let cursor = &mut tail.cursors[sink];
            cursor.give_up(Reason::DeletedUnseen, lost);
            let lane = (&lanes.outlet, &mut lanes.lanes[lane]);
            // Also where it was read to its end before, and a message without its end was to be read again.
            cursor.end_life(lane, &file.account, (seen, Guard::NONE));
            messages::say_lost(&file.account.path(), Reason::DeletedUnseen, lost);
        }
        self.next_file(id, tail, sink, &file);
        true
    }

    /// The slots of the sinks that there are.
    fn slots(&self) -> Vec<u16> {
        self.sinks.iter().map(|sink| sink.outlet.sink).collect()
    }

    /// At the end of a visit: closes what found no room, unless it is gone, or unread and another
    /// file can give way to it.
    pub(super) fn close_the_rest(&mut self, tail: &mut Tail) {
        let found_room = |slot: &mut Slot| {
            slot.file.content.plain().is_none_or(|file| descriptors::admits(&**file))
        };
        if tail.slots_mut().all(found_room) {
            return;
        }
        let sinks = self.slots();
        // Its own give way first: a source with many files is no reason to close another's.
        let mut given = tail.close_idle(&sinks);
        for slot in tail.slots_mut() {
            let Some(file) = slot.file.content.plain() else { continue };
            if descriptors::admits(&**file) {
                continue;
            }
            let deleted = slot.is_deleted();
            if given == 0 && (deleted || slot.is_unread(&sinks)) {
                given = self.make_room(1);
            }
            if (deleted || slot.is_unread(&sinks)) && given > 0 {
                given -= 1;
                // The number that became free is this file's.
                if let Ok(moved) = file.try_clone()
                    && descriptors::admits(&moved)
                {
                    let moved = Arc::new(moved);
                    slot.file.account.hold(&moved);
                    slot.file.content = Content::Plain(moved);
                    continue;
                }
            }
            if !deleted || !descriptors::admits_deleted(&**file) {
                slot.close();
            }
        }
    }

    /// Closes what is idle: all that is over the bound, which may have been lowered, and some more.
    pub(super) fn give_way(&mut self) {
        let sinks = self.slots();
        for tail in self.tails.values_mut() {
            for slot in tail.slots_mut() {
                let file = slot.file.content.plain();
                if file.is_some_and(|file| !descriptors::admits(&**file)) && slot.is_idle(&sinks) {
                    slot.close();
                }
            }
        }
        self.make_room(GIVE_WAY);
    }

    /// Closes up to `wanted` files that are read to their end and can be opened again; how many.
    pub(super) fn make_room(&mut self, wanted: usize) -> usize {
        let now = Instant::now();
        if self.none_idle.is_some_and(|at| now.saturating_duration_since(at) < NO_ROOM) {
            return 0;
        }
        let sinks = self.slots();
        let (mut closed, mut refilled) = (0, false);
        while closed < wanted {
            let Some(id) = self.idle.pop() else {
                if std::mem::replace(&mut refilled, true) {
                    // There may be thousands: they are not all asked at every visit.
                    self.none_idle = Some(now);
                    break;
                }
                self.idle.extend(self.tails.keys());
                continue;
            };
            let Some(tail) = self.tails.get_mut(&id) else { continue };
            closed += tail.close_idle(&sinks);
        }
        closed
    }
}

impl Tail {
    /// Closes what is read to its end and can be opened again; how many files. A compressed one only when every
    /// cursor has left it: whoever came back would unpack it from its beginning.
    fn close_idle(&mut self, sinks: &[u16]) -> usize {
        let left = self.left_behind().filter(|slot| slot.file.content.is_compressed());
        let compressed = left.filter_map(|slot| slot.close_idle(sinks)).count();
        let plain = self.slots_mut().filter(|slot| !slot.file.content.is_compressed());
        compressed + plain.filter_map(|slot| slot.close_idle(sinks)).count()
    }
}

impl Slot {
    /// Whether bytes wait in it that some sink has not read.
    fn is_unread(&self, sinks: &[u16]) -> bool {
        let account = &self.file.account;
        let seen = account.seen.load(Ordering::Acquire);
        sinks.iter().any(|sink| account.sink(*sink).read.load(Ordering::Acquire) < seen)
    }

    /// Whether it has no name any more, so that nobody could open it again.
    fn is_deleted(&self) -> bool {
        let file = self.file.content.held();
        let links = file.and_then(|file| identity::look(&file).ok()).map(|look| look.links);
        self.gone.is_some() || links == Some(0)
    }

    fn is_idle(&self, sinks: &[u16]) -> bool {
        !self.truncated && !self.is_unread(sinks) && !self.is_deleted()
    }

    /// Closes it if it is read to its end and can be opened again.
    fn close_idle(&mut self, sinks: &[u16]) -> Option<()> {
        let is_open = !matches!(self.file.content, Content::Closed(_));
        let idle = is_open && self.is_idle(sinks);
        idle.then(|| self.close())
    }

    fn close(&mut self) {
        if !self.truncated {
            self.file.content = self.file.content.to_closed(self.file.account.identity.key);
        }
    }
}
