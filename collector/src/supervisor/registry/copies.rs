//! Compressed files: whose copy one is, if anybody's.
//!
//! A copy is another inode, so only content tells. The first bytes are no proof (banners, headers):
//! length and checksum are, which gzip's trailer has and a finished file's account; of a file that was
//! read in part, the bytes before the offset, which are unpacked and compared. In doubt a file is
//! read again. A file that is still being written is decided when it is whole.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Inode, Recognised, Registry, Still};
use crate::{
    checkpoint::FileEntry,
    discover::Found,
    ledger::FileAccount,
    read::{
        checksum::Checksum,
        gzip,
        identity::{self, FINGERPRINT_BYTES, FileId, Identity, InodeKey, Look},
    },
    supervisor::{
        evidence,
        recovery::{self, Seen},
    },
};

/// A compressed file that is not whole is read as far as it goes after this long without a change.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon it is looked at again.
const AGAIN: Duration = Duration::from_millis(700);

/// What a compressed file is found to be.
pub(super) enum Packed {
    /// A copy of a file that is read, or was, in its own place.
    Copy,
    /// To be read: from where the entry's file was left, or, without one, from the beginning.
    Read(Option<Box<FileEntry>>, Vec<u8>),
    /// Not to be told yet.
    Later,
}

/// A compressed file that could not be told yet.
pub(super) struct Unfinished {
    path: PathBuf,
    source: Arc<Path>,
    /// Size and last modification.
    state: (u64, i64),
    /// Since when it is so.
    since: Instant,
    /// It was unpacked in this state, and is not whole.
    is_cut: bool,
}

impl Registry {
    /// What a compressed file is that nobody holds. `opened`: files of its source that were opened in
    /// the same look.
    pub(super) fn recognise_packed(
        &mut self,
        found: &Found,
        file: &File,
        (look, identity): (&Look, &Identity),
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Packed {
        let head = gzip::head(file, FINGERPRINT_BYTES);
        let source = &*found.source.path;
        let seen = Seen { identity, source, size: None, head: &head };
        if let Some(entry) = self.unclaimed.claim(&seen) {
            return Packed::Read(Some(Box::new(entry)), head);
        }
        let trailer = gzip::trailer(file, look.size);
        if let Some(packed) =
            trailer.and_then(|sum| self.known_by(sum, (found, look), &head, opened))
        {
            return packed;
        }
        let beside = identity::open(&found.path.with_extension("")).ok().map(|(file, _)| file);
        let is_copy = |file: &File| trailer.is_some_and(|sum| sum.begins(file).unwrap_or(false));
        if beside.as_ref().is_some_and(is_copy) {
            // Whoever that is: once it is gone, this is looked at again.
            return Packed::Later;
        }
        let state = (look.size, look.modified_ns);
        let recent = is_recent(look);
        let known = self.unfinished.get(&look.key).filter(|known| known.state == state);
        let patient = known.map_or(!recent, |known| known.since.elapsed() >= PATIENCE);
        let is_cut = known.is_some_and(|known| known.is_cut);
        if beside.is_some() && (recent || is_cut) || is_cut && !patient {
            self.wait_for(found, look, is_cut, recent || !patient);
            return Packed::Later;
        }
        let candidates = self.candidates(found, &head);
        if candidates.is_empty() && !recent && beside.is_none() {
            return Packed::Read(None, head);
        }
        let offsets = candidates.iter().flat_map(|entry| entry.sinks.values().map(|at| at.settled));
        let offsets: Vec<u64> = offsets.collect();
        let Some(survey) = self.survey_in_turn(found, (file, look), offsets) else {
            return Packed::Later;
        };
        if !survey.whole && (beside.is_some() || !patient) {
            self.wait_for(found, look, true, true);
            return Packed::Later;
        }
        self.unfinished.remove(&look.key);
        // It may have been finished since its trailer was read, and its original taken away.
        let head = gzip::head(file, FINGERPRINT_BYTES);
        let sum = Checksum { crc: survey.crc, length: survey.length as u32 };
        if survey.whole
            && let Some(packed) = self.known_by(sum, (found, look), &head, opened)
        {
            return packed;
        }
        let stem = stem(&found.path);
        let continued = candidates
            .into_iter()
            .filter_map(|entry| Some((evidence::is_held_by(&entry, &survey)?, entry)))
            .max_by_key(|(read, entry)| (*read, *entry.name == *stem));
        if let Some((_, entry)) = &continued
            && self.setup.accounts.get(entry.id).is_some()
            && recovery::is_settled(entry, &self.setup.sinks)
            && entry.size == survey.length
        {
            // Done with, and its checksum is not taken yet.
            self.is_copy(entry.id, found, look);
            return Packed::Copy;
        }
        let entry = continued.map(|(_, entry)| {
            let _the_same = self.unclaimed.take(entry.id);
            Box::new(entry)
        });
        Packed::Read(entry, head)
    }

    /// What a compressed file is, if the checksum of its content says so.
    fn known_by(
        &mut self,
        sum: Checksum,
        (found, look): (&Found, &Look),
        head: &[u8],
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Option<Packed> {
        if let Some(id) = self.original(sum, found, head) {
            self.is_copy(id, found, look);
            return Some(Packed::Copy);
        }
        if let Some(id) = self.entry_with(sum, found, head) {
            let entry = self.unclaimed.take(id).map(Box::new);
            return Some(Packed::Read(entry, head.to_vec()));
        }
        let original = opened.values_mut().find(|file| file.is_original_of(sum, head))?;
        // Known at the next look.
        original.take_place_of(found);
        Some(Packed::Copy)
    }

    /// The file, held or done with, that has this checksum and is not there itself.
    fn original(&self, sum: Checksum, found: &Found, head: &[u8]) -> Option<FileId> {
        let state = self.sources.get(&found.source.path)?;
        let stem = stem(&found.path);
        let known = state.accounts.iter().filter_map(|(id, _)| self.setup.accounts.get(*id));
        let has_it = |account: &FileAccount| match account.held() {
            Some(file) => begins_alike(&file, head) && sum.begins(&file).unwrap_or(false),
            None => account.checksum() == Some(sum),
        };
        known
            .filter(|account| has_it(account) && !self.is_there(account, found))
            .max_by_key(|account| account.path().file_name().is_some_and(|name| name == &*stem))
            .map(|account| account.id)
    }

    /// Whether a file, or a copy that is known as its copy, is there under another name: what has the
    /// same content is another file then.
    fn is_there(&self, account: &FileAccount, found: &Found) -> bool {
        let path = account.path();
        if path == found.path || path == found.path.with_extension("") {
            return false;
        }
        identity::look_at(&path).is_ok_and(|there| {
            there.key == account.identity.key || self.is_done(&there.key, account.id)
        })
    }

    pub(super) fn is_done(&self, key: &InodeKey, id: FileId) -> bool {
        matches!(self.inodes.get(key), Some(Inode::Done(done, _)) if *done == id)
    }

    /// The entry with this checksum; one of the file's name is preferred.
    fn entry_with(&self, sum: Checksum, found: &Found, head: &[u8]) -> Option<FileId> {
        let stem = stem(&found.path);
        let entries = self.unclaimed.of_source(&found.source.path);
        entries
            .filter(|entry| !lies_elsewhere(entry, found))
            .filter_map(|entry| Some((evidence::has_checksum(entry, sum, &stem, head)?, entry)))
            .max_by_key(|(sure, entry)| (*sure, is_called(entry, found)))
            .map(|(_, entry)| entry.id)
    }

    /// What is known of files that this may be a copy of, by the first bytes: of those that nobody
    /// found yet, and of those that are done with and are not there.
    fn candidates(&self, found: &Found, head: &[u8]) -> Vec<FileEntry> {
        let entries = self.unclaimed.of_source(&found.source.path);
        let entries = entries.filter(|entry| !lies_elsewhere(entry, found)).cloned();
        let state = self.sources.get(&found.source.path);
        let held = |id: &FileId| {
            state.is_some_and(|state| {
                let mut held = state.held.iter().filter_map(|token| self.held.get(*token));
                // One that a reader let go a moment ago is held no more.
                held.any(|held| held.account.id == *id && held.account.held().is_some())
            })
        };
        let known = state.into_iter().flat_map(|state| state.accounts.iter().map(|(id, _)| id));
        let known = known.filter(|id| !held(id)).filter_map(|id| self.setup.accounts.get(*id));
        let known = known.filter(|account| !self.is_there(account, found));
        let known = known.map(|account| account.entry(&self.setup.sinks));
        entries.chain(known).filter(|entry| evidence::may_begin_with(entry, head)).collect()
    }

    /// A file's compressed copy was found.
    fn is_copy(&mut self, id: FileId, found: &Found, look: &Look) {
        self.unfinished.remove(&look.key);
        self.inodes.insert(look.key, Inode::Done(id, Still::of(look)));
        self.is_called(id, found);
    }

    /// A file that is done with was found under this name.
    pub(super) fn is_called(&mut self, id: FileId, found: &Found) {
        self.present(&found.source.path, id);
        let Some(account) = self.setup.accounts.get(id) else { return };
        if account.held().is_some() || account.path() == found.path {
            return;
        }
        let there = identity::look_at(&account.path());
        if !there.is_ok_and(|there| {
            there.key == account.identity.key || self.is_done(&there.key, account.id)
        }) {
            account.rename(&found.path);
        }
    }

    fn wait_for(&mut self, found: &Found, look: &Look, is_cut: bool, again: bool) {
        let state = (look.size, look.modified_ns);
        let known = self.unfinished.entry(look.key).or_insert_with(|| Unfinished {
            path: found.path.clone(),
            source: Arc::clone(&found.source.path),
            state,
            since: Instant::now(),
            is_cut,
        });
        if known.state != state {
            (known.state, known.since) = (state, Instant::now());
        }
        known.is_cut = is_cut;
        known.path.clone_from(&found.path);
        if again && let Some(directory) = found.path.parent() {
            self.retries.insert(directory.to_owned(), Instant::now() + AGAIN);
        }
    }

    /// Whether files of this source are there that may turn out to be copies.
    pub(super) fn has_unfinished(&self, source: &Path) -> bool {
        self.unfinished.values().any(|unfinished| {
            *unfinished.source == *source && unfinished.since.elapsed() < PATIENCE * 2
        })
    }

    /// Forgets those that are gone.
    pub(super) fn forget_unfinished(&mut self) {
        self.unfinished.retain(|key, unfinished| {
            identity::look_at(&unfinished.path).is_ok_and(|look| look.key == *key)
        });
    }
}

impl Recognised {
    /// Whether a compressed file is a copy of this one, which is not there any more. It may have been
    /// empty when it was opened, and written, rotated and compressed since.
    fn is_original_of(&self, sum: Checksum, head: &[u8]) -> bool {
        !self.found.gzip
            && self
                .opened()
                .is_some_and(|file| begins_alike(&file, head) && sum.begins(&file).unwrap_or(false))
            && !identity::look_at(&self.found.path).is_ok_and(|look| look.key == self.look.key)
    }

    /// Its copy's name tells where among its source's files it belongs: when it was opened, it may
    /// have been the live one.
    fn take_place_of(&mut self, copy: &Found) {
        self.found.role = copy.role.clone();
        self.found.path = copy.path.with_extension("");
    }
}

/// Whether a plain file begins with the first bytes of a content, or the content with all of it.
fn begins_alike(file: &File, head: &[u8]) -> bool {
    identity::head(file).is_ok_and(|own| !own.is_empty() && own.starts_with(head))
}

/// Whether an entry's file is there, under a name that this is not the compressed form of.
fn lies_elsewhere(entry: &FileEntry, found: &Found) -> bool {
    let path = entry.source.with_file_name(&*entry.name);
    path != found.path.with_extension("")
        && identity::look_at(&path)
            .is_ok_and(|there| (there.key.inode, there.key.born_ns) == (entry.inode, entry.born_ns))
}

fn is_called(entry: &FileEntry, found: &Found) -> bool {
    let name = found.path.file_name().unwrap_or_default();
    name == &*entry.name || *stem(&found.path) == *entry.name
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether it was written to a moment ago, by its own time. A time in the future (the clock was set
/// back) says nothing.
fn is_recent(look: &Look) -> bool {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).saturating_sub(look.modified_ns);
    (0..PATIENCE.as_nanos() as i64).contains(&age)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;
    use crate::{
        discover::{AgeKey, Format, Role, Source},
        read::content::gzip_bytes,
    };

    #[test]
    fn the_copy_of_a_file_that_was_live_and_empty_when_it_was_opened_tells_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, "").unwrap();
        let (file, look) = identity::open(&path).unwrap();
        let source = Arc::new(Source::anonymous(path.clone(), Format::Cri));
        let (role, gzip, only_if_known) = (Role::Live, false, false);
        let mut opened = Recognised {
            found: Found { path: path.clone(), source, role, gzip, only_if_known, max_links: 0 },
            identity: identity::identify(&file, &look),
            head: identity::head(&file).unwrap(),
            file: Some(file),
            look,
            entry: None,
            is_twin: false,
            copied: None,
            before: None,
        };
        let role = Role::Rotated(AgeKey::Date("20261122-010203".to_owned()));
        let gz = dir.path().join("0.log.20261122-010203.gz");
        let copy =
            Found { path: gz.clone(), role: role.clone(), gzip: true, ..opened.found.clone() };
        let is_original_of = |opened: &Recognised, text: &str| {
            fs::write(&gz, gzip_bytes(text.as_bytes())).unwrap();
            let file = File::open(&gz).unwrap();
            let sum = gzip::trailer(&file, file.metadata().unwrap().len()).unwrap();
            opened.is_original_of(sum, &gzip::head(&file, FINGERPRINT_BYTES))
        };
        // Alike for longer than the first bytes that are compared.
        let banner = "2026-11-22T01:02:03Z stdout F the same banner\n".repeat(20);
        let text = format!("{banner}2026-11-22T01:02:03Z stdout P a line\n");
        fs::rename(&path, dir.path().join("0.log.20261122-010203")).unwrap();
        assert!(!is_original_of(&opened, &text), "nothing was written to it yet");
        let mut writer =
            File::options().append(true).open(dir.path().join("0.log.20261122-010203"));
        writer.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(!is_original_of(&opened, &format!("{banner}another\n")));
        assert!(!is_original_of(
            &opened,
            &format!("{banner}2026-11-22T01:02:03Z stdout P b line\n")
        ));
        assert!(is_original_of(&opened, &text));
        opened.take_place_of(&copy);
        assert!(opened.found.role == role && opened.found.role < Role::Live && !opened.found.gzip);
        assert_eq!(opened.found.path, dir.path().join("0.log.20261122-010203"));
        assert!(!is_original_of(&opened, &text), "it is there itself, beside its copy");
        fs::remove_file(dir.path().join("0.log.20261122-010203")).unwrap();
        assert!(is_original_of(&opened, &text), "it was opened under the name of its copy");
    }
}
