//! The originals of copies: files that this run has read, and that `copytruncate` copied and truncated.
//!
//! A copy is taken up where its original is settled, so that a crash loses nothing. What was read beyond that is in
//! batches, and comes to the sink from there: its reader passes it by in the copy. How far that is, the original's
//! account says when the copy is entered, for until then batches may be taken back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use super::account::FileAccount;
use crate::identity::FileId;

type Known = HashMap<FileId, Arc<FileAccount>, foldhash::fast::RandomState>;

/// Originals by the ids of their copies.
#[derive(Debug, Default)]
pub struct Originals(Mutex<Known>);

impl Originals {
    /// This is the original of a copy.
    pub fn note(&self, copy: FileId, original: Arc<FileAccount>) {
        self.known().insert(copy, original);
    }

    /// How many of a copy's first bytes the sink in this slot got from the original, or gets from batches.
    pub fn sent(&self, copy: FileId, slot: u16) -> Option<u64> {
        let original = self.known().get(&copy).cloned()?;
        let sink = original.sink(slot);
        // What was lost is settled without having been sent; it is what comes last.
        let (read, settled) =
            (sink.read.load(Ordering::Acquire), sink.settled.load(Ordering::Acquire));
        Some(read.max(settled).saturating_sub(sink.lost.load(Ordering::Acquire)))
    }

    /// What a file is a copy of, if it is known as one.
    pub fn of(&self, copy: FileId) -> Option<FileId> {
        self.known().get(&copy).map(|original| original.id)
    }

    /// A file is nobody's any more.
    pub fn forget(&self, copy: FileId) {
        self.known().remove(&copy);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        identity::{Identity, InodeKey, guard::Guard},
        source::{Format, Source},
    };

    #[test]
    fn what_a_sink_gets_otherwise_is_what_was_read_and_not_taken_back() {
        let key = InodeKey { device: 1, inode: 2, born_ns: 3 };
        let path = Path::new("/logs/a.log");
        let source = Arc::new(Source::anonymous(path, Format::Plain));
        let identity = Identity { key, handle: None };
        let original = Arc::new(FileAccount::new(identity, 0, source, path, 2));
        let (originals, copy) = (Originals::default(), FileId(7));
        assert_eq!(originals.sent(copy, 0), None);
        originals.note(copy, Arc::clone(&original));
        let sink = original.sink(0);
        sink.settle(40, 40, Guard::NONE);
        sink.read_to(100, Guard::NONE);
        assert_eq!((originals.sent(copy, 0), originals.sent(copy, 1)), (Some(100), Some(0)));
        sink.restart();
        assert_eq!(originals.sent(copy, 0), Some(40), "its batches were taken back");
        sink.read_to(100, Guard::NONE);
        // The truncation took 30 bytes more.
        sink.lost.store(30, Ordering::Release);
        sink.settle(130, 130, Guard::NONE);
        assert_eq!(originals.sent(copy, 0), Some(100));
        originals.forget(copy);
        assert_eq!(originals.sent(copy, 0), None);
    }
}
