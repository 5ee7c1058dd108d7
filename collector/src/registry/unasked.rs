//! Former files that no pattern names: read only where they continue what is collected.
//!
//! Beside a file that is collected, old ones lie that nobody asked for. But what was written after a
//! file that is known, and rotated before anybody looked, was asked for: also where logs are rotated so fast
//! that nothing known is left beside it, or before anything of the source was known.

use std::{hash::BuildHasher, io, path::Path};

use super::{Inode, Registry, Still, recognised::Recognised};
use crate::{discover::Role, identity, read::gzip};

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
            let asked = later
                || self.was_written_over(&file.identity)
                || self.follows_a_lost_one(file)
                || self.is_made_late(file);
            if file.is_unasked() && !asked {
                let file = recognised.remove(at);
                tracing::debug!(path = %file.found.path.display(), inode = file.look.key.inode, born = file.look.key.born_ns, "A file that nobody asked for is left alone.");
                let source = self.number_of(&file.found.source.path);
                self.inodes.insert(file.look.key, Inode::Ignored(Still::of(&file.look), source));
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

    /// Whether it was made after a file of the source that this run has collected, or after the first look at
    /// its directory. What was there by then was looked at then, and is not looked at again. Beside a log that is
    /// truncated it is a copy of what was collected, whenever it was made.
    fn is_made_late(&self, file: &Recognised) -> bool {
        let key = &file.look.key;
        let state = self.sources.get(&file.found.source.path);
        let known = || state.into_iter().flat_map(|state| &state.accounts);
        let accounts = || known().filter_map(|it| self.setup.accounts.get(it.id));
        let is_older = |known: i64| known != 0 && known < key.born_ns;
        (accounts().any(|known| is_older(known.identity.key.born_ns))
            || self.saw_it_made(&file.found.path, key) && precedes_live(file))
            && !accounts().any(|known| self.lives_on(&known))
            && !self.is_of_ignored(file)
    }

    /// Whether a compressed file is as long as a file of its source that nobody asked for: it is made of that,
    /// long after it was written.
    fn is_of_ignored(&self, file: &Recognised) -> bool {
        if !file.found.gzip {
            return false;
        }
        let length = file.opened().and_then(|packed| gzip::trailer(&packed, file.look.size));
        // What cannot be told is left alone.
        let Some(length) = length.map(|sum| sum.length) else { return true };
        let of = self.number_of(&file.found.source.path);
        self.inodes.values().any(|inode| match inode {
            Inode::Ignored(still, source) => *source == of && still.size as u32 == length,
            Inode::Done(..) => false,
        })
    }

    /// Stands for a source among files that are left alone: they may be many, and paths are long.
    fn number_of(&self, source: &Path) -> u64 {
        self.problems.hasher().hash_one(source)
    }
}

/// Whether it is no younger than its log's live file (a clock has steps, and both may be made in one), or that is not there. A copy that `copytruncate` makes is younger
/// than the file that it is made of, and what was truncated before a log was found is not collected.
fn precedes_live(file: &Recognised) -> bool {
    match identity::look_at(&file.found.source.path) {
        Ok(live) => file.look.key.born_ns <= live.key.born_ns,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

impl Recognised {
    fn is_unasked(&self) -> bool {
        self.found.only_if_known && self.past.entry().is_none()
    }
}
