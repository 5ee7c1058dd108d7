//! Former files that no pattern names: read only where they continue what is collected.
//!
//! Beside a file that is collected, old ones lie that nobody asked for. But what was written after a
//! file that is known, and rotated before anybody looked, was asked for.

use std::path::Path;

use super::{Inode, Registry, Still, recognised::Recognised};
use crate::{discover::Role, identity};

impl Registry {
    /// Leaves out files that nobody asked for, of those that a look at their source's directory showed.
    pub(super) fn ignore_unasked(&mut self, recognised: &mut Vec<Recognised>, directory: &Path) {
        if !recognised.iter().any(Recognised::is_unasked) {
            return;
        }
        let known = self.oldest_known(recognised, directory);
        for at in (0..recognised.len()).rev() {
            let file = &recognised[at];
            let later = known.as_ref().is_some_and(|known| *known < file.found.role);
            if file.is_unasked() && !later && !self.follows_a_lost_one(file) {
                let file = recognised.remove(at);
                self.inodes.insert(file.look.key, Inode::Ignored(Still::of(&file.look)));
            }
        }
    }

    /// The place of a source's oldest file that was collected before.
    fn oldest_known(&mut self, recognised: &[Recognised], directory: &Path) -> Option<Role> {
        let source = &recognised.first()?.found.source.path;
        let claimed = recognised.iter().filter(|file| file.past.entry().is_some());
        let claimed = claimed.map(|file| file.found.role.clone()).min();
        let listed = self.list(directory).files;
        let there = listed.into_iter().filter(|found| found.source.path == *source);
        let known = there.filter(|found| {
            identity::look_at(&found.path).is_ok_and(|look| {
                self.held.find(&look.key).is_some()
                    || matches!(self.inodes.get(&look.key), Some(Inode::Done(..)))
            })
        });
        known.map(|found| found.role).chain(claimed).min()
    }

    /// Whether the checkpoint knows an older file of the source that is not to be found any more.
    fn follows_a_lost_one(&self, file: &Recognised) -> bool {
        let born = file.look.key.born_ns;
        let mut entries = self.unclaimed.of_source(&file.found.source.path);
        entries.any(|entry| entry.born_ns != 0 && entry.born_ns < born)
    }
}

impl Recognised {
    fn is_unasked(&self) -> bool {
        self.found.only_if_known && self.past.entry().is_none()
    }
}
