//! Opening by path in directories that others may write to. No link is followed anywhere on the way, and
//! nothing but a regular file is ever opened for reading.
//!
//! Who may write into a directory may exchange what lies in it for a link at any moment, also between a look at
//! it and the opening. So the kernel is asked to follow none at all (`openat2(2)`); where it cannot be asked,
//! the path is walked by descriptors, one name at a time. What lies behind a link is reached by a path of
//! its own, when `discover` has found that the link may be followed.
//!
//! A file is opened with `O_PATH` first, which touches no device and wakes nobody at a pipe's other end; what was
//! found to be a log's file by that descriptor is then opened for reading through it. Without a trace, where
//! the kernel grants that (`O_NOATIME`): a new access time is a change of the inode, and a directory that the agent
//! lists would tell its watcher of one.

mod roots;

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat,
        openat2, statx,
    },
    io::Errno,
};

pub use roots::trust;

/// What a path may not do, in the words of `openat2(2)`.
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A descriptor that is only looked through.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// An attempt that the kernel asks to repeat is repeated so often.
const TRIES: u32 = 8;

/// Filesystems whose files are the kernel's own and no logs, although many are regular: proc (`kmsg` is drained by
/// reading), sysfs, debugfs, tracefs, securityfs, cgroup 1 and 2, bpf, configfs, pstore, efivarfs, binfmt_misc, selinux,
/// mqueue (linux/magic.h).
const KERNELS_OWN: [u32; 14] = [
    0x0000_9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x0027_e0eb,
    0x6367_7270,
    0xcafe_4a11,
    0x6265_6570,
    0x6165_676c,
    0xde5e_81e4,
    0x4249_4e4d,
    0xf97c_ff8c,
    0x1980_0202,
];

/// How links are kept from being followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The kernel resolves the whole path under that rule (Linux 5.6).
    Openat2,
    /// Name by name. As strict; asked for where the kernel is too old or a seccomp profile refuses.
    Names,
}

/// How it is done here.
pub fn way() -> Way {
    static WAY: OnceLock<Way> = OnceLock::new();
    *WAY.get_or_init(|| {
        let tried = openat(CWD, "/", LOOK | OFlags::DIRECTORY, Mode::empty())
            .and_then(|root| openat2(root, ".", LOOK, Mode::empty(), RESOLVE));
        // ENOSYS: too old. EPERM: a seccomp profile. Whatever it is, the other way needs less.
        if tried.is_ok() { Way::Openat2 } else { Way::Names }
    })
}

/// Opens what a path leads to without any link.
fn resolve(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (root, below) = roots::place(path)?;
    descend(root.as_fd(), below, flags, way())
}

fn descend(root: BorrowedFd<'_>, below: &Path, flags: OFlags, way: Way) -> Result<OwnedFd, Errno> {
    if below.components().any(|it| !matches!(it, Component::Normal(_) | Component::CurDir)) {
        return Err(Errno::INVAL);
    }
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let open = |flags| match way {
        Way::Openat2 => openat2(root, below, flags, Mode::empty(), RESOLVE),
        Way::Names => by_names(root, below, flags),
    };
    let mut tries = 0;
    loop {
        match open(flags) {
            Err(Errno::INTR | Errno::AGAIN) if tries < TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// The same without `openat2`: every name is opened in the directory that the one before led to.
fn by_names(root: BorrowedFd<'_>, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut at = openat(root, ".", LOOK | OFlags::DIRECTORY, Mode::empty())?;
    let mut names = below.iter().filter(|name| *name != ".").peekable();
    while let Some(name) = names.next() {
        let next = openat(&at, name, LOOK | OFlags::NOFOLLOW, Mode::empty())?;
        match kind_of(&next)? {
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Directory => {}
            _ if names.peek().is_some() || flags.contains(OFlags::DIRECTORY) => {
                return Err(Errno::NOTDIR);
            }
            _ => {}
        }
        at = next;
    }
    if flags.contains(OFlags::PATH) {
        return Ok(at);
    }
    // Only directories are asked for so: a descriptor leads back to them by their own name.
    openat(&at, ".", flags, Mode::empty())
}

fn kind_of(fd: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Without a trace, where the kernel grants that: to a file's owner and to root.
fn traceless<T>(open: impl Fn(OFlags) -> Result<T, Errno>) -> Result<T, Errno> {
    match open(OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::RDONLY | OFlags::CLOEXEC),
        opened => opened,
    }
}

/// What a link lies in the place of is not there: whoever looks for it looks again where it may be.
fn said(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => {
            io::Error::new(io::ErrorKind::NotFound, "a link is in its place, or on the way to it")
        }
        error => error.into(),
    }
}

fn about(fd: impl AsFd, name: impl rustix::path::Arg, flags: AtFlags) -> io::Result<Statx> {
    Ok(statx(fd, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?)
}

/// What lies at a path.
///
/// # Errors
/// As `statx(2)`; `NotFound` where a link lies there or on the way.
pub fn stat(path: &Path) -> io::Result<Statx> {
    match resolve(path, LOOK) {
        Ok(fd) => about(fd, c"", AtFlags::EMPTY_PATH),
        // What there is no descriptor for is not gone. Nothing can be opened meanwhile, wherever the path leads.
        Err(Errno::MFILE | Errno::NFILE) => about(CWD, path, AtFlags::SYMLINK_NOFOLLOW),
        Err(error) => Err(said(error)),
    }
}

/// Opens a regular file for reading.
///
/// # Errors
/// As `open(2)`; `NotFound` where a link lies there or on the way; `InvalidInput` where it is no regular file,
/// or one of the kernel's own.
pub fn open(path: &Path) -> io::Result<(File, Statx)> {
    let fd = resolve(path, LOOK).map_err(said)?;
    let seen = about(&fd, c"", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(u32::from(seen.stx_mode)) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Only the low 32 bits are the magic number, whatever width the field has.
    if KERNELS_OWN.contains(&(rustix::fs::fstatfs(&fd)?.f_type as u32)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file of the kernel's own"));
    }
    let through = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    match traceless(|read| openat(CWD, &through, read | flags, Mode::empty())) {
        // The descriptor is there, so it is /proc that is not.
        Err(Errno::NOENT) => {
            Err(io::Error::other("/proc is not mounted; no file can be opened without it"))
        }
        opened => Ok((File::from(opened?), seen)),
    }
}

/// A directory's entries, `.` and `..` among them.
///
/// # Errors
/// As `open(2)`; `NotFound` where a link lies there or on the way.
pub fn entries(path: &Path) -> io::Result<Dir> {
    Ok(Dir::new(open_directory(path)?)?)
}

/// The names in a directory and their inodes, as far as they can be read.
///
/// # Errors
/// As [`entries`].
pub fn names(path: &Path) -> io::Result<impl Iterator<Item = (PathBuf, u64)>> {
    let below = path.to_owned();
    Ok(entries(path)?.filter_map(move |entry| {
        let entry = entry.ok()?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        (name != "." && name != "..").then(|| (below.join(name), entry.ino()))
    }))
}

/// Opens a directory for reading.
///
/// # Errors
/// As [`entries`].
pub fn open_directory(path: &Path) -> io::Result<File> {
    let opened = traceless(|read| resolve(path, read | OFlags::DIRECTORY));
    Ok(File::from(opened.map_err(said)?))
}

/// Whether a directory is there.
pub fn is_directory(path: impl AsRef<Path>) -> bool {
    let kind = |about: Statx| FileType::from_raw_mode(u32::from(about.stx_mode));
    stat(path.as_ref()).is_ok_and(|about| kind(about) == FileType::Directory)
}

/// A directory that is only looked through, wherever it is moved meanwhile.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Where a path leads.
    ///
    /// # Errors
    /// As [`entries`].
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(resolve(path, LOOK | OFlags::DIRECTORY).map_err(said)?))
    }

    /// A path of this very directory, for calls that take no descriptor; good while this is there.
    pub fn by_descriptor(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
