//! Compressed files: whose copy one is, if anybody's.
//!
//! A copy is another inode, so only content tells. The first bytes are no proof (banners, headers):
//! length and checksum are, which gzip's trailer has and a finished file's account; of a file that was
//! read in part, the bytes before the offset, which are unpacked and compared. In doubt a file is
//! read again. A file that is still being written is decided when it is whole.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{Inode, Recognised, Registry, Still, evidence, recovery::Seen};
use crate::{
    checkpoint::{FileEntry, Offset, Offsets},
    discover::Found,
    identity::{
        self, FINGERPRINT_BYTES, FileId, Identity, InodeKey, Look, checksum::Checksum,
        guard::Guard, prefix::PrefixGuards,
    },
    ledger::{FileAccount, SinkAccount},
    read::gzip::{self, Survey},
};

/// A compressed file that is not whole is read as far as it goes after this long without a change.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon it is looked at again.
const AGAIN: Duration = Duration::from_millis(700);
/// How soon at the earliest, whatever happens in its directory.
const SOON: Duration = Duration::from_millis(100);

/// What a compressed file is found to be.
pub(super) enum Packed {
    /// A copy of a file that is read, or was, in its own place.
    Copy,
    /// To be read: from where the entry's file was left, or, without one, from the beginning.
    Read(Option<Box<FileEntry>>, Vec<u8>),
    /// To be read from where its original was left when that was truncated; the entry is new.
    Twin(Box<FileEntry>, Vec<u8>),
    /// Not to be told yet.
    Later,
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("a copy of a file that is known"),
            Self::Read(None, _) => f.write_str("new"),
            Self::Read(Some(entry), _) => write!(f, "the rest of {}", entry.id),
            Self::Twin(entry, _) => {
                write!(f, "{}, the rest of a file that was truncated", entry.id)
            }
            Self::Later => f.write_str("not to be told yet"),
        }
    }
}

/// What is known of a file that a compressed one may be a copy of.
struct Candidate {
    entry: FileEntry,
    /// What tells copies that end before what was read of it.
    marks: Option<PrefixGuards>,
    /// Its account, if this run has read it.
    known: Option<Arc<FileAccount>>,
    /// A life that a truncation ended, which the checkpoint knows.
    former: bool,
}

/// A compressed file that could not be told yet.
pub(super) struct Unfinished {
    path: PathBuf,
    source: Arc<Path>,
    /// Size and last modification.
    state: (u64, i64),
    /// Since when it is so.
    since: Instant,
    /// When it was looked into last.
    looked: Instant,
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
        if self.was_looked_into(found, look) {
            return Packed::Later;
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
        let recent = self.age(look) < PATIENCE;
        let known = self.unfinished.get(&look.key).filter(|known| known.state == state);
        let patient = known.map_or(!recent, |known| known.since.elapsed() >= PATIENCE);
        let is_cut = known.is_some_and(|known| known.is_cut);
        if recent && (self.is_to_be_heard(found) || self.is_being_truncated(found, &head)) {
            self.wait_for(found, look, is_cut, true);
            return Packed::Later;
        }
        if beside.is_some() && (recent || is_cut) || is_cut && !patient {
            self.wait_for(found, look, is_cut, recent || !patient);
            return Packed::Later;
        }
        let candidates = self.candidates(found, &head);
        if candidates.is_empty() && !recent && beside.is_none() {
            return Packed::Read(None, head);
        }
        let offsets = candidates.iter().flat_map(|candidate| {
            let sinks = candidate.entry.sinks.values().map(|offset| offset.settled);
            sinks.chain(candidate.marks.iter().flat_map(|marks| marks.all().map(|(at, _)| at)))
        });
        let offsets: Vec<u64> = offsets.collect();
        let Some(survey) = self.survey_in_turn(found, (file, look), offsets) else {
            return Packed::Later;
        };
        if !survey.whole && (beside.is_some() || !patient) {
            self.wait_for(found, look, true, true);
            return Packed::Later;
        }
        // It may have been finished since its trailer was read, and its original taken away.
        let head = gzip::head(file, FINGERPRINT_BYTES);
        let sum = Checksum { crc: survey.crc, length: survey.length as u32 };
        if survey.whole
            && let Some(packed) = self.known_by(sum, (found, look), &head, opened)
        {
            return packed;
        }
        // What is on its way moves offsets: then none may be found that is.
        let moves = candidates.iter().any(|it| it.known.as_ref().is_some_and(|it| self.moves(it)));
        let stem = stem(&found.path);
        let continued = candidates
            .into_iter()
            .filter_map(|it| {
                Some((evidence::is_held_by(&it.entry, it.marks.as_ref(), &survey)?, it))
            })
            .max_by_key(|(read, it)| (*read, *it.entry.name == *stem));
        match continued {
            Some((_, Candidate { entry, known: Some(account), .. })) => {
                self.go_on_in(found, (look, identity), &head, &survey, (entry, &account))
            }
            Some((_, Candidate { entry, former: true, .. })) => {
                self.unclaimed.gave_its_end_to_a_copy(entry.id, survey.length);
                let of = (original_of(&entry), places(&entry, &survey));
                let entry = self.entry_of(found, survey.length, identity, &head, of);
                Packed::Twin(Box::new(entry), head)
            }
            Some((_, Candidate { entry, .. })) => {
                Packed::Read(self.unclaimed.take(entry.id).map(Box::new), head)
            }
            None if moves && self.age(look) < PATIENCE => {
                self.wait_for(found, look, false, true);
                Packed::Later
            }
            None => Packed::Read(None, head),
        }
    }

    /// Whether what was read of a file is on its way to a sink.
    fn moves(&self, account: &FileAccount) -> bool {
        self.is_being_cut_off(account.id)
            || self.wanted_of(account).any(|sink| {
                sink.read.load(Ordering::Acquire) > sink.settled.load(Ordering::Acquire)
            })
    }

    /// What a copy of `length` bytes is of whose original this run knows, and which holds the bytes
    /// that were read of that.
    fn go_on_in(
        &mut self,
        found: &Found,
        (look, identity): (&Look, &Identity),
        head: &[u8],
        survey: &Survey,
        (entry, account): (FileEntry, &FileAccount),
    ) -> Packed {
        let length = survey.length;
        let truncated =
            self.lives_on(account) || entry.sinks.values().any(|offset| offset.lost > 0);
        let (mut all_read, mut in_flight) = (true, false);
        for sink in self.wanted_of(account) {
            let read = sink.read.load(Ordering::Acquire);
            let lost = sink.lost.load(Ordering::Acquire);
            all_read &= read - lost.min(read) >= length;
            in_flight |= read > sink.settled.load(Ordering::Acquire);
        }
        let open = match truncated {
            true => self.is_being_cut_off(account.id),
            false => in_flight && !all_read,
        };
        if open && self.age(look) < PATIENCE {
            self.wait_for(found, look, false, true);
            return Packed::Later;
        }
        if all_read {
            // Done with, even if its checksum is not taken, or its end not delivered yet.
            self.note_copy(account.id, length);
            self.is_copy(account.id, found, look);
            return Packed::Copy;
        }
        if truncated {
            // What it loses by a truncation is booked on it: the copy's end has an account of its own.
            let of = (original_of(&entry), places(&entry, survey));
            self.note_copy(account.id, length);
            let entry = self.entry_of(found, length, identity, head, of);
            if let Some(original) = self.setup.accounts.get(account.id) {
                self.setup.accounts.originals.note(entry.id, original);
            }
            return Packed::Twin(Box::new(entry), head.to_vec());
        }
        Packed::Read(Some(Box::new(entry)), head.to_vec())
    }

    /// Whether its inode lives on after a truncation.
    pub(super) fn lives_on(&self, account: &FileAccount) -> bool {
        let held = self.held.find(&account.identity.key).and_then(|token| self.held.get(token));
        held.is_some_and(|held| held.account.id != account.id)
    }

    /// What a compressed file is, if the checksum of its content says so.
    fn known_by(
        &mut self,
        sum: Checksum,
        (found, look): (&Found, &Look),
        head: &[u8],
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Option<Packed> {
        if let Some(original) = self.original(sum, found, head) {
            if self.is_to_be_read(&original, sum) && self.age(look) < PATIENCE {
                // It may be truncated before it is read as far: then the copy has the rest.
                self.wait_for(found, look, false, true);
                return Some(Packed::Later);
            }
            self.is_copy(original.id, found, look);
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
    fn original(&self, sum: Checksum, found: &Found, head: &[u8]) -> Option<Arc<FileAccount>> {
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
    }

    /// Whether a copy holds what was not read yet of its original, which is a live file.
    fn is_to_be_read(&self, original: &FileAccount, sum: Checksum) -> bool {
        let held = self.held.find(&original.identity.key).and_then(|token| self.held.get(token));
        let live = held.is_some_and(|held| held.live && held.account.id == original.id);
        // One that was renamed or removed is not truncated.
        let is_there = || {
            let there = identity::look_at(&original.path());
            there.is_ok_and(|there| there.key == original.identity.key)
        };
        live && is_there()
            && self.wanted_of(original).any(|sink| {
                let settled = sink.settled.load(Ordering::Acquire);
                settled.min(sink.resume.load(Ordering::Acquire)) < sum.length.into()
            })
    }

    /// What the sinks that there are have of a file.
    fn wanted_of<'a>(&self, account: &'a FileAccount) -> impl Iterator<Item = &'a SinkAccount> {
        let slots: Vec<u16> = self.slots().collect();
        slots.into_iter().map(|slot| account.sink(slot)).filter(|sink| !sink.is_excluded())
    }

    /// A reader is done with a file of the source, or saw it truncated, and was not heard yet: what it read
    /// since has an account that nobody here knows.
    pub(super) fn is_to_be_heard(&self, found: &Found) -> bool {
        let Some(state) = self.sources.get(&found.source.path) else { return false };
        let mut held = state.held.iter().filter_map(|token| self.held.get(*token));
        held.any(|held| {
            let is_read = !held.dormant && !held.compressed;
            let ended = held.account.ended.load(Ordering::Acquire);
            is_read && ended && held.account.held().is_none()
        })
    }

    /// A live file of the source begins no more as this content does, though it did when it was read
    /// first: it was truncated, and its reader has not said so yet.
    fn is_being_truncated(&self, found: &Found, head: &[u8]) -> bool {
        let Some(state) = self.sources.get(&found.source.path) else { return false };
        let mut live = state.held.iter().filter_map(|token| self.held.get(*token));
        live.any(|held| {
            let begins = held.account.fingerprint();
            let now = held.account.held().filter(|_| held.live);
            begins.len > 0
                && begins.matches(head)
                && now.is_some_and(|file| !begins_alike(&file, head))
        })
    }

    /// Whether a file, or a copy that is known as its copy, is there under another name: what has the
    /// same content is another file then.
    fn is_there(&self, account: &FileAccount, found: &Found) -> bool {
        let path = account.path();
        if path == found.path || path == found.path.with_extension("") {
            return false;
        }
        identity::look_at(&path).is_ok_and(|there| self.is_life_of(&there.key, account))
    }

    /// Whether an inode holds this file, or a copy of it. An inode that was truncated holds another
    /// life.
    fn is_life_of(&self, key: &InodeKey, account: &FileAccount) -> bool {
        let lives_there = || {
            let held = self.held.find(key).and_then(|token| self.held.get(token));
            // A reader that let it go may just have seen it truncated, and not be heard yet.
            held.is_none_or(|held| {
                held.account.id == account.id && (held.dormant || account.held().is_some())
            })
        };
        *key == account.identity.key && lives_there() || self.is_done(key, account.id)
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
    fn candidates(&self, found: &Found, head: &[u8]) -> Vec<Candidate> {
        let entries = self.unclaimed.of_source(&found.source.path);
        let entries = entries.filter(|entry| !lies_elsewhere(entry, found)).map(|it| (it, false));
        let former = self.unclaimed.former_of(&found.source.path).map(|entry| (entry, true));
        let entries = entries.chain(former).map(|(entry, former)| {
            let mut entry = entry.clone();
            let marks = self.setup.accounts.prefixes.of(entry.id);
            evidence::without_lost(&mut entry);
            Candidate { entry, marks, known: None, former }
        });
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
        let known = known.map(|account| {
            let mut entry = account.entry(&self.setup.sinks);
            // What was lost when it was truncated was not read, and may be in the copy.
            evidence::without_lost(&mut entry);
            let marks = self.setup.accounts.prefixes.of(account.id);
            Candidate { entry, marks, known: Some(account), former: false }
        });
        let may_be = |candidate: &Candidate| evidence::may_begin_with(&candidate.entry, head);
        entries.chain(known).filter(may_be).collect()
    }

    /// How long ago it was written to: by its own time, or by when it was seen first, if that is later.
    pub(super) fn age(&self, look: &Look) -> Duration {
        let state = (look.size, look.modified_ns);
        let known = self.unfinished.get(&look.key).filter(|known| known.state == state);
        let own = age(look);
        match known {
            Some(known) => own.min(known.since.elapsed()),
            None if self.scanning => own,
            None => Duration::ZERO,
        }
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
        if !there.is_ok_and(|there| self.is_life_of(&there.key, &account)) {
            account.rename(&found.path);
        }
    }

    pub(super) fn wait_for(&mut self, found: &Found, look: &Look, is_cut: bool, again: bool) {
        let state = (look.size, look.modified_ns);
        let known = self.unfinished.entry(look.key).or_insert_with(|| Unfinished {
            path: found.path.clone(),
            source: Arc::clone(&found.source.path),
            state,
            since: Instant::now(),
            looked: Instant::now(),
            is_cut,
        });
        if known.state != state {
            (known.state, known.since) = (state, Instant::now());
        }
        known.looked = Instant::now();
        known.is_cut = is_cut;
        known.path.clone_from(&found.path);
        if again && let Some(directory) = found.path.parent() {
            self.retries.insert(directory.to_owned(), Instant::now() + AGAIN);
        }
    }

    /// Whether one that could not be told was looked into a moment ago: what is being rotated is listed
    /// again and again, and to unpack it each time would take the time of others.
    pub(super) fn was_looked_into(&mut self, found: &Found, look: &Look) -> bool {
        let state = (look.size, look.modified_ns);
        let known = self.unfinished.get_mut(&look.key).filter(|known| known.state == state);
        let Some(known) = known.filter(|known| known.looked.elapsed() < SOON) else { return false };
        known.path.clone_from(&found.path);
        let at = known.looked + SOON;
        if let Some(directory) = found.path.parent() {
            let due = self.retries.entry(directory.to_owned()).or_insert(at);
            *due = at.min(*due);
        }
        true
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

/// What a copy that was told by its content is named after: where nothing was settled of the original, only its
/// first bytes tell, and they are no proof.
fn original_of(original: &FileEntry) -> Option<FileId> {
    original.sinks.values().any(|offset| offset.settled > 0).then_some(original.id)
}

/// Where a copy is taken up whose original was read so far; no farther than it goes.
fn places(original: &FileEntry, copy: &Survey) -> Offsets {
    let guard = copy.before(copy.length).map_or(Guard::NONE, Guard::of);
    let end = Offset { settled: copy.length, resume: copy.length, guard, ..Offset::default() };
    let place = |offset: &Offset| {
        let Offset { settled, resume, guard, .. } = *offset;
        match settled < copy.length {
            true => Offset { settled, resume, guard, ..Offset::default() },
            false => end,
        }
    };
    original.sinks.iter().map(|(name, offset)| (Arc::clone(name), place(offset))).collect()
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

/// How long ago it was written to, by its own time; one in the future (the clock was set back) is long
/// ago.
fn age(look: &Look) -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    match u64::try_from(now.saturating_sub(look.modified_ns)) {
        Ok(age) => Duration::from_nanos(age),
        Err(_in_the_future) => PATIENCE,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;
    use crate::{
        discover::{AgeKey, Role},
        read::content::gzip_bytes,
        source::{Format, Source},
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
            permit: None,
            look,
            entry: None,
            is_twin: false,
            epoch: None,
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
