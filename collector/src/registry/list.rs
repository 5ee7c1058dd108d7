//! Directories: watching them, listing them, and what a listing that changed means.
//!
//! Opens no log file; what a listing shows is recognised and placed elsewhere.

use std::{
    collections::{HashSet, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{Registry, paths::Paths, rest};
use crate::{
    discover::{Found, Listing},
    identity::{self, beneath},
    known_files,
    read::reader::Message,
    watch::{DirToken, FileToken},
};

/// Directories that are looked through in one go at most, when there are very many.
const AHEAD: usize = 256;

impl Registry {
    /// Watches and lists directories, and those below them.
    pub(super) fn list_from(&mut self, first: Vec<Arc<Path>>) -> Vec<(Arc<Path>, Found)> {
        let mut queue: VecDeque<Arc<Path>> = first.into();
        let mut found = Vec::new();
        self.setup.discovery.list_many(true);
        let began = rest::used();
        while let Some(path) = queue.pop_front() {
            if !self.scanning && rest::is_enough(began) {
                // Others have their turn.
                self.ahead.push_back(path);
                self.ahead.extend(queue);
                break;
            }
            let known = self.directories.find(&path).and_then(|token| self.directories.get(token));
            if known.is_some_and(|known| known.listed) {
                continue;
            }
            if known.is_none() && !self.may_look_through(&path) {
                continue;
            }
            let Some(token) = self.watch(&path) else { continue };
            let listing = self.list_along_ways(&path);
            self.saw_first(&path, &listing);
            self.look_on_if_large(&path, &listing);
            self.note_names(&path);
            let children: Paths = listing.directories.into_iter().map(Arc::from).collect();
            queue.extend(children.iter().cloned());
            if let Some(directory) = self.directories.get_mut(token) {
                directory.children = children;
            }
            found.extend(listing.files.into_iter().map(|file| (Arc::clone(&path), file)));
        }
        self.setup.discovery.list_many(false);
        found
    }

    /// Goes on with directories that others had to come before.
    pub(super) fn list_ahead(&mut self) {
        let next = self.ahead.len().min(AHEAD);
        if next > 0 {
            let first = self.ahead.drain(..next).collect();
            let found = self.list_from(first);
            self.place(found);
        }
    }

    pub(super) fn list(&mut self, path: &Path) -> Listing {
        let listing = self.setup.discovery.list(path);
        self.tell_of(path, listing)
    }

    /// The same, of a directory in which something may have changed since it was listed.
    pub(super) fn list_anew(&mut self, path: &Path) -> Listing {
        let listing = self.setup.discovery.list_anew(path);
        self.tell_of(path, listing)
    }

    fn tell_of(&mut self, path: &Path, mut listing: Listing) -> Listing {
        for problem in std::mem::take(&mut listing.problems) {
            // It is about something in it.
            self.complain(&path.join("."), problem);
        }
        if let Some(error) = &listing.shortage {
            self.say_shortage(path, error);
        }
        listing.files.sort_by(|a, b| (&a.source.path, &a.role).cmp(&(&b.source.path, &b.role)));
        listing
    }

    /// Watches a directory and what is in it; None if it is gone.
    pub(super) fn watch(&mut self, path: &Arc<Path>) -> Option<DirToken> {
        let known = self.directories.find(path);
        let token = known.unwrap_or_else(|| {
            let tenant = self.setup.discovery.tenant_of(path);
            let place = tenant.map(|it| known_files::enter(&it, path.as_os_str().len()));
            self.directories.insert(path, place)
        });
        let directory = self.directories.get_mut(token)?;
        if known.is_some() && std::mem::replace(&mut directory.listed, true) {
            return Some(token);
        }
        let path = &Arc::clone(&directory.path);
        let since = self.looked_at_since(path);
        let watched = self.setup.watcher.watch_directory(token, path);
        if let (Ok(mode), Some(directory)) = (&watched, self.directories.get_mut(token)) {
            (directory.mode, directory.since) = (*mode, since);
        }
        if let Err(error) = watched {
            self.directories.remove(token);
            if error.kind() != io::ErrorKind::NotFound {
                self.complain(path, format!(
                    "The directory {} cannot be watched: {error}. Logs in it are not collected; check its permissions.",
                    path.display()
                ));
            }
            return None;
        }
        Some(token)
    }

    /// Looks at a directory again.
    pub(super) fn relist(&mut self, token: DirToken) {
        let Some(directory) = self.directories.get(token) else { return };
        let path = &Arc::clone(&directory.path);
        if !beneath::is_directory(path) {
            self.remove_directory(path);
            let found = self.list_roots();
            self.place(found);
            return;
        }
        if self.setup.discovery.is_large(path) {
            let held = self.held.values().map(|held| held.key.inode);
            let known = held.chain(self.inodes.keys().map(|key| key.inode)).collect();
            self.setup.discovery.go_on_in(path, known);
        }
        let listing = self.list_along_ways(path);
        if listing.shortage.is_some() {
            // It shows nothing, which does not mean that nothing is there.
            return;
        }
        self.notice_waiting(path, &listing);
        let part = listing.part;
        self.look_on_if_large(path, &listing);
        let shared = |child: &PathBuf| {
            let known = self.directories.find(child).and_then(|token| self.directories.get(token));
            known.map_or_else(|| Arc::from(child.as_path()), |known| Arc::clone(&known.path))
        };
        let children: Paths = listing.directories.iter().map(shared).collect();
        let listed_now = children.iter().cloned().collect();
        let Some(directory) = self.directories.get_mut(token) else { return };
        let former = std::mem::replace(&mut directory.children, children);
        let mut now_gone: Vec<Arc<Path>> =
            former.into_iter().filter(|child| !directory.children.contains(child)).collect();
        if listing.has_more() {
            // Other looks show them.
            let there = now_gone.extract_if(.., |child| beneath::is_directory(&**child));
            there.for_each(|child| directory.children.insert(child));
        }
        let listed: HashSet<Arc<Path>> =
            listing.files.iter().map(|file| Arc::clone(&file.source.path)).collect();
        let mut found: Vec<(Arc<Path>, Found)> =
            listing.files.into_iter().map(|file| (Arc::clone(path), file)).collect();
        found.extend(self.list_from(listed_now));
        let before = self.directories.get(token).map(|dir| dir.sources.clone()).unwrap_or_default();
        let names: HashSet<PathBuf> = found.iter().map(|(_, file)| file.path.clone()).collect();
        self.place(found);
        self.notice_fewer_waiting(path, part);
        self.notice_gone(&listed, &before, &names);
        for child in now_gone {
            if !beneath::is_directory(&child) {
                self.remove_directory(&child);
            }
        }
    }

    /// Plans the next look at a directory whose entries are looked at a part at a time.
    fn look_on_if_large(&mut self, path: &Path, listing: &Listing) {
        if listing.has_more() {
            self.retries.entry(path.to_owned()).or_insert_with(Instant::now);
        }
    }

    /// Files of a directory's sources that the directory no longer shows.
    fn notice_gone(
        &mut self,
        listed: &HashSet<Arc<Path>>,
        before: &Paths,
        names: &HashSet<PathBuf>,
    ) {
        let new = listed.iter().filter(|source| !before.contains(source));
        let sources = before.iter().chain(new).filter_map(|source| self.sources.get(source));
        let held = sources.flat_map(|state| &state.held).copied();
        let gone: Vec<FileToken> = held
            .filter(|token| {
                self.held.get(*token).is_some_and(|held| {
                    let missing = !held.gone && !names.contains(&held.account.path());
                    missing && !held.compressed
                })
            })
            .collect();
        for token in gone {
            // Another directory may show it: only its own name counts.
            let Some(held) = self.held.get(token) else { continue };
            let there =
                identity::look_at(&held.account.path()).is_ok_and(|look| look.key == held.key);
            if !there {
                self.mark_gone(token);
            }
        }
    }

    /// A directory is gone, and with it its sources.
    fn remove_directory(&mut self, path: &Path) {
        let Some(token) = self.directories.find(path) else { return };
        let Some(directory) = self.directories.remove(token) else { return };
        self.lose_all_waiting(&directory.path);
        self.setup.discovery.forget_large(path);
        self.setup.watcher.unwatch_directory(token);
        self.forget_ways_of(&directory.path);
        for child in directory.children {
            if !beneath::is_directory(&child) {
                self.remove_directory(&child);
            }
        }
        for source in directory.sources {
            let Some(state) = self.sources.get(&source) else { continue };
            // Of a source that a link elsewhere leads to only the files are gone.
            let whole = *state.directory == *path;
            let is_gone = |token: &FileToken| {
                let held = self.held.get(*token).filter(|held| !held.gone);
                held.is_some_and(|held| whole || held.account.path().starts_with(path))
            };
            let tokens: Vec<FileToken> = state.held.iter().copied().filter(is_gone).collect();
            for token in tokens {
                self.mark_gone(token);
            }
            if whole {
                self.send(&source, Message::Close);
            }
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
            if let Some(token) = self.directories.find(&path) {
                self.heed_directory(token);
            } else {
                let found = self.list_from(vec![path.into()]);
                self.place(found);
            }
        }
    }
}
