//! A truncation under the reader: how one life of an inode ends and the next begins.
//!
//! What the life held that was not read is not given up here: a copy may hold it (`copytruncate`). The
//! registry decides that once all that was read is settled.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Feedback, Reader, Turn, lane_of};
use crate::{
    ledger::FileAccount,
    messages::{self, Kind},
    read::{
        cursor::Cursor,
        tail::{LogFile, Tail, TailId},
    },
    reason::Reason,
};

/// The new size can be seen before the kernel has counted the truncation: whoever truncates may have to
/// wait for a core in between. So long a file waits for its count, and no other file does. After that it
/// was written over, and nothing was taken away.
const COUNTED_WITHIN: Duration = Duration::from_millis(100);
/// Between two looks at the count.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Files whose truncation is not counted yet, by their tails, and since when they wait.
pub(super) type Uncounted = HashMap<TailId, Instant>;

impl Reader {
    /// The file is not the one that was read before: its inode was truncated. The inode's next life
    /// begins behind this one.
    ///
    /// # Errors
    /// No room for what is left, or it is not counted yet: what is to be done instead.
    pub(super) fn truncated(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
    ) -> Result<(), Turn> {
        let index = tail.cursors[sink].index;
        let is_first = tail.slot(index).is_some_and(|slot| !slot.truncated);
        if is_first && let Some(at) = self.awaits_count(id, file) {
            return Err(Turn::Later(at));
        }
        if is_first && self.cuts_life(id, tail, sink, file) {
            return Err(Turn::Cutting);
        }
        let Some(unread) = self.end_here(id, tail, sink, file) else { return Err(Turn::Stalled) };
        if is_first && file.live {
            let next = self.next_life(file);
            tail.replace(index, next);
        } else if is_first {
            self.end_life(file);
            tail.mark_written_over(file.token);
            // What it holds now may be a copy of what was read already: the registry tells.
            self.tell(Feedback::WrittenOver(file.token, Arc::clone(&file.account)));
        }
        let lanes = &mut self.sinks[sink];
        let lane = lane_of(id.0, lanes.lanes.len() as u32) as usize;
        let cursor = &mut tail.cursors[sink];
        if unread > 0 {
            // A copy goes on behind it: nobody reads the beginning of a message there.
            cursor.give_up(Reason::Truncated, unread);
            messages::say_lost(&file.account.path(), Reason::Truncated, unread);
        }
        // Of the bytes that were read: a copy that holds them goes on behind them.
        let end = (cursor.offset, cursor.guard());
        cursor.end_life((&lanes.outlet, &mut lanes.lanes[lane]), &file.account, end);
        self.next_file(id, tail, sink, file);
        Ok(())
    }

    /// A message that is unfinished where its life ends is sent as it is. A copy may have the rest: after a crash it
    /// must not come from there whole, under the same uid. So the life is cut there first, durably. False: go on.
    fn cuts_life(&mut self, id: TailId, tail: &Tail, sink: usize, file: &LogFile) -> bool {
        let at = tail.cursors[sink].offset;
        let is_cut = self.setup.accounts.cuts.next(file.account.id, at) == Some(at);
        !is_cut && self.cuts_first(id, tail, sink, file, (&(0..0), true))
    }

    /// When to look again whether the kernel has counted the truncation of a file. None: it has, or does
    /// not count, or was given time enough.
    fn awaits_count(&mut self, id: TailId, file: &LogFile) -> Option<Instant> {
        let now = Instant::now();
        let before = file.account.truncated.load(Ordering::Acquire);
        if count(file).is_some_and(|taken| taken == before) {
            // One that was left over from another time says nothing.
            self.uncounted.retain(|_, since| now < *since + COUNTED_WITHIN * 10);
            let since = *self.uncounted.entry(id).or_insert(now);
            if now < since + COUNTED_WITHIN {
                return Some(now + BETWEEN_LOOKS);
            }
        }
        self.uncounted.remove(&id);
        None
    }

    /// Whether a life ended of which nothing was read: no guard can tell, and the kernel's count does.
    /// Where something was read, the count came late, and is the former life's.
    pub(super) fn is_overlooked(&self, cursor: &Cursor, file: &LogFile) -> bool {
        if cursor.offset > 0 {
            return false;
        }
        let known = &file.account.truncated;
        let Some(taken) = count(file).filter(|taken| *taken != known.load(Ordering::Acquire))
        else {
            return false;
        };
        let slots = self.sinks.len() as u16;
        let is_read = |slot| file.account.sink(slot).read.load(Ordering::Acquire) > 0;
        let late = (0..slots).any(is_read);
        if late {
            known.store(taken, Ordering::Release);
        }
        !late
    }

    /// Ends a life. What truncations have taken away of the inode by now, if the kernel counts.
    fn end_life(&self, file: &LogFile) -> Option<u32> {
        let (old, taken) = (&file.account, count(file));
        if let Some(taken) = taken {
            old.end_at(taken);
        }
        self.setup.accounts.prefixes.end(old.id);
        fail::fail_point!("read.life_ends");
        old.ended.store(true, Ordering::Release);
        old.stale.store(true, Ordering::Release);
        old.let_go();
        fail::fail_point!("read.life_ended");
        taken
    }

    /// The next life of a truncated inode.
    fn next_life(&self, file: &LogFile) -> LogFile {
        let old = &file.account;
        let path = old.path();
        let account = Arc::new(FileAccount::new(
            old.identity.clone(),
            self.setup.accounts.free_epoch(&old.identity, old.epoch + 1),
            Arc::clone(&old.source),
            &path,
            self.sinks.len(),
        ));
        // What is taken away after this is the next life's.
        if let Some(taken) = self.end_life(file) {
            account.truncated.store(taken, Ordering::Release);
        }
        if let Some(plain) = file.content.plain() {
            account.hold(plain);
        }
        if let Some(unsaid) = messages::admit(Kind::Truncated, &path) {
            tracing::warn!(path = %path.display(), "A log file was truncated; it is read anew from its beginning.{unsaid}");
        }
        self.setup.accounts.insert(Arc::clone(&account));
        let (next, former) = (Arc::clone(&account), Arc::clone(old));
        self.tell(Feedback::Truncated(file.token, next, former));
        LogFile { account, ..file.clone() }
    }
}

/// What truncations have taken away of a file, as the kernel counts.
fn count(file: &LogFile) -> Option<u32> {
    file.bell.as_ref()?.truncated()
}
