//! Files that are gone and whose end the kernel saw: how long they were, to the byte.
//!
//! Knows two kinds: files of ours, whose loss `missing` counts with the size learned here; and files
//! that were born, written and deleted without anybody having looked, whose loss is counted here.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{Inode, Registry};
use crate::{read::identity::FileId, reason::Reason, supervisor::settle::Command, watch::Departed};

/// What the kernel saw while no agent ran.
#[derive(Default)]
pub(super) struct WhileDown {
    /// Final sizes of files that somebody may be missing.
    sizes: HashMap<FileId, u64>,
    /// Files that nobody had ever claimed.
    strangers: Vec<Departed>,
}

impl WhileDown {
    /// Whether it saw nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty() && self.strangers.is_empty()
    }
}

impl Registry {
    /// Asks, before the first look, what happened while no agent ran.
    pub(super) fn learn_departed(&mut self) {
        for gone in self.setup.watcher.departed() {
            match gone.id {
                Some(id) => {
                    self.while_down.sizes.insert(id, gone.size);
                }
                None => self.while_down.strangers.push(gone),
            }
        }
    }

    /// How long a file was at its end, if the kernel saw it.
    pub(super) fn final_size(&self, id: FileId) -> Option<u64> {
        self.while_down.sizes.get(&id).copied()
    }

    /// Counts what was born, written and deleted while no agent ran.
    pub(super) fn count_strangers(&mut self) {
        for gone in std::mem::take(&mut self.while_down).strangers {
            self.count_stranger(&gone, Reason::DeletedWhileDown);
        }
        self.setup.watcher.forget_strangers();
    }

    /// Files are gone that nobody had claimed: born and deleted between two looks.
    pub(super) fn heed_departed(&mut self) {
        for gone in self.setup.watcher.departed() {
            match gone.id {
                // Still to be looked for, if the first look is not done with.
                Some(id) => {
                    if self.give_up_at.is_some() {
                        self.while_down.sizes.insert(id, gone.size);
                    }
                    self.heed_end(id, gone.size);
                }
                None => self.count_stranger(&gone, Reason::DeletedUnseen),
            }
        }
    }

    fn count_stranger(&self, gone: &Departed, reason: Reason) {
        // One that was recognised and needed no watch: a compressed copy, a hard link.
        let held = self.held.values().map(|held| &held.key);
        if self.inodes.keys().chain(held).any(|key| key.inode == gone.inode) {
            return;
        }
        let Some(path) = &gone.path else { return };
        let Some(found) = self.setup.discovery.would_find(path) else { return };
        if !found.gzip && !found.only_if_known && !self.lives_on_compressed(path) {
            self.tell(Command::LoseUnseen(path.clone(), gone.size, reason));
        }
    }

    /// Whether a compressed copy of the file is there, or was a moment ago.
    pub(super) fn lives_on_compressed(&self, path: &Path) -> bool {
        let mut copy = path.as_os_str().to_owned();
        copy.push(".gz");
        let copy = PathBuf::from(copy);
        let held = self.held.values().any(|held| held.account.path() == copy);
        held || copy.exists()
            || self.inodes.values().any(|inode| {
                matches!(inode, Inode::Done(id, _)
                if self.setup.accounts.get(*id).is_some_and(|account| account.path() == copy))
            })
    }
}
