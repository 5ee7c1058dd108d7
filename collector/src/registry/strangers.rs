//! Files that are gone and that nobody had claimed: whether they were logs, and what is lost of them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Inode, Registry};
use crate::{
    identity::{self, Identity, beneath},
    read::gzip,
    watch::Departed,
};

/// What became of a file that nobody had claimed.
pub(super) enum Stranger {
    /// It was no log, or lives on.
    Nothing,
    /// It was one: so much is lost, and where it lay.
    Lost(u64, PathBuf),
    /// The kernel does not say enough to tell.
    Unsure,
}

impl Registry {
    /// One that was recognised and needed no watch: a compressed copy, a hard link. An inode number
    /// is used again at once, so where the generation is known it decides.
    pub(super) fn is_known_inode(&self, gone: &Departed) -> bool {
        let done = self.inodes.iter().filter(|(key, _)| key.inode == gone.inode.inode);
        let mut done = done.map(|(key, inode)| match inode {
            Inode::Done(id, _) => {
                let account = self.setup.accounts.get(*id);
                account.filter(|account| account.identity.key == *key)
            }
            Inode::Ignored(..) => None,
        });
        let held = self.held.values().filter(|held| held.key.inode == gone.inode.inode);
        let mut held = held.map(|held| &held.account.identity);
        let is_it = |identity: &Identity| {
            identity.generation().is_none_or(|generation| generation == gone.inode.generation)
        };
        done.any(|account| account.is_none_or(|account| is_it(&account.identity)))
            || held.any(is_it)
    }

    /// What is lost of a file that nobody had claimed, if it was a log and nothing of it is left.
    /// `renamed`: whether a source's former files, which no pattern names, were its live one before.
    pub(super) fn stranger(
        &self,
        gone: &Departed,
        renamed: impl Fn(&Path) -> bool,
        copies: &mut HashSet<PathBuf>,
    ) -> Stranger {
        // Of one that had been claimed it is not known how much of that was counted.
        let unsure = gone.id.is_some() && gone.truncated > 0;
        let taken = if gone.id.is_none() { u64::from(gone.truncated) } else { 0 };
        if gone.size + taken == 0 {
            return if unsure { Stranger::Unsure } else { Stranger::Nothing };
        }
        let Some(path) = &gone.path else {
            // What happens around them, where one of them may be made, is no log's.
            let places = self.setup.discovery.places();
            let around =
                |directory: &PathBuf| !places.iter().any(|place| directory.starts_with(place));
            let is_around = gone.directory.as_ref().is_some_and(around);
            return if is_around { Stranger::Nothing } else { Stranger::Unsure };
        };
        let Some(found) = self.setup.discovery.would_find(path) else { return Stranger::Nothing };
        if found.gzip {
            return Stranger::Nothing;
        }
        let is_it = |identity: &Identity| {
            let generation = identity.generation();
            identity.key.inode == gone.inode.inode
                && generation.is_none_or(|generation| generation == gone.inode.generation)
        };
        let copied = gone.size > 0 && self.lives_on_compressed((path, gone.size), is_it, copies);
        let lost = if copied { taken } else { gone.size + taken };
        let is_log = !found.only_if_known || gone.id.is_some() || renamed(&found.source.path);
        if !is_log && !unsure && self.is_all_counted(&found.source.path) {
            // No more than a copy of it (`copytruncate`).
            return Stranger::Nothing;
        }
        match (lost, is_log && !unsure) {
            (0, _) if !unsure => Stranger::Nothing,
            (_, true) => Stranger::Lost(lost, path.clone()),
            (_, false) => Stranger::Unsure,
        }
    }

    /// Whether a source's live file is the one that it was, and whatever was written to it is counted, also
    /// what truncations took away: then nothing that was ever in the source went another way.
    pub(super) fn is_all_counted(&self, source: &Path) -> bool {
        let token = identity::look_at(source).ok().and_then(|look| self.held.find(&look.key));
        token.is_some_and(|token| self.setup.watcher.is_tallied(token))
    }

    /// Whether a compressed copy of a file (`is_it`) of this path and size is there, or was a moment ago. Logs are
    /// compressed under their own name or the next number's; the length tells whose copy it is where that is not known
    /// yet, and a copy is one file's alone.
    pub(super) fn lives_on_compressed(
        &self,
        (path, size): (&Path, u64),
        is_it: impl Fn(&Identity) -> bool,
        copies: &mut HashSet<PathBuf>,
    ) -> bool {
        let mut copy = path.as_os_str().to_owned();
        copy.push(".gz");
        let copy = PathBuf::from(copy);
        let beside = beneath::names(path.parent().unwrap_or(path)).into_iter().flatten();
        let beside = beside.map(|(path, _)| path);
        let packed = beside.filter(|path| path.extension().is_some_and(|ending| ending == "gz"));
        for there in std::iter::once(copy.clone()).chain(packed) {
            let is_as_long = unpacked_length(&there) == Some(size as u32);
            if is_as_long && !self.is_anothers_copy(&there, &is_it) && copies.insert(there) {
                return true;
            }
        }
        let held = self.held.values().any(|held| held.account.path() == copy);
        identity::look_at(&copy).is_err()
            && (held
                || self.inodes.values().any(|inode| {
                    matches!(inode, Inode::Done(id, _)
                    if self.setup.accounts.get(*id).is_some_and(|account| account.path() == copy))
                }))
    }
}

impl Registry {
    /// Whether a compressed file is known as the copy of another file than this (`is_it`).
    fn is_anothers_copy(&self, path: &Path, is_it: impl Fn(&Identity) -> bool) -> bool {
        let Ok(key) = identity::look_at(path).map(|look| look.key) else { return false };
        let account = match self.inodes.get(&key) {
            Some(Inode::Done(id, _)) => self.setup.accounts.get(*id),
            _ => {
                let held = self.held.find(&key).and_then(|token| self.held.get(token));
                held.map(|held| Arc::clone(&held.account))
            }
        };
        let Some(account) = account else { return false };
        let accounts = &self.setup.accounts;
        // One that has an account of its own is a copy where its original is known.
        let original = accounts.originals.of(account.id);
        let original = original.or_else(|| accounts.copies.of(account.id).map(|copy| copy.life));
        match original.and_then(|id| accounts.get(id)) {
            Some(original) => !is_it(&original.identity),
            None => account.identity.key != key && !is_it(&account.identity),
        }
    }
}

/// The length, modulo 2³², that a gzip file says it unpacks to.
fn unpacked_length(path: &Path) -> Option<u32> {
    let (file, look) = identity::open(path).ok()?;
    gzip::trailer(&file, look.size).map(|trailer| trailer.length)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::read::content::gzip_bytes;

    #[test]
    fn a_gzip_file_tells_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gz");
        fs::write(&path, gzip_bytes(&[b'a'; 12_345])).unwrap();
        assert_eq!(unpacked_length(&path), Some(12_345));
        fs::write(&path, "gz").unwrap();
        assert_eq!((unpacked_length(&path), unpacked_length(dir.path())), (None, None));
        // A pipe, whose writer would be waited for.
        let pipe = dir.path().join("b.gz");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        assert_eq!(unpacked_length(&pipe), None);
    }
}
