//! A tail: one source's files in the order they were written.
//!
//! The live file is the last. A file is left behind once it is read to its end, a successor is
//! there and it has been quiet for a while (a runtime may write a last line after the rename); it
//! is let go only when every sink has settled every byte of it.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

mod ended;
mod late;

use super::{content::Content, cursor::Cursor, permits::Permit};
pub use ended::{AtEnd, Gone};

use crate::{
    identity::guard::Guard,
    ledger::FileAccount,
    source::{Format, Source},
    watch::{Bell, FileToken},
};

/// A rotated file must have been unchanged for this long before its successor is read.
pub const ROTATION_GRACE: Duration = Duration::from_millis(300);
/// A deleted file without a successor is finished after this long without a change.
pub const DELETED_GRACE: Duration = Duration::from_secs(2);
/// A file that was renamed out of sight, without a successor, is finished after this long.
pub const RENAMED_GRACE: Duration = Duration::from_secs(60);
/// A file that was left behind is held open at least this long, for a writer's last words.
pub const LINGER: Duration = Duration::from_secs(10);

/// A tail's number; the same for all its files and all its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TailId(pub u64);

/// A file to be read.
#[derive(Debug, Clone)]
pub struct LogFile {
    /// The registry's number for it.
    pub token: FileToken,
    /// Its account.
    pub account: Arc<FileAccount>,
    /// Where its bytes are read from.
    pub content: Content,
    /// Whether it is the file being written now.
    pub live: bool,
    /// To be set at its end, where the kernel watches it.
    pub bell: Option<Bell>,
}

impl LogFile {
    /// The plain file, if marks of it are kept, which tell the copies that `copytruncate` leaves. Of a container's
    /// log there are none: kubelet renames what it rotates.
    pub fn marked(&self) -> Option<&Arc<File>> {
        self.content.plain().filter(|_| self.account.source.format != Format::Cri)
    }
}

/// A file in a tail, and what is known of its end.
pub struct Slot {
    /// The file.
    pub file: LogFile,
    /// When its last name vanished, or its name no longer was one that is collected.
    pub gone: Option<Instant>,
    /// The size at the last look, and since when it is unchanged.
    pub quiet: (u64, Option<Instant>),
    /// It was truncated: what was not read by then is lost, its successor has the same inode.
    pub truncated: bool,
    /// Its unterminated remainder has been delivered.
    pub finished: bool,
    /// It may stay open after a visit.
    pub permit: Option<Permit>,
    /// It was left behind and has grown: this is its second place, before the file being read now.
    again: bool,
    /// It may have been written to since the last look at it.
    hinted: bool,
    /// A write to it was announced that its size does not show yet.
    announced: bool,
    /// It was passed by although a line without its end stands in it.
    passed: bool,
    /// It was seen to grow: how long ago that was is known, whatever time the file bears.
    grown: bool,
}

/// One source's files and one cursor per sink.
pub struct Tail {
    /// The log that its files belong to.
    pub source: Arc<Source>,
    /// The cursors, one per sink.
    pub cursors: Box<[Cursor]>,
    /// Waiting for a visit.
    pub queued: bool,
    /// When it is visited without a hint, if that is planned.
    pub timer: Option<Instant>,
    /// The source is gone; no file will follow.
    pub closed: bool,
    /// The source is excluded; nothing of it is read.
    pub excluded: bool,
    /// Oldest first. Nearly always one: no room is kept for more.
    slots: Vec<Slot>,
    first: u64,
}

impl Slot {
    fn new(file: LogFile) -> Self {
        let (gone, quiet, truncated, finished) = (None, (0, None), false, false);
        let (permit, again, passed, grown) = (None, false, false, false);
        let (hinted, announced) = (false, false);
        Self {
            file,
            gone,
            quiet,
            truncated,
            finished,
            permit,
            again,
            hinted,
            announced,
            passed,
            grown,
        }
    }
}

impl Tail {
    /// A tail without files and cursors.
    pub fn new(source: Arc<Source>) -> Self {
        let (slots, first) = (Vec::new(), 0);
        let (queued, timer, closed, excluded) = (false, None, false, false);
        let cursors = Box::default();
        Self { source, cursors, queued, timer, closed, excluded, slots, first }
    }

    /// A sink's cursor waits: what is unpacked of its file is whoever's who wants it.
    pub fn lend_unpacked(&mut self, sink: usize) {
        if let Some(slot) = self.slot(self.cursors[sink].index) {
            slot.file.content.wait();
        }
    }

    /// Adds a sink's cursor, before the oldest file that is held.
    pub fn add_cursor(&mut self, mut cursor: Cursor) {
        cursor.index = self.first;
        let mut cursors = std::mem::take(&mut self.cursors).into_vec();
        cursors.reserve_exact(1);
        cursors.push(cursor);
        self.cursors = cursors.into();
    }

    /// The sink in this slot is new: lives that have ended by truncation are nothing to it.
    pub fn skip_truncated(&self, sink: u16) {
        for (index, slot) in (self.first..).zip(&self.slots) {
            if slot.truncated && !self.comes_again(index) {
                let account = &slot.file.account;
                account.sink(sink).start_at(account.seen.load(Ordering::Acquire), Guard::NONE);
            }
        }
    }

    /// It is excluded, or is not any more: then what came meanwhile is looked for.
    pub fn exclude(&mut self, excluded: bool) {
        self.excluded = excluded;
        if !excluded {
            self.hint(FileToken::default());
        }
    }

    /// Takes out the cursor at a place; those behind it move up.
    pub fn remove_cursor(&mut self, at: usize) {
        let mut cursors = std::mem::take(&mut self.cursors).into_vec();
        cursors.remove(at);
        self.cursors = cursors.into();
    }

    /// Whether a cursor that waits for nobody is before a file that another one follows.
    pub fn is_passing(&self) -> bool {
        let moves = |cursor: &&Cursor| !cursor.stalled && !cursor.again;
        self.cursors.iter().filter(moves).any(|cursor| self.has_successor(cursor.index))
    }

    /// Whether a file has a later place than the one at `index` (it was written to after it had been
    /// left behind).
    pub fn comes_again(&self, index: u64) -> bool {
        let at = index.saturating_sub(self.first) as usize;
        let Some((slot, later)) = self.slots.get(at..).and_then(<[Slot]>::split_first) else {
            return false;
        };
        later.iter().any(|other| Arc::ptr_eq(&other.file.account, &slot.file.account))
    }

    /// Adds a file: last, or before the one it is older than (found later than that one).
    pub fn append(&mut self, file: LogFile, before: Option<FileToken>) {
        let slot = Slot::new(file);
        let place = self
            .slots
            .iter()
            .position(|slot| before == Some(slot.file.token) && !slot.truncated)
            .unwrap_or(self.slots.len());
        // No cursor may have passed it: where one has, order gives way to completeness.
        let reached = self.cursors.iter().map(|cursor| cursor.index).max().unwrap_or(0);
        let place = place.max(reached.saturating_sub(self.first) as usize).min(self.slots.len());
        let index = self.first + place as u64;
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.index == index) {
            // It is in the later file already and comes back to it: its account says where.
            cursor.entered = false;
        }
        self.insert(place, slot);
        if place + 1 == self.slots.len()
            && let Some(former) = place.checked_sub(1).and_then(|at| self.slots.get_mut(at))
        {
            former.file.live = false;
        }
    }

    /// Puts the next life of a truncated file right behind it.
    pub fn replace(&mut self, index: u64, file: LogFile) {
        let at = (index - self.first) as usize;
        self.slots[at].truncated = true;
        self.slots[at].file.live = false;
        self.insert(at + 1, Slot::new(file));
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.index > index) {
            cursor.index += 1;
        }
    }

    /// A rotated file was written over: nothing more is read of it, wherever it has a place.
    pub fn mark_written_over(&mut self, token: FileToken) {
        let slots = self.slots.iter_mut();
        slots.filter(|slot| slot.file.token == token).for_each(|slot| slot.truncated = true);
    }

    fn insert(&mut self, place: usize, slot: Slot) {
        self.slots.reserve_exact(1);
        self.slots.insert(place, slot);
    }

    /// The file at a cursor's index.
    pub fn slot(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots.get_mut(index.checked_sub(self.first)? as usize)
    }

    /// Puts a sink's cursor back to the first byte that this sink (`number`) has not settled. Whatever is in batches
    /// beyond that will not be settled.
    pub fn rewind(&mut self, sink: usize, number: u16) {
        let mut index = self.cursors[sink].index;
        for at in (0..self.slots.len()).rev() {
            let (slots, later) = self.slots.split_at_mut(at + 1);
            let slot = &mut slots[at];
            let here = self.first + at as u64;
            let account = &slot.file.account;
            let place = &account.sink(number);
            let offset = place.offset();
            let read = place.read.load(Ordering::Acquire);
            if here > self.cursors[sink].index || offset.settled >= read && offset.resume >= read {
                continue;
            }
            // Written to after it was left behind, it has a second place: the first does for both.
            if later.iter().any(|other| Arc::ptr_eq(&other.file.account, account)) {
                slot.truncated = false;
            }
            slot.finished = false;
            place.read_to(offset.settled, offset.guard);
            place.entered.store(false, Ordering::Release);
            index = here;
        }
        self.cursors[sink].rewind(index);
    }

    /// The files, and what is known of their ends.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    /// The file at a cursor's index is open again, or was opened first.
    pub fn set_content(&mut self, index: u64, content: &Content) {
        let Some(token) = self.slot(index).map(|slot| slot.file.token) else { return };
        for slot in self.slots.iter_mut().filter(|slot| slot.file.token == token) {
            slot.file.content = content.clone();
        }
    }

    /// Whether another file follows.
    pub fn has_successor(&self, index: u64) -> bool {
        index + 1 < self.first + self.slots.len() as u64
    }

    /// Whether it holds no file.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether files are held that every cursor has left behind.
    pub fn has_waiting_files(&mut self) -> bool {
        self.left_behind().next().is_some()
    }

    /// The files that every cursor has left behind. They are held until the sinks have settled them.
    pub fn left_behind(&mut self) -> impl Iterator<Item = &mut Slot> {
        let reached = self.cursors.iter().map(|cursor| cursor.index).min().unwrap_or(0);
        let left = reached.saturating_sub(self.first) as usize;
        self.slots.iter_mut().take(left)
    }

    /// A file that is held, unless it has several places, or a truncation ended its life.
    pub fn only_place_of(&self, account: &Arc<FileAccount>) -> Option<&LogFile> {
        let mut places = self.slots.iter().filter(|slot| Arc::ptr_eq(&slot.file.account, account));
        let place = places.next().filter(|slot| !slot.truncated)?;
        places.next().is_none().then_some(&place.file)
    }

    /// Every file held.
    pub fn files(&self) -> impl Iterator<Item = &LogFile> {
        self.slots.iter().map(|slot| &slot.file)
    }

    /// Notes that a file lost its last collected name.
    pub fn mark_gone(&mut self, token: FileToken, now: Instant) {
        for slot in self.slots.iter_mut().filter(|slot| slot.file.token == token) {
            slot.gone.get_or_insert(now);
        }
    }

    /// Notes that a file has a collected name after all, and whether that is the live one's.
    pub fn mark_named(&mut self, token: FileToken, live: bool) {
        for slot in self.slots.iter_mut().filter(|slot| slot.file.token == token) {
            slot.gone = None;
            if !slot.truncated {
                slot.file.live = live;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::*;
    use crate::{
        decode::{Decoder, Limits},
        identity::{self, Identity},
        read::{content::gzip_bytes, permits::permit, unpack::Unpacking},
        source::Format,
    };

    fn tail(dir: &std::path::Path) -> Tail {
        let source = Arc::new(Source::anonymous(dir.join("0.log"), Format::Cri));
        let limits = Limits { max_line_bytes: 1 << 20, long_lines: Default::default() };
        let mut tail = Tail::new(source);
        tail.add_cursor(Cursor::new(0, 0, Decoder::new(Format::Cri, limits)));
        tail
    }

    fn file(tail: &Tail, dir: &std::path::Path, token: u64, gzip: bool, live: bool) -> LogFile {
        let path = dir.join(format!("file-{token}"));
        let text = b"2026-11-22T01:02:03Z stdout P first half";
        fs::write(&path, if gzip { gzip_bytes(text) } else { text.to_vec() }).unwrap();
        let (file, look) = identity::open(&path).unwrap();
        let identity = Identity { key: look.key, handle: None };
        let source = Arc::clone(&tail.source);
        let account = Arc::new(FileAccount::new(identity, 0, source, &path, 1));
        let content = match gzip {
            true => {
                let how = Unpacking::of(&tail.source, &dir.into(), u64::MAX);
                let permit = permit(tail.source.tenant(), &file).unwrap();
                Content::gzip(file, how, permit)
            }
            false => Content::Plain(Arc::new(file)),
        };
        LogFile { token: FileToken::numbered(token), account, content, live, bell: None }
    }

    #[test]
    fn a_quiet_source_costs_little() {
        assert!(size_of::<Tail>() <= 80 && size_of::<Slot>() <= 104);
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path());
        for token in 1..=3 {
            tail.append(file(&tail, dir.path(), token, false, token == 3), None);
            assert_eq!(tail.slots.capacity(), tail.slots.len());
        }
    }

    #[test]
    fn a_compressed_file_waits_for_its_successor_before_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path());
        tail.append(file(&tail, dir.path(), 1, true, false), None);
        let now = Instant::now();
        assert_eq!(tail.at_end(0, 40, 0, now), AtEnd::Later(now + DELETED_GRACE));
        let successor = file(&tail, dir.path(), 2, false, true);
        tail.append(successor, None);
        assert_eq!(tail.at_end(0, 40, 0, now), AtEnd::Next);
    }

    #[test]
    fn a_compressed_file_without_a_successor_is_finished_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path());
        tail.append(file(&tail, dir.path(), 1, true, false), None);
        let now = Instant::now();
        tail.at_end(0, 40, 0, now);
        assert_eq!(tail.at_end(0, 40, 0, now + DELETED_GRACE), AtEnd::Finish);
    }

    #[test]
    fn a_live_file_is_never_finished_and_a_fresh_one_not_left_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path());
        tail.append(file(&tail, dir.path(), 1, false, true), None);
        let now = Instant::now();
        assert_eq!(tail.at_end(0, 40, 0, now), AtEnd::Stay);
        assert_eq!(tail.at_end(0, 40, 0, now + RENAMED_GRACE * 2), AtEnd::Stay);
        tail.append(file(&tail, dir.path(), 2, false, true), None);
        assert!(matches!(tail.at_end(0, 41, 0, now), AtEnd::Later(_)));
        assert_eq!(tail.at_end(0, 41, 0, now + ROTATION_GRACE), AtEnd::Next);
    }

    #[test]
    fn the_time_that_a_file_bears_says_nothing_once_it_was_seen_to_grow() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        for (grows, there) in [(false, AtEnd::Next), (true, AtEnd::Later(now + ROTATION_GRACE))] {
            let mut tail = tail(dir.path());
            let found = file(&tail, dir.path(), 1, false, true);
            let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
            let plain = Arc::clone(found.content.plain().unwrap());
            plain.set_modified(an_hour_ago).unwrap();
            tail.append(found, None);
            if grows {
                assert_eq!(tail.at_end(0, 20, 0, now), AtEnd::Stay);
            }
            assert_eq!(tail.at_end(0, 40, 0, now), AtEnd::Stay);
            tail.append(file(&tail, dir.path(), 2, false, true), None);
            assert_eq!(tail.at_end(0, 40, 0, now), there);
        }
    }

    #[test]
    fn a_file_found_late_goes_before_the_one_it_is_older_than() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path());
        for token in [1, 3] {
            tail.append(file(&tail, dir.path(), token, false, token == 3), None);
        }
        let late = file(&tail, dir.path(), 2, false, false);
        tail.append(late, Some(FileToken::numbered(3)));
        let order: Vec<_> = tail.files().map(|file| file.token).collect();
        assert_eq!(order, [1, 2, 3].map(FileToken::numbered));
        // A cursor that is past that place must not miss it.
        tail.cursors[0].index = 2;
        let later = file(&tail, dir.path(), 4, false, false);
        tail.append(later, Some(FileToken::numbered(1)));
        let order: Vec<_> = tail.files().map(|file| file.token).collect();
        assert_eq!(order, [1, 2, 4, 3].map(FileToken::numbered));
    }
}
