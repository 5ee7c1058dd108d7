//! What a compressed file may be a copy of.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Registry, evidence,
    recognised::{Recognised, Unknown},
    unfinished::PATIENCE,
};
use crate::{
    checkpoint::{FileEntry, Offsets},
    discover::Found,
    identity::{
        self, FileId, Fingerprint, InodeKey, Look, checksum::Checksum, prefix::PrefixGuards,
    },
    ledger::FileAccount,
    source::Format,
};

/// What a compressed file is found to be.
pub(super) enum Packed {
    /// A copy of a file that is read, or was, in its own place.
    Copy,
    /// To be read: from where the entry's file was left, or, without one, from the beginning.
    Read(Option<Box<FileEntry>>, Vec<u8>),
    /// To be read from where its original was left when that was truncated; the entry is new.
    Twin(Box<FileEntry>, Vec<u8>),
    /// Not to be told before its original is read, or is found to be truncated. Nothing waits for it.
    Unread,
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
            Self::Unread => f.write_str("not to be told before its original is read"),
            Self::Later => f.write_str("not to be told yet"),
        }
    }
}

/// What is known of a file that a compressed one may be a copy of.
pub(super) struct Candidate {
    pub(super) entry: FileEntry,
    /// What tells copies that end before what was read of it.
    pub(super) marks: Option<PrefixGuards>,
    /// Its account, if this run has read it.
    pub(super) known: Option<Arc<FileAccount>>,
    /// A life that a truncation ended, which the checkpoint knows.
    pub(super) former: bool,
}

impl Registry {
    /// What a compressed file is, if the checksum of its content says so.
    pub(super) fn known_by(
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
        if let Some(original) = opened.values_mut().find(|file| file.is_original_of(sum, head)) {
            // Known at the next look.
            original.take_place_of(found, look.key);
            return Some(Packed::Copy);
        }
        if let Some(id) = self.original_that_is_there(sum, (found, look), head, opened)? {
            self.is_copy(id, found, look);
            return Some(Packed::Copy);
        }
        // It may be truncated before it is read as far: then the copy has the rest.
        self.wait_for(found, look, false, self.age(look) < PATIENCE);
        Some(Packed::Unread)
    }

    /// The bytes of a file that a reader has: through its descriptor or, where it is closed for want of
    /// descriptors, by its name. None where they are gone.
    pub(super) fn bytes_of(&self, account: &FileAccount) -> Option<Arc<File>> {
        account.held().or_else(|| {
            let held = self.held.get(self.held.find(&account.identity.key)?)?;
            let is_read = held.account.id == account.id && !held.dormant;
            // A reader that ends its life has it no more.
            let is_read = is_read && !account.ended.load(Ordering::Acquire);
            is_read.then(|| reopened(account))?
        })
    }

    /// The file, held or done with, that has this checksum and is not there itself.
    pub(super) fn original(
        &self,
        sum: Checksum,
        found: &Found,
        head: &[u8],
    ) -> Option<Arc<FileAccount>> {
        let state = self.sources.get(&found.source.path)?;
        let stem = stem(&found.path);
        let known = state.accounts.iter().filter_map(|known| self.setup.accounts.get(known.id));
        let has_it = |account: &FileAccount| match self.bytes_of(account) {
            Some(file) => begins_alike(&file, head) && sum.begins(&file).unwrap_or(false),
            None => account.checksum() == Some(sum),
        };
        known
            .filter(|account| has_it(account) && !self.is_there(account, found))
            .max_by_key(|account| account.path().file_name().is_some_and(|name| name == &*stem))
    }

    /// Whether a copy holds what was not read yet of its original, which is a live file.
    pub(super) fn is_to_be_read(&self, original: &FileAccount, sum: Checksum) -> bool {
        // One that was renamed or removed is not truncated.
        let is_there = || {
            let there = identity::look_at(&original.path());
            there.is_ok_and(|there| there.key == original.identity.key)
        };
        self.is_live(original) && is_there() && !self.is_read_to(original, sum.length.into())
    }

    /// Whether every sink that is to have a file has all that it holds up to there.
    pub(super) fn is_read_to(&self, account: &FileAccount, end: u64) -> bool {
        self.wanted_of(account).all(|sink| {
            let settled = sink.settled.load(Ordering::Acquire);
            settled.min(sink.resume.load(Ordering::Acquire)) >= end
        })
    }

    /// Whether it is the present life of its source's live file.
    pub(super) fn is_live(&self, account: &FileAccount) -> bool {
        let held = self.held.find(&account.identity.key).and_then(|token| self.held.get(token));
        held.is_some_and(|held| held.live && held.account.id == account.id)
    }

    /// Whether a file, or a copy that is known as its copy, is there under another name: what has the
    /// same content is another file then.
    pub(super) fn is_there(&self, account: &FileAccount, found: &Found) -> bool {
        let path = account.path();
        if path == found.path || path == found.path.with_extension("") {
            return false;
        }
        identity::look_at(&path).is_ok_and(|there| self.is_life_of(&there.key, account))
    }

    /// Whether its bytes are there, under another name or without one.
    pub(super) fn is_still_there(&self, account: &FileAccount, found: &Found) -> bool {
        self.is_there(account, found) || self.bytes_of(account).is_some()
    }

    /// Whether an inode holds this file, or a copy of it. An inode that was truncated holds another
    /// life.
    pub(super) fn is_life_of(&self, key: &InodeKey, account: &FileAccount) -> bool {
        let lives_there = || {
            let held = self.held.find(key).and_then(|token| self.held.get(token));
            // A reader that let it go may just have seen it truncated, and not be heard yet.
            let is_given_up = || account.ended.load(Ordering::Acquire) && account.held().is_none();
            held.is_none_or(|held| {
                held.account.id == account.id && (held.dormant || !is_given_up())
            })
        };
        *key == account.identity.key && lives_there() || self.is_done(key, account.id)
    }

    /// The entry with this checksum; one of the file's name is preferred.
    pub(super) fn entry_with(&self, sum: Checksum, found: &Found, head: &[u8]) -> Option<FileId> {
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
    pub(super) fn candidates(&self, found: &Found, head: &[u8]) -> Vec<Candidate> {
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
        let known =
            state.into_iter().flat_map(|state| state.accounts.iter().map(|known| &known.id));
        let known = known.filter_map(|id| self.setup.accounts.get(*id));
        // What a copy has beyond another copy is still to be read.
        let known = known.filter(|account| {
            self.is_known_copy(account.id) || !self.is_still_there(account, found)
        });
        let known = known.map(|account| {
            let mut entry = account.entry(&self.setup.sinks);
            // What was lost when it was truncated was not read, and may be in the copy.
            evidence::without_lost(&mut entry);
            let marks = self.setup.accounts.prefixes.of(account.id);
            Candidate { entry, marks, known: Some(account), former: false }
        });
        // kubelet renames what it rotates.
        let renamed = found.source.format == Format::Cri;
        let may_be = |it: &Candidate| evidence::may_begin_with(&it.entry, head, renamed);
        entries.chain(known).filter(may_be).collect()
    }

    /// A new entry for a copy of `size` (unpacked) bytes, which is taken up at these offsets. Its records are named
    /// after its original, if that is known.
    pub(super) fn entry_of(
        &self,
        copy: &Unknown,
        size: u64,
        head: &[u8],
        (original, sinks): (Option<FileId>, Offsets),
    ) -> FileEntry {
        let Unknown { found, identity, .. } = copy;
        let epoch = self.setup.accounts.free_epoch(identity, identity.first_epoch());
        let source = Arc::clone(&found.source);
        let account = FileAccount::new(identity.clone(), epoch, source, &found.path, 0);
        account.truncated.store(self.taken_before(identity, epoch), Ordering::Release);
        account.set_fingerprint(Fingerprint::of(head));
        account.see(size);
        if let Some(original) = original {
            self.name_after(account.id, original, size);
        }
        FileEntry { sinks, ..account.entry(&[]) }
    }

    /// A copy's records have the names that they have in the original, and end where they end there.
    fn name_after(&self, copy: FileId, original: FileId, size: u64) {
        let accounts = &self.setup.accounts;
        let cuts = accounts.cuts.of(original);
        for at in cuts.iter().filter(|at| **at <= size) {
            accounts.cuts.add(copy, *at, 0);
        }
        accounts.copies.note(copy, original, size, cuts.contains(&size));
    }
}

impl Recognised {
    /// Whether a compressed file is a copy of this one, which is not there any more. It may have been
    /// empty when it was opened, and written, rotated and compressed since.
    pub(super) fn is_original_of(&self, sum: Checksum, head: &[u8]) -> bool {
        !self.found.gzip
            && self
                .opened()
                .is_some_and(|file| begins_alike(&file, head) && sum.begins(&file).unwrap_or(false))
            && !identity::look_at(&self.found.path).is_ok_and(|look| look.key == self.look.key)
    }

    /// Its copy's name tells where among its source's files it belongs: when it was opened, it may
    /// have been the live one.
    pub(super) fn take_place_of(&mut self, copy: &Found, key: InodeKey) {
        self.copy = Some(key);
        self.found.role = copy.role.clone();
        self.found.path = copy.path.with_extension("");
    }
}

/// A file that is closed for want of descriptors, or that its reader gives up because it was truncated.
pub(super) fn reopened(account: &FileAccount) -> Option<Arc<File>> {
    let (file, look) = identity::open(&account.path()).ok()?;
    (look.key == account.identity.key).then(|| Arc::new(file))
}

pub(super) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "gz")
}

/// Whether a plain file begins with the first bytes of a content, or the content with all of it.
pub(super) fn begins_alike(file: &File, head: &[u8]) -> bool {
    identity::head(file).is_ok_and(|own| !own.is_empty() && own.starts_with(head))
}

/// Whether a plain file that began so when it was read first begins otherwise now, and this content may be what it
/// held: it was truncated after it was copied.
pub(super) fn may_have_held(
    begins: Fingerprint,
    head: &[u8],
    file: impl FnOnce() -> Option<Arc<File>>,
) -> bool {
    let may_be = begins.matches(head) || head.len() < begins.len as usize;
    begins.len > 0 && may_be && file().is_some_and(|file| begins_no_more(&file, begins))
}

/// Whether a plain file that began so when it was read first begins otherwise now: it was truncated.
pub(super) fn begins_no_more(file: &File, begins: Fingerprint) -> bool {
    identity::head(file).is_ok_and(|own| !begins.matches(&own))
}

/// Whether an entry's file is there, under a name that this is not the compressed form of.
pub(super) fn lies_elsewhere(entry: &FileEntry, found: &Found) -> bool {
    let path = entry.source.with_file_name(&*entry.name);
    path != found.path.with_extension("")
        && identity::look_at(&path)
            .is_ok_and(|there| (there.key.inode, there.key.born_ns) == (entry.inode, entry.born_ns))
}

pub(super) fn is_called(entry: &FileEntry, found: &Found) -> bool {
    let name = found.path.file_name().unwrap_or_default();
    name == &*entry.name || *stem(&found.path) == *entry.name
}

pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
