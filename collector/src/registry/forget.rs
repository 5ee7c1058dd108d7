//! Forgetting what is over: by what lies on disk, not by time.
//!
//! What is known of a finished file keeps its copies from being collected again. It is kept as long as
//! any name in its directory may be it (its own inode, a copy that was recognised or still may be), and
//! goes when two looks at the directory, some seconds apart, show that none is.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Inode, Kept, Registry};
use crate::{
    checkpoint::FileEntry,
    identity::{self, FileId, beneath},
    ledger::FileAccount,
};

/// Between the look that found nothing and the last one: a file may be moved out and in.
const SURE_AFTER: Duration = Duration::from_secs(10);

impl Registry {
    /// Forgets finished files of which nothing is left in their directories.
    pub(super) fn forget_vanished(&mut self) {
        let now = Instant::now();
        self.forget_unfinished();
        self.away.tidy();
        let held: HashSet<FileId> = self.held.values().map(|held| held.account.id).collect();
        let (mut present, mut absent, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
        for (source, state) in &self.sources {
            for Kept { id, absent: since, .. } in &state.accounts {
                let Some(account) = self.setup.accounts.get(*id) else {
                    forgotten.push(*id);
                    continue;
                };
                let done = account.is_done(self.setup.sinks.iter().map(|sink| sink.number));
                let kept = held.contains(id) || !done || self.lies_there(&account);
                match since {
                    None if kept => {}
                    Some(_) if kept => present.push((Arc::clone(source), *id)),
                    None => absent.push((Arc::clone(source), *id, account)),
                    Some(since) if now.saturating_duration_since(*since) < SURE_AFTER => {}
                    Some(_) if self.may_lie_there(&account) => {}
                    Some(_) => forgotten.push(*id),
                }
            }
        }
        for (source, id) in present {
            self.present(&source, id);
        }
        for (source, id, account) in absent {
            // Under another name, perhaps: the listing tells, and then `lies_there` knows it.
            let path = account.path();
            let directory = path.parent().unwrap_or(&path).to_owned();
            self.retries.insert(directory, now);
            if let Some(state) = self.sources.get_mut(&source) {
                state.note_known(id, Some(now));
            }
        }
        self.forget(forgotten);
    }

    fn forget(&mut self, ids: Vec<FileId>) {
        if ids.is_empty() {
            return;
        }
        // Whether they grew before they went, the kernel tells, and only of files that are known.
        self.heed_departed();
        let gone: HashSet<FileId> = ids.iter().copied().collect();
        let mut fewer = Vec::new();
        for (source, state) in &mut self.sources {
            let before = state.accounts.len();
            state.accounts.retain(|known| !gone.contains(&known.id));
            if state.accounts.len() < before {
                fewer.push(Arc::clone(source));
            }
        }
        self.inodes.retain(|_, inode| !matches!(inode, Inode::Done(id, _) if gone.contains(id)));
        self.tell_forgotten(ids);
        self.end_empty(&fewer);
    }

    /// Whether the file, or its copy, is where it was when somebody looked last.
    fn lies_there(&self, account: &FileAccount) -> bool {
        identity::look_at(&account.path()).is_ok_and(|look| self.is_done(&look.key, account.id))
    }

    /// Whether the directory has a name that is the file's, or a copy's that is not told yet.
    fn may_lie_there(&self, account: &FileAccount) -> bool {
        let path = account.path();
        let directory = path.parent().unwrap_or(&path);
        let device = account.identity.key.device;
        if self.has_unfinished(&account.source.path) || self.is_away(account.id, device, &path) {
            return true;
        }
        let mut entries = match beneath::names(directory) {
            Ok(entries) => entries,
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        let key = account.identity.key;
        // Where it was truncated, its inode is another life's.
        if self.lives_on(account) {
            return false;
        }
        entries.any(|(path, inode)| {
            // A listing's number may be another filesystem's, mounted there.
            inode == key.inode
                && identity::look_at(&path).is_ok_and(|look| {
                    (look.key.inode, look.key.born_ns) == (key.inode, key.born_ns)
                })
        })
    }

    /// Whether it is too early to say that an entry's file is gone: a file is there that may be its
    /// copy, its directory cannot be looked into, or its filesystem is not mounted.
    pub(super) fn may_turn_up(&self, entry: &FileEntry) -> bool {
        let directory: PathBuf = entry.source.parent().unwrap_or(&entry.source).to_owned();
        self.has_unfinished(&entry.source)
            || !is_listable(&directory)
            || self.is_away(entry.id, entry.device, &entry.source)
    }
}

/// False where it is there and cannot be listed.
fn is_listable(directory: &Path) -> bool {
    match beneath::open_directory(directory) {
        Ok(_) => true,
        Err(error) => {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
    }
}
