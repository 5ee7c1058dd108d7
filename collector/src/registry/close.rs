//! Sources that are over: their directory is gone, or none of their files is left in it.
//!
//! Whoever makes up names would fill memory with sources that had one file each.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use super::{Inode, Registry};
use crate::{
    identity::{FileId, beneath},
    read::{reader::Message, tail::TailId},
};

impl Registry {
    /// Has the readers end sources that had files, and have none any more.
    pub(super) fn end_empty(&self, had_files: &[Arc<Path>]) {
        for source in had_files {
            let is_empty = |path| {
                let state = self.sources.get(path)?;
                Some(state.accounts.is_empty() && state.held.is_empty())
            };
            if is_empty(source) == Some(true) && !self.parked.contains_key(source) {
                self.send(source, Message::Close);
            }
        }
    }

    /// Sources are gone and settled to the last byte.
    pub(super) fn close(&mut self, tails: &HashSet<TailId>) {
        if tails.is_empty() {
            return;
        }
        let is_it = |path: &Arc<Path>| tails.contains(&self.sources[path].tail);
        let paths: Vec<Arc<Path>> =
            self.sources.keys().filter(|path| is_it(path)).cloned().collect();
        // Whether its files grew before they went, the kernel tells, and only of files that are known.
        self.heed_departed();
        let (mut ids, mut directories): (Vec<FileId>, BTreeSet<Arc<Path>>) = Default::default();
        for path in &paths {
            self.excluded.remove(path);
            let Some(state) = self.sources.remove(path) else { continue };
            ids.extend(state.accounts.iter().map(|known| known.id));
            // A file that was handed over while the reader was closing is placed anew below.
            for token in state.held {
                if self.held.remove(token).is_some() {
                    self.setup.watcher.unwatch_file(token);
                }
            }
            directories.insert(state.directory);
        }
        self.take_out_of_directories(&paths, &directories);
        let closed: HashSet<FileId> = ids.iter().copied().collect();
        self.inodes.retain(|_, inode| !matches!(inode, Inode::Done(id, _) if closed.contains(id)));
        let (done, open): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| {
            self.setup.accounts.get(*id).is_none_or(|account| {
                let device = account.identity.key.device;
                account.is_done(self.slots()) && !self.is_away(*id, device, &account.path())
            })
        });
        self.tell_forgotten(done);
        // Handed over while the reader was closing, or never taken: looked for again, else lost. Or away
        // with its filesystem.
        for id in open {
            if let Some(account) = self.setup.accounts.remove(id) {
                self.look_for(account.entry(&self.setup.sinks));
            }
        }
        // The same name may have come back meanwhile (a directory that was replaced).
        for directory in directories {
            if beneath::is_directory(&directory) {
                self.retries.insert(directory.to_path_buf(), Instant::now());
            }
        }
    }

    fn take_out_of_directories(&mut self, gone: &[Arc<Path>], listed_in: &BTreeSet<Arc<Path>>) {
        let lie_in = gone.iter().filter_map(|path| path.parent());
        let all: BTreeSet<&Path> = listed_in.iter().map(|path| &**path).chain(lie_in).collect();
        let gone: HashSet<&Path> = gone.iter().map(|path| &**path).collect();
        for directory in all {
            let token = self.directories.find(directory);
            if let Some(directory) = token.and_then(|token| self.directories.get_mut(token)) {
                directory.sources.retain(|path| !gone.contains(path));
            }
        }
    }
}
