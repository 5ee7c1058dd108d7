//! A look at one directory: what every lister is told of it, and notes in common.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{entries, host, own::OwnOutputs, ways};
use crate::config::FollowLinks;

/// What every lister is told of the directory it looks at.
pub(super) struct Look<'a> {
    pub(super) host: &'a host::HostRoot,
    pub(super) own: &'a OwnOutputs,
    pub(super) left_out: &'a LeftOut,
    /// The directory as this process opens it.
    pub(super) directory: &'a Path,
    /// The directory as the host calls it.
    pub(super) here: &'a Path,
    pub(super) entries: &'a [entries::Entry],
    pub(super) bases: &'a Bases,
    /// Where what its links lead to may change.
    pub(super) ways: &'a ways::Ways,
}

/// The agent's own pods and containers that were found: what is not collected must be visible.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) pods: RefCell<Vec<String>>,
    pub(super) containers: RefCell<Vec<String>>,
    pub(super) changed: Cell<bool>,
}

impl LeftOut {
    pub(super) fn pods(&self, found: Vec<String>) {
        self.put(&self.pods, found);
    }

    pub(super) fn containers(&self, found: Vec<String>) {
        self.put(&self.containers, found);
    }

    /// One container more.
    pub(super) fn container(&self, found: String) {
        if !self.has_container(&found) {
            self.containers.borrow_mut().push(found);
            self.changed.set(true);
        }
    }

    pub(super) fn has_container(&self, one: &str) -> bool {
        self.containers.borrow().iter().any(|known| known == one)
    }

    fn put(&self, known: &RefCell<Vec<String>>, found: Vec<String>) {
        if *known.borrow() != found {
            known.replace(found);
            self.changed.set(true);
        }
    }
}

/// Where configured directories really are, looked up once a listing.
#[derive(Default)]
pub(super) struct Bases(RefCell<HashMap<(PathBuf, FollowLinks), Option<PathBuf>>>);

/// Links on the way to the directories of the runtimes: as on the way to a pattern's beginning.
pub(super) const TO_RUNTIMES: FollowLinks = FollowLinks::Beneath;

impl Look<'_> {
    /// The real path of a configured directory of a runtime, if it exists.
    pub(super) fn real(&self, base: &Path) -> Option<PathBuf> {
        self.real_base(base, TO_RUNTIMES)
    }

    /// The real path of a configured directory, if it exists.
    pub(super) fn real_base(&self, base: &Path, links: FollowLinks) -> Option<PathBuf> {
        let base = (base.to_owned(), links);
        if let Some(known) = self.bases.0.borrow().get(&base) {
            return known.clone();
        }
        let real = self.host.real_base(&base.0, links);
        self.bases.0.borrow_mut().insert(base, real.clone());
        real
    }
}
