//! Files that are deleted while they wait: they are lost, and stated.
//!
//! Where the kernel tells a file's end, so much is lost as it tells. It does not tell that of a file which was there
//! before it looked, or for which it had no room for long: then so much is lost as was seen.

use std::{collections::HashSet, path::Path, sync::Arc};

use super::{One, Waiting};
use crate::{
    discover::{Listing, Part},
    reason::{Reason, Unknown},
    registry::Registry,
    settle::{Command, Went},
    watch::Departed,
};

impl Waiting {
    /// The kernel told that a file is gone that nobody had claimed, or that its last name is.
    pub(in crate::registry) fn heed_departed(&mut self, gone: &Departed) {
        // Where it does not tell the path, it does not tell enough to count it either.
        let directory = gone.directory.as_deref().filter(|_| gone.path.is_some());
        let here = directory.and_then(|directory| self.by_directory.get_mut(directory));
        if let Some(one) = here.and_then(|here| here.files.get_mut(&gone.inode.inode)) {
            one.told = true;
        }
    }
}

impl Registry {
    /// A directory was listed: what waited in it and is not there any more was deleted.
    pub(in crate::registry) fn notice_waiting(&mut self, directory: &Arc<Path>, listing: &Listing) {
        // What could not be looked at may be there.
        let Some(part) = listing.part else { return };
        let Some(here) = self.waiting.by_directory.get_mut(directory) else { return };
        if part.begins {
            here.begin_round();
        }
        for found in &listing.files {
            if let Some(one) = here.files.get_mut(&found.inode) {
                one.round = here.round;
            }
        }
        if !part.ends {
            return;
        }
        let now = here.round;
        if here.files.values().any(|one| one.round != now) {
            self.heed_departed();
        }
        let Some(here) = self.waiting.by_directory.get_mut(directory) else { return };
        let gone: Vec<(u64, One)> = here.files.extract_if(|_, one| one.round != now).collect();
        self.waiting.changed |= !gone.is_empty();
        self.lose_waiting(directory, gone, false);
    }

    /// What a listing showed has a place or waits: of what is only counted, less may wait than before.
    pub(in crate::registry) fn notice_fewer_waiting(
        &mut self,
        directory: &Arc<Path>,
        part: Option<Part>,
    ) {
        // Where others have their turn first, not all of it was counted.
        let goes_on = !self.ahead.is_empty() || self.retries.contains_key(&**directory);
        if goes_on || part.is_none_or(|part| !part.ends) {
            return;
        }
        let Some(here) = self.waiting.by_directory.get_mut(directory) else { return };
        let now = here.more.1 + here.directories.1 + std::mem::take(&mut here.let_in);
        let fewer = now < here.more.0 + here.directories.0;
        (here.more.0, here.directories.0) = (here.more.1, here.directories.1);
        if here.is_empty() {
            self.waiting.by_directory.remove(directory);
            self.waiting.changed = true;
        }
        if fewer {
            self.waiting.changed = true;
            self.lose_waiting(directory, Vec::new(), true);
        }
    }

    /// A directory is gone, with all that waited in it.
    pub(in crate::registry) fn lose_all_waiting(&mut self, directory: &Arc<Path>) {
        if !self.waiting.by_directory.contains_key(directory) {
            return;
        }
        self.heed_departed();
        let Some(here) = self.waiting.by_directory.remove(directory) else { return };
        self.waiting.changed = true;
        let more = here.more() + here.directories() > 0;
        self.lose_waiting(directory, here.files.into_iter().collect(), more);
    }

    fn lose_waiting(&mut self, directory: &Arc<Path>, mut gone: Vec<(u64, One)>, more: bool) {
        if !gone.is_empty() {
            let elsewhere: HashSet<u64> = self.held.values().map(|held| held.key.inode).collect();
            let all = self.waiting.by_directory.values();
            let waiting: HashSet<u64> = all.flat_map(|here| here.files.keys().copied()).collect();
            gone.retain(|(inode, _)| !elsewhere.contains(inode) && !waiting.contains(inode));
        }
        if gone.is_empty() && !more {
            return;
        }
        let untold = gone.iter().filter(|(_, one)| !one.told);
        let bytes = untold.map(|(_, one)| one.size).sum();
        let mut went = Went::default();
        if bytes > 0 {
            went.lost.push((directory.to_path_buf(), bytes, Reason::DeletedUnseen));
        }
        went.unknown.push(Unknown::DeletedWaiting);
        self.tell(Command::Went(went));
    }
}
