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
mod pins;
mod report;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use collector_ebpf::{CHANGED, DIRECTORY, FILE, GONE, Key, LEVELS, OpenFile, Slot, State, WRITTEN};
use slotmap::SecondaryMap;

pub use bell::{Bell, Heard};
pub use load::LoadError;
pub use object::digest;
pub use pins::{Pinned, is_bpffs, pinned, unpin};
pub use report::{HookReport, RefusedHook, Sees};

use super::{DirToken, FileToken, Life};
use crate::{
    config::KernelWatch,
    descriptors,
    identity::{FileId, beneath::Directory},
};

/// Files that are entered at once, at least, where descriptors are short.
const AT_ONCE: usize = 16;

use load::Loaded;
use owners::{Owner, Owners};
use pins::Pins;
use report::Active;

/// The programs, and which token each slot stands for.
pub(super) struct Kernel {
    loaded: Loaded,
    owners: Owners,
    files: SecondaryMap<FileToken, Entered>,
    /// The slots.
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

/// Why something is not watched by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    /// The filesystem has no hook.
    Filesystem,
    /// Every slot is in use.
    Full,
    /// The kernel did not tell of the descriptor.
    Unknown,
}

impl Refusal {
    /// The metric's word for it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Filesystem => "kernel_filesystem",
            Self::Full => "kernel_full",
            Self::Unknown => "kernel_unknown",
        }
    }
}

/// What the programs tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A watched file was written or truncated.
    Written(FileToken),
    /// A watched directory changed.
    Changed(DirToken),
    /// Wake-ups found no room: everything must be looked at.
    Overflow,
    /// Files were born and are gone that nobody had claimed.
    Departed,
}

/// A file that is gone, as the kernel saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Whose life it was; None: nobody had claimed it.
    pub id: Option<FileId>,
    /// Its inode number.
    pub inode: u64,
    /// The inode's generation.
    pub generation: u32,
    /// Its size at its end, bytes.
    pub size: u64,
    /// Bytes that truncations took away before, since it was born, modulo 2³².
    pub truncated: u32,
    /// False while somebody holds it open: it may grow on, and is told again.
    pub ended: bool,
    /// Its last path; None where the kernel was not told its name, or the directory's is too long.
    pub path: Option<PathBuf>,
    /// The directory it was in last, or was born in; None likewise.
    pub directory: Option<PathBuf>,
}

/// Files that are gone and were told.
pub struct Counted {
    departures: tables::Departures,
    told: Vec<Key>,
}

impl Counted {
    /// They need not be told again.
    pub fn forget(self) {
        self.departures.forget(&self.told);
    }
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

    /// Files that are gone, as far as the kernel remembers: each is told once. The next agent is told
    /// again, unless that was [`Kernel::counted`]: an agent that is killed before it has made durable what
    /// it counted takes nothing with it.
    pub(super) fn departed(&mut self) -> Vec<Departed> {
        let tables = &self.loaded.tables;
        let mut gone = tables.departed();
        let there: HashSet<Key> = gone.iter().map(|(key, _)| *key).collect();
        self.told.retain(|key| there.contains(key));
        gone.retain(|(key, _)| !self.told.contains(key));
        // One that somebody holds open grows on, and ends later.
        let ended = gone.iter().filter(|(_, gone)| gone.ended != 0).map(|(key, _)| *key);
        self.told.extend(ended);
        gone.into_iter()
            .map(|(key, gone)| {
                let name = gone.name.get(..gone.name_len as usize).unwrap_or_default();
                let directory = gone.parent.checked_sub(1).and_then(|slot| tables.path(slot));
                let directory = directory.map(|text| PathBuf::from(OsString::from_vec(text)));
                let named = directory.as_deref().filter(|_| !name.is_empty());
                let path = named.map(|directory| directory.join(OsStr::from_bytes(name)));
                Departed {
                    id: (gone.file_id != 0).then_some(FileId(gone.file_id)),
                    inode: key.inode,
                    generation: key.generation,
                    size: gone.size,
                    truncated: gone.truncated,
                    ended: gone.ended != 0,
                    path,
                    directory,
                }
            })
            .collect()
    }

    /// Gives back slots of files that nobody has claimed since the last call: they are no logs.
    pub(super) fn forget_unclaimed(&mut self) {
        let unclaimed = self.loaded.tables.unclaimed();
        let (still, new): (Vec<_>, Vec<_>) =
            unclaimed.into_iter().partition(|(_, key)| self.unclaimed.contains(key));
        for (number, key) in still {
            if !self.owners.has(number) && !self.loaded.tables.is_departing(&key) {
                self.loaded.tables.leave(key);
            }
        }
        self.unclaimed = new.into_iter().map(|(_, key)| key).collect();
    }

    /// What was told so far: to be forgotten once it is durable that it was counted.
    pub(super) fn counted(&self) -> Counted {
        let told = self.told.iter().copied().collect();
        Counted { departures: self.loaded.tables.departures(), told }
    }

    /// Gives back what an earlier agent had entered and this one has not.
    pub(super) fn forget_strangers(&mut self) {
        self.fresh = HashSet::new();
        self.loaded.tables.forget_full();
        for (key, number) in self.loaded.tables.known() {
            if !self.owners.has(number) && !self.loaded.tables.is_departing(&key) {
                self.loaded.tables.leave(key);
            }
        }
    }

    /// How many bytes truncations have taken away of an inode, modulo 2³²; without a generation, of the one
    /// that has this life. None: it was not counted.
    pub(super) fn truncated(
        &self,
        id: FileId,
        (inode, generation): (u64, Option<u32>),
    ) -> Option<u32> {
        let slots = &self.loaded.tables.slots;
        let is_it = |slot: &Slot| match generation {
            Some(generation) => (slot.inode, slot.generation) == (inode, generation),
            None => slot.file_id == id.0,
        };
        let files = (0..slots.count()).filter(|number| slots.flags(*number) & FILE != 0);
        let mut slots = files.map(|number| slots.slot(number));
        slots.find(is_it).map(|slot| slot.truncated)
    }

    /// A life's end is not to be told.
    pub(super) fn disown(&mut self, id: FileId) {
        let slots = &self.loaded.tables.slots;
        let mut files = (0..slots.count()).filter(|number| slots.flags(*number) & FILE != 0);
        let named = files.find(|number| slots.slot(*number).file_id == id.0);
        if let Some(number) = named.filter(|number| !self.owners.has(*number)) {
            self.loaded.tables.leave_slot(number);
        }
    }

    /// Forgets what truncations have taken away so far.
    pub(super) fn count_truncations_anew(&self) {
        let slots = &self.loaded.tables.slots;
        (0..slots.count()).filter(|number| slots.flags(*number) & FILE != 0).for_each(|number| {
            slots.forget_truncated(number);
        });
    }

    /// Whether the programs were at work in this directory while no agent ran, and missed nothing
    /// since the last agent's start.
    pub(super) fn tallied_while_down(&self, token: DirToken) -> bool {
        let State { slots_full, departed_full, .. } = self.state;
        let had_room = slots_full == 0 && departed_full == 0;
        let entered = self.directories.contains_key(token) && !self.fresh.contains(&token);
        self.loaded.taken_over && had_room && entered
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
