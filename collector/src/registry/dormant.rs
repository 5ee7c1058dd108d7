//! Dormant files: read to their end, settled, let go, and still there under a collected name.
//!
//! No descriptor is held for one. A program may keep its own for hours and write to the renamed
//! file: the watcher looks at the file by its name (the kernel counts its writes without one), and
//! once it has grown it goes back to its reader. Only what is gone is counted as lost here.

use std::{
    collections::HashSet,
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{Inode, RETRY, Registry, Still, departed::End, place::Known, recovery};
use crate::{
    checkpoint::FileEntry,
    discover::Found,
    identity::{self, FileId, InodeKey, Look},
    ledger::FileAccount,
    read::{content::Content, reader::Message, tail::LogFile},
    reason::Reason,
    settle::Command,
    watch::{FileToken, Heard},
};

/// Looks in a row at a file that is being written to at this moment.
const LOOKS: u32 = 64;

impl Registry {
    /// A reader let a file go: every byte that it saw is settled.
    pub(super) fn heed_release(&mut self, token: FileToken, account: &Arc<FileAccount>) {
        let Some(held) = self.held.get(token) else {
            self.setup.watcher.unwatch_file(token);
            return;
        };
        if held.compressed || held.gone {
            let (key, path) = (held.key, held.account.path());
            let look = identity::look_at(&path).ok().filter(|look| look.key == key);
            let unnamed = || Still::unnamed(account.seen.load(Ordering::Acquire));
            let still = look.map_or_else(unnamed, |look| Still::of(&look));
            self.forget_token(token);
            self.inodes.insert(key, Inode::Done(account.id, still));
            return;
        }
        // Whether it has its name still, or which one it has now, the directory's listing tells.
        self.held.set_dormant(token, true);
        self.look_closer(token);
        self.look_inside(token);
    }

    /// Knows a file that need not be read: nothing was written to it since it was let go. `file`: for
    /// the watcher to see who it is.
    pub(super) fn know_dormant(
        &mut self,
        key: InodeKey,
        account: &Arc<FileAccount>,
        file: &Arc<File>,
    ) {
        // The kernel watch needs it open until it is entered, and keeps it until then.
        account.hold(file);
        let known = Known { live: false, compressed: false, dormant: true };
        if let Some(token) = self.know(key, account, known) {
            let _armed_when_entered = self.watch_held(token);
        }
    }

    /// A finished file that had lost its name has one again, and may have grown meanwhile. False:
    /// another file has its inode.
    pub(super) fn know_again(&mut self, look: &Look, id: FileId, found: &Found) -> bool {
        let Some(account) = self.setup.accounts.get(id) else { return false };
        let Ok((file, now)) = identity::open(&found.path) else { return false };
        let same = identity::head(&file).is_ok_and(|head| account.fingerprint().matches(&head));
        let entry = account.entry(&self.setup.sinks);
        if now.key != look.key || !same || !is_continued(&entry, &file, &now) {
            return false;
        }
        account.rename(&found.path);
        self.know_dormant(look.key, &account, &Arc::new(file));
        if let Some(token) = self.held.find(&look.key) {
            self.look_closer(token);
        }
        self.present(&found.source.path, id);
        true
    }

    /// Looks at every dormant file.
    pub(super) fn look_at_dormant(&mut self) {
        for token in self.held.tokens() {
            self.look_closer(token);
        }
    }

    /// Looks whether a dormant file has grown, and asks to be told when it does.
    pub(super) fn look_closer(&mut self, token: FileToken) {
        let Some(held) = self.held.get(token).filter(|held| held.dormant) else { return };
        let (key, account) = (held.key, Arc::clone(&held.account));
        let bell = self.watch_held(token);
        let seen = account.seen.load(Ordering::Acquire);
        for _ in 0..LOOKS {
            // Where its name leads elsewhere, a listing is on its way that says where it is.
            let look = identity::look_at(&account.path()).ok().filter(|look| look.key == key);
            let Some(look) = look else { return };
            if look.size != seen {
                return self.wake_up(token, &account);
            }
            match bell.as_ref().map_or(Heard::Nothing, |bell| bell.set(seen)) {
                Heard::Nothing => return,
                // Announced, and not in the file's size yet.
                Heard::More | Heard::Soon => std::thread::yield_now(),
            }
        }
        // The writer was interrupted before the size was there. Nobody is told when it goes on.
        let path = account.path();
        let directory = path.parent().unwrap_or(&path).to_owned();
        self.retries.entry(directory).or_insert_with(|| Instant::now() + RETRY);
    }

    /// Hands a dormant file that was written to back to its reader.
    pub(super) fn wake_up(&mut self, token: FileToken, account: &Arc<FileAccount>) {
        if self.excluded.contains(&account.source.path) {
            return;
        }
        let path = account.path();
        let opened = identity::open(&path);
        let Some(held) = self.held.get(token) else { return };
        match opened {
            Ok((file, look)) if look.key == held.key => {
                if self.is_written_over(account, &file) {
                    return self.give_up_dormant(token, account);
                }
                self.hand_back(token, account, Arc::new(file));
            }
            // Another file has its name by now.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let directory = path.parent().unwrap_or(&path).to_owned();
                self.retries.insert(directory, Instant::now() + RETRY);
                self.complain(&path, format!(
                    "The log file {} was written to after its rotation and cannot be opened: {error}. It is tried again.",
                    path.display()
                ));
            }
        }
    }

    fn hand_back(&mut self, token: FileToken, account: &Arc<FileAccount>, file: Arc<File>) {
        self.held.set_dormant(token, false);
        account.ended.store(false, Ordering::Release);
        account.stale.store(true, Ordering::Release);
        self.include(account);
        account.hold(&file);
        account.refresh();
        let bell = self.watch_held(token);
        let content = Content::Plain(file);
        let source = Arc::clone(&account.source.path);
        let file = LogFile { token, account: Arc::clone(account), content, live: false, bell };
        self.send(&source, |tail| Message::Return(tail, file));
    }

    /// A dormant file lost its last collected name. `size`: how long it was at its end, where
    /// somebody knows. What was written to it unread is read where somebody holds it open still, and
    /// lost otherwise.
    pub(super) fn bury(&mut self, token: FileToken, size: u64) {
        let Some(held) = self.held.get_mut(token) else { return };
        let (key, account) = (held.key, Arc::clone(&held.account));
        let path = account.path();
        let near = path.parent().unwrap_or(&path);
        let seen = account.seen.load(Ordering::Acquire);
        if let Some(file) = recovery::by_handle(&account.identity, near, &HashSet::new())
            && identity::look(&file).is_ok_and(|look| look.key == key && look.size > seen)
        {
            held.gone = true;
            self.hand_back(token, &account, file);
            self.send(&account.source.path, |tail| Message::Gone(tail, token));
            return;
        }
        let last = self.setup.watcher.last_size(token).unwrap_or(0).max(size);
        self.forget_token(token);
        self.inodes.insert(key, Inode::Done(account.id, Still::unnamed(seen)));
        self.lose_rest(&account, last);
    }

    /// The kernel saw how long a file was at its end: more than anybody read, perhaps.
    pub(super) fn heed_end(&mut self, id: FileId, end: End) {
        let Some(account) = self.setup.accounts.get(id) else { return };
        let seen = account.seen.load(Ordering::Acquire);
        let size = end.length(seen, account.truncated.load(Ordering::Acquire));
        let key = account.identity.key;
        if let Some(token) = self.held.find(&key) {
            match self.held.get(token).filter(|held| held.account.id == id) {
                Some(held) if held.dormant => self.bury(token, size),
                // Nobody holds it open, for want of descriptors: this is all that will be known.
                Some(held) if end.ended() => {
                    let account = Arc::clone(&held.account);
                    account.see(size);
                    self.tell(Command::Keep(account));
                }
                _ => {}
            }
            return;
        }
        if matches!(self.inodes.get(&key), Some(Inode::Done(done, _)) if *done == id) {
            self.lose_rest(&account, size);
        }
    }

    /// A file that was let go is gone, `size` bytes long at its end: what nobody read of it is lost.
    fn lose_rest(&mut self, account: &FileAccount, size: u64) {
        if size <= account.seen.load(Ordering::Acquire)
            || self.lives_on_compressed(
                (&account.path(), size),
                |identity| identity.key == account.identity.key,
                &mut HashSet::new(),
            )
        {
            return;
        }
        self.inodes.remove(&account.identity.key);
        let entry = FileEntry { size, ..account.entry(&self.setup.sinks) };
        self.tell(Command::Lose(Box::new(entry), Reason::DeletedUnseen));
    }

    /// Takes a file's token away.
    pub(super) fn forget_token(&mut self, token: FileToken) {
        self.setup.watcher.unwatch_file(token);
        let Some(held) = self.held.remove(token) else { return };
        if let Some(state) = self.sources.get_mut(held.source()) {
            state.held.retain(|other| *other != token);
        }
    }
}

/// Whether a file that has a finished one's inode number is that file. Without a birth time it may be a
/// stranger that begins alike: the handle says so, and else the bytes before what was read.
fn is_continued(entry: &FileEntry, file: &File, look: &Look) -> bool {
    if look.key.born_ns != 0 {
        return true;
    }
    if let (Some(known), Some(handle)) = (&entry.handle, identity::identify(file, look).handle) {
        return *known == handle;
    }
    entry.sinks.values().all(|offset| {
        let holds = offset.guard.holds_in_file(file, offset.settled);
        !offset.guard.is_none() && holds.unwrap_or(false)
    })
}
