//! Recognition: which file a listed name is, and which of them are known already.
//!
//! Opens files and reads their first bytes; hands nothing to a reader.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Inode, RETRY, Recognised, Registry, Still,
    changed::{changed_lately, modified_ns},
    evidence,
    originals::Packed,
    parked::{PARK, Parked, in_order},
    recovery::Seen,
    rest,
    twins::Twin,
};
use crate::{
    descriptors,
    discover::{Found, Role},
    identity::{self, Identity, InodeKey, Look},
    known_files,
    read::{permits, reader::Message},
    watch::FileToken,
};

/// How often a directory is looked through at once while it keeps changing.
const LOOKS: u32 = 6;
/// As long as one has to wait for its turn to be unpacked.
const PARK_UNPACKING: Duration = Duration::from_secs(30);
/// A file with too many names is looked at again after this.
const NAMES_AGAIN: Duration = Duration::from_secs(10);
/// A directory that kept changing while it was looked through is listed again after this.
const RELIST: Duration = Duration::from_millis(20);

/// What a listed file is found to be.
enum Who {
    /// One that is known, or a copy of one.
    Known,
    /// One that is to be read.
    New(Box<Recognised>),
    /// Not to be told yet, and perhaps older than what is to be read.
    Untold,
}

impl Registry {
    /// Opens a source's files that are not known yet and finds out who they are; oldest first. A
    /// directory that changed since it was listed is listed again, so that a file that was rotated
    /// or compressed in between is found before anything later is read.
    pub(super) fn recognise(
        &mut self,
        found: Vec<Found>,
        directory: &Arc<Path>,
    ) -> Vec<Recognised> {
        let Some(source) = found.first().map(|found| Arc::clone(&found.source.path)) else {
            return Vec::new();
        };
        let Parked { files: mut opened, mut sequence, mut since, begun, older, .. } =
            self.parked.remove(&source).unwrap_or_else(Parked::nothing);
        let mut last = HashSet::new();
        let mut found = found;
        let (mut doubt, mut unstable) = (None, false);
        let modified = modified_ns(directory);
        let began = rest::used();
        // What was put off for another source says nothing of this one.
        let _another = self.was_put_off();
        for look in 1..=LOOKS {
            self.heed_readers();
            let found_now = self.those_with_a_place(found, directory, &opened);
            let before = opened.len();
            let mut shown = Vec::new();
            let vanished = self.open_found(found_now, directory, &mut shown, &mut opened);
            shown.sort();
            let shown: Vec<InodeKey> = shown.into_iter().map(|(_, _, key)| key).collect();
            last = shown.iter().copied().collect();
            sequence.look(shown, |other, key| {
                // A compressed one that is not one of theirs was made of a file that came later.
                let is_packed = opened.get(other).is_some_and(|file| file.found.gzip);
                is_packed || other.born_ns > key.born_ns
            });
            // A look that shows nothing new shows everything older than what was opened before: a
            // listing misses a file that is renamed meanwhile. Where the directory did not change
            // lately, the first look does.
            let nothing_new = opened.len() == before;
            unstable = !nothing_new
                && (look > 1 || changed_lately(directory) || modified_ns(directory) != modified);
            let oldest = || opened.values().map(|file| file.found.role.clone()).min();
            doubt = vanished.or_else(|| oldest().filter(|_| unstable));
            if doubt.is_none() || rest::takes_long(began) || self.rests.has_repeated(directory) {
                break;
            }
            let repeated = rest::used();
            found = self.list_anew(directory).files;
            found.retain(|file| file.source.path == source);
            self.rests.repeated(directory, rest::used().saturating_sub(repeated));
        }
        let mut recognised = in_order(opened, &sequence);
        if let Some(doubt) = doubt {
            self.retries.insert(directory.to_path_buf(), Instant::now() + RELIST);
            if older.as_ref() != Some(&doubt) && !unstable {
                // The one they waited for was found, another one was not.
                since = Instant::now();
            }
            let patience = if self.was_put_off() { PARK_UNPACKING } else { PARK };
            if since.elapsed() < patience && begun.elapsed() < patience * 2 {
                // What may be later than a file that is still to be found waits for it, held open.
                let later = recognised.partition_point(|file| file.found.role < doubt);
                let parked = recognised.split_off(later);
                let files: HashMap<_, _> =
                    parked.into_iter().map(|file| (file.look.key, file)).collect();
                sequence.retain(|key| files.contains_key(key) || last.contains(key));
                let patience = patience * 2;
                self.parked.insert(
                    source,
                    Parked { files, sequence, since, begun, patience, older: Some(doubt) },
                );
            }
        }
        // Whether a parked one is asked for, the file tells that it waits for.
        self.ignore_unasked(&mut recognised, directory);
        recognised
    }

    /// Until then files may be there that no look has shown, of whichever source.
    pub(super) fn tell_looking(&self, until: Instant) {
        for reader in &self.setup.readers {
            let _going_down = reader.send(Message::Follow(None, until));
        }
    }

    /// One look at listed files, sorted oldest first. The oldest one that vanished, if any did.
    fn open_found(
        &mut self,
        found: Vec<Found>,
        directory: &Path,
        shown: &mut Vec<(Role, i64, InodeKey)>,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Option<Role> {
        let mut vanished = None;
        let (mut before, mut packed) = (None, Vec::new());
        // From the latest on, so that each knows which held file comes after it.
        for found in found.into_iter().rev() {
            let listed = identity::look_at(&found.path);
            if let Ok(key) = listed.as_ref().map(|look| look.key) {
                shown.push((found.role.clone(), key.born_ns, key));
                if let Some(token) = self.held.find(&key)
                    && self.held.get(token).is_some_and(|held| !held.dormant)
                {
                    before = Some(token);
                }
                if let Some(file) = opened.get_mut(&key) {
                    (file.found, file.before) = (found, before);
                    continue;
                }
            }
            if found.gzip {
                packed.push((found, before));
            } else if let Some(role) = self.open_one((found, listed), before, directory, opened) {
                vanished = Some(role);
            }
        }
        // Whose copy a compressed file is, is asked when every other file has found itself; the
        // oldest first.
        for (found, before) in packed.into_iter().rev() {
            let listed = identity::look_at(&found.path);
            if let Some(role) = self.open_one((found, listed), before, directory, opened) {
                vanished = vanished.into_iter().chain([role]).min();
            }
        }
        vanished
    }

    /// Opens a listed file. Its role, if it vanished.
    fn open_one(
        &mut self,
        (found, listed): (Found, io::Result<Look>),
        before: Option<FileToken>,
        directory: &Path,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Option<Role> {
        let role = found.role.clone();
        match self.recognise_one((found, listed), directory, opened) {
            Ok(Who::Known) => {}
            Ok(Who::New(file)) => {
                opened.insert(file.look.key, Recognised { before, ..*file });
            }
            Ok(Who::Untold) => return Some(role),
            Err((path, error)) if error.kind() == io::ErrorKind::NotFound => {
                tracing::debug!(path = %path.display(), "A file vanished before it was opened.");
                return Some(role);
            }
            Err((_, error)) if descriptors::is_shortage(&error) => {
                self.say_shortage(directory, &error);
            }
            Err((path, error)) => {
                self.retries.insert(directory.to_owned(), Instant::now() + RETRY);
                self.complain(&path, format!(
                    "The log file {} cannot be opened: {error}. It is tried again; check its permissions.",
                    path.display()
                ));
            }
        }
        None
    }

    fn recognise_one(
        &mut self,
        (found, listed): (Found, io::Result<Look>),
        directory: &Path,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Result<Who, (PathBuf, io::Error)> {
        let fail = |error| (found.path.clone(), error);
        let mut listed = listed.map_err(fail)?;
        let (file, look) = loop {
            if self.is_known(&listed, &found) {
                return Ok(Who::Known);
            }
            let (file, look) = identity::open(&found.path).map_err(fail)?;
            // The name may mean another file by now.
            if look.key == listed.key {
                break (file, look);
            }
            if let Some(other) = opened.get_mut(&look.key) {
                other.found = found;
                return Ok(Who::Known);
            }
            listed = look;
        };
        let identity = identity::identify(&file, &look);
        if self.is_done_by_its_handle(&identity, &look) {
            return Ok(Who::Known);
        }
        let (mut is_twin, mut epoch) = (false, None);
        let (head, entry) = if found.gzip {
            let packed = self.recognise_packed(&found, &file, (&look, &identity), opened);
            tracing::debug!(path = %found.path.display(), inode = look.key.inode, is = %packed, "A compressed file was looked at.");
            match packed {
                Packed::Copy => return Ok(Who::Known),
                Packed::Later => {
                    self.note_doubtful_copy(&found.source.path);
                    let read = self.is_read_beside(&found, opened);
                    return Ok(if read { Who::Known } else { Who::Untold });
                }
                Packed::Read(entry, head) => {
                    self.unfinished.remove(&look.key);
                    (head, entry.map(|entry| *entry))
                }
                Packed::Twin(entry, head) => {
                    self.unfinished.remove(&look.key);
                    is_twin = true;
                    (head, Some(*entry))
                }
            }
        } else {
            let head = identity::head(&file).map_err(fail)?;
            let (source, size) = (&*found.source.path, Some(look.size));
            let seen = Seen { identity: &identity, source, size, head: &head };
            let mut entry = self.unclaimed.claim(&seen);
            if let Some(former) = entry.take_if(|entry| !evidence::goes_on_in(entry, &file, &head))
            {
                epoch = Some(self.end_former_life(former));
            }
            if entry.is_none() && epoch.is_none() && found.role != Role::Live {
                if self.is_to_be_heard(&found) && self.age(&look) < PARK {
                    self.wait_for(&found, &look, false, true);
                    return Ok(Who::Untold);
                }
                fail::fail_point!("registry.copy");
                let twin = self.recognise_twin(&found, &file, (&look, &identity), &head, opened);
                tracing::debug!(path = %found.path.display(), inode = look.key.inode, is = %twin, "A rotated file was looked at.");
                match twin {
                    Twin::Of(known) => (entry, is_twin) = (Some(*known), true),
                    Twin::Later => return Ok(Who::Known),
                    Twin::Nobodys => {}
                }
            }
            (head, entry)
        };
        if entry.is_none() && self.has_too_many_names(&found, &look, directory) {
            return Ok(Who::Known);
        }
        let before = None;
        let permit = permits::permit(found.source.tenant(), &file);
        let file = permit.is_some().then_some(file);
        self.keep_no_place(look.key.inode);
        let place = known_files::enter(&found.source.tenant(), found.path.as_os_str().len());
        let file = Recognised {
            found,
            file,
            permit,
            place,
            look,
            identity,
            entry,
            is_twin,
            epoch,
            head,
            before,
        };
        Ok(Who::New(Box::new(file)))
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
            Some(Inode::Ignored(still)) => still.is(look) && found.only_if_known,
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
