//! inotify: the kernel's queue of directory events, as plain values.
//!
//! One watch per directory, never per file. Knows watch descriptors and names only; which token
//! they stand for, and what to do where the kernel refuses, is `combined`'s business.

use std::{ffi::OsStr, io, mem::MaybeUninit, os::fd::OwnedFd, os::unix::ffi::OsStrExt, path::Path};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use crate::{descriptors, identity::beneath::Directory};

/// Room for some thousand events a read.
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads at most so many buffers a turn, so that a storm cannot hold up a wait for ever.
const READS_PER_TURN: usize = 64;

/// Entries come, go and change their names; the directory itself goes.
const ENTRIES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    // Two paths of one directory share a watch: never take away what the other asked for.
    .union(WatchFlags::MASK_ADD);

/// An inotify instance.
#[derive(Debug)]
pub(super) struct Inotify {
    fd: OwnedFd,
    buffer: Box<[MaybeUninit<u8>]>,
    /// Watches that may still be added; tests lower it to stand for the kernel's limit.
    remaining: usize,
}

/// One event of the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// The queue was full: events were thrown away.
    Overflow,
    /// The directory was removed, moved or unmounted.
    Gone(i32),
    /// The entry of this name was written to.
    Modified(i32, &'a OsStr),
    /// An entry of this name appeared.
    Appeared(i32),
    /// The entry of this name went (removed, or moved away).
    Left(i32, &'a OsStr),
}

/// Why the kernel would not watch a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    /// It does not exist, or is no directory.
    Missing,
    /// `fs.inotify.max_user_watches` is spent.
    WatchLimit,
    /// No instance, descriptor or memory to be had.
    Resources,
    /// May not be read.
    Permission,
    /// Not supported here.
    Unsupported,
}

impl Inotify {
    /// A new instance without watches.
    pub(super) fn new() -> io::Result<Self> {
        Self::with_limit(usize::MAX)
    }

    /// A new instance that refuses more than `watches` watches as the kernel would.
    pub(super) fn with_limit(watches: usize) -> io::Result<Self> {
        Ok(Self {
            fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            buffer: vec![MaybeUninit::uninit(); BUFFER_BYTES].into_boxed_slice(),
            remaining: watches,
        })
    }

    /// What to wait for readability of.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Watches a directory's entries, their writes too if asked. Answers the watch descriptor,
    /// the same for the same directory.
    pub(super) fn add(&mut self, path: &Path, writes: bool) -> Result<i32, Refusal> {
        let mask = if writes { ENTRIES | WatchFlags::MODIFY } else { ENTRIES };
        // By its descriptor, so that no link on the way leads elsewhere. Where there is none, what is told of another
        // directory costs a look.
        let (_open, place) = match Directory::at(path) {
            Ok(directory) => {
                let place = directory.by_descriptor();
                (Some(directory), place)
            }
            Err(error) if descriptors::is_shortage(&error) => (None, path.to_owned()),
            Err(error) => return Err(Refusal::of(&error)),
        };
        self.remaining = self.remaining.checked_sub(1).ok_or(Refusal::WatchLimit)?;
        inotify::add_watch(&self.fd, &place, mask).map_err(|errno| {
            self.remaining += 1;
            Refusal::of(&errno.into())
        })
    }

    /// Asks for the writes of a directory that is watched already. The answer differs from the
    /// descriptor known if the path leads to another directory by now.
    pub(super) fn add_writes(&mut self, path: &Path) -> Result<i32, Refusal> {
        self.remaining = self.remaining.saturating_add(1);
        self.add(path, true)
    }

    /// Gives a watch back. It may be gone already.
    pub(super) fn remove(&mut self, wd: i32) {
        self.remaining = self.remaining.saturating_add(1);
        inotify::remove_watch(&self.fd, wd).ok();
    }

    /// Hands over all that is queued.
    pub(super) fn drain(&mut self, mut take: impl FnMut(Change<'_>)) -> io::Result<()> {
        let mut reader = Reader::new(&self.fd, &mut self.buffer);
        let mut reads = 0;
        loop {
            if reader.is_buffer_empty() {
                if reads == READS_PER_TURN {
                    return Ok(());
                }
                reads += 1;
            }
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let name = OsStr::from_bytes(event.file_name().map_or(b"", |name| name.to_bytes()));
            if let Some(change) = change(event.wd(), event.events(), name) {
                take(change);
            }
        }
    }
}

impl Refusal {
    /// Reads an error's number.
    pub(super) fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::Missing,
            None if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Some(Errno::NOSPC) => Self::WatchLimit,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Self::Resources,
            Some(Errno::ACCESS | Errno::PERM) => Self::Permission,
            _ => Self::Unsupported,
        }
    }

    /// The metric's word for it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::WatchLimit => "watch_limit",
            Self::Resources => "resources",
            Self::Permission => "permission",
            Self::Unsupported => "unsupported",
        }
    }

    /// What to do about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::WatchLimit => "raise the sysctl fs.inotify.max_user_watches",
            Self::Resources => {
                "raise the open files limit or the sysctl fs.inotify.max_user_instances"
            }
            Self::Permission => "let the agent read the directory",
            Self::Missing | Self::Unsupported => "nothing needs doing, or set watch.mode to poll",
        }
    }
}

fn change(wd: i32, events: ReadFlags, name: &OsStr) -> Option<Change<'_>> {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        Some(Change::Overflow)
    } else if events.intersects(
        ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED,
    ) {
        Some(Change::Gone(wd))
    } else if events.contains(ReadFlags::MODIFY) {
        Some(Change::Modified(wd, name))
    } else if events.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
        Some(Change::Left(wd, name))
    } else if events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
        Some(Change::Appeared(wd))
    } else {
        None
    }
}
