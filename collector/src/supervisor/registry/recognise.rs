//! Recognition: which file a listed name is, and which of them are known already.
//!
//! Opens files and reads their first bytes; hands nothing to a reader.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::{Inode, RETRY, Recognised, Registry};
use crate::{
    discover::{Found, Role},
    ledger::FileAccount,
    read::{
        content,
        identity::{self, FINGERPRINT_BYTES, FileId, Fingerprint, InodeKey},
        reader::Message,
    },
    watch::FileToken,
};

/// How often a directory is looked through at once while it keeps changing.
const LOOKS: u32 = 6;
/// The granularity of a filesystem's times, rounded up.
const TICK: Duration = Duration::from_millis(5);
/// A directory that changed this lately may have changed since it was listed.
const LATELY: Duration = Duration::from_millis(500);
/// A directory that kept changing while it was looked through is listed again after this.
const RELIST: Duration = Duration::from_millis(20);

impl Registry {
    /// Opens a source's files that are not known yet and finds out who they are; oldest first. A
    /// directory that changed since it was listed is listed again, so that a file that was rotated
    /// or compressed in between is found before anything later is read.
    pub(super) fn recognise(&mut self, found: Vec<Found>, directory: &Path) -> Vec<Recognised> {
        let Some(source) = found.first().map(|found| found.source.path.clone()) else {
            return Vec::new();
        };
        let mut opened: HashMap<InodeKey, Recognised> = HashMap::new();
        let mut found = found;
        let mut listed = None;
        for look in 0..LOOKS {
            let vanished = self.open_found(found, directory, &mut opened);
            let opened_live = opened.values().any(|file| file.found.role == Role::Live);
            let stable = !opened_live || !may_have_changed(directory, listed);
            if stable && !vanished {
                break;
            }
            if look + 1 == LOOKS {
                self.retries.insert(directory.to_owned(), Instant::now() + RELIST);
                break;
            }
            if look > 0 {
                std::thread::sleep(TICK);
            }
            listed = modified(directory);
            found = self.list(directory).files;
            found.retain(|file| file.source.path == source);
        }
        let mut recognised: Vec<Recognised> = opened.into_values().collect();
        recognised.sort_by(|a, b| a.found.role.cmp(&b.found.role));
        recognised
    }

    /// One look at listed files, sorted oldest first. True: one of them vanished.
    fn open_found(
        &mut self,
        found: Vec<Found>,
        directory: &Path,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> bool {
        let mut vanished = false;
        let mut before = None;
        // From the latest on, so that each knows which held file comes after it.
        for found in found.into_iter().rev() {
            if let Ok(key) = identity::look_at(&found.path).map(|look| look.key) {
                if let Some(Inode::Held(token)) = self.inodes.get(&key) {
                    before = Some(*token);
                }
                if let Some(file) = opened.get_mut(&key) {
                    (file.found, file.before) = (found, before);
                    continue;
                }
            }
            match self.recognise_one(found, opened) {
                Ok(None) => {}
                Ok(Some(file)) => {
                    opened.insert(file.look.key, Recognised { before, ..file });
                }
                Err((path, error)) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::debug!(path = %path.display(), "A file vanished before it was opened.");
                    vanished = true;
                }
                Err((path, error)) => {
                    self.retries.insert(directory.to_owned(), Instant::now() + RETRY);
                    self.complain(format!(
                        "The log file {} cannot be opened: {error}. It is tried again; check its permissions and the limit on open files.",
                        path.display()
                    ));
                }
            }
        }
        vanished
    }

    fn recognise_one(
        &mut self,
        found: Found,
        opened: &HashMap<InodeKey, Recognised>,
    ) -> Result<Option<Recognised>, (PathBuf, io::Error)> {
        let fail = |error| (found.path.clone(), error);
        let look = identity::look_at(&found.path).map_err(fail)?;
        match self.inodes.get(&look.key).copied() {
            Some(Inode::Held(token)) => {
                self.named(token, &found);
                return Ok(None);
            }
            Some(Inode::Done(id, size)) if size == look.size => {
                self.present(&found.source.path, id);
                return Ok(None);
            }
            Some(Inode::Ignored) => return Ok(None),
            Some(Inode::Done(..)) | None => {}
        }
        let (file, look) = identity::open(&found.path).map_err(fail)?;
        let identity = identity::identify(&file, &look);
        let (head, entry);
        if found.gzip {
            head = content::gzip_head(&file, FINGERPRINT_BYTES);
            if opened.values().any(|file| !file.head.is_empty() && head.starts_with(&file.head)) {
                // The copy of a file that was opened a moment ago: known at the next look.
                return Ok(None);
            }
            entry = match self.copy_of(&found, &head) {
                Some(id) => {
                    self.inodes.insert(look.key, Inode::Done(id, look.size));
                    self.present(&found.source.path, id);
                    return Ok(None);
                }
                None => {
                    let stem = found.path.file_stem().unwrap_or_default().to_string_lossy();
                    self.unclaimed
                        .claim(&identity)
                        .or_else(|| self.unclaimed.claim_by_head(&found.source.path, &stem, &head))
                }
            };
        } else {
            head = identity::head(&file).map_err(fail)?;
            entry = self.unclaimed.claim(&identity);
        }
        if entry.is_none() && found.only_if_known {
            self.inodes.insert(look.key, Inode::Ignored);
            return Ok(None);
        }
        Ok(Some(Recognised { found, file, look, identity, entry, head, before: None }))
    }

    /// The account of which a compressed file is a copy.
    fn copy_of(&self, found: &Found, head: &[u8]) -> Option<FileId> {
        let state = self.sources.get(&found.source.path)?;
        let accounts = state.accounts.keys().filter_map(|id| self.setup.accounts.get(*id));
        for account in accounts {
            self.refresh_fingerprint(&account);
            let fingerprint = account.fingerprint();
            if fingerprint.len > 0 && fingerprint.matches(head) {
                return Some(account.id);
            }
        }
        None
    }

    /// A file that no reader has looked at yet has no fingerprint.
    fn refresh_fingerprint(&self, account: &FileAccount) {
        if account.fingerprint().len > 0 {
            return;
        }
        if let Some(Ok(head)) = account.held().map(|file| identity::head(&file)) {
            account.set_fingerprint(Fingerprint::of(&head));
        }
    }

    /// A held file was found under a name.
    fn named(&mut self, token: FileToken, found: &Found) {
        let Some(held) = self.held.get_mut(&token) else { return };
        let moved = held.path != found.path;
        if moved && identity::look_at(&held.path).is_ok_and(|look| look.key == held.key) {
            // A hard link: it is collected once, under the name it was found by first.
            return;
        }
        let live = found.role == Role::Live && held.source == found.source.path;
        let (was_gone, was_live) = (held.gone, held.live);
        (held.gone, held.live) = (false, live);
        let (source, id) = (held.source.clone(), held.account.id);
        if moved {
            held.path.clone_from(&found.path);
            held.account.rename(&found.path);
            self.watch_held(token);
        }
        if was_gone || was_live != live {
            self.send(&source, |tail| Message::Named(tail, token, live));
        }
        self.present(&source, id);
    }
}

/// When the directory's entries last changed.
fn modified(directory: &Path) -> Option<SystemTime> {
    std::fs::metadata(directory).and_then(|about| about.modified()).ok()
}

/// Whether the directory may have changed since it was listed (when its entries had last changed
/// at `listed`, if that is known).
fn may_have_changed(directory: &Path, listed: Option<SystemTime>) -> bool {
    let Some(now) = modified(directory) else { return false };
    // Without a time to compare, a change long ago was before the listing; with one, a change in
    // the same tick of the filesystem's clock would not show.
    let margin = if listed.is_some() { TICK * 2 } else { LATELY };
    listed.is_some_and(|listed| listed != now)
        || SystemTime::now().duration_since(now).is_ok_and(|age| age < margin)
}
