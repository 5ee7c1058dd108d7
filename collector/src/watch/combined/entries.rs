//! What is kept of a directory and of a file, and when it is looked at again. There are tens of thousands
//! of each, so they are small.

use std::{
    ffi::OsStr,
    fs::File,
    num::NonZeroU64,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use super::names::Names;
use crate::watch::{
    Bell, DirToken, FileToken, Mode,
    poll::{DirectoryState, FileState},
};

pub(super) struct Directory {
    pub(super) path: Arc<Path>,
    /// Device and inode, if the kernel watches it.
    pub(super) kernel: Option<(u32, NonZeroU64)>,
    /// inotify's watch: where the kernel does not watch the directory, or not its files' writes.
    pub(super) watch: Option<i32>,
    /// Whether writes to entries are asked for.
    pub(super) writes: bool,
    /// Only its entries' names count: see [`crate::watch::Watcher::watch_way`].
    pub(super) way: bool,
    /// On a filesystem whose writers inotify does not see.
    pub(super) unseen_writers: bool,
    pub(super) names: Names,
    pub(super) state: DirectoryState,
    pub(super) pace: Pace,
}

pub(super) struct Watched {
    /// Where it is called what; `None`: adrift (moved away, removed, or its directory is no longer
    /// watched), and therefore polled until it is registered again. The kernel needs no name.
    pub(super) place: Option<(DirToken, Box<OsStr>)>,
    /// Where nobody holds it open any more, it is looked at under its name.
    pub(super) file: Weak<File>,
    pub(super) mode: Mode,
    pub(super) bell: Option<Bell>,
    pub(super) state: Option<FileState>,
    pub(super) pace: Pace,
}

/// When something is looked at.
pub(super) struct Pace {
    /// Which of the schedule's looks counts; earlier ones lapsed.
    pub(super) look: u32,
    /// When it last changed, in milliseconds since the watcher began.
    pub(super) changed: u32,
}

impl Pace {
    /// How long it has not changed.
    pub(super) fn quiet(&self, now: u32) -> Duration {
        Duration::from_millis(now.wrapping_sub(self.changed).into())
    }
}

#[derive(Clone, Copy)]
pub(super) enum Look {
    Directory(DirToken, u32),
    File(FileToken, u32),
}

impl Directory {
    pub(super) fn mode(&self) -> Mode {
        if self.kernel.is_some() { Mode::Kernel } else { self.lesser_mode() }
    }

    /// How it is watched without the kernel's help, as is everything in it that the kernel does not
    /// watch itself.
    pub(super) fn lesser_mode(&self) -> Mode {
        if self.watch.is_some() { Mode::Inotify } else { Mode::Poll }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are tens of thousands of each.
    #[test]
    fn what_is_kept_of_a_directory_and_a_file_is_small() {
        assert!(size_of::<Directory>() <= 112, "{}", size_of::<Directory>());
        assert!(size_of::<Watched>() <= 88, "{}", size_of::<Watched>());
        assert!(size_of::<Look>() <= 16, "{}", size_of::<Look>());
    }
}
