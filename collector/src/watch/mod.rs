//! Watch: which file has unread bytes, which directory has changed.
//!
//! One interface, [`Watcher`]; behind it inotify and polling (the kernel's own tally later). A
//! watcher only hints: whoever is woken looks at the file itself, so a doubled or late hint costs
//! time, never lines. What a better mechanism cannot cover (watch limit, queue overflow, network
//! filesystem) falls back to polling, is said once and shows in a metric.

use std::{ffi::OsStr, fs::File, io, path::Path, sync::Arc, time::Duration};

/// The registry's number for a watched directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirToken(pub u64);

/// The registry's number for a watched file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileToken(pub u64);

/// What a watcher reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The file may have new bytes, or was truncated.
    Written(FileToken),
    /// An entry was created, renamed or removed in the directory (or the directory itself went).
    Directory(DirToken),
    /// Events were lost: every directory and file must be looked at.
    Overflow,
}

/// How something is watched; also the label of `everyline_watch_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// inotify on the directory.
    Inotify,
    /// `fstat` at intervals.
    Poll,
}

/// Notices writes and directory changes.
pub trait Watcher: Send {
    /// Watches a directory's entries. A directory that inotify cannot take is polled; an error is
    /// returned only where it cannot be watched at all (it does not exist).
    fn watch_directory(&mut self, token: DirToken, path: &Path) -> io::Result<Mode>;
    /// Forgets a directory.
    fn unwatch_directory(&mut self, token: DirToken);
    /// Watches a file that is called `name` in the watched directory now. Calling it again for the
    /// same token renames it (a rotation).
    fn watch_file(&mut self, token: FileToken, directory: DirToken, name: &OsStr, file: &Arc<File>);
    /// Forgets a file.
    fn unwatch_file(&mut self, token: FileToken);
    /// Blocks until something happened, `timeout` passed or the waker was used; appends events
    /// (coalesced: at most one per token).
    fn wait(&mut self, timeout: Duration, events: &mut Vec<Event>) -> io::Result<()>;
    /// Interrupts [`Watcher::wait`] from another thread.
    fn waker(&self) -> Waker;
}

/// Interrupts a watcher's wait from another thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Waker(pub(crate) Arc<std::os::fd::OwnedFd>);
