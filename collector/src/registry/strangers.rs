//! Files that are gone and that nobody had claimed: whether they were logs, and what is lost of them.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Inode, Registry};
use crate::{
    discover::Found,
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

/// What is asked of directories about files that are gone, once for all of these: there may be thousands.
#[derive(Default)]
pub(super) struct Asked {
    /// What they would be, by path; nothing of those that are not collected.
    found: HashMap<PathBuf, Found>,
    /// The compressed files of a directory that are nobody's copy yet, and the lengths that they unpack to.
    packed: HashMap<PathBuf, HashMap<PathBuf, u32>>,
    /// Compressed files that are known.
    known: Option<HashSet<PathBuf>>,
}

impl Registry {
    /// Those of the files that are gone that nobody had claimed, and that no known file is.
    pub(super) fn unknown_ones(&self, mut gone: Vec<Departed>) -> Vec<Departed> {
        if gone.is_empty() {
            return gone;
        }
        let asked: HashSet<u64> = gone.iter().map(|it| it.inode.inode).collect();
        let held = self.held.values().map(|held| held.key.inode);
        let known = self.inodes.keys().map(|key| key.inode).chain(held);
        let known: HashSet<u64> = known.filter(|inode| asked.contains(inode)).collect();
        gone.retain(|it| !known.contains(&it.inode.inode) || !self.is_known_inode(it));
        gone
    }

    /// What these would be if they were there. A file without a byte is not asked about: nothing is lost with it.
    pub(super) fn ask_about<'a>(&self, gone: impl Iterator<Item = &'a Departed>) -> Asked {
        let mut paths: HashMap<&Path, HashSet<&Path>> = HashMap::new();
        for path in gone.filter(|gone| gone.held_bytes()).filter_map(|gone| gone.path.as_deref()) {
            let Some(directory) = path.parent() else { continue };
            paths.entry(directory).or_default().insert(path);
        }
        let mut asked = Asked::default();
        for (directory, paths) in paths {
            let all: Vec<&Path> = paths.iter().copied().collect();
            let found = match self.setup.discovery.would_find_all(directory, &all) {
                Ok(found) => found,
                Err(_no_descriptor) => {
                    let one = |path: &&Path| self.setup.discovery.would_find(path);
                    all.iter().filter_map(one).collect()
                }
            };
            for found in found.into_iter().filter(|found| paths.contains(&*found.path)) {
                asked.found.entry(found.path.clone()).or_insert(found);
            }
        }
        asked
    }

    /// One that was recognised and needed no watch: a compressed copy, a hard link. An inode number
    /// is used again at once, so where the generation is known it decides.
    fn is_known_inode(&self, gone: &Departed) -> bool {
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
    /// `renamed`: whether a source's former files, which no pattern names, were its live one before. `asked`: what was
    /// asked about it and others.
    pub(super) fn stranger(
        &self,
        gone: &Departed,
        renamed: impl Fn(&Path) -> bool,
        asked: &mut Asked,
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
        let Some(found) = asked.found.get(path) else { return Stranger::Nothing };
        if found.gzip {
            return Stranger::Nothing;
        }
        let source = Arc::clone(&found.source);
        let is_log = !found.only_if_known || gone.id.is_some() || renamed(&source.path);
        let copied = gone.size > 0 && self.lives_on_compressed(path, gone.size, asked);
        let lost = if copied { taken } else { gone.size + taken };
        if !is_log && !unsure && self.is_all_counted(&source.path) {
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

    /// Whether a compressed copy of the file is there, or was a moment ago. Logs are compressed under
    /// their own name or the next number's; the length tells whose copy it is, and a copy is one
    /// file's alone.
    pub(super) fn lives_on_compressed(&self, path: &Path, size: u64, asked: &mut Asked) -> bool {
        let mut copy = path.as_os_str().to_owned();
        copy.push(".gz");
        let copy = PathBuf::from(copy);
        let directory = path.parent().unwrap_or(path);
        if !asked.packed.contains_key(directory) {
            asked.packed.insert(directory.to_owned(), packed_in(directory));
        }
        let packed = asked.packed.get_mut(directory);
        let taken = packed.and_then(|packed| {
            let is_it = |path: &&PathBuf| packed.get(*path) == Some(&(size as u32));
            let its_own = Some(&copy).filter(is_it);
            let found = its_own.or_else(|| packed.keys().find(is_it)).cloned()?;
            packed.remove(&found)
        });
        taken.is_some()
            || identity::look_at(&copy).is_err()
                && asked.known.get_or_insert_with(|| self.known_compressed()).contains(&copy)
    }

    fn known_compressed(&self) -> HashSet<PathBuf> {
        let held = self.held.values().map(|held| held.account.path());
        let done = self.inodes.values().filter_map(|inode| match inode {
            Inode::Done(id, _) => Some(self.setup.accounts.get(*id)?.path()),
            Inode::Ignored(..) => None,
        });
        held.chain(done).filter(|path| is_compressed(path)).collect()
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

/// The compressed files of a directory, and the lengths that they unpack to.
fn packed_in(directory: &Path) -> HashMap<PathBuf, u32> {
    let all = beneath::names(directory).into_iter().flatten().map(|(path, _)| path);
    all.filter(|path| is_compressed(path))
        .filter_map(|path| Some((unpacked_length(&path)?, path)))
        .map(|(length, path)| (path, length))
        .collect()
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
