//! Watch: which file has unread bytes, which directory has changed.
//!
//! One interface, [`Watcher`]; behind it the kernel's own tally, inotify and polling. A watcher only
//! hints: whoever is woken looks at the file itself, so a doubled or late hint costs time, never
//! lines. What a better mechanism cannot cover (filesystem, watch limit, queue overflow, network
//! filesystem) falls back to a lesser one, is said once and shows in a metric.
//!
//! It reads no log and keeps none open: it looks at the readers' descriptors, and at a file that
//! nobody holds open by its name.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};

use crate::{
    config::{Config, WatchMode},
    identity::{FileId, KernelInode},
    metrics::Metrics,
};

mod combined;
mod inotify;
mod kernel;
mod mounts;
mod poll;
mod trial;
#[cfg(test)]
mod watch_conformance;

use combined::Combined;
use inotify::Inotify;
use kernel::Kernel;
pub use kernel::{
    Bell, Counted, DEPARTURES, Departed, Heard, HookReport, LoadError, Pinned, RefusedHook, Sees,
    digest, is_bpffs, pinned, unpin,
};
use mounts::Mounts;
pub use trial::Trial;

slotmap::new_key_type! {
    /// The registry's key of a watched directory. Never given twice.
    pub struct DirToken;
    /// The registry's key of a watched file. Never given twice.
    pub struct FileToken;
}

#[cfg(test)]
impl DirToken {
    /// A token of a test's own.
    pub fn numbered(number: u64) -> Self {
        slotmap::KeyData::from_ffi(1 << 32 | number).into()
    }
}

#[cfg(test)]
impl FileToken {
    /// A token of a test's own.
    pub fn numbered(number: u64) -> Self {
        slotmap::KeyData::from_ffi(1 << 32 | number).into()
    }
}

/// Which life of a file is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its name.
    pub id: FileId,
    /// What truncations had taken away of the file when it began, as the kernel counts.
    pub truncated: u32,
}

impl From<FileId> for Life {
    fn from(id: FileId) -> Self {
        Self { id, truncated: 0 }
    }
}

/// What a watcher reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The file may have new bytes, or was truncated.
    Written(FileToken),
    /// An entry was created, renamed or removed in the directory (or the directory itself went).
    Directory(DirToken),
    /// Events were lost: every directory and file must be looked at.
    Overflow,
    /// Files are gone that nobody had claimed: see [`Watcher::departed`].
    Departed,
}

/// How something is watched; also the label of `everyline_watch_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The kernel's own tally.
    Kernel,
    /// inotify on the directory.
    Inotify,
    /// `fstat` at intervals.
    Poll,
}

impl Mode {
    /// The metric's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Inotify => "inotify",
            Self::Poll => "poll",
        }
    }
}

/// Notices writes and directory changes.
pub trait Watcher: Send {
    /// Watches a directory's entries. A directory that nothing better takes is polled; an error is
    /// returned only where it cannot be watched at all (it does not exist). A directory that
    /// vanishes later stays watched by its path until it is unwatched: its return is reported.
    fn watch_directory(&mut self, token: DirToken, path: &Arc<Path>) -> io::Result<Mode>;
    /// Watches a directory for the sake of its entries' names alone: what comes, goes or is called
    /// otherwise there, links in it included. Files in it are neither tallied nor registered. As
    /// [`Watcher::watch_directory`] otherwise, which may follow.
    fn watch_way(&mut self, token: DirToken, path: &Arc<Path>) -> io::Result<()>;
    /// Forgets a directory. Files still registered in it are polled from then on.
    fn unwatch_directory(&mut self, token: DirToken);
    /// Watches a file that is called `name` in the watched directory now. Calling it again for the
    /// same token renames it (a rotation). A new file or name is reported as written once by the
    /// next wait, so nothing written meanwhile is overlooked; a repeated registration is free. `life`
    /// is the file's present one. Where a bell is returned, it must be set at the file's end:
    /// nothing is reported of it otherwise. A watcher keeps no file open: one that nobody else holds
    /// (or that comes without a descriptor) is looked at under its name.
    fn watch_file(
        &mut self,
        token: FileToken,
        directory: DirToken,
        name: &OsStr,
        file: Option<&Arc<File>>,
        life: Life,
    ) -> Option<Bell>;
    /// The file's size at the last look at it.
    fn last_size(&self, token: FileToken) -> Option<u64>;
    /// Forgets a file.
    fn unwatch_file(&mut self, token: FileToken);
    /// Blocks until something happened, `timeout` passed or the waker was used; appends events
    /// (coalesced: at most one per token).
    fn wait(&mut self, timeout: Duration, events: &mut Vec<Event>) -> io::Result<()>;
    /// Interrupts [`Watcher::wait`] from another thread.
    fn waker(&self) -> Waker;
    /// Files whose end the mechanism itself has seen, each once; also of the time before this
    /// watcher was there, where it can know.
    fn departed(&mut self) -> Vec<Departed>;
    /// What [`Watcher::departed`] told so far, but for these, to be forgotten once it is durable that it was counted:
    /// until then the next agent would be told again.
    fn counted(&self, but: &HashSet<KernelInode>) -> Option<Counted>;
    /// The same, of these lives alone.
    fn counted_of(&self, ids: &[FileId]) -> Option<Counted>;
    /// A life is nobody's any more: its end is not to be told.
    fn disown(&mut self, id: FileId);
    /// Whether the mechanism itself counts what is written to a file, so that nothing that is gone from it
    /// went unseen.
    fn is_tallied(&self, token: FileToken) -> bool;
    /// How many bytes truncations have taken away of an inode (number and generation), modulo 2³²; without
    /// a generation, of the one that has this life. None: nobody counted.
    fn truncated(&self, id: FileId, inode: (u64, Option<u32>)) -> Option<u32>;
    /// Forgets what truncations have taken away so far.
    fn count_truncations_anew(&self);
    /// Whether [`Watcher::departed`] knows of all files that went from this directory while no agent
    /// ran.
    fn tallied_while_down(&self, token: DirToken) -> bool;
    /// Everything that is to be watched by now is: what an earlier agent watched besides is let go.
    fn forget_strangers(&mut self);
}

/// The best watcher that works here and that the configuration allows. Fails only where the
/// process has no descriptor left for the waker.
pub fn start(config: &Config, metrics: Arc<Metrics>) -> io::Result<Box<dyn Watcher>> {
    let mode = config.watch.mode;
    let kernel = match mode {
        WatchMode::Auto | WatchMode::Kernel => start_kernel(config, &metrics),
        WatchMode::Inotify | WatchMode::Poll => {
            // Whoever may not look there has left nothing there.
            if let Err(error) = unpin(config)
                && error.kind() != io::ErrorKind::PermissionDenied
            {
                tracing::warn!(%error, "Programs of the kernel watch cannot be removed from bpffs.");
            }
            None
        }
    };
    let inotify = match mode {
        WatchMode::Poll => None,
        WatchMode::Auto | WatchMode::Kernel | WatchMode::Inotify => match Inotify::new() {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                combined::count_fallback(&metrics, inotify::Refusal::of(&error).reason());
                tracing::warn!(
                    %error,
                    "No inotify instance is to be had; what the kernel watch does not cover is \
                     polled instead. Raise the sysctl fs.inotify.max_user_instances, or set \
                     watch.mode to poll."
                );
                None
            }
        },
    };
    let mounts = Mounts::new();
    Ok(Box::new(Combined::new(config, kernel, inotify, mounts, Waker::new()?, metrics)))
}

/// Whether there is a kernel watch here: loads the programs, and lets them go again.
pub fn probe_kernel() -> Result<(), LoadError> {
    Kernel::alone().map(drop)
}

/// The kernel watch, or why there is none, said once.
fn start_kernel(config: &Config, metrics: &Metrics) -> Option<Kernel> {
    let error = match Kernel::start(&config.watch.kernel, &config.state_dir) {
        Ok(kernel) => return Some(kernel),
        Err(error) => error,
    };
    combined::count_fallback(metrics, error.reason());
    let advice = error.advice();
    if config.watch.mode == WatchMode::Kernel {
        tracing::warn!(%error, "There is no kernel watch; inotify watches instead. {advice}.");
    } else {
        tracing::info!(%error, "There is no kernel watch; inotify watches instead. {advice}.");
    }
    None
}

/// Interrupts a watcher's wait from another thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Waker(pub(crate) Arc<OwnedFd>);

impl Waker {
    /// A waker that nobody waits for yet.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Ends the wait under way, or else the next one.
    pub fn wake(&self) {
        // It fails only where the counter is at its end, and then the wait ends anyway.
        rustix::io::write(self.0.as_fd(), &1_u64.to_ne_bytes()).ok();
    }

    /// Forgets earlier wakes; true if there were any.
    pub(crate) fn drain(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(self.0.as_fd(), &mut count).is_ok()
    }
}
