//! The watched directories, by token and by path.

use std::{hash::BuildHasher, path::Path, sync::Arc};

use hashbrown::HashTable;
use slotmap::SlotMap;

use super::{paths::Paths, since::Since};
use crate::{
    known_files::Place,
    watch::{DirToken, Mode},
};

/// A table of directories. The table of paths holds tokens only: there are tens of thousands of them.
#[derive(Default)]
pub(super) struct Directories {
    all: SlotMap<DirToken, Directory>,
    by_path: HashTable<DirToken>,
    hasher: foldhash::fast::RandomState,
}

/// A watched directory.
pub(super) struct Directory {
    pub(super) path: Arc<Path>,
    /// The live paths of the sources that were found in it.
    pub(super) sources: Paths,
    /// Directories below it that are watched too.
    pub(super) children: Paths,
    /// Whether it can hold logs, and is listed when it changes; else only links lead through it.
    pub(super) listed: bool,
    /// Since when it is looked at; None: not known.
    pub(super) since: Option<Since>,
    /// How it is watched.
    pub(super) mode: Mode,
    /// None: it is one that the configuration names, or that leads there.
    pub(super) place: Option<Place>,
}

impl Directories {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that are listed.
    pub(super) fn tokens(&self) -> Vec<DirToken> {
        self.all().map(|(token, _)| token).collect()
    }

    /// Those that are listed.
    pub(super) fn all(&self) -> impl Iterator<Item = (DirToken, &Path)> {
        let listed = self.all.iter().filter(|(_, directory)| directory.listed);
        listed.map(|(token, directory)| (token, &*directory.path))
    }

    pub(super) fn get(&self, token: DirToken) -> Option<&Directory> {
        self.all.get(token)
    }

    pub(super) fn get_mut(&mut self, token: DirToken) -> Option<&mut Directory> {
        self.all.get_mut(token)
    }

    pub(super) fn find(&self, path: &Path) -> Option<DirToken> {
        let is_it = |token: &DirToken| *self.all[*token].path == *path;
        self.by_path.find(self.hasher.hash_one(path), is_it).copied()
    }

    /// Adds a directory that is not in it.
    pub(super) fn insert(&mut self, path: &Arc<Path>, place: Option<Place>) -> DirToken {
        let (sources, children) = (Paths::default(), Paths::default());
        let (path, listed) = (Arc::clone(path), true);
        let (since, mode) = (None, Mode::Poll);
        let directory = Directory { path, sources, children, listed, since, mode, place };
        let token = self.all.insert(directory);
        let hash = |token: &DirToken| self.hasher.hash_one(&*self.all[*token].path);
        self.by_path.insert_unique(hash(&token), token, hash);
        token
    }

    pub(super) fn remove(&mut self, token: DirToken) -> Option<Directory> {
        let hash = self.hasher.hash_one(&*self.all.get(token)?.path);
        if let Ok(entry) = self.by_path.find_entry(hash, |other| *other == token) {
            entry.remove();
        }
        self.all.remove(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_found_by_its_path_until_it_is_removed() {
        let mut directories = Directories::default();
        let paths: Vec<Arc<Path>> =
            (0..100).map(|number| Path::new(&format!("/var/log/{number}")).into()).collect();
        let tokens: Vec<_> = paths.iter().map(|path| directories.insert(path, None)).collect();
        for (path, token) in paths.iter().zip(&tokens) {
            assert_eq!(directories.find(path), Some(*token));
        }
        assert_eq!(directories.remove(tokens[7]).unwrap().path, paths[7]);
        assert!(directories.remove(tokens[7]).is_none());
        assert_eq!(directories.find(&paths[7]), None);
        assert_ne!(
            directories.insert(&paths[7], None),
            tokens[7],
            "a token means one thing for ever"
        );
        assert_eq!(directories.len(), 100);
    }
}
