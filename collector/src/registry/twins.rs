//! Copies that `copytruncate` leaves: a live file is copied to `app.log.1` and then truncated.
//!
//! The copy is another inode and holds what the live file held: most of it was sent already, and its
//! end perhaps nowhere else. It gets an entry of its own that begins where the original was left.
//! The bytes before each sink's offset must be there; in doubt it is read from its beginning. It is
//! not decided while it is being written, nor before the original has been truncated or read beyond it.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Registry, evidence,
    originals::{begins_no_more, reopened},
    parked::PARK,
    recognised::{Recognised, Unknown},
};
use crate::{
    checkpoint::{FileEntry, Offset, Offsets},
    discover::Found,
    identity::{
        self, FileId, Fingerprint, InodeKey, Look,
        checksum::{self, Checksum},
        guard::{GUARD_BYTES, Guard},
        prefix::PrefixGuards,
    },
    ledger::{FileAccount, SinkSlot},
};

/// A copy that was written to so lately may still be written.
const SETTLES: Duration = Duration::from_secs(2);
/// What is on the way to a sink is waited for so long: a dead one would hold up the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an unknown rotated file is found to be.
pub(super) enum Twin {
    /// A file of its own.
    Nobodys,
    /// Not to be told yet.
    Later,
    /// A copy: how far it is done with.
    Of(Box<FileEntry>),
}

impl fmt::Display for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobodys => f.write_str("new"),
            Self::Later => f.write_str("not to be told yet"),
            Self::Of(entry) => write!(f, "{}, the rest of a file that was truncated", entry.id),
        }
    }
}

/// A live file that the unknown one may be a copy of, as far as it was read.
pub(super) struct Original {
    /// Its life, where this run knows it.
    pub(super) life: Option<FileId>,
    /// Its id, whoever knows it.
    pub(super) id: FileId,
    pub(super) fingerprint: Fingerprint,
    pub(super) sinks: Vec<(Arc<str>, Offset)>,
    /// Sinks that are not to have it.
    pub(super) excluded: Vec<Arc<str>>,
    /// Its bytes, where they are still there: it was not truncated.
    pub(super) file: Option<Arc<File>>,
    /// Whether batches of it are on the way.
    pub(super) in_flight: bool,
    /// The life that a truncation ended while no agent ran.
    pub(super) former: Option<FileId>,
    /// What tells copies that end before what was read of it.
    pub(super) marks: Option<PrefixGuards>,
    /// It is a copy itself, which was copied once more.
    pub(super) is_copy: bool,
}

impl Registry {
    /// What a rotated file is whose inode nobody knows.
    pub(super) fn recognise_twin(
        &mut self,
        file: &Unknown,
        head: &[u8],
        opened: &HashMap<InodeKey, Recognised>,
    ) -> Twin {
        let Unknown { found, look, .. } = file;
        let originals = self.originals_of((found, look), opened);
        let age = self.age(look);
        let (copied, mut later) = whose_copy(originals, file, head, age);
        // A reader that is ending a life has given that life's file away already, so the life was not
        // among those looked at above. The reader tells of it in a moment. Asked before, this would miss
        // a reader that began in between.
        if copied.is_none() && age < PARK && self.is_to_be_heard(found) {
            later = true;
        }
        if later {
            self.note_doubtful_copy(&found.source.path);
            self.wait_for(found, look, false, true);
            return Twin::Later;
        }
        self.unfinished.remove(&look.key);
        match copied {
            Some((original, sinks)) => {
                Twin::Of(Box::new(self.twin_of(file, head, &original, sinks)))
            }
            None => Twin::Nobodys,
        }
    }

    /// The files and lives of its source that a rotated file may be a copy of.
    fn originals_of(
        &self,
        (found, look): (&Found, &Look),
        opened: &HashMap<InodeKey, Recognised>,
    ) -> Vec<Original> {
        let of_this_look = opened.values().filter(|other| self.may_be_copied(other));
        let of_this_look = of_this_look.filter_map(|other| other.as_original(found));
        let mut originals = self.lives_of(found);
        originals.extend(of_this_look);
        originals.extend(self.copies_of(found, look));
        originals.extend(self.unclaimed.former_of(&found.source.path).map(|entry| {
            let marks = self.setup.accounts.prefixes.of(entry.id);
            Original { marks, ..Original::former(entry) }
        }));
        originals
    }

    /// The entry of a copy, which is taken up at these offsets.
    fn twin_of(
        &mut self,
        file: &Unknown,
        head: &[u8],
        original: &Original,
        sinks: Offsets,
    ) -> FileEntry {
        let look = &file.look;
        if let Some(life) = original.life {
            self.note_copy(life, look.size);
        }
        if let Some(id) = original.former {
            self.unclaimed.gave_its_end_to_a_copy(id, look.size);
        }
        // Where nothing was settled, nothing but the first bytes tells whose copy it is. They are no proof,
        // and a name stands for one record.
        let of = original.is_begun().then_some(original.id);
        let entry = self.entry_of(file, look.size, head, (of, sinks));
        if let Some(original) = original.life.and_then(|life| self.setup.accounts.get(life)) {
            self.setup.accounts.originals.note(entry.id, original);
        }
        entry
    }

    /// The lives of the source's live inode that this run knows: the present one, and those before.
    fn lives_of(&self, found: &Found) -> Vec<Original> {
        let Some(state) = self.sources.get(&found.source.path) else { return Vec::new() };
        let accounts = state.accounts.iter().filter_map(|known| self.setup.accounts.get(known.id));
        let lives = accounts.filter_map(|account| {
            let held = self.held.get(self.held.find(&account.identity.key)?)?;
            let is_former = held.account.id != account.id;
            if !is_former && !held.live {
                return None;
            }
            let file = match is_former {
                true => None,
                false => Some(account.held().or_else(|| reopened(&account))?),
            };
            let marks = self.setup.accounts.prefixes.of(account.id);
            Some(Original { marks, ..Original::of(&account, file, &self.setup.sinks) })
        });
        lives.collect()
    }
}

/// Whose copy a rotated file is, and where it is taken up; and whether that is not to be told yet.
fn whose_copy(
    originals: Vec<Original>,
    unknown: &Unknown,
    head: &[u8],
    age: Duration,
) -> (Option<(Original, Offsets)>, bool) {
    let Unknown { found, file, look, .. } = unknown;
    let mut copied: Option<(Original, Offsets)> = None;
    // The one that was read furthest: what it has beyond the others is not to come again.
    let mut begun: Option<(u64, (Original, Offsets))> = None;
    let mut later = false;
    for original in originals {
        match original.copied_to(file, look, head, age) {
            Copied::No => {
                tracing::debug!(path = %found.path.display(), id = %original.id, held = original.file.is_some(), first_bytes = original.fingerprint.len, alike = original.fingerprint.matches(head), "A rotated file is no copy of this life.");
            }
            Copied::Perhaps if original.is_copy => return (None, true),
            Copied::Perhaps => later = true,
            Copied::Yes(sinks) if original.is_begun() => {
                let read = sinks.values().map(|at| at.settled).sum();
                if begun.as_ref().is_none_or(|(other, _)| read > *other) {
                    begun = Some((read, (original, sinks)));
                }
            }
            // Only its first bytes tell, and another life may begin alike: one that was found after its
            // truncation, and whose next life is what was found.
            Copied::Yes(sinks) => {
                let is_better = |other: &Original| original.in_flight || !other.in_flight;
                if copied.as_ref().is_none_or(|(other, _)| is_better(other)) {
                    copied = Some((original, sinks));
                }
            }
        }
    }
    match begun {
        // The live file may turn out to be read further than the copy.
        Some((_, (original, _))) if original.is_copy && later => (None, true),
        Some((_, begun)) => (Some(begun), false),
        None => (copied, later),
    }
}

/// Whether a file is a copy of another.
enum Copied {
    No,
    Perhaps,
    Yes(Offsets),
}

impl Original {
    /// A life that a truncation ended while no agent ran.
    fn former(entry: &FileEntry) -> Self {
        Self {
            fingerprint: evidence::fingerprint(entry),
            sinks: entry.sinks.iter().map(|(name, at)| (Arc::clone(name), *at)).collect(),
            excluded: Vec::new(),
            file: None,
            in_flight: false,
            life: None,
            id: entry.id,
            former: Some(entry.id),
            marks: None,
            is_copy: false,
        }
    }

    pub(super) fn of(account: &FileAccount, file: Option<Arc<File>>, slots: &[SinkSlot]) -> Self {
        let ended = account.ended.load(Ordering::Acquire);
        let mut original = Self {
            life: Some(account.id),
            id: account.id,
            fingerprint: account.fingerprint(),
            sinks: Vec::new(),
            excluded: Vec::new(),
            file,
            in_flight: false,
            former: None,
            marks: None,
            is_copy: false,
        };
        for slot in slots {
            let (name, sink) = (Arc::clone(&slot.name), account.sink(slot.number));
            if sink.is_excluded() {
                original.excluded.push(name);
                continue;
            }
            let mut at = sink.offset();
            original.in_flight |= sink.read.load(Ordering::Acquire) > at.settled;
            if ended {
                // What was lost when it was truncated was not read, and may be in the copy.
                at.settled -= at.lost.min(at.settled);
                at.resume = at.resume.min(at.settled);
            }
            original.sinks.push((name, at));
        }
        original
    }

    /// Whether anything of it is settled.
    fn is_begun(&self) -> bool {
        self.sinks.iter().any(|(_, at)| at.settled > 0)
    }

    /// Where a copy of `size` bytes is taken up, by sink. One that is not to have the original is not
    /// to have the copy.
    fn places(&self, size: u64, place: impl Fn(Offset) -> Offset) -> Offsets {
        let sinks = self.sinks.iter().map(|(name, at)| (Arc::clone(name), place(*at)));
        let end = Offset { settled: size, resume: size, ..Offset::default() };
        sinks.chain(self.excluded.iter().map(|name| (Arc::clone(name), end))).collect()
    }

    fn copied_to(&self, copy: &File, look: &Look, head: &[u8], age: Duration) -> Copied {
        let recent = age < SETTLES;
        let perhaps = if recent { Copied::Perhaps } else { Copied::No };
        if head.is_empty() {
            return perhaps;
        }
        let known = self.fingerprint.len as usize;
        let may_be = known > 0 && self.fingerprint.matches(head);
        if let Some(file) = &self.file {
            let alike = identity::head(file).is_ok_and(|own| own.starts_with(head));
            // Of a copy that is shorter than the first bytes that are known, nothing more can be said yet.
            let may_be = may_be || head.len() < known && begins_no_more(file, self.fingerprint);
            return match (alike, may_be) {
                (true, _) => self.is_beginning_of(file, copy, look.size, recent),
                // It was truncated, and its reader has not said so yet, however old the copy is: the agent
                // may have been paused.
                (false, true) => Copied::Perhaps,
                (false, false) => Copied::No,
            };
        }
        // What a sink skipped that was added later has no guard, and was not read.
        let furthest = self.sinks.iter().filter(|(_, at)| !at.guard.is_none());
        let furthest = furthest.map(|(_, at)| at.settled).max().unwrap_or(0);
        let is_short = may_be && look.size < furthest || known > head.len();
        // A sink that is down would hold up the others: after a while the copy is told all the same.
        let waits = self.in_flight && age < PATIENCE;
        if is_short && self.holds_marks((copy, head), look.size) {
            if waits {
                return Copied::Perhaps;
            }
            return Copied::Yes(self.places_in(copy, look.size));
        }
        if known > 0 && head.len() < known || may_be && look.size < furthest {
            // Too short to tell: it is being written, or is something else.
            return perhaps;
        }
        if !may_be {
            return Copied::No;
        }
        if waits {
            return Copied::Perhaps;
        }
        let mut guarded = self.sinks.iter().filter(|(_, at)| !at.guard.is_none()).peekable();
        // Of a life of which nothing was settled it is read from its beginning: that skips nothing.
        let is_guarded = guarded.peek().is_some() || !self.is_begun();
        if !is_guarded || !guarded.all(|(_, at)| holds(copy, *at)) {
            return Copied::No;
        }
        Copied::Yes(self.places_in(copy, look.size))
    }

    /// Where a copy is taken up, by sink: no farther than it goes.
    fn places_in(&self, copy: &File, size: u64) -> Offsets {
        let guard = Guard::in_file(copy, size).unwrap_or_default();
        let end = Offset { settled: size, resume: size, guard, ..Offset::default() };
        self.places(size, |at| {
            let Offset { settled, resume, guard, .. } = at;
            let read = Offset { settled, resume, guard, ..Offset::default() };
            if settled < size { read } else { end }
        })
    }

    /// Whether a copy that ends before what was read of the original holds what stands before earlier
    /// offsets, and before those of sinks that are not as far.
    fn holds_marks(&self, (copy, head): (&File, &[u8]), size: u64) -> bool {
        let mut within = self.sinks.iter().filter(|(_, at)| at.settled <= size);
        let held = |at, guard: Guard| guard.holds_in_file(copy, at).unwrap_or(false);
        let is_beginning = |marks: &PrefixGuards| {
            // All of it is read only where it can be that.
            let crc = marks.ends_at(size).then(|| checksum::crc_of(copy, size));
            let content =
                crc.and_then(|crc| Some(Checksum { crc: crc.ok()??, length: size as u32 }));
            content.is_some_and(|content| marks.is_beginning(content))
        };
        let whole = usize::try_from(size).ok().and_then(|size| head.get(..size));
        let is_it = |marks: &PrefixGuards| match whole {
            Some(content) => marks.begins_with(content),
            None => is_beginning(marks) || marks.tell(size, held),
        };
        self.marks.as_ref().is_some_and(is_it) && within.all(|(_, at)| holds(copy, *at))
    }

    /// The original is as it was: a copy is the beginning of it, and nothing to read once the original
    /// was read as far. Until then either may turn out to hold what is still to be read.
    fn is_beginning_of(&self, file: &File, copy: &File, size: u64, recent: bool) -> Copied {
        let guard = Guard::in_file(copy, size).unwrap_or_default();
        let alike = guard.length() as u64 == size.min(GUARD_BYTES as u64)
            && guard.holds_in_file(file, size).unwrap_or(false);
        let read = self.sinks.iter().all(|(_, at)| at.settled.min(at.resume) >= size);
        match alike {
            false if recent => Copied::Perhaps,
            false => Copied::No,
            true if recent || !read => Copied::Perhaps,
            true => {
                let at = Offset { settled: size, resume: size, guard, ..Offset::default() };
                Copied::Yes(self.places(size, |_| at))
            }
        }
    }
}

/// Whether a file holds the bytes that were read of another before this offset.
fn holds(file: &File, at: Offset) -> bool {
    let long_enough = identity::look(file).is_ok_and(|look| look.size >= at.settled);
    long_enough && at.guard.holds_in_file(file, at.settled).unwrap_or(false)
}

#[cfg(test)]
mod tests;
