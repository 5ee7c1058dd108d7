//! Directories: watching them, listing them, and what a listing that changed means.
//!
//! Opens no log file; what a listing shows is recognised and placed elsewhere.

use std::{
    collections::{HashSet, VecDeque},
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Directory, Registry};
use crate::{
    discover::{Found, Listing},
    read::{identity, reader::Message},
    watch::{DirToken, FileToken},
};

impl Registry {
    /// Watches and lists directories, and those below them.
    pub(super) fn list_from(&mut self, first: Vec<PathBuf>) -> Vec<(PathBuf, Found)> {
        let mut queue: VecDeque<PathBuf> = first.into();
        let mut found = Vec::new();
        while let Some(path) = queue.pop_front() {
            if self.directories.contains_key(&path) || self.watch(&path).is_none() {
                continue;
            }
            let listing = self.list(&path);
            queue.extend(listing.directories.iter().cloned());
            if let Some(directory) = self.directories.get_mut(&path) {
                directory.children.extend(listing.directories);
            }
            found.extend(listing.files.into_iter().map(|file| (path.clone(), file)));
        }
        found
    }

    pub(super) fn list(&mut self, path: &Path) -> Listing {
        let mut listing = self.setup.discovery.list(path);
        for problem in std::mem::take(&mut listing.problems) {
            self.complain(problem);
        }
        listing.files.sort_by(|a, b| (&a.source.path, &a.role).cmp(&(&b.source.path, &b.role)));
        listing
    }

    /// Watches a directory; None if it is gone.
    pub(super) fn watch(&mut self, path: &Path) -> Option<DirToken> {
        if let Some(directory) = self.directories.get(path) {
            return Some(directory.token);
        }
        let token = DirToken(self.token());
        if let Err(error) = self.setup.watcher.watch_directory(token, path) {
            if error.kind() != io::ErrorKind::NotFound {
                self.complain(format!(
                    "The directory {} cannot be watched: {error}. Logs in it are not collected; check its permissions.",
                    path.display()
                ));
            }
            return None;
        }
        let directory = Directory { token, sources: HashSet::new(), children: HashSet::new() };
        self.directories.insert(path.to_owned(), directory);
        self.directory_paths.insert(token, path.to_owned());
        Some(token)
    }

    /// Looks at a directory again.
    pub(super) fn relist(&mut self, path: &Path) {
        if !self.directories.contains_key(path) {
            return;
        }
        if !path.is_dir() {
            self.remove_directory(path);
            for root in self.setup.discovery.roots() {
                let found = self.list_from(vec![root]);
                self.place(found);
            }
            return;
        }
        let listing = self.list(path);
        let children: HashSet<PathBuf> = listing.directories.iter().cloned().collect();
        let Some(directory) = self.directories.get_mut(path) else { return };
        let former = std::mem::replace(&mut directory.children, children);
        let now_gone: Vec<PathBuf> =
            former.into_iter().filter(|child| !directory.children.contains(child)).collect();
        let listed: HashSet<PathBuf> =
            listing.files.iter().map(|file| file.source.path.clone()).collect();
        let mut found: Vec<(PathBuf, Found)> =
            listing.files.into_iter().map(|file| (path.to_owned(), file)).collect();
        found.extend(self.list_from(listing.directories));
        let before: HashSet<PathBuf> =
            self.directories.get(path).map(|dir| dir.sources.clone()).unwrap_or_default();
        let names: HashSet<PathBuf> = found.iter().map(|(_, file)| file.path.clone()).collect();
        self.place(found);
        self.notice_gone(&listed, &before, &names);
        for child in now_gone {
            if !child.is_dir() {
                self.remove_directory(&child);
            }
        }
    }

    /// Files of a directory's sources that the directory no longer shows.
    fn notice_gone(
        &mut self,
        listed: &HashSet<PathBuf>,
        before: &HashSet<PathBuf>,
        names: &HashSet<PathBuf>,
    ) {
        let sources = before.union(listed).filter_map(|source| self.sources.get(source));
        let held = sources.flat_map(|state| &state.held).copied();
        let gone: Vec<FileToken> = held
            .filter(|token| {
                self.held.get(token).is_some_and(|held| {
                    let missing = !held.gone && !names.contains(&held.path);
                    missing && held.account.held().is_some()
                })
            })
            .collect();
        for token in gone {
            // Another directory may show it: only its own name counts.
            let Some(held) = self.held.get(&token) else { continue };
            let there = identity::look_at(&held.path).is_ok_and(|look| look.key == held.key);
            if !there {
                self.mark_gone(token);
            }
        }
    }

    /// A directory is gone, and with it its sources.
    fn remove_directory(&mut self, path: &Path) {
        let Some(directory) = self.directories.remove(path) else { return };
        self.directory_paths.remove(&directory.token);
        self.setup.watcher.unwatch_directory(directory.token);
        for child in directory.children {
            if !child.is_dir() {
                self.remove_directory(&child);
            }
        }
        for source in directory.sources {
            if self.sources.get(&source).is_none_or(|state| state.directory != path) {
                continue;
            }
            let tokens = self.sources.get(&source).map(|state| state.held.clone());
            let tokens: Vec<FileToken> = tokens
                .unwrap_or_default()
                .into_iter()
                .filter(|token| self.held.get(token).is_some_and(|held| !held.gone))
                .collect();
            for token in tokens {
                self.mark_gone(token);
            }
            self.send(&source, Message::Close);
        }
    }

    pub(super) fn retry(&mut self) {
        let now = Instant::now();
        let due: Vec<PathBuf> = self
            .retries
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            self.retries.remove(&path);
            if self.directories.contains_key(&path) {
                self.relist(&path);
            } else {
                let found = self.list_from(vec![path]);
                self.place(found);
            }
        }
    }
}
