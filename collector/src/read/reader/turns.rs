//! More files than descriptors: a file that found no room is open for a visit and closed after it;
//! where bytes would wait in it unread, one that has none gives way.
//!
//! A deleted file is never closed before it is read to its end: nobody could open it again. For a tenant that has
//! more than its share no other's file gives way.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{LogFile, Reader, Tail, Turn};
use crate::{
    descriptors,
    identity::{self, guard::Guard},
    ledger::FileAccount,
    messages,
    read::{
        content::{Closed, Content},
        permits,
        tail::{Slot, TailId},
    },
    reason::Reason,
};

/// A file that cannot be found is looked for again after this: a listing is on its way that says
/// what it is called now.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// It is given up for lost when nobody has found it for so long.
const GIVE_UP: Duration = Duration::from_secs(3);
/// The same where a compressed file was found that may hold its rest. The registry tells within ten seconds whether it
/// does: so long it waits for sinks that have not settled what was read.
const GIVE_UP_AWAITED: Duration = Duration::from_secs(13);
/// Where there is no descriptor at all, it is tried again after this.
pub(super) const NO_ROOM: Duration = Duration::from_millis(250);
/// Files that give way at once where there is no descriptor at all: the sinks may need some.
const GIVE_WAY: usize = 8;

/// How long a file that nobody finds is waited for.
pub(super) fn give_up_after(account: &FileAccount) -> Duration {
    match account.awaited.load(Ordering::Acquire) {
        true => GIVE_UP_AWAITED,
        false => GIVE_UP,
    }
}

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
                if self.goes_on_in_a_copy(&account) {
                    self.leave_to_its_copy(id, tail, sink);
                    return Err(Turn::More);
                }
                let over = gone || tail.has_successor(index);
                if !over || missing < give_up_after(&account) {
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

    /// Whether a compressed copy was found to be the rest of a file: it has the file's id and an account of its own, and
    /// follows in the tail.
    fn goes_on_in_a_copy(&self, account: &Arc<FileAccount>) -> bool {
        self.setup.accounts.get(account.id).is_some_and(|now| !Arc::ptr_eq(&now, account))
    }

    /// Nothing is lost of a file whose copy is read on from what is settled of it.
    fn leave_to_its_copy(&mut self, id: TailId, tail: &mut Tail, sink: usize) {
        let index = tail.cursors[sink].index;
        let Some(slot) = tail.slot(index) else { return };
        let file: LogFile = slot.file.clone();
        slot.finished = true;
        tail.cursors[sink].let_alone();
        self.next_file(id, tail, sink, &file);
    }

    /// Opens a file that is not held open; others give way if there is no descriptor for it.
    pub(super) fn open_closed(
        &mut self,
        closed: &Closed,
        account: &FileAccount,
    ) -> io::Result<Content> {
        let opened = closed.open(&account.path(), &account.identity);
        if opened.as_ref().is_err_and(descriptors::is_shortage)
            && self.make_room(GIVE_WAY, permits::is_over(&account.source.tenant())) > 0
        {
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
            file.account.vanished.store(true, Ordering::Release);
            // What is settled is behind the lost end: this tells a copy by what was read.
            let read = (cursor.offset, cursor.guard());
            self.setup.accounts.prefixes.end_at(file.account.id, read);
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
        if tail.slots_mut().all(|slot| slot.found_room()) {
            return;
        }
        let tenant = tail.source.tenant();
        if tail.find_room(&tenant) {
            return;
        }
        let (sinks, over) = (self.slots(), permits::is_over(&tenant));
        // Its own give way first: a source with many files is no reason to close another's.
        let mut given = tail.close_idle(&sinks);
        for slot in tail.slots_mut() {
            if slot.found_room() {
                continue;
            }
            let Some(file) = slot.file.content.plain() else { continue };
            let deleted = slot.is_deleted();
            if given == 0 && (deleted || slot.is_unread(&sinks)) {
                given = self.make_room(1, over);
            }
            if (deleted || slot.is_unread(&sinks)) && given > 0 {
                given -= 1;
                // The number that became free is this file's.
                if let Ok(moved) = file.try_clone()
                    && let Some(permit) = permits::permit(Arc::clone(&tenant), &moved)
                {
                    let moved = Arc::new(moved);
                    slot.permit = Some(permit);
                    slot.file.account.hold(&moved);
                    slot.file.content = Content::Plain(moved);
                    continue;
                }
            }
            if deleted && descriptors::admits_deleted(&**file) {
                if !descriptors::admits(&**file) {
                    continue;
                }
                // Not among those that a tenant beyond its share leaves to others.
                if let Ok(moved) = descriptors::move_beyond(file)
                    && descriptors::admits_deleted(&moved)
                {
                    let moved = Arc::new(moved);
                    slot.file.account.hold(&moved);
                    slot.file.content = Content::Plain(moved);
                    continue;
                }
            }
            slot.close();
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
        self.make_room(GIVE_WAY, false);
    }

    /// Closes up to `wanted` files that are read to their end and can be opened again; how many. For a
    /// tenant that is over its share, only those of tenants that are.
    pub(super) fn make_room(&mut self, wanted: usize, over: bool) -> usize {
        let now = Instant::now();
        let none_idle = self.none_idle[usize::from(over)];
        if none_idle.is_some_and(|at| now.saturating_duration_since(at) < NO_ROOM) {
            return 0;
        }
        let sinks = self.slots();
        let (mut closed, mut refilled) = (0, false);
        while closed < wanted {
            let Some(id) = self.idle.pop() else {
                if std::mem::replace(&mut refilled, true) {
                    // There may be thousands: they are not all asked at every visit.
                    self.none_idle[usize::from(over)] = Some(now);
                    break;
                }
                self.idle.extend(self.tails.keys());
                // The last is asked first.
                self.idle
                    .sort_by_cached_key(|id| self.tails.get(id).is_some_and(|it| it.is_over()));
                continue;
            };
            let Some(tail) = self.tails.get_mut(&id) else { continue };
            if over && !tail.is_over() {
                continue;
            }
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

    /// Whether its tenant has more descriptors than its share.
    fn is_over(&self) -> bool {
        permits::is_over(&self.source.tenant())
    }

    /// Whether all of its open files may stay open, if there is room for them now. A source has its share too:
    /// beyond it, only deleted files find room.
    fn find_room(&mut self, tenant: &Arc<str>) -> bool {
        let share = permits::share(descriptors::for_files());
        let (mut held, mut all) = (0, true);
        for slot in self.slots_mut() {
            if slot.found_room() || (held < share || slot.is_deleted()) && slot.finds_room(tenant) {
                held += u64::from(slot.permit.is_some());
            } else {
                all = false;
            }
        }
        all
    }

    /// Files that were just handed over: those that find no room are closed until their visit.
    pub(super) fn close_new(&mut self) {
        if self.slots_mut().all(|slot| slot.found_room()) {
            return;
        }
        if self.find_room(&self.source.tenant()) {
            return;
        }
        for slot in self.slots_mut() {
            if !slot.found_room() && !slot.is_deleted() {
                slot.close();
            }
        }
    }
}

impl Slot {
    /// Whether it may stay open, or is not.
    fn found_room(&self) -> bool {
        let admits = |file: &Arc<std::fs::File>| descriptors::admits_permitted(&**file);
        self.file.content.plain().is_none_or(|file| self.permit.is_some() && admits(file))
    }

    /// The same, if there is room for it now.
    fn finds_room(&mut self, tenant: &Arc<str>) -> bool {
        if self.found_room() {
            return true;
        }
        // The bound may have been lowered since.
        self.permit = None;
        let Some(file) = self.file.content.plain() else { return true };
        self.permit = permits::permit(Arc::clone(tenant), &**file);
        self.permit.is_some()
    }

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
            self.permit = None;
            self.file.content = self.file.content.to_closed(self.file.account.identity.key);
        }
    }
}
