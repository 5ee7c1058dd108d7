//! Files that the checkpoint knows and no listing shows: found again elsewhere, remembered, or lost.
//!
//! Only here files that are gone are given up for lost.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{GIVE_UP_AFTER, Registry, recovery};
use crate::{
    checkpoint::FileEntry,
    identity::{self, InodeKey},
    ledger::{FileAccount, is_settled},
    messages::{self, Kind},
    read::content::Content,
    reason::Reason,
    settle::Command,
    source::Source,
};

/// Files that are there and cannot be opened are looked at again after this.
const GIVE_UP_AGAIN: Duration = Duration::from_secs(30);

impl Registry {
    /// A file that the checkpoint knows and no listing shows: moved somewhere else on its
    /// filesystem, else lost. `taken`: files that are somebody's.
    pub(super) fn find_moved(
        &mut self,
        entry: FileEntry,
        source: &Arc<Source>,
        directory: &Path,
        taken: &HashSet<InodeKey>,
    ) {
        let grown = self.final_size(&entry).is_some_and(|size| size > entry.size);
        if is_settled(&entry, &self.setup.sinks) && entry.ended && !grown {
            self.remember_done(&entry, source);
            return;
        }
        let identity = recovery::identity_of(&entry);
        let Some(file) = recovery::reopen(&entry, directory, taken) else {
            self.unclaimed.put_back(entry);
            return;
        };
        let path = directory.join(&*entry.name);
        let (source, sinks) = (Arc::clone(source), &self.setup.sinks);
        let account =
            Arc::new(FileAccount::recovered(&entry, identity.clone(), source, &path, sinks));
        let (source, id) = (Arc::clone(&account.source.path), account.id);
        self.setup.accounts.insert(Arc::clone(&account));
        self.present(&source, id);
        if let Some(unsaid) = messages::admit(Kind::Found, &path) {
            tracing::info!(path = %path.display(), "A log file that was moved meanwhile was found again by its handle.{unsaid}");
        }
        let content = Content::Plain(file);
        if let Some(token) = self.hold(identity.key, content, account, (false, None)) {
            self.mark_gone(token);
        }
    }

    /// Keeps a finished file's account: its compressed copy must be recognised.
    fn remember_done(&mut self, entry: &FileEntry, source: &Arc<Source>) {
        let identity = recovery::identity_of(entry);
        let path = source.path.with_file_name(&*entry.name);
        let sinks = &self.setup.sinks;
        let account = FileAccount::recovered(entry, identity, Arc::clone(source), &path, sinks);
        account.ended.store(true, Ordering::Release);
        for sink in sinks {
            if !entry.sinks.contains_key(&sink.name) {
                account.sink(sink.number).exclude();
            }
        }
        if let Some(state) = self.sources.get_mut(&source.path) {
            state.note(&account, Some(Instant::now()));
        }
        self.setup.accounts.insert(Arc::new(account));
    }

    /// What nobody has claimed by now is gone.
    pub(super) fn give_up(&mut self) {
        if self.give_up_at.is_some_and(|at| at <= Instant::now()) {
            self.give_up_at = None;
            self.together(Self::give_up_unclaimed);
        }
        if !self.complete && self.give_up_at.is_none() && self.parked.is_empty() {
            self.complete = true;
            self.tell(Command::Complete);
        }
    }

    fn give_up_unclaimed(&mut self) {
        let undecided = self.give_up_former_lives();
        let mut waiting = false;
        let (early, gone): (Vec<_>, Vec<_>) =
            self.unclaimed.take_all().into_iter().partition(|entry| self.may_turn_up(entry));
        let undecided = undecided || !early.is_empty();
        early.into_iter().for_each(|entry| self.unclaimed.put_back(entry));
        for entry in gone {
            // The kernel forgets all that it told at once, when all of it is counted. What were
            // counted before, and forgotten, would be a stranger to the next agent.
            if undecided && self.final_size(&entry).is_some() {
                self.unclaimed.put_back(entry);
            } else {
                waiting |= !self.lose(entry);
            }
        }
        if undecided {
            self.give_up_at = Some(Instant::now() + GIVE_UP_AFTER);
            return;
        }
        if waiting {
            self.give_up_at = Some(Instant::now() + GIVE_UP_AGAIN);
        }
        if self.parked.is_empty() && !waiting {
            self.setup.accounts.reserve([]);
        }
        self.count_strangers();
    }

    /// Looks for files again that are known and that nobody holds.
    pub(super) fn look_for(&mut self, entry: FileEntry) {
        self.unclaimed.put_back(entry);
        self.give_up_at.get_or_insert(Instant::now() + GIVE_UP_AFTER);
    }

    /// A file is given up, with whatever was not settled of it. False: it may still be opened.
    fn lose(&mut self, mut entry: FileEntry) -> bool {
        let reason = match self.still_there(&entry) {
            // It could not be opened (permissions, descriptors), which is said where it is tried.
            Some(true) => {
                self.unclaimed.put_back(entry);
                return false;
            }
            Some(false) => Reason::NotCollected,
            None if self.complete => Reason::DeletedUnseen,
            None => Reason::DeletedWhileDown,
        };
        // What was written after the last look at it, the kernel may know.
        match self.final_size(&entry) {
            Some(size) => entry.size = entry.size.max(size),
            None if !entry.ended
                && reason == Reason::DeletedWhileDown
                && !self.was_told(&entry) =>
            {
                self.note_unseen_end(&entry);
            }
            None => {}
        }
        self.disown_departing(&entry);
        self.tell(Command::Lose(Box::new(entry), reason));
        true
    }

    /// Whether a file that nobody has claimed lies where it was, and if so, whether it is one that is
    /// collected.
    fn still_there(&self, entry: &FileEntry) -> Option<bool> {
        let path = entry.source.with_file_name(&*entry.name);
        let key = identity::look_at(&path).ok()?.key;
        // Without a birth time it may be another file by now.
        let same = key == recovery::identity_of(entry).key && key.born_ns != 0;
        let known = self.held.find(&key).is_some() || self.inodes.contains_key(&key);
        (same && !known).then(|| self.setup.discovery.would_find(&path).is_some())
    }
}
