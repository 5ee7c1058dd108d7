//! The files that are known by a token: those that readers hold, and those that were let go and
//! still have a collected name. By token and by inode.

use std::{hash::BuildHasher, path::Path, sync::Arc};

use hashbrown::HashTable;
use slotmap::SlotMap;

use crate::{identity::InodeKey, ledger::FileAccount, read::tail::TailId, watch::FileToken};

/// A table of files. The table of inodes holds tokens only: there are tens of thousands of them.
#[derive(Default)]
pub(super) struct HeldFiles {
    all: SlotMap<FileToken, Held>,
    by_inode: HashTable<FileToken>,
    hasher: foldhash::fast::RandomState,
    /// How many no reader holds.
    dormant: usize,
}

/// A file that a reader holds, or held.
pub(super) struct Held {
    pub(super) key: InodeKey,
    /// The source's tail: looked up at every wake-up.
    pub(super) tail: TailId,
    pub(super) account: Arc<FileAccount>,
    pub(super) live: bool,
    pub(super) gone: bool,
    /// A compressed copy: it does not grow and is not watched.
    pub(super) compressed: bool,
    /// It was read to its end and let go: see [`super::dormant`].
    pub(super) dormant: bool,
}

impl Held {
    pub(super) fn source(&self) -> &Arc<Path> {
        &self.account.source.path
    }
}

impl HeldFiles {
    /// How many readers hold.
    pub(super) fn awake(&self) -> usize {
        self.all.len() - self.dormant
    }

    /// Its reader let it go, or has it back.
    pub(super) fn set_dormant(&mut self, token: FileToken, dormant: bool) {
        let Some(held) = self.all.get_mut(token) else { return };
        self.dormant -= usize::from(held.dormant);
        self.dormant += usize::from(dormant);
        (held.dormant, held.live) = (dormant, held.live && !dormant);
    }

    pub(super) fn tokens(&self) -> Vec<FileToken> {
        self.all.keys().collect()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Held> {
        self.all.values()
    }

    pub(super) fn get(&self, token: FileToken) -> Option<&Held> {
        self.all.get(token)
    }

    /// Its inode is not to be changed, nor whether it is dormant.
    pub(super) fn get_mut(&mut self, token: FileToken) -> Option<&mut Held> {
        self.all.get_mut(token)
    }

    /// The file that has this inode, the one held last where there are several.
    pub(super) fn find(&self, key: &InodeKey) -> Option<FileToken> {
        let is_it = |token: &FileToken| self.all[*token].key == *key;
        self.by_inode.find(self.hasher.hash_one(key), is_it).copied()
    }

    pub(super) fn insert(&mut self, held: Held) -> FileToken {
        let (key, hash) = (held.key, self.hasher.hash_one(held.key));
        self.dormant += usize::from(held.dormant);
        let token = self.all.insert(held);
        let is_it = |token: &FileToken| self.all[*token].key == key;
        match self.by_inode.find_mut(hash, is_it) {
            Some(former) => *former = token,
            None => {
                let hash_of = |token: &FileToken| self.hasher.hash_one(self.all[*token].key);
                self.by_inode.insert_unique(hash, token, hash_of);
            }
        }
        token
    }

    pub(super) fn remove(&mut self, token: FileToken) -> Option<Held> {
        let hash = self.hasher.hash_one(self.all.get(token)?.key);
        if let Ok(entry) = self.by_inode.find_entry(hash, |other| *other == token) {
            entry.remove();
        }
        let held = self.all.remove(token)?;
        self.dormant -= usize::from(held.dormant);
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::Identity,
        source::{Format, Source},
    };

    fn held(inode: u64) -> Held {
        let key = InodeKey { device: 1, inode, born_ns: 0 };
        let source = Arc::new(Source::anonymous("/x", Format::Cri));
        let identity = Identity { key, handle: None };
        let account = FileAccount::new(identity, 0, source, Path::new("/x"), 1);
        let account = Arc::new(account);
        let (live, gone, compressed, dormant) = (true, false, false, false);
        Held { key, tail: TailId(0), account, live, gone, compressed, dormant }
    }

    #[test]
    fn a_file_is_found_by_its_inode_until_it_is_removed() {
        let mut files = HeldFiles::default();
        let tokens: Vec<_> = (0..100).map(|inode| files.insert(held(inode))).collect();
        for (inode, token) in (0..).zip(&tokens) {
            assert_eq!(files.find(&held(inode).key), Some(*token));
        }
        assert_eq!(files.remove(tokens[7]).unwrap().key.inode, 7);
        assert!(files.remove(tokens[7]).is_none());
        assert_eq!(files.find(&held(7).key), None);
        assert_eq!(files.awake(), 99);
        files.set_dormant(tokens[8], true);
        files.set_dormant(tokens[9], true);
        files.set_dormant(tokens[9], false);
        assert_eq!((files.awake(), files.tokens().len()), (98, 99));
        files.remove(tokens[8]).unwrap();
        assert_eq!(files.awake(), 98);
    }

    #[test]
    fn of_two_files_with_one_inode_the_last_is_found() {
        let mut files = HeldFiles::default();
        let (first, second) = (files.insert(held(1)), files.insert(held(1)));
        assert_eq!(files.find(&held(1).key), Some(second));
        files.remove(first).unwrap();
        assert_eq!(files.find(&held(1).key), Some(second));
        files.remove(second).unwrap();
        assert_eq!(files.find(&held(1).key), None);
    }
}
