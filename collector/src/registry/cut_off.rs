//! Lives that a truncation ended: what nobody read of one is lost, unless a copy holds it.
//!
//! `copytruncate` leaves a copy, which holds what the life held but for its last bytes. Whose copy a file
//! is can be told some seconds after it was made (see `twins`), so that long nothing is said to be lost.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    GIVE_UP_AFTER, Registry,
    recognised::{Beginning, Recognised},
    recovery::{self, FormerLife},
};
use crate::{
    checkpoint::FileEntry,
    discover::{Found, Role},
    identity::{FileId, Identity},
    ledger::{FileAccount, truncation},
    read::gzip,
    reason::Reason,
    settle::Command,
    watch::{FileToken, Life},
};

/// A copy that is there is told in less than this.
const TOLD_AFTER: Duration = Duration::from_secs(4);
/// One that cannot be told yet is waited for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lives that have ended.
#[derive(Default)]
pub(super) struct CutOff {
    lives: Vec<Ended>,
    /// By source, what copies hold that are read from their beginning. They are of lives so short that
    /// nobody saw them, which count as the end of the life before.
    anew: HashMap<Arc<Path>, u64>,
}

struct Ended {
    account: Arc<FileAccount>,
    since: Instant,
    /// Its readers are done with it.
    settled: bool,
    /// The end of what its copy holds.
    copied: u64,
    /// A file is there that may turn out to be its copy, since then at the latest.
    doubt: Option<Instant>,
}

impl CutOff {
    /// When something may have to be decided.
    pub(super) fn next(&self) -> Option<Instant> {
        let waits = self.lives.iter().any(|life| life.settled);
        waits.then(|| Instant::now() + Duration::from_millis(500))
    }

    fn of_source(&mut self, source: &Path) -> impl Iterator<Item = &mut Ended> {
        self.lives.iter_mut().filter(move |life| *life.account.source.path == *source)
    }
}

impl Registry {
    /// A file's life was ended by a truncation, and `next` is the one that follows.
    pub(super) fn heed_truncation(
        &mut self,
        token: FileToken,
        next: Arc<FileAccount>,
        former: Arc<FileAccount>,
    ) {
        if !self.setup.watcher.is_tallied(token) {
            self.note_uncounted_truncation();
        }
        // What the kernel counts from now on is this life's: it must be known that it began.
        self.tell(Command::Keep(Arc::clone(&next)));
        tracing::debug!(path = %next.path().display(), former = %former.id, id = %next.id, "A life ended.");
        self.end_life(former);
        let Some(held) = self.held.get_mut(token) else { return };
        let source = Arc::clone(held.source());
        let id = next.id;
        held.account = next;
        self.present(&source, id);
        // Known by its new life's name from now on.
        let _the_same = self.watch_held(token);
    }

    /// What nobody read of a life that has ended is lost, once its copies are told.
    pub(super) fn end_life(&mut self, account: Arc<FileAccount>) {
        let (since, settled, copied, doubt) = (Instant::now(), false, 0, None);
        self.cut_off.lives.push(Ended { account, since, settled, copied, doubt });
    }

    /// All that was read of an ended life is settled.
    pub(super) fn heed_cut_off(&mut self, id: FileId) {
        let mut lives = self.cut_off.lives.iter_mut();
        if let Some(life) = lives.find(|life| life.account.id == id) {
            life.settled = true;
        }
    }

    /// Whether a life was ended by a truncation, and its readers are not done with it yet.
    pub(super) fn is_being_cut_off(&self, id: FileId) -> bool {
        self.cut_off.lives.iter().any(|life| life.account.id == id && !life.settled)
    }

    /// A copy of a life was found; it holds so many bytes.
    pub(super) fn note_copy(&mut self, id: FileId, size: u64) {
        for life in self.cut_off.lives.iter_mut().filter(|life| life.account.id == id) {
            life.copied = life.copied.max(size);
        }
    }

    /// A file of this source may turn out to be a copy.
    pub(super) fn note_doubtful_copy(&mut self, source: &Path) {
        self.cut_off.of_source(source).for_each(|life| life.doubt = Some(Instant::now()));
    }

    /// A rotated file that nobody knew is read from its beginning. Beside one that is truncated it can
    /// only be a copy.
    pub(super) fn note_copy_read_anew(&mut self, file: &Recognised) {
        let Recognised { found: Found { source, role, gzip, .. }, look, past, .. } = file;
        if past.entry().is_some() || *role == Role::Live {
            return;
        }
        let unpacked = || gzip::trailer(&file.opened()?, look.size).map(|sum| sum.length.into());
        let size = if *gzip { unpacked().unwrap_or(0) } else { look.size };
        if self.cut_off.of_source(&source.path).next().is_some() {
            *self.cut_off.anew.entry(Arc::clone(&source.path)).or_default() += size;
        }
    }

    /// Says what is lost of ended lives, once their copies are told.
    pub(super) fn decide_cut_off(&mut self) {
        let mut at = 0;
        while let Some(life) = self.cut_off.lives.get(at) {
            let in_doubt = life.doubt.is_some_and(|at| at.elapsed() < TOLD_AFTER / 4);
            let wait = if in_doubt { PATIENCE } else { TOLD_AFTER };
            let source = Arc::clone(&life.account.source.path);
            let waits = life.since.elapsed() < wait;
            if !life.settled || waits && self.may_have_copies(&source) {
                at += 1;
                continue;
            }
            self.cut_off_rest(at);
        }
    }

    /// The agent goes down. Where a file is there that may be a life's copy, the next agent tells.
    pub(super) fn cut_off_all(&mut self) {
        for at in (0..self.cut_off.lives.len()).rev() {
            let life = &self.cut_off.lives[at];
            let (settled, told) = (life.settled, life.copied > 0);
            let source = Arc::clone(&life.account.source.path);
            if settled && (told || !self.may_have_copies(&source)) {
                self.cut_off_rest(at);
            }
        }
        for life in self.unclaimed.take_former() {
            if life.copied {
                self.tell(Command::Lose(Box::new(life.entry), Reason::Truncated));
            }
        }
    }

    fn cut_off_rest(&mut self, at: usize) {
        let Ended { account, copied, .. } = self.cut_off.lives.remove(at);
        let seen = account.seen.load(Ordering::Acquire);
        let read = |slot| account.sink(slot).settled.load(Ordering::Acquire);
        let read = self.slots().map(read).min().unwrap_or(seen).max(copied);
        let source = &account.source.path;
        let mut read_anew = 0;
        if let Some(anew) = self.cut_off.anew.get_mut(source) {
            read_anew = seen.saturating_sub(read).min(*anew);
            *anew -= read_anew;
        }
        let source = Arc::clone(source);
        if self.cut_off.of_source(&source).next().is_none() {
            self.cut_off.anew.remove(&source);
        }
        self.tell(Command::CutOff { account, copied, read_anew });
    }

    /// Whether files lie beside a source's live one that may be copies of it.
    fn may_have_copies(&mut self, source: &Path) -> bool {
        let directory = source.parent().unwrap_or(source).to_owned();
        let listed = self.list(&directory).files;
        let mut beside = listed.iter().filter(|found| *found.source.path == *source);
        beside.any(|found| found.role != Role::Live)
    }

    /// What truncations have taken away of a file, if the kernel counted.
    pub(super) fn taken_away(&self, id: FileId, identity: &Identity) -> Option<u32> {
        let generation = identity.generation();
        self.setup.watcher.truncated(id, (identity.key.inode, generation))
    }
}

impl Registry {
    /// A file was truncated while no agent ran. What nobody read of its former life is lost unless a copy
    /// turns up. Where the present life begins.
    pub(super) fn end_former_life(&mut self, mut entry: FileEntry) -> Beginning {
        let taken = self.taken_away(entry.id, &recovery::identity_of(&entry));
        let size = taken.and_then(|now| truncation::size_at_end(entry.size, entry.truncated, now));
        let epoch = entry.epoch + 1;
        entry.size = size.unwrap_or(entry.size);
        self.unclaimed.put_former(FormerLife { entry, counted: size.is_some(), copied: false });
        self.give_up_at.get_or_insert(Instant::now() + GIVE_UP_AFTER);
        // Of what was taken away by now nothing is the next life's, whatever it says of this one.
        Beginning { epoch, truncated: taken.unwrap_or(0) }
    }

    /// Gives up lives of which no copy turned up. True: there are some for which it is too early.
    pub(super) fn give_up_former_lives(&mut self) -> bool {
        let mut undecided = false;
        for life in self.unclaimed.take_former() {
            if !life.copied && self.may_turn_up(&life.entry) {
                undecided = true;
                self.unclaimed.put_former(life);
                continue;
            }
            if !life.counted && !life.copied && !self.complete {
                self.note_unseen_truncation(&life.entry.source);
            }
            self.tell(Command::Lose(Box::new(life.entry), Reason::Truncated));
        }
        undecided
    }
}

/// The life of an account, for the watcher.
pub(super) fn life(account: &FileAccount) -> Life {
    Life { id: account.id, truncated: account.truncated.load(Ordering::Acquire) }
}
