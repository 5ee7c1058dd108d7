//! The kernel watch: eBPF programs tally every watched file and ring when one was written.
//!
//! Joins tokens with the programs' slots. A directory is entered when it is watched, a file in the
//! next wait, many at once. Whatever the programs cannot watch (another filesystem, no slot left)
//! is refused with the reason, and `combined` falls back; nothing here polls or uses inotify.

mod bell;
mod btf;
mod hooks;
mod load;
mod mapped;
mod object;
mod open_files;
mod owners;
mod past;
mod pins;
mod report;
mod tables;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
    sync::Arc,
};

use collector_ebpf::{CHANGED, DIRECTORY, FILE, GONE, Key, LEVELS, OpenFile, State, WRITTEN};
use slotmap::SecondaryMap;

pub use bell::{Bell, Heard};
pub use load::LoadError;
pub use object::digest;
pub use pins::{Pinned, is_bpffs, pinned, unpin};
pub use report::{HookReport, RefusedHook, Sees};
pub use told::{Counted, DEPARTURES, Departed};
pub(super) use told::{Refusal, Told};

use super::{DirToken, FileToken, Life};
use crate::{
    config::KernelWatch,
    descriptors,
    identity::{FileId, beneath::Directory},
};

use load::Loaded;
use owners::{Owner, Owners};
use pins::Pins;
use report::Active;

/// Files that are entered at once, at least, where descriptors are short.
const AT_ONCE: usize = 16;

/// The programs, and which token each slot stands for.
pub(super) struct Kernel {
    loaded: Loaded,
    owners: Owners,
    files: SecondaryMap<FileToken, Entered>,
    /// The slot numbers of watched directories.
    directories: SecondaryMap<DirToken, u32>,
    /// To be entered in the next wait.
    pending: Vec<(FileToken, Arc<File>)>,
    /// Files that nobody had claimed when they were last looked for.
    unclaimed: HashSet<Key>,
    /// What went and was told; the kernel keeps it until that is counted.
    told: HashSet<Key>,
    /// Directories that no earlier agent and no program had entered, until what went is counted.
    fresh: HashSet<DirToken>,
    state: State,
}

/// A file: entered, or to be entered in the next wait.
struct Entered {
    id: FileId,
    bell: Bell,
    /// What truncations had taken away of it when its life began.
    truncated: u32,
    /// The slot, and whose it was when it was entered: the file may be closed, deleted and leave
    /// memory meanwhile, and its slot be another file's.
    place: Option<(u32, Key)>,
}

impl Kernel {
    /// Loads the programs, or takes over those that an earlier agent left at work.
    pub(super) fn start(config: &KernelWatch, state_dir: &Path) -> Result<Self, LoadError> {
        let pins = match Pins::new(&config.pin_dir, state_dir) {
            Ok(pins) => Some(pins),
            Err(error) => {
                tracing::info!(
                    pin_dir = %config.pin_dir.display(), %error,
                    "The kernel watch ends with the agent: what happens to files while no agent runs is not seen. To mend it: mount -t bpf bpf /sys/fs/bpf, or set watch.kernel.pin_dir."
                );
                None
            }
        };
        let loaded = load::load(config, pins.as_ref())?;
        for active in &loaded.active {
            tracing::info!(
                filesystem = active.name, hook = ?active.hook, directories = active.directories,
                taken_over = loaded.taken_over,
                "The kernel tells which file was written."
            );
        }
        Ok(Self::new(loaded))
    }

    fn new(loaded: Loaded) -> Self {
        let state = loaded.tables.state();
        Self {
            loaded,
            owners: Owners::default(),
            files: SecondaryMap::new(),
            directories: SecondaryMap::new(),
            pending: Vec::new(),
            unclaimed: HashSet::new(),
            told: HashSet::new(),
            fresh: HashSet::new(),
            state,
        }
    }

    /// One that shares nothing with any other, and leaves nothing behind.
    pub(super) fn alone() -> Result<Self, LoadError> {
        Ok(Self::new(load::load(&KernelWatch::default(), None)?))
    }

    /// As configured, but sharing nothing and leaving nothing behind; with what came of the hooks.
    pub(super) fn on_trial(config: &KernelWatch) -> Result<(Self, Vec<HookReport>), LoadError> {
        let mut loaded = load::load(config, None)?;
        let reports = std::mem::take(&mut loaded.reports);
        Ok((Self::new(loaded), reports))
    }

    /// What to wait for readability of.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.loaded.tables.fd()
    }

    /// Watches a directory's entries.
    pub(super) fn add_directory(&mut self, token: DirToken, path: &Path) -> Result<(), Refusal> {
        let opened = Directory::at(path).map_err(|_gone| Refusal::Unknown)?;
        let about = rustix::fs::fstatfs(&opened).map_err(|_gone| Refusal::Unknown)?;
        let active = self.active(about.f_type as u64).filter(|active| active.directories);
        let hook = active.ok_or(Refusal::Filesystem)?.slot_hook();
        let opened = opened.as_fd();
        let asked = HashSet::from([opened.as_raw_fd()]);
        let told = self.ask(&asked).map_err(|_unknown| Refusal::Unknown)?;
        let told = told.get(&opened.as_raw_fd()).ok_or(Refusal::Unknown)?;
        if !self.directories.contains_key(token) && !self.loaded.tables.knows(told.key) {
            self.fresh.insert(token);
        }
        self.remove_directory(token);
        let tables = &mut self.loaded.tables;
        let (number, _) = tables.enter(told.key, DIRECTORY).ok_or(Refusal::Full)?;
        tables.note_path(number, path);
        tables.slots.hook(number, hook);
        tables.slots.levels(number, LEVELS);
        tables.slots.arm(number);
        self.owners.add_directory(number, token);
        self.directories.insert(token, number);
        Ok(())
    }

    /// Forgets a directory.
    pub(super) fn remove_directory(&mut self, token: DirToken) {
        let Some(number) = self.directories.remove(token) else { return };
        self.fresh.remove(&token);
        if self.owners.remove_directory(number, token) {
            self.loaded.tables.leave_slot(number);
        }
    }

    /// Whether the programs see writes to this file. An open one is asked, not a path.
    pub(super) fn covers(&self, file: &File) -> bool {
        rustix::fs::fstatfs(file).is_ok_and(|about| self.active(about.f_type as u64).is_some())
    }

    fn active(&self, magic: u64) -> Option<&Active> {
        self.loaded.active.iter().find(|active| active.magic == magic)
    }

    /// Will watch a file from the next [`Kernel::enter_pending`] on.
    pub(super) fn add_file(
        &mut self,
        token: FileToken,
        Life { id, truncated }: Life,
        file: &Arc<File>,
    ) -> Bell {
        self.remove_file(token);
        let bell = Bell::new(&self.loaded.tables.slots);
        self.files.insert(token, Entered { id, bell: bell.clone(), truncated, place: None });
        self.pending.push((token, Arc::clone(file)));
        bell
    }

    /// Whether files that are to be entered keep descriptors from others: they are held until then.
    pub(super) fn waits_for_many(&self) -> bool {
        let short = self.pending.last().is_some_and(|(_, file)| !descriptors::admits(&**file));
        short && self.pending.len() >= AT_ONCE
    }

    /// The file's life has another name now (it was truncated).
    pub(super) fn name_file(&mut self, token: FileToken, id: FileId) {
        let Some(entered) = self.files.get_mut(token) else { return };
        if entered.id != id {
            entered.id = id;
            if let Some((number, key)) = entered.place
                && self.loaded.tables.has(number, key)
            {
                self.loaded.tables.slots.name(number, id.0);
            }
        }
    }

    /// Forgets a file.
    pub(super) fn remove_file(&mut self, token: FileToken) {
        let Some(entered) = self.files.remove(token) else { return };
        entered.bell.bind(None, false);
        let Some((number, key)) = entered.place else {
            return self.pending.retain(|(other, _)| *other != token);
        };
        if self.owners.remove_file(number, token) && self.loaded.tables.has(number, key) {
            self.loaded.tables.leave(key);
        }
    }

    /// Enters files that were added. Answers those that are watched now, and those that cannot be.
    pub(super) fn enter_pending(&mut self) -> (Vec<FileToken>, Vec<(FileToken, Refusal)>) {
        let (mut entered, mut refused) = (Vec::new(), Vec::new());
        if self.pending.is_empty() {
            return (entered, refused);
        }
        let pending = std::mem::take(&mut self.pending);
        let asked = pending.iter().map(|(_, file)| file.as_raw_fd()).collect::<HashSet<_>>();
        let told = self.ask(&asked).unwrap_or_default();
        for (token, file) in pending {
            if self.files.get(token).is_none_or(|entered| entered.place.is_some()) {
                continue;
            }
            let told = told.get(&file.as_raw_fd()).copied().ok_or(Refusal::Unknown);
            match told.and_then(|told| self.enter(token, told, &file)) {
                Ok(()) => entered.push(token),
                Err(refusal) => {
                    self.files.remove(token);
                    refused.push((token, refusal));
                }
            }
        }
        (entered, refused)
    }

    fn enter(&mut self, token: FileToken, told: OpenFile, open: &File) -> Result<(), Refusal> {
        // What the kernel says it is, not what it looked like when it was added.
        let active = self.active(told.magic).ok_or(Refusal::Filesystem)?;
        let (hook, unlocked) = (active.slot_hook(), active.unlocked());
        let tables = &mut self.loaded.tables;
        let (number, is_new) = tables.enter(told.key, FILE).ok_or(Refusal::Full)?;
        let Some(file) = self.files.get_mut(token) else { return Ok(()) };
        if is_new {
            let size = open.metadata().map_or(0, |about| about.len());
            tables.slots.begin_at(number, size, file.truncated);
        }
        tables.slots.hook(number, hook);
        tables.slots.name(number, file.id.0);
        file.place = Some((number, told.key));
        file.bell.bind(Some(number), unlocked);
        self.owners.set_file(number, token);
        Ok(())
    }

    /// Hands over what the programs told since the last time.
    pub(super) fn drain(&mut self, mut take: impl FnMut(Told)) {
        while let Some(event) = self.loaded.tables.next_event() {
            match (event.kind, self.owners.get(event.slot)) {
                (WRITTEN, Owner::File(token)) => take(Told::Written(*token)),
                (CHANGED, owner @ (Owner::Directory(_) | Owner::Directories(_))) => {
                    // Before anybody looks: what changes after this is told again.
                    self.loaded.tables.slots.arm(event.slot);
                    owner.directories().iter().for_each(|token| take(Told::Changed(*token)));
                }
                (GONE, _) => take(Told::Departed),
                // Of somebody forgotten meanwhile.
                _ => {}
            }
        }
        let state = self.loaded.tables.state();
        if state.ring_full != self.state.ring_full {
            take(Told::Overflow);
        }
        self.state = state;
    }

    /// What the kernel calls these descriptors.
    fn ask(&self, descriptors: &HashSet<RawFd>) -> io::Result<HashMap<RawFd, OpenFile>> {
        let mut told = HashMap::new();
        self.loaded.open_files.each(|file| {
            let fd = file.fd as RawFd;
            if descriptors.contains(&fd) {
                told.insert(fd, file);
            }
        })?;
        Ok(told)
    }
}

/// Whether this kernel and this build have one; says why not.
#[cfg(test)]
pub(super) fn is_available() -> bool {
    static WHY_NOT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let why = WHY_NOT.get_or_init(|| {
        let why = Kernel::alone().err()?.to_string();
        // What the verifier finds wrong is our fault, not this machine's.
        assert!(!why.contains("Verifier output: 0"), "{why}");
        Some(why)
    });
    if let Some(why) = why {
        println!("skipped: no kernel watch: {why}");
    }
    why.is_none()
}
