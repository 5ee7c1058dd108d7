//! Cuts: ends of messages that are not in the bytes.
//!
//! A message that nobody has gone on with for a while is ended where its file ended at that moment.
//! Whoever reads the file, for whichever sink and however often, ends there whatever is unfinished,
//! and so makes the same records. A cut is made durable before the first record is sent that it makes,
//! and withdrawn if it cannot be. Most files never have one; they take no room here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::identity::FileId;

/// Cuts kept of one file. More than that pile up only while a sink does not move; what is unfinished
/// then waits for it.
const MOST: usize = 256;

/// The cuts of all files.
#[derive(Debug, Default)]
pub struct Cuts {
    /// Offsets (in the uncompressed bytes), in order.
    files: Mutex<HashMap<FileId, Vec<u64>, foldhash::fast::RandomState>>,
    /// False: no file has one. Asked at every read.
    any: AtomicBool,
}

impl Cuts {
    /// Those that the checkpoint knows.
    pub fn new(known: BTreeMap<FileId, Box<[u64]>>) -> Self {
        let any = AtomicBool::new(!known.is_empty());
        let files = known.into_iter().map(|(file, cuts)| (file, cuts.into_vec())).collect();
        Self { files: Mutex::new(files), any }
    }

    /// Cuts a file at an offset. `needed`: nobody will read it again from before that. False: it has
    /// too many.
    pub fn add(&self, file: FileId, at: u64, needed: u64) -> bool {
        let mut files = self.files();
        let cuts = files.entry(file).or_default();
        cuts.retain(|cut| *cut >= needed);
        let place = cuts.partition_point(|cut| *cut < at);
        if cuts.get(place) != Some(&at) {
            if cuts.len() >= MOST {
                return false;
            }
            cuts.insert(place, at);
        }
        self.any.store(true, Ordering::Release);
        true
    }

    /// Takes a cut back that could not be made durable: nothing was sent that rests on it.
    pub fn withdraw(&self, file: FileId, at: u64) {
        let mut files = self.files();
        if let Some(cuts) = files.get_mut(&file) {
            cuts.retain(|cut| *cut != at);
            if cuts.is_empty() {
                files.remove(&file);
            }
        }
    }

    /// The first cut of a file at or behind an offset.
    pub fn next(&self, file: FileId, from: u64) -> Option<u64> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let files = self.files();
        let cuts = files.get(&file)?;
        cuts.get(cuts.partition_point(|cut| *cut < from)).copied()
    }

    /// A file's cuts, for the checkpoint.
    pub fn of(&self, file: FileId) -> Box<[u64]> {
        self.files().get(&file).map(|cuts| cuts.as_slice().into()).unwrap_or_default()
    }

    /// The file is forgotten.
    pub fn forget(&self, file: FileId) {
        if self.any.load(Ordering::Acquire) {
            let mut files = self.files();
            files.remove(&file);
            self.any.store(!files.is_empty(), Ordering::Release);
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, Vec<u64>, foldhash::fast::RandomState>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId(7);

    #[test]
    fn cuts_are_found_from_any_offset_until_nobody_needs_them() {
        let cuts = Cuts::new([(FILE, Box::from([30]))].into());
        assert!(cuts.add(FILE, 10, 0) && cuts.add(FILE, 20, 0) && cuts.add(FILE, 20, 0));
        assert_eq!(*cuts.of(FILE), [10, 20, 30]);
        let next = |from| cuts.next(FILE, from);
        assert_eq!([next(0), next(10), next(11), next(30)], [10, 10, 20, 30].map(Some));
        assert_eq!((next(31), cuts.next(FileId(8), 0)), (None, None));
        assert!(cuts.add(FILE, 40, 30));
        assert_eq!(*cuts.of(FILE), [30, 40]);
        cuts.withdraw(FILE, 40);
        cuts.forget(FILE);
        assert_eq!((cuts.next(FILE, 0), cuts.of(FILE).len()), (None, 0));
    }

    #[test]
    fn a_file_has_no_more_than_its_share() {
        let cuts = Cuts::default();
        assert!((0..MOST as u64).all(|at| cuts.add(FILE, at, 0)));
        assert!(!cuts.add(FILE, MOST as u64, 0) && cuts.add(FILE, 3, 0));
        assert!(cuts.add(FILE, MOST as u64, 1));
    }
}
