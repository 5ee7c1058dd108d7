//! Other sources, while the agent runs: what is no longer wanted is let go, what is new is found.
//!
//! Compares what the former configuration finds with what the next one does. A source that is gone from
//! disk is found by neither, and is read to its end as ever.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

use super::Registry;
use crate::{discover::Discovery, read::reader::Message};

impl Registry {
    /// Looks for logs as configured anew.
    pub(super) fn change_sources(&mut self, discovery: Discovery) {
        let before = sources(&self.setup.discovery);
        self.setup.discovery = discovery;
        let now = sources(&self.setup.discovery);
        for path in before.difference(&now) {
            if self.sources.contains_key(path) && self.excluded.insert(Arc::clone(path)) {
                tracing::info!(path = %path.display(), "A log is no longer collected, as configured.");
                self.send(path, |tail| Message::Exclude(tail, true));
            }
        }
        let back: Vec<_> = self.excluded.extract_if(|path| now.contains(path)).collect();
        for path in &back {
            self.send(path, |tail| Message::Exclude(tail, false));
        }
        self.problems.clear();
        let found =
            self.list_from(self.setup.discovery.roots().into_iter().map(Arc::from).collect());
        self.place(found);
        for token in self.directories.tokens() {
            self.relist(token);
        }
        if !back.is_empty() {
            self.look_at_dormant();
        }
    }
}

/// The sources that are found now.
fn sources(discovery: &Discovery) -> BTreeSet<Arc<Path>> {
    let mut queue = discovery.roots();
    let mut looked: HashSet<_> = queue.iter().cloned().collect();
    let mut found = BTreeSet::new();
    while let Some(directory) = queue.pop() {
        let listing = discovery.list(&directory);
        found.extend(listing.files.iter().map(|file| Arc::clone(&file.source.path)));
        queue.extend(listing.directories.into_iter().filter(|path| looked.insert(path.clone())));
    }
    found
}
