//! Recognition: looks at a source's files until it is sure that they are all, and puts them into their order.
//!
//! Who each of them is, `who` tells. Hands nothing to a reader.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    RETRY, Registry,
    changed::{changed_lately, modified_ns},
    parked::{Looks, Parked, in_order},
    recognised::Recognised,
    rest,
    who::Who,
};
use crate::{
    descriptors,
    discover::{Found, Role},
    identity::{self, InodeKey, Look},
    read::reader::Message,
    watch::FileToken,
};

/// How often a directory is looked through at once while it keeps changing.
const LOOKS: u32 = 6;
/// A directory that kept changing while it was looked through is listed again after this.
const RELIST: Duration = Duration::from_millis(20);

impl Registry {
    /// Opens a source's files that are not known yet and finds out who they are; oldest first.
    pub(super) fn recognise(
        &mut self,
        found: Vec<Found>,
        directory: &Arc<Path>,
    ) -> Vec<Recognised> {
        let Some(source) = found.first().map(|found| Arc::clone(&found.source.path)) else {
            return Vec::new();
        };
        let mut parked = self.parked.remove(&source).unwrap_or_else(Parked::nothing);
        // What was put off for another source says nothing of this one.
        let _another = self.was_put_off();
        let looks = self.look_through(&source, found, directory, &mut parked);
        let mut recognised = in_order(std::mem::take(&mut parked.files), &parked.sequence);
        if looks.doubt.is_some() {
            self.retries.insert(directory.to_path_buf(), Instant::now() + RELIST);
            self.park_later(source, looks, parked, &mut recognised);
        }
        // Whether a parked one is asked for, the file tells that it waits for.
        self.ignore_unasked(&mut recognised, directory);
        recognised
    }

    /// Opens what is listed of a source, beside what was `parked`. A directory that changed since it was listed is
    /// listed again, so that a file that was rotated or compressed in between is found before anything
    /// later is read.
    fn look_through(
        &mut self,
        source: &Arc<Path>,
        mut found: Vec<Found>,
        directory: &Arc<Path>,
        parked: &mut Parked,
    ) -> Looks {
        let Parked { files: opened, sequence, .. } = parked;
        let mut looks = Looks { last: HashSet::new(), doubt: None, unstable: false };
        let modified = modified_ns(directory);
        let began = rest::used();
        for look in 1..=LOOKS {
            self.heed_readers();
            let found_now = self.those_with_a_place(found, directory, opened);
            let before = opened.len();
            let mut shown = Vec::new();
            let vanished = self.open_found(found_now, directory, &mut shown, opened);
            shown.sort();
            let shown = with_originals(shown.into_iter().map(|(_, _, key)| key), opened);
            looks.last = shown.iter().copied().collect();
            sequence.look(shown, |other, key| {
                // A compressed one that is not one of theirs was made of a file that came later.
                let is_packed = opened.get(other).is_some_and(|file| file.found.gzip);
                is_packed || other.born_ns > key.born_ns
            });
            // A look that shows nothing new shows everything older than what was opened before: a
            // listing misses a file that is renamed meanwhile. Where the directory did not change
            // lately, the first look does.
            let nothing_new = opened.len() == before;
            looks.unstable = !nothing_new
                && (look > 1 || changed_lately(directory) || modified_ns(directory) != modified);
            let oldest = || opened.values().map(|file| file.found.role.clone()).min();
            looks.doubt = vanished.or_else(|| oldest().filter(|_| looks.unstable));
            let is_enough = rest::takes_long(began) || self.rests.has_repeated(directory);
            if looks.doubt.is_none() || is_enough {
                break;
            }
            let repeated = rest::used();
            found = self.list(directory).files;
            found.retain(|file| file.source.path == *source);
            self.rests.repeated(directory, rest::used().saturating_sub(repeated));
        }
        looks
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
        fail::fail_point!("registry.open");
        match self.recognise_one((found, listed), directory, opened) {
            Ok(Who::Known) => {}
            Ok(Who::New(mut file)) => {
                file.before = before;
                opened.insert(file.look.key, *file);
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
}

/// Files in the places of their compressed copies, where they are not there themselves any more.
fn with_originals(
    shown: impl Iterator<Item = InodeKey>,
    opened: &HashMap<InodeKey, Recognised>,
) -> Vec<InodeKey> {
    let copies = opened.values().filter_map(|file| Some((file.copy?, file.look.key)));
    let copies: HashMap<InodeKey, InodeKey> = copies.collect();
    let mut shown: Vec<InodeKey> =
        shown.map(|key| copies.get(&key).copied().unwrap_or(key)).collect();
    // Each may have been listed before it went.
    shown.dedup();
    shown
}
