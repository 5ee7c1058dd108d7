//! Copies of files that are there themselves: of the live log before its truncation, and of copies that were
//! copied once more. Once such a file is read as far, there is nothing to read in its copy.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Registry, evidence,
    originals::{begins_alike, is_packed, may_have_held, reopened},
    recognised::{Past, Recognised},
    twins::Original,
};
use crate::{
    checkpoint::{FileEntry, Offset},
    discover::{Found, Role},
    identity::{self, FINGERPRINT_BYTES, FileId, InodeKey, Look, checksum::Checksum},
    ledger::FileAccount,
    read::gzip,
    settle::Command,
    source::Format,
};

impl Registry {
    /// The file that is there and begins with the content of this checksum. `None`: there is none; `Some(None)`: there is
    /// one, which is not read as far yet;
    /// the live one, where `gzip -c app.log > app.log.1.gz` was run and the truncation is to come, or a
    /// copy that is known as one and was copied once more.
    pub(super) fn original_that_is_there(
        &mut self,
        sum: Checksum,
        (found, look): (&Found, &Look),
        head: &[u8],
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> Option<Option<FileId>> {
        let source = &found.source;
        if source.format == Format::Cri {
            // kubelet renames what it rotates.
            return None;
        }
        let begins = |file: &File, is_packed| match is_packed {
            true => holds_packed(file, sum, head),
            false => begins_alike(file, head) && sum.begins(file).unwrap_or(false),
        };
        let is_it = |account: &Arc<FileAccount>| {
            if account.identity.key == look.key {
                // It was written over.
                return false;
            }
            let is_copy = self.is_known_copy(account.id);
            let file = match self.is_live(account) || is_copy {
                true => self.bytes_of(account).or_else(|| reopened(account).filter(|_| is_copy)),
                false => None,
            };
            file.is_some_and(|file| begins(&file, is_packed(&account.path())))
        };
        let state = self.sources.get(&source.path);
        let known = state.into_iter().flat_map(|state| &state.accounts);
        let mut known = known.filter_map(|known| self.setup.accounts.get(known.id));
        let end = u64::from(sum.length);
        if let Some(account) = known.find(is_it) {
            let is_read = self.is_read_to(&account, end);
            if self.is_live(&account) && self.setup.accounts.prefixes.note_copy(account.id, sum) {
                // After a truncation nothing else may tell that this is a copy.
                account.stale.store(true, Ordering::Release);
                self.tell(Command::Keep(Arc::clone(&account)));
            }
            return Some(is_read.then_some(account.id));
        }
        // Of one that was found in this look. One that nothing is known of may be another file with the same content,
        // but a log that was truncated before is copied again.
        opened.values_mut().find_map(|other| {
            let is_known = !matches!(other.past, Past::Nothing);
            let is_it = is_known
                && self.may_be_copied(other)
                && other.found.source.path == source.path
                && begins(&other.opened()?, other.found.gzip);
            let is_read = |at: &Offset| at.settled.min(at.resume) >= end;
            if !is_it {
                return None;
            }
            if other.found.role == Role::Live {
                other.copied = Some(sum);
            }
            let read = other.past.entry().filter(|entry| entry.sinks.values().all(is_read));
            Some(read.map(|entry| entry.id))
        })
    }

    /// Whether a file is known as a copy of another.
    pub(super) fn is_known_copy(&self, id: FileId) -> bool {
        self.setup.accounts.originals.of(id).is_some()
            || self.setup.accounts.copies.of(id).is_some()
    }

    /// Whether a file that was opened in the same look may have copies beside it: the live one, or a copy.
    pub(super) fn may_be_copied(&self, file: &Recognised) -> bool {
        let is_copy = |entry: &FileEntry| self.is_known_copy(entry.id);
        file.found.role == Role::Live
            || matches!(file.past, Past::Twin(_))
            || file.past.entry().is_some_and(is_copy)
    }

    /// Whether a file that was opened in the same look was found to be a copy of this life.
    pub(super) fn is_copied_by_one_of(
        &self,
        opened: &HashMap<InodeKey, Recognised>,
        life: FileId,
    ) -> bool {
        let accounts = &self.setup.accounts;
        let is_its_copy = |entry: &FileEntry| {
            accounts.originals.of(entry.id) == Some(life)
                || accounts.copies.of(entry.id).is_some_and(|copy| copy.life == life)
        };
        let mut twins = opened.values().filter(|other| matches!(other.past, Past::Twin(_)));
        twins.any(|other| other.past.entry().is_some_and(is_its_copy))
    }

    /// Whether the live file was truncated since it was opened, and this content may be what it held. It waits for
    /// an older file and has no account yet; its reader tells of the truncation once it has one.
    pub(super) fn was_truncated_unplaced(
        &self,
        found: &Found,
        head: &[u8],
        opened: &HashMap<InodeKey, Recognised>,
    ) -> bool {
        let mut live = opened.values().filter(|other| {
            other.found.role == Role::Live && other.found.source.path == found.source.path
        });
        live.any(|other| {
            let Some(entry) = other.past.entry() else { return false };
            may_have_held(evidence::fingerprint(entry), head, || other.opened().map(Arc::new))
        })
    }

    /// The source's plain files that are known as copies and are there. One that is shorter tells by what was read
    /// of it whose copy this is.
    pub(super) fn copies_of(&self, found: &Found, look: &Look) -> Vec<Original> {
        let Some(state) = self.sources.get(&found.source.path) else { return Vec::new() };
        let accounts = state.accounts.iter().filter_map(|known| self.setup.accounts.get(known.id));
        // One whose inode this is was written over.
        let copies = accounts.filter(|account| {
            account.identity.key != look.key
                && self.is_known_copy(account.id)
                && !is_packed(&account.path())
        });
        let copies = copies.filter_map(|account| {
            let file = self.bytes_of(&account).or_else(|| reopened(&account))?;
            let is_longer = identity::look(&file).is_ok_and(|it| it.size >= look.size);
            let file = Some(file).filter(|_| is_longer);
            let original = Original::of(&account, file, &self.setup.sinks);
            Some(Original { is_copy: true, ..original })
        });
        copies.collect()
    }
}

impl Recognised {
    /// This live file or copy, which the checkpoint knows, as what a rotated one may be a copy of.
    pub(super) fn as_original(&self, copy: &Found) -> Option<Original> {
        let entry = self.past.entry()?;
        if self.found.gzip || self.found.source.path != copy.source.path {
            return None;
        }
        let file = self.opened()?;
        Some(Original {
            life: None,
            id: entry.id,
            fingerprint: evidence::fingerprint(entry),
            sinks: entry.sinks.iter().map(|(name, at)| (Arc::clone(name), *at)).collect(),
            excluded: Vec::new(),
            file: Some(Arc::new(file)),
            in_flight: false,
            former: None,
            marks: None,
            is_copy: self.found.role != Role::Live,
        })
    }
}

/// Whether a compressed file holds a content of this checksum which begins so.
fn holds_packed(file: &File, sum: Checksum, head: &[u8]) -> bool {
    let trailer = file.metadata().ok().and_then(|about| gzip::trailer(file, about.len()));
    trailer == Some(sum) && gzip::head(file, FINGERPRINT_BYTES) == head
}
