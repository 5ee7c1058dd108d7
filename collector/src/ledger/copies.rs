//! Under which names the records of copies go.
//!
//! A record's name is its file's life and the offset that it begins at. What a copy holds was perhaps sent from its
//! original, and not acknowledged before a crash: it must come again under the name that it had. So a copy's records
//! are named after its original, as far as the copy is known to hold the original's bytes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{checkpoint::CopyOf, identity::FileId};

/// All copies. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Copies(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<HashMap<FileId, CopyOf, foldhash::fast::RandomState>>,
    /// False: there is none. Asked whenever a lane turns to another file.
    any: AtomicBool,
}

impl Copies {
    /// Those that the checkpoint knows.
    pub fn new(known: BTreeMap<FileId, CopyOf>) -> Self {
        let any = AtomicBool::new(!known.is_empty());
        Self(Arc::new(Shared { files: Mutex::new(known.into_iter().collect()), any }))
    }

    /// A file of `size` bytes is a copy of another, which may be a copy itself. `cut`: the other one is cut at
    /// the copy's end.
    pub fn note(&self, file: FileId, original: FileId, size: u64, cut: bool) {
        let mut files = self.files();
        let copy = match files.get(&original) {
            // Beyond what that one holds of its original, this one's bytes are nobody's.
            Some(copy) if copy.until < size => *copy,
            Some(copy) => CopyOf { life: copy.life, until: size, cut },
            None => CopyOf { life: original, until: size, cut },
        };
        files.insert(file, copy);
        self.0.any.store(true, Ordering::Release);
    }

    /// What a file is a copy of, if it is one.
    pub fn of(&self, file: FileId) -> Option<CopyOf> {
        if !self.0.any.load(Ordering::Acquire) {
            return None;
        }
        self.files().get(&file).copied()
    }

    /// The life that records of a file have their names from which begin at `offset`, and at which other offsets
    /// they have the same.
    pub fn life_at(&self, file: FileId, offset: u64) -> (FileId, Range<u64>) {
        match self.of(file) {
            None => (file, 0..u64::MAX),
            Some(copy) if offset < copy.until => (copy.life, 0..copy.until),
            Some(copy) => (file, copy.until..u64::MAX),
        }
    }

    /// What is unfinished at `end` of a file, if anything, begins at `from`, and is over there. At the end of a copy
    /// that is so because the copy ends: the original went on, and its record of this name is another. True:
    /// records from there on have the copy's own name.
    pub fn end(&self, file: FileId, end: u64, from: Option<u64>) -> bool {
        let Some((copy, from)) = self.of(file).zip(from) else { return false };
        let ends_early = end > copy.until || end == copy.until && !copy.cut;
        if ends_early && from < copy.until {
            self.files().insert(file, CopyOf { until: from, ..copy });
        }
        ends_early
    }

    /// The file is forgotten.
    pub fn forget(&self, file: FileId) {
        if self.0.any.load(Ordering::Acquire) {
            let mut files = self.files();
            files.remove(&file);
            self.0.any.store(!files.is_empty(), Ordering::Release);
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, CopyOf, foldhash::fast::RandomState>> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: FileId = FileId(1);
    const COPY: FileId = FileId(2);
    const SECOND: FileId = FileId(3);

    #[test]
    fn a_copys_records_are_named_after_its_original_as_far_as_it_holds_that() {
        let copies = Copies::default();
        assert_eq!(copies.life_at(COPY, 5), (COPY, 0..u64::MAX));
        copies.note(COPY, LIFE, 100, false);
        assert_eq!(copies.life_at(COPY, 99), (LIFE, 0..100));
        assert_eq!(copies.life_at(COPY, 100), (COPY, 100..u64::MAX), "somebody wrote to the copy");
        assert_eq!(copies.life_at(LIFE, 5), (LIFE, 0..u64::MAX));
        copies.forget(COPY);
        assert_eq!(copies.life_at(COPY, 5), (COPY, 0..u64::MAX));
    }

    #[test]
    fn a_copy_of_a_copy_is_named_after_the_first() {
        let copies = Copies::new([(COPY, CopyOf { life: LIFE, until: 100, cut: false })].into());
        copies.note(SECOND, COPY, 60, false);
        assert_eq!(copies.life_at(SECOND, 59), (LIFE, 0..60));
        copies.note(SECOND, COPY, 150, false);
        assert_eq!(copies.life_at(SECOND, 99), (LIFE, 0..100));
        assert_eq!(copies.life_at(SECOND, 100).0, SECOND);
    }

    #[test]
    fn what_ends_only_because_the_copy_ends_has_a_name_of_its_own() {
        let copies = Copies::default();
        copies.note(COPY, LIFE, 100, false);
        assert!(!copies.end(COPY, 40, Some(30)), "a cut of the original's");
        assert!(!copies.end(COPY, 100, None) && copies.life_at(COPY, 99).0 == LIFE);
        assert!(copies.end(COPY, 100, Some(90)));
        assert_eq!((copies.life_at(COPY, 89).0, copies.life_at(COPY, 90).0), (LIFE, COPY));
        copies.note(COPY, LIFE, 100, true);
        assert!(!copies.end(COPY, 100, Some(90)), "the original was cut there");
        assert_eq!(copies.life_at(COPY, 90).0, LIFE);
        assert!(!copies.end(LIFE, 100, Some(90)));
    }
}
