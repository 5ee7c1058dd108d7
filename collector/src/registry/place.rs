//! Placing: a recognised file goes to its source's reader, at the offset that is right for it.
//!
//! Decides where reading starts; reads nothing but the last line end of a file that is skipped.

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Inode, Registry, SourceState, Still, cut_off, evidence,
    held::Held,
    last_line::LastLine,
    recognised::{Beginning, Past, Recognised},
    recovery, rest,
};
use crate::{
    checkpoint::FileEntry,
    config::Start,
    discover::{Found, Role},
    identity::{Fingerprint, InodeKey, checksum::Checksum, guard::Guard},
    ledger::FileAccount,
    read::{
        content::Content,
        gzip,
        permits::Permit,
        reader::Message,
        tail::{LogFile, Tail},
        unpack::Unpacking,
    },
    settle::Command,
    source::Source,
    watch::{Bell, DirToken, FileToken},
};

/// How a file is known.
pub(super) struct Known {
    pub(super) live: bool,
    pub(super) compressed: bool,
    pub(super) dormant: bool,
}

impl Registry {
    /// Recognises found files and hands them to their readers.
    pub(super) fn place(&mut self, found: Vec<(Arc<Path>, Found)>) {
        let mut sources: BTreeMap<Arc<Path>, (Arc<Path>, Vec<Found>)> = BTreeMap::new();
        self.rests.begin_placing();
        for (directory, found) in found {
            let path = Arc::clone(&found.source.path);
            sources.entry(path).or_insert_with(|| (directory, Vec::new())).1.push(found);
        }
        let began = rest::used();
        for (path, (directory, mut files)) in sources {
            let now = rest::used();
            if rest::is_enough(began) && !self.sources.contains_key(&path) {
                // Others have their turn: a look at the directory shows it again.
                self.rests.placed(&directory, Duration::ZERO, true);
                self.retries.entry(directory.to_path_buf()).or_insert_with(Instant::now);
                continue;
            }
            files.sort_by(|a, b| a.role.cmp(&b.role));
            // What is told of a known source may be something else now, also where no file is new.
            if let Some(source) = files.first().map(|file| Arc::clone(&file.source))
                && self.sources.contains_key(&source.path)
            {
                self.open_source(&source, &directory);
            }
            for file in self.recognise(files, &directory) {
                let source = Arc::clone(&file.found.source);
                self.open_source(&source, &directory);
                self.settle_in(file);
            }
            self.tell_what_follows(&path);
            self.rests.placed(&directory, rest::used().saturating_sub(now), false);
        }
    }

    /// Makes a source known to its reader.
    pub(super) fn open_source(&mut self, source: &Arc<Source>, directory: &Arc<Path>) {
        // Both tables share the text of the path.
        let known = self.sources.get_key_value(&source.path).map(|(path, _)| Arc::clone(path));
        let is_new = known.is_none();
        let path = known.unwrap_or_else(|| Arc::clone(&source.path));
        // Where it lies, and where a link to it does.
        for directory in [Some(&**directory), path.parent()].into_iter().flatten() {
            if let Some(listed) =
                self.directories.find(directory).and_then(|token| self.directories.get_mut(token))
            {
                listed.sources.insert(Arc::clone(&path));
            }
        }
        if !is_new {
            // Another directory's links may call it otherwise.
            if self.sources.get(&source.path).is_some_and(|state| state.directory == *directory) {
                self.tell_names(source);
            }
            return;
        }
        let tail = self.tail_id();
        // Most sources have one file; growing from nothing would make room for four.
        let (accounts, held) = (Vec::with_capacity(1), Vec::with_capacity(1));
        let (directory, described) = (Arc::clone(directory), source.fingerprint());
        let state = SourceState { tail, directory, accounts, held, described };
        self.sources.insert(path, Box::new(state));
        let tail_state = Box::new(Tail::new(Arc::clone(source)));
        self.send(&source.path, |id| Message::Open(id, tail_state));
        self.await_names(source);
    }

    /// Hands a recognised file to its reader, at the offset that is right for it.
    pub(super) fn settle_in(&mut self, mut recognised: Recognised) {
        self.note_copy_read_anew(&recognised);
        if self.held.find(&recognised.look.key).is_some() {
            // Another name of the same file, found in the same look.
            return;
        }
        let Some((file, permit)) = self.still_open(&mut recognised) else {
            self.unclaimed.extend(recognised.past.into_entry());
            return;
        };
        let Recognised { found, look, .. } = &recognised;
        let packed = found.gzip.then(|| gzip::trailer(&file, look.size)).flatten();
        let account = self.account_of(&recognised, &file, packed);
        tracing::debug!(path = %found.path.display(), inode = look.key.inode, id = %account.id, epoch = account.epoch, size = look.size, "A file has an account.");
        if let Some(copied) = recognised.copied {
            self.setup.accounts.prefixes.note_copy(account.id, copied);
            account.stale.store(true, Ordering::Release);
        }
        self.setup.accounts.insert(Arc::clone(&account));
        self.present(&found.source.path, account.id);
        // The source has one for it from now on.
        drop(recognised.place.take());
        let settled = self.is_settled(&recognised, packed, &account);
        if let Past::Twin(_) = recognised.past {
            // Its entry is new: it must be durable before anything of it is sent.
            account.registered.store(settled, Ordering::Release);
            self.tell(Command::Keep(Arc::clone(&account)));
        }
        let is_live = recognised.found.role == Role::Live;
        if !is_live && settled && account.registered.load(Ordering::Acquire) {
            self.let_rest(&recognised, file, &account);
        } else {
            self.hand_over(&recognised, (file, permit), account);
        }
    }

    /// The account of a recognised file: the one it had, or a new one.
    /// `packed`: the trailer of a compressed one.
    fn account_of(
        &mut self,
        recognised: &Recognised,
        file: &File,
        packed: Option<Checksum>,
    ) -> Arc<FileAccount> {
        let Recognised { found, identity, head, .. } = recognised;
        let account = match &recognised.past {
            Past::Entry(entry) | Past::Twin(entry) => self.resume(entry, recognised, file),
            Past::Nothing => {
                let first = Beginning { epoch: identity.first_epoch(), truncated: 0 };
                self.begin(first, recognised, file)
            }
            Past::FormerLife(beginning) => self.begin(*beginning, recognised, file),
        };
        if found.gzip {
            account.set_fingerprint(Fingerprint::of(head));
            account.set_crc(packed.map_or(0, |sum| sum.crc));
        }
        account
    }

    /// Whether every sink has all of a file. A compressed one may hold more than was seen of it before it was
    /// compressed.
    fn is_settled(
        &self,
        recognised: &Recognised,
        packed: Option<Checksum>,
        account: &FileAccount,
    ) -> bool {
        let Recognised { found, look, past, .. } = recognised;
        let was_final = past.entry().is_some_and(|entry| entry.ended);
        let whole = match found.gzip {
            true => was_final && account.checksum() == packed,
            false => account.seen.load(Ordering::Acquire) == look.size,
        };
        whole && account.is_settled(self.slots())
    }

    /// Nothing of the file is to be read: it is remembered, and held by no reader.
    fn let_rest(&mut self, recognised: &Recognised, file: File, account: &Arc<FileAccount>) {
        let Recognised { found, look, .. } = recognised;
        account.ended.store(true, Ordering::Release);
        if found.gzip {
            self.inodes.insert(look.key, Inode::Done(account.id, Still::of(look)));
            return;
        }
        let file = Arc::new(file);
        if account.checksum().is_none() {
            let finished = (Arc::clone(&file), Arc::clone(account));
            let _going_down = self.setup.checksums.send(finished);
        }
        self.know_dormant(look.key, account, &file);
    }

    /// Hands a file to its source's reader: open if there is room, else closed.
    fn hand_over(
        &mut self,
        recognised: &Recognised,
        (file, permit): (File, Option<Permit>),
        account: Arc<FileAccount>,
    ) {
        let Recognised { found, look, before, .. } = recognised;
        let source = &found.source;
        let permit = self.room_for(source, &file, permit);
        let mut _until_it_is_entered = None;
        let content = if found.gzip {
            account.ended.store(true, Ordering::Release);
            let (state_dir, limit) = (&self.setup.state_dir, self.setup.max_unpacked);
            let how = Unpacking::of(source, state_dir, limit);
            match permit {
                Some(permit) => Content::gzip(file, how, permit),
                None => Content::closed_gzip(look.key, how),
            }
        } else {
            let file = Arc::new(file);
            // The kernel watch needs it open until it is entered, and keeps it until then.
            account.hold(&file);
            _until_it_is_entered = Some(Arc::clone(&file));
            // Its reader takes a permit of its own.
            if permit.is_some() { Content::Plain(file) } else { Content::closed(look.key) }
        };
        self.hold(look.key, content, account, (found.role == Role::Live, *before));
    }

    /// Hands a file to its source's reader. None: the source is not open.
    pub(super) fn hold(
        &mut self,
        key: InodeKey,
        content: Content,
        account: Arc<FileAccount>,
        (live, before): (bool, Option<FileToken>),
    ) -> Option<FileToken> {
        self.include(&account);
        if let Some(file) = content.plain() {
            account.hold(file);
            account.refresh();
        }
        let compressed = content.is_compressed();
        let token = self.know(key, &account, Known { live, compressed, dormant: false })?;
        let bell = self.watch_held(token);
        let source = Arc::clone(&account.source.path);
        let file = LogFile { token, account, content, live, bell };
        self.send(&source, |tail| Message::Append(tail, file, before));
        Some(token)
    }

    /// Gives a file a token. None: the source is not open.
    pub(super) fn know(
        &mut self,
        key: InodeKey,
        account: &Arc<FileAccount>,
        Known { live, compressed, dormant }: Known,
    ) -> Option<FileToken> {
        let state = self.sources.get_mut(&account.source.path)?;
        let (tail, account) = (state.tail, Arc::clone(account));
        let held = Held { key, tail, account, live, gone: false, compressed, dormant };
        let token = self.held.insert(held);
        state.held.push(token);
        self.inodes.remove(&key);
        Some(token)
    }

    /// The account of a file that the checkpoint knows.
    fn resume(
        &mut self,
        entry: &FileEntry,
        recognised: &Recognised,
        file: &File,
    ) -> Arc<FileAccount> {
        let Recognised { found, identity, head, .. } = recognised;
        // What the reader cannot read either, it says.
        let same = match found.gzip {
            true => evidence::fingerprint(entry).matches(head),
            false => evidence::goes_on_in(entry, file, head),
        };
        let source = Arc::clone(&found.source);
        if same {
            // A compressed copy keeps the identity of what it is a copy of. The handle is kept
            // where it is refused today.
            let mut identity =
                if found.gzip { recovery::identity_of(entry) } else { identity.clone() };
            identity.handle = identity.handle.or_else(|| entry.handle.clone());
            let sinks = &self.setup.sinks;
            let account = FileAccount::recovered(entry, identity, source, &found.path, sinks);
            account.rename(&found.path);
            return Arc::new(account);
        }
        // It was truncated after it was recognised.
        let next = self.end_former_life(entry.clone());
        let account = self.new_account(recognised, next);
        // The former life is forgotten: that this one began is not to go with an agent that ends soon.
        let account = Arc::new(account);
        self.tell(Command::Keep(Arc::clone(&account)));
        account
    }

    /// The account of a file that nobody knows, at the place where it begins to be read.
    fn begin(
        &mut self,
        beginning: Beginning,
        recognised: &Recognised,
        file: &File,
    ) -> Arc<FileAccount> {
        let Recognised { found, look, .. } = recognised;
        let account = self.new_account(recognised, beginning);
        if self.scanning && self.setup.fresh && self.setup.start == Start::End && !found.gzip {
            let LastLine { end: offset, text } = LastLine::of(file, look.size);
            account.see(text);
            let guard = Guard::in_file(file, offset).unwrap_or_default();
            for slot in self.slots() {
                account.sink(slot).start_at(offset, guard);
            }
        } else if self.scanning && self.setup.fresh && self.setup.start == Start::End {
            account.registered.store(true, Ordering::Release);
        }
        Arc::new(account)
    }

    /// An account of a life that begins. It has the next free epoch.
    fn new_account(&self, recognised: &Recognised, beginning: Beginning) -> FileAccount {
        let Beginning { epoch, truncated } = beginning;
        let Recognised { found, identity, .. } = recognised;
        let sinks = self.setup.sinks.len();
        // The same inode, done with before, was written anew; or two devices have the same numbers.
        let epoch = self.setup.accounts.free_epoch(identity, epoch);
        let source = Arc::clone(&found.source);
        let account = FileAccount::new(identity.clone(), epoch, source, &found.path, sinks);
        let before = self.taken_before(identity, epoch);
        let truncated = if truncated == 0 { before } else { truncated };
        account.truncated.store(truncated, Ordering::Release);
        // It is no copy, if it was taken for one a moment ago.
        self.setup.accounts.forget_details(account.id);
        account
    }

    /// Has a held file watched, under its present name and life.
    pub(super) fn watch_held(&mut self, token: FileToken) -> Option<Bell> {
        let held = self.held.get(token).filter(|held| !held.compressed)?;
        let (file, path) = (held.account.held(), held.account.path());
        let life = cut_off::life(&held.account);
        let known = self.directories.find(path.parent()?);
        let listed = |token: &DirToken| self.directories.get(*token).is_some_and(|it| it.listed);
        let directory = match known.filter(listed) {
            Some(known) => known,
            None => self.watch(&path.parent()?.into())?,
        };
        self.setup.watcher.watch_file(token, directory, path.file_name()?, file.as_ref(), life)
    }
}
