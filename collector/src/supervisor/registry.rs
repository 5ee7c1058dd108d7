//! The registry: which files there are, who they are, and which reader reads them.
//!
//! Joins what `discover` lists and `watch` notices with file identity, and keeps each source's
//! files in the order they were written. It opens files and looks at names and sizes; it reads no
//! log bytes but the first few, to recognise a file.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender};

use super::{
    recovery::{self, Unclaimed},
    settle::Command,
};
use crate::{
    batch::encode::SourceEncoding,
    checkpoint::FileEntry,
    config::Start,
    discover::{Discovery, Found, Listing, Role, Source},
    ledger::{Accounts, FileAccount},
    metrics::{Metrics, ReasonLabel},
    read::{
        content::{self, Content},
        cursor::Cursor,
        identity::{self, FINGERPRINT_BYTES, FileId, Fingerprint, Identity, InodeKey, Look},
        reader::{Feedback, Message, TailId},
        tail::{LogFile, Tail},
    },
    watch::{DirToken, Event, FileToken, Watcher},
};

/// A finished file's entry is kept this long after its last name vanished: a compressed copy of it
/// may turn up.
const FORGET_AFTER: Duration = Duration::from_secs(120);
/// How often a directory is looked through at once while it keeps changing.
const LOOKS: u32 = 6;
/// The granularity of a filesystem's times, rounded up.
const TICK: Duration = Duration::from_millis(5);
/// A directory that changed this lately may have changed since it was listed.
const LATELY: Duration = Duration::from_millis(500);
/// A directory that kept changing while it was looked through is listed again after this.
const RELIST: Duration = Duration::from_millis(20);
/// How often that is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// A directory whose files could not be opened is listed again after this.
const RETRY: Duration = Duration::from_secs(2);

/// Files that the checkpoint knows and nobody finds are given up for lost this long after the first
/// look: one that is being compressed meanwhile is found under its new name first.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);

/// Makes a source's metadata as each sink's records carry it.
pub type MakeEncodings = Box<dyn Fn(&Source) -> Vec<Arc<SourceEncoding>> + Send>;
/// Makes a sink's cursor in a source.
pub type MakeCursor = Box<dyn Fn(usize, &Source) -> Cursor + Send>;

/// What the registry is made of.
pub struct Setup {
    /// Finds files.
    pub discovery: Discovery,
    /// Notices changes.
    pub watcher: Box<dyn Watcher>,
    /// The reader threads.
    pub readers: Vec<Sender<Message>>,
    /// What they say.
    pub feedback: Receiver<Feedback>,
    /// To the settling thread.
    pub settler: Sender<Command>,
    /// Set once the agent is going down.
    pub stopping: Arc<std::sync::atomic::AtomicBool>,
    /// All accounts.
    pub accounts: Arc<Accounts>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The sinks' names, in order.
    pub sinks: Vec<String>,
    /// Makes a source's metadata, per sink.
    pub encodings: MakeEncodings,
    /// Makes a sink's cursor.
    pub cursor: MakeCursor,
    /// Where compressed files are unpacked.
    pub state_dir: PathBuf,
    /// Bound on unpacking one file, bytes.
    pub max_unpacked: u64,
    /// Where to start in files that were there before the agent ever ran.
    pub start: Start,
    /// Whether the agent never ran before.
    pub fresh: bool,
    /// What the checkpoint knows.
    pub entries: Vec<FileEntry>,
    /// Files held open by the pipeline before a reload.
    pub adopted: Vec<LogFile>,
    /// Set once the first scan is done.
    pub ready: Box<dyn Fn() + Send>,
}

/// The registry.
pub struct Registry {
    setup: Setup,
    unclaimed: Unclaimed,
    adopted: HashMap<InodeKey, LogFile>,
    directories: HashMap<PathBuf, Directory>,
    directory_paths: HashMap<DirToken, PathBuf>,
    sources: BTreeMap<PathBuf, SourceState>,
    held: HashMap<FileToken, Held>,
    inodes: HashMap<InodeKey, Inode>,
    problems: HashSet<String>,
    retries: BTreeMap<PathBuf, Instant>,
    next_token: u64,
    scanning: bool,
    give_up_at: Option<Instant>,
}

struct Directory {
    token: DirToken,
    sources: HashSet<PathBuf>,
    children: HashSet<PathBuf>,
}

struct SourceState {
    tail: TailId,
    directory: PathBuf,
    /// Accounts of its files, and since when no file on disk belongs to them.
    accounts: HashMap<FileId, Option<Instant>>,
}

/// A file that a reader holds.
struct Held {
    key: InodeKey,
    path: PathBuf,
    source: PathBuf,
    account: Arc<FileAccount>,
    live: bool,
    gone: bool,
}

/// What is known of an inode.
#[derive(Clone, Copy)]
enum Inode {
    /// A reader holds it.
    Held(FileToken),
    /// Its bytes up to this size are settled, or held under another inode (a compressed copy).
    Done(FileId, u64),
    /// Nothing of ours (a former file that the checkpoint does not know).
    Ignored,
}

/// A found file that was opened and recognised.
struct Recognised {
    found: Found,
    file: File,
    look: Look,
    identity: Identity,
    entry: Option<FileEntry>,
    head: Vec<u8>,
    /// A file of the same source that is held already and was written later.
    before: Option<FileToken>,
}

impl Registry {
    /// A registry that has not looked yet.
    pub fn new(mut setup: Setup) -> Self {
        let (unclaimed, former) = Unclaimed::new(std::mem::take(&mut setup.entries));
        let adopted = std::mem::take(&mut setup.adopted)
            .into_iter()
            .map(|file| (file.account.identity.key, file))
            .collect();
        let registry = Self {
            setup,
            unclaimed,
            adopted,
            directories: HashMap::new(),
            directory_paths: HashMap::new(),
            sources: BTreeMap::new(),
            held: HashMap::new(),
            inodes: HashMap::new(),
            problems: HashSet::new(),
            retries: BTreeMap::new(),
            next_token: 1,
            scanning: true,
            give_up_at: None,
        };
        registry.forget_lives(former);
        registry
    }

    /// Runs until the agent goes down.
    pub fn run(mut self) {
        self.scan();
        (self.setup.ready)();
        let mut events = Vec::new();
        let mut housekeeping = Instant::now() + HOUSEKEEPING;
        while !self.setup.stopping.load(Ordering::Acquire) {
            let next = self.retries.values().copied().chain(self.give_up_at).min();
            let next = next.unwrap_or(housekeeping);
            let timeout = next.min(housekeeping).saturating_duration_since(Instant::now());
            events.clear();
            if let Err(error) = self.setup.watcher.wait(timeout, &mut events) {
                tracing::error!(%error, "Waiting for file changes failed; everything is looked at again.");
                events.push(Event::Overflow);
                std::thread::sleep(Duration::from_millis(200));
            }
            self.heed_readers();
            self.heed_watcher(&events);
            self.retry();
            self.give_up();
            if Instant::now() >= housekeeping {
                housekeeping = Instant::now() + HOUSEKEEPING;
                self.forget_vanished();
            }
            self.publish();
        }
    }

    /// The first look at everything.
    fn scan(&mut self) {
        let found = self.list_from(self.setup.discovery.roots());
        let mut sources: BTreeMap<PathBuf, Vec<(PathBuf, Found)>> = BTreeMap::new();
        for (directory, found) in found {
            sources.entry(found.source.path.clone()).or_default().push((directory, found));
        }
        // Everything is recognised before anything is read: what is left over then was moved out
        // of sight or is gone, and what was moved comes first in its source.
        let mut recognised = Vec::new();
        for (path, found) in sources {
            let directory = found[0].0.clone();
            let files = found.into_iter().map(|(_, found)| found).collect();
            let files = self.recognise(files, &directory);
            recognised.push((path, directory, files));
        }
        for (path, directory, files) in recognised {
            let Some(source) = files.first().map(|file| Arc::clone(&file.found.source)) else {
                continue;
            };
            self.open_source(&source, &directory);
            for entry in self.unclaimed.take_source(&path) {
                self.find_moved(entry, &source, &directory);
            }
            for file in files {
                self.settle_in(file);
            }
        }
        for entry in self.unclaimed.take_all() {
            self.find_homeless(entry);
        }
        self.adopted.clear();
        self.scanning = false;
        self.give_up_at = Some(Instant::now() + GIVE_UP_AFTER);
        tracing::info!(
            sources = self.sources.len(),
            files = self.held.len(),
            directories = self.directories.len(),
            "The first look for logs is done."
        );
        self.publish();
    }

    /// Watches and lists directories, and those below them.
    fn list_from(&mut self, first: Vec<PathBuf>) -> Vec<(PathBuf, Found)> {
        let mut queue: VecDeque<PathBuf> = first.into();
        let mut found = Vec::new();
        while let Some(path) = queue.pop_front() {
            if self.directories.contains_key(&path) || self.watch(&path).is_none() {
                continue;
            }
            let listing = self.list(&path);
            queue.extend(listing.directories.iter().cloned());
            if let Some(directory) = self.directories.get_mut(&path) {
                directory.children.extend(listing.directories);
            }
            found.extend(listing.files.into_iter().map(|file| (path.clone(), file)));
        }
        found
    }

    fn list(&mut self, path: &Path) -> Listing {
        let mut listing = self.setup.discovery.list(path);
        for problem in std::mem::take(&mut listing.problems) {
            self.complain(problem);
        }
        listing.files.sort_by(|a, b| (&a.source.path, &a.role).cmp(&(&b.source.path, &b.role)));
        listing
    }

    /// Says a problem, once.
    fn complain(&mut self, problem: String) {
        if self.problems.len() < 10_000 && !self.problems.contains(&problem) {
            tracing::warn!("{problem}");
            self.problems.insert(problem);
        }
    }

    /// Watches a directory; None if it is gone.
    fn watch(&mut self, path: &Path) -> Option<DirToken> {
        if let Some(directory) = self.directories.get(path) {
            return Some(directory.token);
        }
        let token = DirToken(self.token());
        if let Err(error) = self.setup.watcher.watch_directory(token, path) {
            if error.kind() != io::ErrorKind::NotFound {
                self.complain(format!(
                    "The directory {} cannot be watched: {error}. Logs in it are not collected; check its permissions.",
                    path.display()
                ));
            }
            return None;
        }
        let directory = Directory { token, sources: HashSet::new(), children: HashSet::new() };
        self.directories.insert(path.to_owned(), directory);
        self.directory_paths.insert(token, path.to_owned());
        Some(token)
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Opens a source's files that are not known yet and finds out who they are; oldest first. A
    /// directory that changed since it was listed is listed again, so that a file that was rotated
    /// or compressed in between is found before anything later is read.
    fn recognise(&mut self, found: Vec<Found>, directory: &Path) -> Vec<Recognised> {
        let Some(source) = found.first().map(|found| found.source.path.clone()) else {
            return Vec::new();
        };
        let mut opened: HashMap<InodeKey, Recognised> = HashMap::new();
        let mut found = found;
        let mut listed = None;
        for look in 0..LOOKS {
            let vanished = self.open_found(found, directory, &mut opened);
            let opened_live = opened.values().any(|file| file.found.role == Role::Live);
            let stable = !opened_live || !may_have_changed(directory, listed);
            if stable && !vanished {
                break;
            }
            if look + 1 == LOOKS {
                self.retries.insert(directory.to_owned(), Instant::now() + RELIST);
                break;
            }
            if look > 0 {
                std::thread::sleep(TICK);
            }
            listed = modified(directory);
            found = self.list(directory).files;
            found.retain(|file| file.source.path == source);
        }
        let mut recognised: Vec<Recognised> = opened.into_values().collect();
        recognised.sort_by(|a, b| a.found.role.cmp(&b.found.role));
        recognised
    }

    /// One look at listed files, sorted oldest first. True: one of them vanished.
    fn open_found(
        &mut self,
        found: Vec<Found>,
        directory: &Path,
        opened: &mut HashMap<InodeKey, Recognised>,
    ) -> bool {
        let mut vanished = false;
        let mut before = None;
        // From the latest on, so that each knows which held file comes after it.
        for found in found.into_iter().rev() {
            if let Ok(key) = identity::look_at(&found.path).map(|look| look.key) {
                if let Some(Inode::Held(token)) = self.inodes.get(&key) {
                    before = Some(*token);
                }
                if let Some(file) = opened.get_mut(&key) {
                    (file.found, file.before) = (found, before);
                    continue;
                }
            }
            match self.recognise_one(found, opened) {
                Ok(None) => {}
                Ok(Some(file)) => {
                    opened.insert(file.look.key, Recognised { before, ..file });
                }
                Err((path, error)) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::debug!(path = %path.display(), "A file vanished before it was opened.");
                    vanished = true;
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
        opened: &HashMap<InodeKey, Recognised>,
    ) -> Result<Option<Recognised>, (PathBuf, io::Error)> {
        let fail = |error| (found.path.clone(), error);
        let look = identity::look_at(&found.path).map_err(fail)?;
        match self.inodes.get(&look.key).copied() {
            Some(Inode::Held(token)) => {
                self.named(token, &found);
                return Ok(None);
            }
            Some(Inode::Done(id, size)) if size == look.size => {
                self.present(&found.source.path, id);
                return Ok(None);
            }
            Some(Inode::Ignored) => return Ok(None),
            Some(Inode::Done(..)) | None => {}
        }
        let (file, look) = identity::open(&found.path).map_err(fail)?;
        let identity = identity::identify(&file, &look);
        let (head, entry);
        if found.gzip {
            head = content::gzip_head(&file, FINGERPRINT_BYTES);
            if opened.values().any(|file| !file.head.is_empty() && head.starts_with(&file.head)) {
                // The copy of a file that was opened a moment ago: known at the next look.
                return Ok(None);
            }
            entry = match self.copy_of(&found, &head) {
                Some(id) => {
                    self.inodes.insert(look.key, Inode::Done(id, look.size));
                    self.present(&found.source.path, id);
                    return Ok(None);
                }
                None => {
                    let stem = found.path.file_stem().unwrap_or_default().to_string_lossy();
                    self.unclaimed
                        .claim(&identity)
                        .or_else(|| self.unclaimed.claim_by_head(&found.source.path, &stem, &head))
                }
            };
        } else {
            head = identity::head(&file).map_err(fail)?;
            entry = self.unclaimed.claim(&identity);
        }
        if entry.is_none() && found.only_if_known {
            self.inodes.insert(look.key, Inode::Ignored);
            return Ok(None);
        }
        Ok(Some(Recognised { found, file, look, identity, entry, head, before: None }))
    }

    /// The account of which a compressed file is a copy.
    fn copy_of(&self, found: &Found, head: &[u8]) -> Option<FileId> {
        let state = self.sources.get(&found.source.path)?;
        let accounts = state.accounts.keys().filter_map(|id| self.setup.accounts.get(*id));
        for account in accounts {
            self.refresh_fingerprint(&account);
            let fingerprint = account.fingerprint();
            if fingerprint.len > 0 && fingerprint.matches(head) {
                return Some(account.id);
            }
        }
        None
    }

    /// A file that no reader has looked at yet has no fingerprint.
    fn refresh_fingerprint(&self, account: &FileAccount) {
        if account.fingerprint().len > 0 {
            return;
        }
        if let Some(Ok(head)) = account.held().map(|file| identity::head(&file)) {
            account.set_fingerprint(Fingerprint::of(&head));
        }
    }

    /// A held file was found under a name.
    fn named(&mut self, token: FileToken, found: &Found) {
        let Some(held) = self.held.get_mut(&token) else { return };
        let moved = held.path != found.path;
        if moved && identity::look_at(&held.path).is_ok_and(|look| look.key == held.key) {
            // A hard link: it is collected once, under the name it was found by first.
            return;
        }
        let live = found.role == Role::Live && held.source == found.source.path;
        let (was_gone, was_live) = (held.gone, held.live);
        (held.gone, held.live) = (false, live);
        let (source, id) = (held.source.clone(), held.account.id);
        if moved {
            held.path.clone_from(&found.path);
            held.account.rename(&found.path);
            self.watch_held(token);
        }
        if was_gone || was_live != live {
            self.send(&source, |tail| Message::Named(tail, token, live));
        }
        self.present(&source, id);
    }

    fn present(&mut self, source: &Path, id: FileId) {
        if let Some(state) = self.sources.get_mut(source) {
            state.accounts.insert(id, None);
        }
    }

    fn watch_held(&mut self, token: FileToken) {
        let Some(held) = self.held.get(&token) else { return };
        let (Some(file), path) = (held.account.held(), held.path.clone()) else { return };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Some(directory) = self.watch(parent) {
            self.setup.watcher.watch_file(token, directory, name, &file);
        }
    }

    /// Makes a source known to its reader.
    fn open_source(&mut self, source: &Arc<Source>, directory: &Path) {
        if let Some(listed) = self.directories.get_mut(directory) {
            listed.sources.insert(source.path.clone());
        }
        if self.sources.contains_key(&source.path) {
            return;
        }
        let tail = TailId(self.token());
        let cursors = (0..self.setup.sinks.len()).map(|n| (self.setup.cursor)(n, source)).collect();
        let encodings = (self.setup.encodings)(source);
        let state = SourceState { tail, directory: directory.to_owned(), accounts: HashMap::new() };
        self.sources.insert(source.path.clone(), state);
        let tail_state = Box::new(Tail::new(Arc::clone(source), encodings, cursors));
        self.send(&source.path, |id| Message::Open(id, tail_state));
    }

    fn send(&self, source: &Path, message: impl FnOnce(TailId) -> Message) {
        let Some(state) = self.sources.get(source) else { return };
        let readers = &self.setup.readers;
        let reader = &readers[state.tail.0 as usize % readers.len()];
        // A reader is gone only when the agent is going down.
        let _going_down = reader.send(message(state.tail));
    }

    /// Hands a recognised file to its reader, at the offset that is right for it.
    fn settle_in(&mut self, recognised: Recognised) {
        let Recognised { found, file, look, identity, entry, head, before } = recognised;
        if let Some(Inode::Held(_)) = self.inodes.get(&look.key) {
            // Another name of the same file, found in the same look.
            return;
        }
        let source = &found.source;
        let was_final = entry.as_ref().is_some_and(|entry| entry.ended);
        let account = match entry {
            Some(entry) => self.resume(&entry, &identity, &found, &look, &head),
            None => self.begin(&identity, &found, &file, &look),
        };
        if found.gzip {
            account.set_fingerprint(Fingerprint::of(&head));
        }
        self.setup.accounts.insert(Arc::clone(&account));
        self.present(&source.path, account.id);
        // A compressed file may hold more than was seen of it before it was compressed.
        let whole = match found.gzip {
            true => was_final,
            false => account.seen.load(Ordering::Acquire) == look.size,
        };
        let settled = whole && account.is_settled();
        if found.role != Role::Live && settled && account.registered.load(Ordering::Acquire) {
            account.ended.store(true, Ordering::Release);
            self.inodes.insert(look.key, Inode::Done(account.id, look.size));
            return;
        }
        let content = if found.gzip {
            account.ended.store(true, Ordering::Release);
            match Content::gzip(file, &self.setup.state_dir, self.setup.max_unpacked) {
                Ok(content) => content,
                Err(error) => {
                    let directory = found.path.parent().unwrap_or(&found.path).to_owned();
                    self.retries.insert(directory, Instant::now() + RETRY);
                    self.complain(format!(
                        "{} cannot be unpacked into {}: {error}. It is tried again.",
                        found.path.display(),
                        self.setup.state_dir.display()
                    ));
                    return;
                }
            }
        } else {
            Content::Plain(Arc::new(file))
        };
        self.hold(look.key, &found.path, content, account, (found.role == Role::Live, before));
    }

    /// Hands a file to its source's reader.
    fn hold(
        &mut self,
        key: InodeKey,
        path: &Path,
        content: Content,
        account: Arc<FileAccount>,
        (live, before): (bool, Option<FileToken>),
    ) -> FileToken {
        let token = FileToken(self.token());
        let source = account.source.path.clone();
        if let Some(file) = content.plain() {
            account.hold(file);
            account.refresh();
        }
        let held = Held {
            key,
            path: path.to_owned(),
            source: source.clone(),
            account: Arc::clone(&account),
            live,
            gone: false,
        };
        self.held.insert(token, held);
        self.inodes.insert(key, Inode::Held(token));
        self.watch_held(token);
        let file = LogFile { token, account, content, live };
        self.send(&source, |tail| Message::Append(tail, file, before));
        token
    }

    /// The account of a file that the checkpoint knows.
    fn resume(
        &mut self,
        entry: &FileEntry,
        identity: &Identity,
        found: &Found,
        look: &Look,
        head: &[u8],
    ) -> Arc<FileAccount> {
        let fingerprint = Fingerprint { hash: entry.fingerprint, len: entry.fingerprint_len };
        let read = entry.sinks.values().map(|offset| offset.settled).max().unwrap_or(0);
        let same = fingerprint.matches(head) && (found.gzip || look.size >= read);
        let source = Arc::clone(&found.source);
        if same {
            // A compressed copy keeps the identity of what it is a copy of.
            let identity = if found.gzip { recovery::identity_of(entry) } else { identity.clone() };
            let sinks = &self.setup.sinks;
            let account = FileAccount::recovered(entry, identity, source, &found.path, sinks);
            account.rename(&found.path);
            return Arc::new(account);
        }
        self.count_lost(&found.path, "truncated", recovery::unsettled(entry));
        self.forget_lives(vec![entry.clone()]);
        let sinks = self.setup.sinks.len();
        let epoch = entry.epoch + 1;
        Arc::new(FileAccount::new(identity.clone(), epoch, source, &found.path, sinks))
    }

    /// The account of a file that nobody knows.
    fn begin(
        &mut self,
        identity: &Identity,
        found: &Found,
        file: &File,
        look: &Look,
    ) -> Arc<FileAccount> {
        let sinks = self.setup.sinks.len();
        let mut epoch = 0;
        while self.setup.accounts.get(identity.id(epoch)).is_some() {
            // The same inode, done with before, was written anew.
            epoch += 1;
        }
        let source = Arc::clone(&found.source);
        let account = FileAccount::new(identity.clone(), epoch, source, &found.path, sinks);
        if self.scanning && self.setup.fresh && self.setup.start == Start::End && !found.gzip {
            let offset = last_line_end(file, look.size);
            account.see(look.size);
            for sink in &account.sinks {
                sink.start_at(offset);
            }
            self.setup.accounts.add("dropped.before_start", offset);
        } else if self.scanning && self.setup.fresh && self.setup.start == Start::End {
            account.registered.store(true, Ordering::Release);
        }
        Arc::new(account)
    }

    /// A file that the checkpoint knows and no listing shows: held since before a reload, or
    /// moved somewhere else on its filesystem; else it is lost.
    fn find_moved(&mut self, entry: FileEntry, source: &Arc<Source>, directory: &Path) {
        if recovery::is_settled(&entry) && entry.ended {
            self.remember_done(&entry, source);
            return;
        }
        let identity = recovery::identity_of(&entry);
        let adopted = self.adopted.remove(&identity.key);
        let file = adopted
            .and_then(|file| file.content.plain().cloned())
            .or_else(|| recovery::reopen(&entry, directory));
        let Some(file) = file else {
            self.unclaimed.put_back(entry);
            return;
        };
        let path = directory.join(&entry.name);
        let (source, sinks) = (Arc::clone(source), &self.setup.sinks);
        let account =
            Arc::new(FileAccount::recovered(&entry, identity.clone(), source, &path, sinks));
        let (source, id) = (account.source.path.clone(), account.id);
        self.setup.accounts.insert(Arc::clone(&account));
        self.present(&source, id);
        tracing::info!(path = %path.display(), "A log file that was moved meanwhile was found again by its handle.");
        let token = self.hold(identity.key, &path, Content::Plain(file), account, (false, None));
        self.mark_gone(token);
    }

    /// A file that the checkpoint knows, of a source that no listing shows: held since before a
    /// reload, else lost.
    fn find_homeless(&mut self, entry: FileEntry) {
        let key = recovery::identity_of(&entry).key;
        let Some(source) = self.adopted.get(&key).map(|file| Arc::clone(&file.account.source))
        else {
            self.unclaimed.put_back(entry);
            return;
        };
        let directory = source.path.parent().unwrap_or(&source.path).to_owned();
        self.open_source(&source, &directory);
        self.find_moved(entry, &source, &directory);
        if !directory.is_dir() {
            self.send(&source.path, Message::Close);
        }
    }

    /// Keeps a finished file's account: its compressed copy must be recognised.
    fn remember_done(&mut self, entry: &FileEntry, source: &Arc<Source>) {
        let identity = recovery::identity_of(entry);
        let path = source.path.with_file_name(&entry.name);
        let sinks = &self.setup.sinks;
        let account = FileAccount::recovered(entry, identity, Arc::clone(source), &path, sinks);
        account.ended.store(true, Ordering::Release);
        self.setup.accounts.insert(Arc::new(account));
        if let Some(state) = self.sources.get_mut(&source.path) {
            state.accounts.insert(entry.id, Some(Instant::now()));
        }
    }

    /// What nobody has claimed by now is gone.
    fn give_up(&mut self) {
        if self.give_up_at.is_some_and(|at| at <= Instant::now()) {
            self.give_up_at = None;
            for entry in self.unclaimed.take_all() {
                self.lose(&entry);
            }
        }
    }

    /// A file is gone, with whatever was not settled of it.
    fn lose(&mut self, entry: &FileEntry) {
        let lost = recovery::unsettled(entry);
        self.count_lost(Path::new(&entry.source), "deleted_while_down", lost);
        self.forget_lives(vec![entry.clone()]);
    }

    fn count_lost(&self, path: &Path, reason: &'static str, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let label = ReasonLabel { reason };
        self.setup.metrics.lost_bytes.get_or_create(&label).inc_by(bytes);
        self.setup.metrics.files_lost.get_or_create(&label).inc();
        self.setup.accounts.add(&format!("lost.{reason}"), bytes);
        tracing::error!(path = %path.display(), bytes, reason, "Bytes of a log file were lost before they could be read.");
    }

    fn forget_lives(&self, entries: Vec<FileEntry>) {
        if !entries.is_empty() {
            let ids = entries.into_iter().map(|entry| entry.id).collect();
            let _going_down = self.setup.settler.send(Command::Forget(ids));
        }
    }

    fn heed_watcher(&mut self, events: &[Event]) {
        let mut wakes: HashMap<usize, Vec<TailId>> = HashMap::new();
        for event in events {
            match *event {
                Event::Written(token) => {
                    let Some(held) = self.held.get(&token) else { continue };
                    let Some(state) = self.sources.get(&held.source) else { continue };
                    let reader = state.tail.0 as usize % self.setup.readers.len();
                    wakes.entry(reader).or_default().push(state.tail);
                }
                Event::Directory(token) => {
                    if let Some(path) = self.directory_paths.get(&token).cloned() {
                        self.relist(&path);
                    }
                }
                Event::Overflow => {
                    let paths: Vec<PathBuf> = self.directories.keys().cloned().collect();
                    for path in paths {
                        self.relist(&path);
                    }
                    for state in self.sources.values() {
                        let reader = state.tail.0 as usize % self.setup.readers.len();
                        wakes.entry(reader).or_default().push(state.tail);
                    }
                }
            }
        }
        for (reader, tails) in wakes {
            let _going_down = self.setup.readers[reader].send(Message::Wake(tails));
        }
    }

    /// Looks at a directory again.
    fn relist(&mut self, path: &Path) {
        if !self.directories.contains_key(path) {
            return;
        }
        if !path.is_dir() {
            self.remove_directory(path);
            for root in self.setup.discovery.roots() {
                let found = self.list_from(vec![root]);
                self.place(found);
            }
            return;
        }
        let listing = self.list(path);
        let children: HashSet<PathBuf> = listing.directories.iter().cloned().collect();
        let Some(directory) = self.directories.get_mut(path) else { return };
        let former = std::mem::replace(&mut directory.children, children);
        let now_gone: Vec<PathBuf> =
            former.into_iter().filter(|child| !listing.directories.contains(child)).collect();
        let listed: HashSet<PathBuf> =
            listing.files.iter().map(|file| file.source.path.clone()).collect();
        let mut found: Vec<(PathBuf, Found)> =
            listing.files.into_iter().map(|file| (path.to_owned(), file)).collect();
        found.extend(self.list_from(listing.directories));
        let before: HashSet<PathBuf> =
            self.directories.get(path).map(|dir| dir.sources.clone()).unwrap_or_default();
        let names: HashSet<PathBuf> = found.iter().map(|(_, file)| file.path.clone()).collect();
        self.place(found);
        self.notice_gone(&listed, &before, &names);
        for child in now_gone {
            if !child.is_dir() {
                self.remove_directory(&child);
            }
        }
    }

    /// Recognises found files and hands them to their readers.
    fn place(&mut self, found: Vec<(PathBuf, Found)>) {
        let mut sources: BTreeMap<PathBuf, (PathBuf, Vec<Found>)> = BTreeMap::new();
        for (directory, found) in found {
            let path = found.source.path.clone();
            sources.entry(path).or_insert_with(|| (directory, Vec::new())).1.push(found);
        }
        for (directory, mut files) in sources.into_values() {
            files.sort_by(|a, b| a.role.cmp(&b.role));
            for file in self.recognise(files, &directory) {
                let source = Arc::clone(&file.found.source);
                self.open_source(&source, &directory);
                self.settle_in(file);
            }
        }
    }

    /// Files of a directory's sources that the directory no longer shows.
    fn notice_gone(
        &mut self,
        listed: &HashSet<PathBuf>,
        before: &HashSet<PathBuf>,
        names: &HashSet<PathBuf>,
    ) {
        let gone: Vec<FileToken> = self
            .held
            .iter()
            .filter(|(_, held)| !held.gone && !names.contains(&held.path))
            .filter(|(_, held)| before.contains(&held.source) || listed.contains(&held.source))
            .filter(|(_, held)| held.account.held().is_some())
            .map(|(token, _)| *token)
            .collect();
        for token in gone {
            // Another directory may show it: only its own name counts.
            let Some(held) = self.held.get(&token) else { continue };
            let there = identity::look_at(&held.path).is_ok_and(|look| look.key == held.key);
            if !there {
                self.mark_gone(token);
            }
        }
    }

    fn mark_gone(&mut self, token: FileToken) {
        let Some(held) = self.held.get_mut(&token) else { return };
        held.gone = true;
        held.live = false;
        let source = held.source.clone();
        self.send(&source, |tail| Message::Gone(tail, token));
    }

    /// A directory is gone, and with it its sources.
    fn remove_directory(&mut self, path: &Path) {
        let Some(directory) = self.directories.remove(path) else { return };
        self.directory_paths.remove(&directory.token);
        self.setup.watcher.unwatch_directory(directory.token);
        for child in directory.children {
            if !child.is_dir() {
                self.remove_directory(&child);
            }
        }
        for source in directory.sources {
            if self.sources.get(&source).is_none_or(|state| state.directory != path) {
                continue;
            }
            let tokens: Vec<FileToken> = self
                .held
                .iter()
                .filter(|(_, held)| held.source == source && !held.gone)
                .map(|(token, _)| *token)
                .collect();
            for token in tokens {
                self.mark_gone(token);
            }
            self.send(&source, Message::Close);
        }
    }

    fn heed_readers(&mut self) {
        while let Ok(feedback) = self.setup.feedback.try_recv() {
            match feedback {
                Feedback::Released(token, account) => {
                    self.setup.watcher.unwatch_file(token);
                    let Some(held) = self.held.remove(&token) else { continue };
                    let size = identity::look_at(&held.path)
                        .ok()
                        .filter(|look| look.key == held.key)
                        .map_or_else(|| account.seen.load(Ordering::Acquire), |look| look.size);
                    self.inodes.insert(held.key, Inode::Done(account.id, size));
                }
                Feedback::Truncated(token, account) => {
                    let Some(held) = self.held.get_mut(&token) else { continue };
                    let source = held.source.clone();
                    let id = account.id;
                    held.account = account;
                    self.present(&source, id);
                }
                Feedback::Closed(tail) => self.close(tail),
            }
        }
    }

    /// A source is gone and settled to the last byte.
    fn close(&mut self, tail: TailId) {
        let Some(path) =
            self.sources.iter().find(|(_, state)| state.tail == tail).map(|(path, _)| path.clone())
        else {
            return;
        };
        let Some(state) = self.sources.remove(&path) else { return };
        let ids: Vec<FileId> = state.accounts.keys().copied().collect();
        self.inodes.retain(|_, inode| !matches!(inode, Inode::Done(id, _) if ids.contains(id)));
        // A file that was handed over while the reader was closing is placed anew below.
        let (inodes, watcher) = (&mut self.inodes, &mut self.setup.watcher);
        self.held.retain(|token, held| {
            if held.source == path {
                inodes.remove(&held.key);
                watcher.unwatch_file(*token);
            }
            held.source != path
        });
        let _going_down = self.setup.settler.send(Command::Forget(ids));
        // The same name may have come back meanwhile (a directory that was replaced).
        if state.directory.is_dir() {
            let directory = state.directory;
            self.retries.insert(directory, Instant::now());
        }
    }

    fn retry(&mut self) {
        let now = Instant::now();
        let due: Vec<PathBuf> = self
            .retries
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            self.retries.remove(&path);
            if self.directories.contains_key(&path) {
                self.relist(&path);
            } else {
                let found = self.list_from(vec![path]);
                self.place(found);
            }
        }
    }

    /// Forgets finished files whose last name vanished a while ago.
    fn forget_vanished(&mut self) {
        let now = Instant::now();
        let held: HashSet<FileId> = self.held.values().map(|held| held.account.id).collect();
        let mut forgotten = Vec::new();
        let names: HashSet<FileId> = self
            .inodes
            .values()
            .filter_map(|inode| if let Inode::Done(id, _) = inode { Some(*id) } else { None })
            .collect();
        for state in self.sources.values_mut() {
            for (id, absent) in &mut state.accounts {
                let Some(account) = self.setup.accounts.get(*id) else {
                    forgotten.push(*id);
                    continue;
                };
                let there = held.contains(id)
                    || !account.is_done()
                    || names.contains(id) && account.path().exists();
                match absent {
                    _ if there => *absent = None,
                    None => *absent = Some(now),
                    Some(since) if now.saturating_duration_since(*since) >= FORGET_AFTER => {
                        forgotten.push(*id);
                    }
                    Some(_) => {}
                }
            }
            state.accounts.retain(|id, _| !forgotten.contains(id));
        }
        if forgotten.is_empty() {
            return;
        }
        self.inodes
            .retain(|_, inode| !matches!(inode, Inode::Done(id, _) if forgotten.contains(id)));
        let _going_down = self.setup.settler.send(Command::Forget(forgotten));
    }

    fn publish(&self) {
        let metrics = &self.setup.metrics;
        metrics.open_files.set(self.held.len() as i64);
        metrics.sources.set(self.sources.len() as i64);
    }
}

/// When the directory's entries last changed.
fn modified(directory: &Path) -> Option<SystemTime> {
    std::fs::metadata(directory).and_then(|about| about.modified()).ok()
}

/// Whether the directory may have changed since it was listed (when its entries had last changed
/// at `listed`, if that is known).
fn may_have_changed(directory: &Path, listed: Option<SystemTime>) -> bool {
    let Some(now) = modified(directory) else { return false };
    // Without a time to compare, a change long ago was before the listing; with one, a change in
    // the same tick of the filesystem's clock would not show.
    let margin = if listed.is_some() { TICK * 2 } else { LATELY };
    listed.is_some_and(|listed| listed != now)
        || SystemTime::now().duration_since(now).is_ok_and(|age| age < margin)
}

/// The end of the last whole line at or before `size`.
fn last_line_end(file: &File, size: u64) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut window = vec![0; 64 << 10];
    let start = size.saturating_sub(window.len() as u64);
    let wanted = (size - start) as usize;
    match file.read_exact_at(&mut window[..wanted], start) {
        Ok(()) => match memchr::memrchr(b'\n', &window[..wanted]) {
            Some(at) => start + at as u64 + 1,
            None => size,
        },
        Err(_unreadable) => 0,
    }
}
