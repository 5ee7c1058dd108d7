//! What tells copies of files that end before what was read of the files.
//!
//! Kept for all files together: most have none, and an account of each is in memory.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::identity::{
    FileId,
    checksum::Checksum,
    guard::{AtHand, Guard},
    prefix::PrefixGuards,
};

/// The guards of all files' beginnings.
#[derive(Debug, Default)]
pub struct Prefixes(Mutex<HashMap<FileId, Kept, foldhash::fast::RandomState>>);

#[derive(Debug, Default)]
struct Kept {
    guards: PrefixGuards,
    /// A truncation ended the life, or it is gone: only copies hold it now, and the checkpoint is to know this.
    ended: bool,
}

impl Prefixes {
    /// Those that the checkpoint knows.
    pub fn new(known: BTreeMap<FileId, PrefixGuards>) -> Self {
        let known = known.into_iter().map(|(file, guards)| (file, Kept { guards, ended: true }));
        Self(Mutex::new(known.collect()))
    }

    /// A file's bytes `from..to` were read, for whichever sink.
    pub fn note(&self, file: FileId, range: (u64, u64), bytes: AtHand<'_>) {
        self.files().entry(file).or_default().guards.note(range, bytes);
    }

    /// A plain file is read on whose first `read` bytes a former run read. That run's guards are gone with
    /// it, so they are taken of the file. One that cannot be read now has none.
    pub fn take_up(&self, id: FileId, file: &File, read: u64) {
        if read == 0 || self.files().contains_key(&id) {
            return;
        }
        // Not while everybody waits for the lock.
        if let Ok(guards) = PrefixGuards::in_file(file, read) {
            self.files().entry(id).or_insert(Kept { guards, ended: false });
        }
    }

    /// A truncation ended a life.
    pub fn end(&self, file: FileId) {
        if let Some(kept) = self.files().get_mut(&file) {
            kept.ended = true;
        }
    }

    /// A file was gone before it was read whole: only copies hold its end now. `read`: up to where it was read, and the
    /// guard there.
    pub fn end_at(&self, file: FileId, (at, guard): (u64, Guard)) {
        let mut files = self.files();
        let kept = files.entry(file).or_default();
        kept.guards.note_end(at, guard);
        kept.ended = true;
    }

    /// A copy of a file that is whole was seen, which the checkpoint is to know: it may be all that is left of the file
    /// after a truncation. False: it is known.
    pub fn note_copy(&self, file: FileId, copied: Checksum) -> bool {
        let mut files = self.files();
        let kept = files.entry(file).or_default();
        kept.ended = true;
        kept.guards.note_copy(copied)
    }

    /// A file's guards.
    pub fn of(&self, file: FileId) -> Option<PrefixGuards> {
        self.files().get(&file).map(|kept| kept.guards)
    }

    /// A file's guards, if only copies hold it.
    pub fn of_ended(&self, file: FileId) -> Option<PrefixGuards> {
        self.files().get(&file).filter(|kept| kept.ended).map(|kept| kept.guards)
    }

    /// A file is nobody's any more.
    pub fn forget(&self, file: FileId) {
        self.files().remove(&file);
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, Kept, foldhash::fast::RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
