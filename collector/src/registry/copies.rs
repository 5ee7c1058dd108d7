//! Compressed files: whose copy one is, if anybody's.
//!
//! A copy is another inode, so only content tells. The first bytes are no proof (banners, headers):
//! length and checksum are, which gzip's trailer has and a finished file's account; of a file that was
//! read in part, the bytes before the offset, which are unpacked and compared. In doubt a file is
//! read again. A file that is still being written is decided when it is whole.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Inode, Registry, Still, evidence,
    originals::{Candidate, Packed, may_have_held, stem},
    recognised::{Recognised, Unknown},
    recovery::Seen,
    unfinished::PATIENCE,
};
use crate::{
    checkpoint::{FileEntry, Offset, Offsets},
    discover::Found,
    identity::{self, FINGERPRINT_BYTES, FileId, InodeKey, Look, checksum::Checksum, guard::Guard},
    ledger::{FileAccount, SinkAccount},
    read::gzip::{self, Survey},
};

/// Whether a compressed file may still be written to.
struct Writing {
    /// It was written to lately.
    recent: bool,
    /// It was unpacked as it is now, and is not whole.
    is_cut: bool,
    /// It has been as it is now for so long that it is taken as it is.
    patient: bool,
    /// A file of its name without `.gz` is there.
    beside: bool,
}

impl Registry {
    /// What a compressed file is that nobody holds. `opened`: files of its source that were opened in
    /// the same look.
    pub(super) fn recognise_packed(
        &mut self,
        packed: &Unknown,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Packed {
        let Unknown { found, file, look, identity } = packed;
        let head = gzip::head(file, FINGERPRINT_BYTES);
        let source = &*found.source.path;
        if let Some(entry) =
            self.unclaimed.claim(&Seen { identity, source, size: None, head: &head })
        {
            return Packed::Read(Some(Box::new(entry)), head);
        }
        if self.was_looked_into(found, look) {
            return Packed::Later;
        }
        let trailer = gzip::trailer(file, look.size);
        if let Some(told) = trailer.and_then(|sum| self.known_by(sum, (found, look), &head, opened))
        {
            return told;
        }
        let Some(writing) = self.writing(packed, trailer) else { return Packed::Later };
        let Writing { recent, is_cut, patient, beside } = writing;
        if recent && self.is_changing(found, &head) {
            self.wait_for(found, look, is_cut, true);
            return Packed::Later;
        }
        if recent && self.was_truncated_unplaced(found, &head, opened) {
            self.wait_for(found, look, is_cut, true);
            return Packed::Unread;
        }
        if beside && (recent || is_cut) || is_cut && !patient {
            self.wait_for(found, look, is_cut, recent || !patient);
            return Packed::Later;
        }
        let candidates = self.candidates(found, &head);
        if candidates.is_empty() && !recent && !beside {
            return Packed::Read(None, head);
        }
        let known = candidates.iter().filter_map(|it| it.known.as_ref());
        known.for_each(|account| account.awaited.store(true, Ordering::Release));
        let Some(survey) = self.unpacked(packed, &candidates) else { return Packed::Later };
        if !survey.whole && (beside || !patient) {
            self.wait_for(found, look, true, true);
            return Packed::Later;
        }
        // It may have been finished since its trailer was read, and its original taken away.
        let head = gzip::head(file, FINGERPRINT_BYTES);
        let sum = Checksum { crc: survey.crc, length: survey.length as u32 };
        if survey.whole
            && let Some(told) = self.known_by(sum, (found, look), &head, opened)
        {
            return told;
        }
        // Asked once more, after what is known of the source was looked at: what a reader ended meanwhile
        // was not among it.
        if recent && self.is_changing(found, &head) {
            self.wait_for(found, look, false, true);
            return Packed::Later;
        }
        self.told_by_content(packed, (&head, &survey), candidates, opened)
    }

    /// Whether it may still be written to. None: it is a copy of the file beside it. Whoever that is, this is
    /// looked at again when that is gone.
    fn writing(&self, packed: &Unknown, trailer: Option<Checksum>) -> Option<Writing> {
        let Unknown { found, look, .. } = packed;
        let beside = identity::open(&found.path.with_extension("")).ok().map(|(file, _)| file);
        let is_copy = |file: &File| trailer.is_some_and(|sum| sum.begins(file).unwrap_or(false));
        if beside.as_ref().is_some_and(is_copy) {
            return None;
        }
        let state = (look.size, look.modified_ns);
        let recent = self.age(look) < PATIENCE;
        let known = self.unfinished.get(&look.key).filter(|known| known.state == state);
        let patient = known.map_or(!recent, |known| known.since.elapsed() >= PATIENCE);
        let is_cut = known.is_some_and(|known| known.is_cut);
        Some(Writing { recent, is_cut, patient, beside: beside.is_some() })
    }

    /// What it unpacks to, by what tells whether it is a copy of one of these. None: it is not its turn yet.
    fn unpacked(&mut self, packed: &Unknown, candidates: &[Candidate]) -> Option<Survey> {
        let offsets = candidates.iter().flat_map(|candidate| {
            let sinks = candidate.entry.sinks.values().map(|offset| offset.settled);
            sinks.chain(candidate.marks.iter().flat_map(|marks| marks.all().map(|(at, _)| at)))
        });
        let offsets: Vec<u64> = offsets.collect();
        fail::fail_point!("registry.copy");
        self.survey_in_turn(&packed.found, (&packed.file, &packed.look), offsets)
    }

    /// The candidate whose bytes it holds, or nobody's.
    fn told_by_content(
        &mut self,
        packed: &Unknown,
        (head, survey): (&[u8], &Survey),
        candidates: Vec<Candidate>,
        opened: &HashMap<InodeKey, Recognised>,
    ) -> Packed {
        let Unknown { found, look, .. } = packed;
        // What is on its way moves offsets: then none may be found that is.
        let may_be = |it: &&Candidate| evidence::may_be(&it.entry, it.marks.as_ref(), survey);
        let mut possible = candidates.iter().filter(may_be);
        let moves = possible.any(|it| it.known.as_ref().is_some_and(|it| self.moves(it)));
        let stem = stem(&found.path);
        let continued = candidates
            .into_iter()
            .filter_map(|it| {
                let read = evidence::is_held_by(&it.entry, it.marks.as_ref(), (head, survey));
                if read.is_none() {
                    let settled: Vec<u64> = it.entry.sinks.values().map(|at| at.settled).collect();
                    tracing::debug!(path = %found.path.display(), id = %it.entry.id, length = survey.length, ?settled, marks = it.marks.is_some(), "A compressed file is no copy of this life.");
                }
                let read = read?;
                // Of what nothing is settled only the first bytes tell, and another life may begin alike.
                let moves = it.known.as_ref().is_some_and(|known| self.moves(known));
                Some(((read, moves), it))
            })
            .max_by_key(|(read, it)| (*read, *it.entry.name == *stem));
        if let Some((_, it)) = &continued
            && self.is_copied_by_one_of(opened, it.entry.id)
            && self.age(look) < PATIENCE
        {
            // What that copy has of the same life, this one has too: it is known at the next look.
            self.wait_for(found, look, false, true);
            return Packed::Later;
        }
        match continued {
            Some((_, Candidate { entry, known: Some(account), .. })) => {
                self.go_on_in(packed, head, survey, (entry, &account))
            }
            Some((_, Candidate { entry, former: true, .. })) => {
                self.unclaimed.gave_its_end_to_a_copy(entry.id, survey.length);
                let of = (original_of(&entry), places(&entry, survey));
                let entry = self.entry_of(packed, survey.length, head, of);
                Packed::Twin(Box::new(entry), head.to_vec())
            }
            Some((_, Candidate { entry, .. })) => {
                Packed::Read(self.unclaimed.take(entry.id).map(Box::new), head.to_vec())
            }
            None if moves && self.age(look) < PATIENCE => {
                self.wait_for(found, look, false, true);
                Packed::Later
            }
            None => Packed::Read(None, head.to_vec()),
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
        packed: &Unknown,
        head: &[u8],
        survey: &Survey,
        (entry, account): (FileEntry, &FileAccount),
    ) -> Packed {
        let Unknown { found, look, .. } = packed;
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
            // What was given up of it counts as read before it is booked as lost.
            false => in_flight && (!all_read || account.vanished.load(Ordering::Acquire)),
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
        if truncated || self.is_still_there(account, found) {
            // What it loses by a truncation is booked on it: the copy's end has an account of its own.
            let of = (original_of(&entry), places(&entry, survey));
            self.note_copy(account.id, length);
            let entry = self.entry_of(packed, length, head, of);
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

    /// What the sinks that there are have of a file.
    pub(super) fn wanted_of<'a>(
        &self,
        account: &'a FileAccount,
    ) -> impl Iterator<Item = &'a SinkAccount> {
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

    /// Whether more is known of the source in a moment.
    fn is_changing(&self, found: &Found, head: &[u8]) -> bool {
        self.is_to_be_heard(found) || self.is_being_truncated(found, head)
    }

    /// A live file of the source begins no more as it did when it was read first, and this content may have
    /// begun so: the file was truncated, and its reader has not said so yet.
    fn is_being_truncated(&self, found: &Found, head: &[u8]) -> bool {
        let Some(state) = self.sources.get(&found.source.path) else { return false };
        let mut live = state.held.iter().filter_map(|token| self.held.get(*token));
        live.any(|held| {
            let begins = held.account.fingerprint();
            held.live && may_have_held(begins, head, || self.bytes_of(&held.account))
        })
    }

    pub(super) fn is_done(&self, key: &InodeKey, id: FileId) -> bool {
        matches!(self.inodes.get(key), Some(Inode::Done(done, _)) if *done == id)
    }

    /// A file's compressed copy was found.
    pub(super) fn is_copy(&mut self, id: FileId, found: &Found, look: &Look) {
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

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::{super::recognised::Past, *};
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
        let found =
            Found { path: path.clone(), source, role, gzip, only_if_known, inode: 0, max_links: 0 };
        let (identity, head) = (identity::identify(&file, &look), identity::head(&file).unwrap());
        let mut opened = Unknown { found, file, look, identity }.recognised(Past::Nothing, head);
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
        opened.take_place_of(&copy, identity::look_at(&gz).unwrap().key);
        assert!(opened.found.role == role && opened.found.role < Role::Live && !opened.found.gzip);
        assert_eq!(opened.found.path, dir.path().join("0.log.20261122-010203"));
        assert!(!is_original_of(&opened, &text), "it is there itself, beside its copy");
        fs::remove_file(dir.path().join("0.log.20261122-010203")).unwrap();
        assert!(is_original_of(&opened, &text), "it was opened under the name of its copy");
    }
}
