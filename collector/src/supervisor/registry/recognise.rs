//! Recognition: which file a listed name is, and which of them are known already.
//!
//! Opens files and reads their first bytes; hands nothing to a reader.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Inode, RETRY, Recognised, Registry, Still};
use crate::{
    discover::{Found, Role},
    ledger::FileAccount,
    read::{
        content,
        identity::{self, FINGERPRINT_BYTES, FileId, Fingerprint, Identity, InodeKey, Look},
        reader::Message,
    },
    supervisor::recovery::Seen,
    watch::FileToken,
};

/// How often a directory is looked through at once while it keeps changing.
const LOOKS: u32 = 6;
/// Files wait this long at most for an older one that vanished while it was looked for.
const PARK: Duration = Duration::from_secs(3);
/// A directory that changed this lately may have changed since it was listed.
const LATELY: Duration = Duration::from_millis(500);
/// A directory that kept changing while it was looked through is listed again after this.
const RELIST: Duration = Duration::from_millis(20);

/// Opened files of a source that wait for an older one that could not be found yet.
pub(super) struct Parked {
    files: HashMap<InodeKey, Recognised>,
    /// Since when they wait for it.
    since: Instant,
    /// Which one they wait for.
    older: Option<Role>,
}

impl Parked {
    fn nothing() -> Self {
        Self { files: HashMap::new(), since: Instant::now(), older: None }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = InodeKey> {
        self.files.keys().copied()
    }
}

impl Recognised {
    /// This one, if a compressed file that begins with `head` is a copy of it. It may have been empty
    /// when it was opened, and written, rotated and compressed since.
    fn if_original_of(&mut self, head: &[u8]) -> Option<&mut Self> {
        if !self.found.gzip
            && self.head.len() < FINGERPRINT_BYTES
            && let Ok(grown) = identity::head(&self.file)
        {
            self.head = grown;
        }
        (!self.head.is_empty() && head.starts_with(&self.head)).then_some(self)
    }

    /// Its copy's name tells where among its source's files it belongs: when it was opened, it may
    /// have been the live one.
    fn take_place_of(&mut self, copy: &Found) {
        if !self.found.gzip {
            self.found.role = copy.role.clone();
            self.found.path = copy.path.with_extension("");
        }
    }
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
        let Parked { files: mut opened, mut since, older } =
            self.parked.remove(&source).unwrap_or_else(Parked::nothing);
        let mut found = found;
        let mut doubt = None;
        for look in 0..LOOKS {
            let before = opened.len();
            let vanished = self.open_found(found, directory, &mut opened);
            // A look that shows nothing new, after the live file was opened, shows everything older
            // than that. Where the directory did not change lately, the first look does.
            let nothing_new = opened.len() == before;
            let opened_live = opened.values().any(|file| file.found.role == Role::Live);
            let stable = nothing_new || !opened_live || look == 0 && !changed_lately(directory);
            doubt = match vanished {
                None if stable => None,
                None => Some(Role::Live),
                Some(role) => Some(role),
            };
            if doubt.is_none() {
                break;
            }
            found = self.list(directory).files;
            found.retain(|file| file.source.path == source);
        }
        let mut recognised: Vec<Recognised> = opened.into_values().collect();
        recognised.sort_by(|a, b| a.found.role.cmp(&b.found.role));
        if let Some(doubt) = doubt {
            self.retries.insert(directory.to_path_buf(), Instant::now() + RELIST);
            if older.as_ref() != Some(&doubt) {
                // The one they waited for was found, another one was not.
                since = Instant::now();
            }
            if since.elapsed() < PARK {
                // What may be later than a file that is still to be found waits for it, held open.
                let later = recognised.partition_point(|file| file.found.role < doubt);
                let parked = recognised.split_off(later);
                let files = parked.into_iter().map(|file| (file.look.key, file)).collect();
                self.parked.insert(source, Parked { files, since, older: Some(doubt) });
            }
        }
        recognised
    }

    /// Hands over files that have waited long enough for an older one.
    pub(super) fn hand_over_parked(&mut self) {
        let due: Vec<Arc<Path>> = self
            .parked
            .iter()
            .filter(|(_, parked)| parked.since.elapsed() >= PARK * 2)
            .map(|(source, _)| Arc::clone(source))
            .collect();
        for source in due {
            let Some(parked) = self.parked.remove(&source) else { continue };
            let mut files: Vec<Recognised> = parked.files.into_values().collect();
            files.sort_by(|a, b| a.found.role.cmp(&b.found.role));
            let directory = Arc::from(source.parent().unwrap_or(&source));
            for file in files {
                let source = Arc::clone(&file.found.source);
                self.open_source(&source, &directory);
                self.settle_in(file);
            }
        }
    }

    /// One look at listed files, sorted oldest first. The oldest one that vanished, if any did.
    fn open_found(
        &mut self,
        found: Vec<Found>,
        directory: &Path,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Option<Role> {
        let mut vanished = None;
        let mut before = None;
        // From the latest on, so that each knows which held file comes after it.
        for found in found.into_iter().rev() {
            if let Ok(key) = identity::look_at(&found.path).map(|look| look.key) {
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
            let role = found.role.clone();
            match self.recognise_one(found, opened) {
                Ok(None) => {}
                Ok(Some(file)) => {
                    opened.insert(file.look.key, Recognised { before, ..file });
                }
                Err((path, error)) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::debug!(path = %path.display(), "A file vanished before it was opened.");
                    vanished = Some(role);
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
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Result<Option<Recognised>, (PathBuf, io::Error)> {
        let fail = |error| (found.path.clone(), error);
        let look = identity::look_at(&found.path).map_err(fail)?;
        if let Some(token) = self.held.find(&look.key) {
            self.named(token, &found);
            self.look_closer(token);
            return Ok(None);
        }
        match self.inodes.get(&look.key).copied() {
            Some(Inode::Done(id, still)) if found.gzip && still.is(&look) => {
                self.present(&found.source.path, id);
                return Ok(None);
            }
            Some(Inode::Done(id, still)) if !found.gzip && still.may_have_grown(&look) => {
                if self.know_again(&look, id, &found) {
                    return Ok(None);
                }
            }
            Some(Inode::Ignored(still)) if still.is(&look) && found.only_if_known => {
                return Ok(None);
            }
            Some(Inode::Done(..) | Inode::Ignored(_)) | None => {}
        }
        let (file, look) = identity::open(&found.path).map_err(fail)?;
        let identity = identity::identify(&file, &look);
        if self.is_done_by_its_handle(&identity, &look) {
            return Ok(None);
        }
        let (head, entry);
        if found.gzip {
            head = content::gzip_head(&file, FINGERPRINT_BYTES);
            if let Some(original) = opened.values_mut().find_map(|file| file.if_original_of(&head))
            {
                // The copy of a file that was opened a moment ago: known at the next look.
                original.take_place_of(&found);
                return Ok(None);
            }
            entry = match self.copy_of(&found, &head) {
                Some(id) => {
                    self.inodes.insert(look.key, Inode::Done(id, Still::of(&look)));
                    self.present(&found.source.path, id);
                    return Ok(None);
                }
                None => {
                    let stem = found.path.file_stem().unwrap_or_default().to_string_lossy();
                    let source = &found.source.path;
                    let seen = Seen { identity: &identity, source, size: None, head: &head };
                    self.unclaimed
                        .claim(&seen)
                        .or_else(|| self.unclaimed.claim_by_head(&found.source.path, &stem, &head))
                }
            };
        } else {
            head = identity::head(&file).map_err(fail)?;
            let (source, size) = (&found.source.path, Some(look.size));
            entry = self.unclaimed.claim(&Seen { identity: &identity, source, size, head: &head });
        }
        if entry.is_none() && found.only_if_known {
            self.inodes.insert(look.key, Inode::Ignored(Still::of(&look)));
            return Ok(None);
        }
        Ok(Some(Recognised { found, file, look, identity, entry, head, before: None }))
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

    /// The account of which a compressed file is a copy.
    fn copy_of(&self, found: &Found, head: &[u8]) -> Option<FileId> {
        let state = self.sources.get(&found.source.path)?;
        let accounts = state.accounts.iter().filter_map(|(id, _)| self.setup.accounts.get(*id));
        for account in accounts {
            self.refresh_fingerprint(&account);
            let fingerprint = account.fingerprint();
            if fingerprint.len > 0 && fingerprint.matches(head) {
                return Some(account.id);
            }
        }
        None
    }

    /// A file that no reader has looked at yet has no fingerprint, or one of less than it holds now.
    fn refresh_fingerprint(&self, account: &FileAccount) {
        if account.fingerprint().len as usize >= FINGERPRINT_BYTES {
            return;
        }
        if let Some(Ok(head)) = account.held().map(|file| identity::head(&file)) {
            account.set_fingerprint(Fingerprint::of(&head));
        }
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

/// Whether the directory's entries changed a moment ago: perhaps since they were listed.
fn changed_lately(directory: &Path) -> bool {
    let Ok(modified) = std::fs::metadata(directory).and_then(|about| about.modified()) else {
        return false;
    };
    // A time in the future (the clock was set back) proves nothing.
    SystemTime::now().duration_since(modified).map_or(true, |age| age < LATELY)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
    };

    use super::*;
    use crate::discover::{AgeKey, Format, Source};

    #[test]
    fn the_copy_of_a_file_that_was_live_and_empty_when_it_was_opened_tells_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, "").unwrap();
        let (file, look) = identity::open(&path).unwrap();
        let source = Arc::new(Source::anonymous(path.clone(), Format::Cri));
        let (role, gzip, only_if_known) = (Role::Live, false, false);
        let mut opened = Recognised {
            found: Found { path: path.clone(), source, role, gzip, only_if_known },
            identity: identity::identify(&file, &look),
            head: identity::head(&file).unwrap(),
            file,
            look,
            entry: None,
            before: None,
        };
        let text = "2026-11-22T01:02:03Z stdout P a line\n";
        assert!(opened.if_original_of(text.as_bytes()).is_none(), "nothing is known of it yet");
        File::options().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        assert!(opened.if_original_of(b"2026-11-22T01:02:04Z stdout P another\n").is_none());
        let role = Role::Rotated(AgeKey::Date("20261122-010203".to_owned()));
        let gz = dir.path().join("0.log.20261122-010203.gz");
        let copy = Found { path: gz, role: role.clone(), gzip: true, ..opened.found.clone() };
        opened.if_original_of(text.as_bytes()).unwrap().take_place_of(&copy);
        assert!(opened.found.role == role && opened.found.role < Role::Live && !opened.found.gzip);
        assert_eq!(opened.found.path, dir.path().join("0.log.20261122-010203"));
    }
}
