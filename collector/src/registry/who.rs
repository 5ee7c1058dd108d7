//! Who a listed file is: one that is known already, a copy of one, or one that is to be read.
//!
//! Opens it and reads its first bytes; hands nothing to a reader.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Inode, Registry, Still, evidence,
    originals::Packed,
    parked::PARK,
    recognised::{Past, Recognised, Unknown},
    recovery::Seen,
    twins::Twin,
};
use crate::{
    discover::{Found, Role},
    identity::{self, Identity, InodeKey, Look},
    read::reader::Message,
    watch::FileToken,
};

/// A file with too many names is looked at again after this.
const NAMES_AGAIN: Duration = Duration::from_secs(10);

/// What a listed file is found to be.
pub(super) enum Who<T> {
    /// One that is known, or a copy of one.
    Known,
    /// One that is to be read.
    New(T),
    /// Not to be told yet, and perhaps older than what is to be read.
    Untold,
}

impl Registry {
    /// Opens a listed file and finds out who it is; else where that failed, and why.
    pub(super) fn recognise_one(
        &mut self,
        (found, listed): (Found, io::Result<Look>),
        directory: &Path,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Result<Who<Box<Recognised>>, (PathBuf, io::Error)> {
        let unknown = match self.open_unknown(found, listed, opened)? {
            Some(unknown) => unknown,
            None => return Ok(Who::Known),
        };
        let told = match unknown.found.gzip {
            true => self.past_of_packed(&unknown, opened),
            false => {
                let told = self.past_of_plain(&unknown, opened);
                told.map_err(|error| (unknown.found.path.clone(), error))?
            }
        };
        let (past, head) = match told {
            Who::New(told) => told,
            Who::Known => return Ok(Who::Known),
            Who::Untold => return Ok(Who::Untold),
        };
        let Unknown { found, look, .. } = &unknown;
        if past.entry().is_none() && self.has_too_many_names(found, look, directory) {
            return Ok(Who::Known);
        }
        self.keep_no_place(look.key.inode);
        Ok(Who::New(Box::new(unknown.recognised(past, head))))
    }

    /// Opens a listed file. None: it is known, or another name of one that was `opened`.
    fn open_unknown(
        &mut self,
        found: Found,
        listed: io::Result<Look>,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Result<Option<Unknown>, (PathBuf, io::Error)> {
        let fail = |error| (found.path.clone(), error);
        let mut listed = listed.map_err(fail)?;
        let (file, look) = loop {
            if let Some(other) = opened.get_mut(&listed.key) {
                // What is known of it is taken already: looked at again, it would be new.
                other.found = found;
                return Ok(None);
            }
            if self.is_known(&listed, &found) {
                return Ok(None);
            }
            let (file, look) = identity::open(&found.path).map_err(fail)?;
            // The name may mean another file by now.
            if look.key == listed.key {
                break (file, look);
            }
            listed = look;
        };
        let identity = identity::identify(&file, &look);
        if self.is_done_by_its_handle(&identity, &look) {
            return Ok(None);
        }
        Ok(Some(Unknown { found, file, look, identity }))
    }

    /// What is known of a compressed file from before, and its first bytes.
    fn past_of_packed(
        &mut self,
        file: &Unknown,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Who<(Past, Vec<u8>)> {
        let packed = self.recognise_packed(file, opened);
        let Unknown { found, look, .. } = file;
        tracing::debug!(path = %found.path.display(), inode = look.key.inode, is = %packed, "A compressed file was looked at.");
        let told = match packed {
            Packed::Copy => return Who::Known,
            // Nothing waits for it.
            Packed::Unread => {
                self.note_doubtful_copy(&found.source.path);
                return Who::Known;
            }
            Packed::Later => {
                self.note_doubtful_copy(&found.source.path);
                let read = self.is_read_beside(found, opened);
                return if read { Who::Known } else { Who::Untold };
            }
            Packed::Read(entry, head) => (entry.map_or(Past::Nothing, Past::Entry), head),
            Packed::Twin(entry, head) => (Past::Twin(entry), head),
        };
        self.unfinished.remove(&look.key);
        Who::New(told)
    }

    /// What is known of a plain file from before, and its first bytes.
    fn past_of_plain(
        &mut self,
        unknown: &Unknown,
        opened: &HashMap<InodeKey, Recognised>,
    ) -> io::Result<Who<(Past, Vec<u8>)>> {
        let Unknown { found, file, look, identity } = unknown;
        let head = identity::head(file)?;
        let (source, size) = (&*found.source.path, Some(look.size));
        if let Some(entry) = self.unclaimed.claim(&Seen { identity, source, size, head: &head }) {
            if evidence::goes_on_in(&entry, file, &head) {
                return Ok(Who::New((Past::Entry(Box::new(entry)), head)));
            }
            let next = self.end_former_life(entry);
            if found.role == Role::Live {
                return Ok(Who::New((Past::FormerLife(next), head)));
            }
            // It was written over, perhaps with a copy of another file.
        }
        if found.role == Role::Live {
            return Ok(Who::New((Past::Nothing, head)));
        }
        if self.is_to_be_heard(found) && self.age(look) < PARK {
            self.wait_for(found, look, false, true);
            return Ok(Who::Untold);
        }
        fail::fail_point!("registry.copy");
        let twin = self.recognise_twin(unknown, &head, opened);
        tracing::debug!(path = %found.path.display(), inode = look.key.inode, is = %twin, "A rotated file was looked at.");
        Ok(match twin {
            Twin::Of(entry) => Who::New((Past::Twin(entry), head)),
            Twin::Later => Who::Known,
            Twin::Nobodys => Who::New((Past::Nothing, head)),
        })
    }

    /// Whether the file that a compressed one of this name is made of is there, and read.
    fn is_read_beside(&self, found: &Found, opened: &HashMap<InodeKey, Recognised>) -> bool {
        identity::look_at(&found.path.with_extension("")).is_ok_and(|look| {
            let key = &look.key;
            let known = self.held.find(key).is_some() || self.inodes.contains_key(key);
            known || opened.contains_key(key)
        })
    }

    /// Whether a file that nobody knows has more names than it may have: one of them may be another owner's.
    fn has_too_many_names(&mut self, found: &Found, look: &Look, directory: &Path) -> bool {
        if found.max_links == 0 || look.links <= found.max_links {
            return false;
        }
        // Nothing is told here when another name goes.
        self.retries.insert(directory.to_owned(), Instant::now() + NAMES_AGAIN);
        self.complain(&found.path, format!(
            "The log file {} is not collected: it has more names (hard links) than `max_links` allows. It is looked at again; remove the other name, or raise the bound.",
            found.path.display()
        ));
        true
    }

    /// Whether a file is known that a name was found to mean.
    fn is_known(&mut self, look: &Look, found: &Found) -> bool {
        if let Some(token) = self.held.find(&look.key) {
            self.named(token, found);
            self.look_closer(token);
            return true;
        }
        match self.inodes.get(&look.key).copied() {
            Some(Inode::Done(id, still)) if found.gzip && still.is(look) => {
                self.is_called(id, found);
                true
            }
            Some(Inode::Done(id, still)) if !found.gzip && still.may_have_grown(look) => {
                self.know_again(look, id, found)
            }
            Some(Inode::Ignored(still, _source)) => still.is(look) && found.only_if_known,
            Some(Inode::Done(..)) | None => false,
        }
    }

    /// Whether a file that was done with was merely touched: where an inode number can be used again
    /// without a trace, only the handle tells it from a stranger of its size.
    fn is_done_by_its_handle(&mut self, identity: &Identity, look: &Look) -> bool {
        let Some(Inode::Done(id, still)) = self.inodes.get_mut(&look.key) else { return false };
        let known = self.setup.accounts.get(*id).map(|account| account.identity.clone());
        let same = known.is_some_and(|known| known == *identity && known.handle.is_some());
        if same && still.size == look.size {
            *still = Still::of(look);
            return true;
        }
        false
    }

    /// A held file was found under a name.
    fn named(&mut self, token: FileToken, found: &Found) {
        let Some(held) = self.held.get_mut(token) else { return };
        let path = held.account.path();
        let moved = path != found.path;
        if moved && identity::look_at(&path).is_ok_and(|look| look.key == held.key) {
            // A hard link: it is collected once, under the name it was found by first.
            return;
        }
        let live = found.role == Role::Live && *held.source() == found.source.path;
        let (was_gone, was_live) = (held.gone, held.live);
        (held.gone, held.live) = (false, live);
        let dormant = held.dormant;
        let (source, id) = (Arc::clone(held.source()), held.account.id);
        if moved {
            held.account.rename(&found.path);
            let _the_same = self.watch_held(token);
        }
        if !dormant && (was_gone || was_live != live) {
            self.send(&source, |tail| Message::Named(tail, token, live));
        }
        self.present(&source, id);
    }
}
