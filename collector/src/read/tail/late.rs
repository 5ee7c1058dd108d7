//! Late writes: a file that was left behind and has grown is read again, in its source's place.
//!
//! Its place is before the file that is read now, behind what was read of itself; each sink goes on
//! where it stopped. Whoever still writes to the file behind is not waited for.

use std::{sync::atomic::Ordering, time::Instant};

use slotmap::Key;

use super::{LogFile, ROTATION_GRACE, Slot, Tail};
use crate::{
    identity::{self, guard::Guard},
    watch::{FileToken, Heard},
};

impl Slot {
    /// The size of its file, if that can be written to.
    fn size(&self) -> Option<u64> {
        if self.file.content.is_compressed() {
            return None;
        }
        let look = match self.file.content.plain() {
            Some(file) => identity::look(file).ok(),
            None => {
                let account = &self.file.account;
                let look = identity::look_at(&account.path()).ok();
                look.filter(|look| look.key == account.identity.key)
            }
        };
        look.map(|look| look.size)
    }

    /// Whether its file is longer than was seen.
    pub(super) fn has_grown(&self) -> bool {
        let seen = self.file.account.seen.load(Ordering::Acquire);
        !self.truncated && self.size().is_some_and(|size| size > seen)
    }

    /// Whether its file, which is as long as it was, does not hold what was read of it any more.
    fn is_written_over(&self, read: u64, guard: Guard) -> bool {
        let file = self.file.content.plain();
        file.is_some_and(|file| !guard.holds_in_file(file, read).unwrap_or(true))
    }

    /// A write rings the bell once, before the size shows it: whoever looked in between and saw `size` asks for the
    /// next ring, and is told what was announced.
    fn listen_again(&mut self, size: u64) {
        let heard = self.file.bell.as_ref().map(|bell| bell.set(size));
        self.announced = heard.is_some_and(|heard| heard != Heard::Nothing);
    }

    /// Whether a line without its end has waited long enough for it.
    fn has_waited(&self, now: Instant) -> bool {
        let since = self.quiet.1.unwrap_or(now);
        self.passed && now.saturating_duration_since(since) >= ROTATION_GRACE
    }
}

impl Tail {
    /// Notes that a file may have been written to; the null token means each.
    pub fn hint(&mut self, token: FileToken) {
        for slot in &mut self.slots {
            slot.hinted |= token.is_null() || slot.file.token == token;
        }
    }

    /// Whether files were hinted at since the last look at them.
    pub fn is_hinted(&self) -> bool {
        self.slots.iter().any(|slot| slot.hinted)
    }

    /// Has the cursors come back to files that they left behind and that were written to since. Only
    /// files that were hinted at are looked at: there may be many behind a sink that stands still. True:
    /// a write was announced that no size shows yet, so look again in about a millisecond.
    pub fn return_to_late_writes(&mut self, now: Instant) -> bool {
        let mut at = self.slots.len();
        while let Some(below) = at.checked_sub(1) {
            at = below;
            let slot = &mut self.slots[at];
            let waited = slot.has_waited(now);
            let hinted = std::mem::take(&mut slot.hinted) | std::mem::take(&mut slot.announced);
            if (hinted || waited) && self.is_late(at, waited) {
                self.return_to(at);
            } else if waited {
                self.slots[at].passed = false;
            }
        }
        self.slots.iter().any(|slot| slot.announced)
    }

    /// Whether some cursor has left the file at this place, for good, before bytes that are there.
    fn is_late(&mut self, at: usize, waited: bool) -> bool {
        let (index, slot) = (self.first + at as u64, &self.slots[at]);
        let token = slot.file.token;
        let has_later_place = self.slots[at + 1..].iter().any(|later| later.file.token == token);
        if slot.truncated || has_later_place || self.cursors.iter().all(|it| it.index <= index) {
            return false;
        }
        let Some(size) = slot.size() else { return false };
        if slot.passed && !waited && size == slot.quiet.0 {
            self.slots[at].listen_again(size);
            return false;
        }
        // Not the size seen: others look at it too, and a slower sink may have read further.
        let account = &slot.file.account;
        let late = self.cursors.iter().any(|cursor| {
            let sink = account.sink(cursor.sink());
            let read = sink.read.load(Ordering::Acquire);
            cursor.index > index && (size != read || slot.is_written_over(read, sink.read_guard()))
        });
        if late {
            account.ended.store(false, Ordering::Release);
            account.see(size);
        } else {
            self.slots[at].listen_again(size);
        }
        late
    }

    /// Moves the file at this place before the one that is read now. Its former place stays as long
    /// as a cursor has yet to come by there: what is between is older than what is read now.
    fn return_to(&mut self, at: usize) {
        let index = self.first + at as u64;
        let slot = &mut self.slots[at];
        let needed = match slot.again {
            true => self.cursors.iter().any(|cursor| cursor.index == index),
            false => self.cursors.iter().any(|cursor| cursor.index <= index),
        };
        let mut returned = Slot::new(LogFile { live: false, ..slot.file.clone() });
        (returned.gone, returned.quiet) = (slot.gone, slot.quiet);
        slot.passed = false;
        if !needed {
            self.slots.remove(at);
            for cursor in self.cursors.iter_mut().filter(|cursor| cursor.index > index) {
                cursor.index -= 1;
            }
        }
        self.insert_again(returned);
    }

    /// Takes back a file that was let go and has grown.
    pub fn take_back(&mut self, file: LogFile) {
        self.closed = false;
        self.insert_again(Slot::new(file));
    }

    fn insert_again(&mut self, slot: Slot) {
        let reached = self.cursors.iter().map(|cursor| cursor.index).max().unwrap_or(self.first);
        let place = (reached.saturating_sub(self.first) as usize).min(self.slots.len());
        let index = self.first + place as u64;
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.index == index) {
            // Its account says where it stopped in the file that it comes back to afterwards.
            cursor.entered = false;
        }
        self.insert(place, Slot { again: true, ..slot });
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write, path::Path, sync::Arc};

    use super::*;
    use crate::{
        decode::{Decoder, Limits},
        identity::{Identity, guard::Guard},
        ledger::FileAccount,
        read::{content::Content, cursor::Cursor, tail::AtEnd},
        source::{Format, Source},
        watch::Bell,
    };

    /// A tail of two sinks and files with one line each, all of it read by both.
    struct Bench {
        dir: tempfile::TempDir,
        tail: Tail,
    }

    impl Bench {
        fn new(files: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let source = Arc::new(Source::anonymous(dir.path().join("0.log"), Format::Plain));
            let limits = Limits { max_line_bytes: 1 << 20, long_lines: Default::default() };
            let cursor = |sink| Cursor::new(sink, 0, Decoder::new(Format::Plain, limits));
            let mut tail = Tail::new(source);
            tail.add_cursor(cursor(0));
            tail.add_cursor(cursor(1));
            let mut bench = Self { dir, tail };
            for token in 1..=files {
                let file = file(bench.dir.path(), &bench.tail, token);
                bench.tail.append(file, None);
            }
            bench
        }

        fn write(&self, token: u64, text: &str) {
            append(self.dir.path(), token, text);
        }

        /// Both sinks go on to the file number `index`, or one of them.
        fn go(&mut self, sinks: &[usize], index: u64) {
            for sink in sinks {
                while self.tail.cursors[*sink].index < index {
                    self.read(*sink);
                    let account = self.file(*sink).account;
                    self.tail.cursors[*sink].leave(&account);
                }
                self.read(*sink);
            }
        }

        fn file(&mut self, sink: usize) -> LogFile {
            let index = self.tail.cursors[sink].index;
            self.tail.slot(index).unwrap().file.clone()
        }

        /// The sink reads the file that it is in to its end; which file that is.
        fn read(&mut self, sink: usize) -> u64 {
            let file = self.file(sink);
            let size = file.content.plain().unwrap().metadata().unwrap().len();
            file.account.see(size);
            let place = file.account.sink(sink as u16);
            place.read_to(size, Guard::NONE);
            place.settle(size, size, Guard::NONE);
            let index = self.tail.cursors[sink].index;
            self.tail.at_end(index, size, 0, Instant::now());
            self.tail.cursors[sink].entered = true;
            number(&file)
        }

        fn hint(&mut self, token: u64) {
            self.tail.hint(FileToken::numbered(token));
            self.tail.return_to_late_writes(Instant::now());
        }

        fn order(&self) -> Vec<u64> {
            self.tail.files().map(number).collect()
        }
    }

    fn number(file: &LogFile) -> u64 {
        (1..10).find(|n| FileToken::numbered(*n) == file.token).unwrap()
    }

    fn append(dir: &Path, token: u64, text: &str) {
        let path = dir.join(format!("file-{token}"));
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn file(dir: &Path, tail: &Tail, token: u64) -> LogFile {
        append(dir, token, "line\n");
        let path = dir.join(format!("file-{token}"));
        let (file, look) = identity::open(&path).unwrap();
        let identity = Identity { key: look.key, handle: None };
        let account = FileAccount::new(identity, 0, Arc::clone(&tail.source), &path, 2);
        let content = Content::Plain(Arc::new(file));
        let token = FileToken::numbered(token);
        LogFile { token, account: Arc::new(account), content, live: false, bell: None }
    }

    #[test]
    fn a_late_write_is_read_before_the_live_file_that_is_returned_to() {
        let mut bench = Bench::new(2);
        bench.go(&[0, 1], 1);
        bench.hint(1);
        assert_eq!(bench.order(), [1, 2], "nothing was written");
        bench.write(1, "late\n");
        // Others look at the size too.
        bench.tail.files().next().unwrap().account.see(10);
        bench.hint(1);
        assert_eq!(bench.order(), [1, 2]);
        for sink in [0, 1] {
            assert!(!bench.tail.cursors[sink].entered);
            assert_eq!(bench.read(sink), 1);
            let index = bench.tail.cursors[sink].index;
            // The line is whole: the file behind waits for nobody's next one.
            assert_eq!(bench.tail.at_end(index, 10, 0, Instant::now()), AtEnd::Next);
            bench.go(&[sink], index + 1);
            assert_eq!(bench.read(sink), 2);
        }
    }

    #[test]
    fn a_file_that_is_written_to_for_hours_takes_no_more_places_than_there_are_sinks() {
        let mut bench = Bench::new(3);
        // The second sink stands still in the first file.
        bench.go(&[0], 2);
        for _ in 0..100 {
            bench.write(1, "late\n");
            bench.hint(1);
            assert_eq!(bench.read(0), 1, "the first sink does not wait for the second");
            let index = bench.tail.cursors[0].index;
            bench.go(&[0], index + 1);
            assert_eq!(bench.read(0), 3);
            assert!(bench.order().len() <= 3 + 2, "{:?}", bench.order());
        }
        // The second finds them in the order in which they were written first.
        let mut order = Vec::new();
        let last = bench.tail.cursors[0].index;
        while bench.tail.cursors[1].index < last {
            let before = bench.file(1).account.sink(1).read.load(Ordering::Acquire);
            order.push(bench.read(1));
            assert!(before == 0 || bench.file(1).account.seen.load(Ordering::Acquire) == before);
            let account = bench.file(1).account;
            bench.tail.cursors[1].leave(&account);
        }
        order.dedup();
        assert_eq!(order, [1, 2, 1], "the last place has nothing new");
        assert_eq!(bench.read(1), 3);
    }

    #[test]
    fn a_line_without_its_end_is_left_for_a_while_and_then_not_waited_for() {
        let mut bench = Bench::new(2);
        bench.go(&[0, 1], 1);
        bench.write(1, "half a li");
        bench.hint(1);
        let now = Instant::now();
        let index = bench.tail.cursors[0].index;
        let look = bench.tail.at_end(index, 14, 9, now);
        assert_eq!(look, AtEnd::Pass(now + ROTATION_GRACE));
        for sink in [0, 1] {
            let account = bench.file(sink).account;
            account.sink(sink as u16).read_to(5, Guard::NONE);
            bench.tail.cursors[sink].leave(&account);
        }
        bench.hint(1);
        assert_eq!(bench.tail.cursors[0].index, index + 1, "nothing more was written");
        bench.tail.return_to_late_writes(now + ROTATION_GRACE);
        assert_eq!(
            (bench.tail.cursors[0].index, bench.file(0).token),
            (index, FileToken::numbered(1))
        );
        assert_eq!(bench.tail.at_end(index, 14, 9, now + ROTATION_GRACE), AtEnd::Next);
    }

    #[test]
    fn a_write_that_is_told_before_the_size_shows_it_is_waited_for() {
        let mut bench = Bench::new(2);
        bench.go(&[0, 1], 1);
        let bell = Bell::announcing(10);
        bench.tail.slot(0).unwrap().file.bell = Some(bell.clone());
        bench.tail.hint(FileToken::numbered(1));
        assert!(bench.tail.return_to_late_writes(Instant::now()), "it is looked at again soon");
        assert!(bell.is_armed(), "and told of the next write");
        bench.write(1, "late\n");
        assert!(!bench.tail.return_to_late_writes(Instant::now()));
        assert_eq!((bench.read(0), bench.read(1)), (1, 1));
    }

    #[test]
    fn what_was_let_go_and_has_grown_is_read_before_the_live_file() {
        let mut bench = Bench::new(2);
        bench.go(&[0, 1], 1);
        let released = bench.tail.release(Instant::now() + 2 * crate::read::tail::LINGER, &[]);
        assert_eq!(released.iter().map(|gone| number(&gone.file)).collect::<Vec<_>>(), [1]);
        bench.write(1, "late\n");
        bench.tail.take_back(released.into_iter().next().unwrap().file);
        assert_eq!(bench.order(), [1, 2]);
        assert_eq!((bench.read(0), bench.read(1)), (1, 1));
    }

    #[test]
    fn what_grew_since_the_last_look_is_not_let_go() {
        let mut bench = Bench::new(2);
        bench.go(&[0, 1], 1);
        bench.write(1, "late\n");
        assert!(bench.tail.release(Instant::now() + 2 * crate::read::tail::LINGER, &[]).is_empty());
        bench.tail.return_to_late_writes(Instant::now());
        assert_eq!(bench.read(0), 1);
    }
}
