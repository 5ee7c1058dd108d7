//! What links and configured paths lead to may change far from where they lie: here is which directories
//! that depends on, and looking again when an entry of one changes.
//!
//! It resolves nothing; `discover` says what leads through where.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Map, Registry, rest};
use crate::{
    discover::{Found, Listing},
    identity::beneath,
};

/// A way is found anew so often at most while it changes under the search.
const LOOKS: u32 = 8;
/// Looking along ways takes one part in so many of the time: some lead through directories in which much happens
/// (`/tmp`). Processor time counts: a busy machine makes nobody wait.
const PART: u32 = 50;
/// At least so long between two looks, and at most: a new pod may be found by a way alone.
const REST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Whose way it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Traveller {
    /// To the configured directories.
    Roots,
    /// Of the links in this directory.
    Links(Arc<Path>),
}

/// See the module.
#[derive(Default)]
pub(super) struct Ways {
    /// By directory on the way. There are few: most links lead to what is listed anyway.
    all: Map<Arc<Path>, BTreeSet<Traveller>>,
    /// The same by traveller.
    of: Map<Traveller, HashSet<Arc<Path>>>,
    /// Who has to look again.
    due: BTreeSet<Traveller>,
    rest_until: Option<Instant>,
    /// What the configured paths led to at the last look.
    roots: Vec<PathBuf>,
}

impl Ways {
    /// An entry of this directory changed.
    fn change(&mut self, directory: &Path) {
        if let Some(travellers) = self.all.get(directory) {
            self.due.extend(travellers.iter().cloned());
        }
    }

    /// It is not known what changed. Every directory is listed again by itself.
    pub(super) fn change_unseen(&mut self) {
        self.due.insert(Traveller::Roots);
    }

    /// Whether a directory is one that a configured path led to at the last look.
    pub(super) fn is_root(&self, directory: &Path) -> bool {
        self.roots.binary_search_by(|root| (**root).cmp(directory)).is_ok()
    }

    /// When to look along those that changed, if any did.
    pub(super) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        (!self.due.is_empty()).then(|| self.rest_until.unwrap_or(now))
    }

    /// A traveller's ways are these from now on. Those that nobody travels any more.
    fn travel(&mut self, traveller: &Traveller, ways: HashSet<Arc<Path>>) -> Vec<Arc<Path>> {
        for way in &ways {
            self.all.entry(Arc::clone(way)).or_default().insert(traveller.clone());
        }
        let former = match ways.is_empty() {
            true => self.of.remove(traveller),
            false => self.of.insert(traveller.clone(), ways.clone()),
        };
        let mut left = Vec::new();
        for way in former.into_iter().flatten().filter(|way| !ways.contains(way)) {
            let Some(travellers) = self.all.get_mut(&way) else { continue };
            travellers.remove(traveller);
            if travellers.is_empty() {
                self.all.remove(&way);
                left.push(way);
            }
        }
        left
    }
}

impl Registry {
    /// The configured directories and what is below them, as far as it is not watched yet.
    pub(super) fn list_roots(&mut self) -> Vec<(Arc<Path>, Found)> {
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            // Watched first: what changes from here on is told.
            let ways = self.setup.discovery.ways();
            let new = self.travel(&Traveller::Roots, ways);
            self.ways.roots = self.setup.discovery.roots();
            let roots = self.ways.roots.iter().map(|root| root.as_path().into()).collect();
            found.extend(self.list_from(roots));
            if !new {
                break;
            }
        }
        found
    }

    /// What a directory holds, with everything watched that this depends on.
    pub(super) fn list_along_ways(&mut self, path: &Arc<Path>) -> Listing {
        let mut listing = self.list(path);
        for _ in 0..LOOKS {
            if listing.shortage.is_some() {
                break;
            }
            let ways = std::mem::take(&mut listing.ways);
            if !self.travel(&Traveller::Links(Arc::clone(path)), ways) {
                break;
            }
            // It may have changed before it was watched.
            listing = self.list(path);
        }
        listing
    }

    /// Notes whose way leads through which directories. True if one of them was not watched before.
    fn travel(&mut self, traveller: &Traveller, ways: Vec<PathBuf>) -> bool {
        let (mut new, mut watched) = (false, HashSet::new());
        for way in &ways {
            let way = match self.directories.find(way).and_then(|token| self.directories.get(token))
            {
                Some(known) => Arc::clone(&known.path),
                None => {
                    new = true;
                    let Some(way) = self.watch_way(way) else { continue };
                    way
                }
            };
            watched.insert(way);
        }
        let left = self.ways.travel(traveller, watched);
        for way in left {
            self.leave_way(&way);
        }
        new
    }

    /// Watches a directory for its entries' names alone; None if it cannot be.
    fn watch_way(&mut self, way: &Path) -> Option<Arc<Path>> {
        let way = Arc::from(way);
        let token = self.directories.insert(&way, None);
        if let Some(directory) = self.directories.get_mut(token) {
            directory.listed = false;
        }
        match self.setup.watcher.watch_way(token, &way) {
            Ok(()) => Some(way),
            Err(error) => {
                self.directories.remove(token);
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    self.complain(&way, format!(
                        "The directory {} cannot be watched: {error}. Where links lead that pass through it is noticed late; check its permissions.",
                        way.display()
                    ));
                }
                None
            }
        }
    }

    /// Nobody's way leads through this directory any more.
    fn leave_way(&mut self, way: &Path) {
        let Some(token) = self.directories.find(way) else { return };
        if self.directories.get(token).is_some_and(|directory| !directory.listed) {
            self.directories.remove(token);
            self.setup.watcher.unwatch_directory(token);
        }
    }

    /// A directory changed: it is listed again, and what leads through it is looked at soon.
    pub(super) fn heed_directory(&mut self, token: crate::watch::DirToken) {
        let Some(directory) = self.directories.get(token) else { return };
        let (path, listed) = (Arc::clone(&directory.path), directory.listed);
        self.ways.change(&path);
        if listed {
            self.look_in_turn(&path);
        } else if !beneath::is_directory(&path) {
            self.directories.remove(token);
            self.setup.watcher.unwatch_directory(token);
        }
    }

    /// A directory is gone, and its links with it.
    pub(super) fn forget_ways_of(&mut self, directory: &Arc<Path>) {
        self.travel(&Traveller::Links(Arc::clone(directory)), Vec::new());
    }

    /// Looks along the ways that changed.
    pub(super) fn look_along_ways(&mut self) {
        let now = Instant::now();
        if self.ways.due.is_empty() || self.ways.rest_until.is_some_and(|until| until > now) {
            return;
        }
        let began = rest::used();
        let mut due = std::mem::take(&mut self.ways.due);
        if due.remove(&Traveller::Roots) {
            let before = std::mem::take(&mut self.ways.roots);
            let found = self.list_roots();
            self.place(found);
            if self.ways.roots != before {
                // Links lead elsewhere too where what leads to a configured directory does.
                due.extend(self.ways.all.values().flatten().cloned());
            }
        }
        for traveller in due {
            if let Traveller::Links(directory) = traveller
                && let Some(token) = self.directories.find(&directory)
            {
                self.relist(token);
            }
        }
        let took = rest::used().saturating_sub(began);
        self.ways.rest_until = Some(Instant::now() + (took * PART).clamp(REST, LONGEST));
    }
}
