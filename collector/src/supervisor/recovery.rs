//! What the checkpoint knows of files, while they are being found again after a start.

use std::{collections::HashMap, fs::File, path::Path, sync::Arc};

use crate::{
    checkpoint::FileEntry,
    read::{
        identity::{Identity, InodeKey},
        sys,
    },
};

/// Entries that no file has claimed yet.
#[derive(Default)]
pub struct Unclaimed {
    by_base: HashMap<u64, FileEntry>,
}

impl Unclaimed {
    /// All entries of the checkpoint. Of several lives of one inode the latest counts.
    pub fn new(entries: Vec<FileEntry>) -> (Self, Vec<FileEntry>) {
        let mut by_base: HashMap<u64, FileEntry> = HashMap::with_capacity(entries.len());
        let mut former = Vec::new();
        for entry in entries {
            let base = identity_of(&entry).base();
            match by_base.get(&base) {
                Some(known) if known.epoch >= entry.epoch => former.push(entry),
                Some(_) | None => former.extend(by_base.insert(base, entry)),
            }
        }
        (Self { by_base }, former)
    }

    /// Nobody claimed it yet.
    pub fn put_back(&mut self, entry: FileEntry) {
        self.by_base.insert(identity_of(&entry).base(), entry);
    }

    /// The entry of this inode.
    pub fn claim(&mut self, identity: &Identity) -> Option<FileEntry> {
        self.by_base.remove(&identity.base())
    }

    /// The entry of a file of this source that began with these bytes; one whose name is `stem`
    /// is preferred.
    pub fn claim_by_head(&mut self, source: &Path, stem: &str, head: &[u8]) -> Option<FileEntry> {
        let source = source.to_string_lossy();
        let matching = |entry: &FileEntry| {
            let fingerprint = crate::read::identity::Fingerprint {
                hash: entry.fingerprint,
                len: entry.fingerprint_len.into(),
            };
            entry.source.as_os_str() == &*source && fingerprint.len > 0 && fingerprint.matches(head)
        };
        let base = self
            .by_base
            .iter()
            .filter(|(_, entry)| matching(entry))
            .max_by_key(|(_, entry)| (*entry.name == *stem, entry.fingerprint_len))
            .map(|(base, _)| *base)?;
        self.by_base.remove(&base)
    }

    /// Takes out a source's entries that no file claimed, oldest first.
    pub fn take_source(&mut self, source: &Path) -> Vec<FileEntry> {
        let source = source.to_string_lossy();
        self.take_where(|entry| entry.source.as_os_str() == &*source)
    }

    /// Takes out all that is left.
    pub fn take_all(&mut self) -> Vec<FileEntry> {
        let taken = self.take_where(|_| true);
        // It held every file of the checkpoint, and will hold a few that come back.
        self.by_base.shrink_to_fit();
        taken
    }

    fn take_where(&mut self, wanted: impl Fn(&FileEntry) -> bool) -> Vec<FileEntry> {
        let mut taken: Vec<FileEntry> =
            self.by_base.extract_if(|_, entry| wanted(entry)).map(|(_, entry)| entry).collect();
        taken.sort_by_key(|entry| entry.born_ns);
        taken
    }
}

/// The identity that an entry stands for.
pub fn identity_of(entry: &FileEntry) -> Identity {
    let key = InodeKey { device: entry.device, inode: entry.inode, born_ns: entry.born_ns };
    Identity { key, handle: entry.handle.clone() }
}

/// Opens the file of an entry by its handle, wherever it was moved on the filesystem of `near`.
pub fn reopen(entry: &FileEntry, near: &Path) -> Option<Arc<File>> {
    let (kind, bytes) = entry.handle.as_ref()?;
    let near = File::open(near).ok()?;
    sys::open_by_handle(&near, *kind, bytes).ok().map(Arc::new)
}

/// Bytes of the file that some sink had not settled when the checkpoint was last written.
pub fn unsettled(entry: &FileEntry) -> u64 {
    let least = entry.sinks.values().map(|offset| offset.settled).min().unwrap_or(0);
    entry.size.saturating_sub(least)
}

/// Whether nothing of it is left to be read or sent, as far as was known.
pub fn is_settled(entry: &FileEntry) -> bool {
    entry.sinks.values().all(|offset| offset.settled >= entry.size && offset.resume >= entry.size)
}
