//! When a file of a tail is at its end, and when it is let go.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use super::{DELETED_GRACE, LINGER, LogFile, RENAMED_GRACE, ROTATION_GRACE, Slot, Tail};
use crate::{identity, read::cursor::Cursor};

/// A file that nobody needs any more.
#[derive(Debug)]
pub struct Gone {
    /// The file.
    pub file: LogFile,
    /// A truncation ended its life; another one of the same inode follows.
    pub is_former_life: bool,
}

/// What a reader at the end of a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// More may be written: wait for a hint.
    Stay,
    /// Look again then.
    Later(Instant),
    /// Go on to the next file.
    Next,
    /// Go on to the next file, and leave the line that has no end yet where it is until then.
    Pass(Instant),
    /// This was the source's last file: flush what is left and be done with it.
    Finish,
}

impl Tail {
    /// What to do at the end of the file at `index`, of which `size` bytes were there, `rest` of them
    /// of a line without its end.
    pub fn at_end(&mut self, index: u64, size: u64, rest: usize, now: Instant) -> AtEnd {
        let (successor, closed) = (self.has_successor(index), self.closed);
        let Some(slot) = self.slot(index) else { return AtEnd::Stay };
        let file = slot.file.content.plain();
        if slot.truncated || file.is_none() && successor {
            return AtEnd::Next;
        }
        if slot.quiet.0 != size || slot.quiet.1.is_none() {
            slot.grown |= slot.quiet.1.is_some();
            slot.quiet = (size, Some(now));
        }
        let since = slot.quiet.1.unwrap_or(now);
        if slot.again && successor {
            // Its writer may go on for hours, and so does whoever writes the files behind it.
            let wait = rest > 0 && now.saturating_duration_since(since) < ROTATION_GRACE;
            slot.passed |= wait;
            return if wait { AtEnd::Pass(since + ROTATION_GRACE) } else { AtEnd::Next };
        }
        let grace = match (successor, slot.gone, file) {
            (true, _, _) => ROTATION_GRACE,
            // It can grow no more, but its successor may be about to be handed over: a message
            // that is continued there must not be cut in two.
            (false, _, None) => DELETED_GRACE,
            (false, Some(_), _) if closed => DELETED_GRACE,
            (false, Some(_), Some(file)) => match identity::look(file) {
                Ok(look) if look.links > 0 => RENAMED_GRACE,
                Ok(_) | Err(_) => DELETED_GRACE,
            },
            (false, None, Some(_)) => return AtEnd::Stay,
        };
        let quiet_for = now.saturating_duration_since(since);
        let old = successor && slot.is_old(grace);
        if quiet_for < grace && !old {
            return AtEnd::Later(since + grace);
        }
        if successor { AtEnd::Next } else { AtEnd::Finish }
    }

    /// Takes out the first files that nobody needs any more: left behind by every cursor, quiet
    /// for long enough, settled to the last byte, also for the sinks in the slots `awaited`, which
    /// have no cursor now.
    pub fn release(&mut self, now: Instant, awaited: &[u16]) -> Vec<Gone> {
        let reached = self.cursors.iter().map(|cursor| cursor.index).min().unwrap_or(0);
        let mut released = Vec::new();
        while self.first < reached
            && let Some(slot) = self.slots.first()
        {
            let since = slot.quiet.1.unwrap_or(now);
            let compressed = slot.file.content.is_compressed();
            let quiet = compressed
                || self.excluded
                || slot.truncated
                || slot.gone.is_some() && slot.finished
                || now.saturating_duration_since(since) >= LINGER
                || slot.is_old(LINGER);
            let sinks = self.cursors.iter().map(Cursor::sink).chain(awaited.iter().copied());
            // Of a life that a truncation ended there is nothing more to be read.
            let settled = match slot.truncated && !self.comes_again(self.first) {
                true => slot.file.account.is_settled_as_read(sinks),
                false => slot.file.account.is_settled(sinks),
            };
            if !quiet || !settled {
                break;
            }
            let is_former_life = self.slots[0].truncated && !self.comes_again(self.first);
            if !self.excluded && self.slots[0].has_grown() {
                // Written to since the last look: it is not done with.
                self.slots[0].hinted = true;
                break;
            }
            let slot = self.slots.remove(0);
            self.slots.shrink_to_fit();
            self.first += 1;
            slot.file.account.ended.store(true, Ordering::Release);
            slot.file.account.stale.store(true, Ordering::Release);
            released.push(Gone { file: slot.file, is_former_life });
        }
        released
    }
}

impl Tail {
    /// Whether the file at `index` was last written to longer ago than `grace`, by its own time.
    pub fn is_old(&mut self, index: u64, grace: Duration) -> bool {
        self.slot(index).is_some_and(|slot| slot.is_old(grace))
    }
}

impl Slot {
    /// Whether the file was last written to longer ago than `grace`, by its own time. That time is another
    /// clock's (a file server's, or this one's before it was set), so it says nothing of a file that was
    /// seen to grow. Nor does a time in the future: the clock was set back.
    fn is_old(&self, grace: Duration) -> bool {
        let file = self.file.content.plain().filter(|_| !self.grown);
        let modified = file.and_then(|file| file.metadata().and_then(|meta| meta.modified()).ok());
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        age.is_some_and(|age| age >= grace)
    }
}
