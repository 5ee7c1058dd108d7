//! Opening for reading without a trace: what is looked at keeps its access time.
//!
//! A new access time is a change of the inode. A collector that reads what was just written would
//! cause one with every read, and every directory that it lists would tell its watcher of a change.
//! The kernel grants it to a file's owner and to root (`O_NOATIME` in `open(2)`); refused, the file
//! is opened as any other.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Dir, Mode, OFlags, open as open_at_path},
    io::Errno,
};

/// Opens for reading; `flags` besides those that every descriptor of ours has.
///
/// # Errors
/// As `open(2)`.
pub fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    match open_at_path(path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(open_at_path(path, flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}

/// A directory's entries, `.` and `..` among them.
///
/// # Errors
/// As `open(2)`.
pub fn entries(path: &Path) -> io::Result<Dir> {
    Ok(Dir::new(open(path, OFlags::DIRECTORY)?)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn access_times_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let stamp = |path: &Path| {
            let about = fs::metadata(path).unwrap();
            (about.atime(), about.atime_nsec())
        };
        // Older than the last change: the next read would set it.
        let long_ago = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
        for path in [&path, dir.path()] {
            fs::File::open(path).unwrap().set_times(long_ago).unwrap();
        }
        let read = fs::File::from(open(&path, OFlags::empty()).unwrap());
        assert_eq!(io::read_to_string(read).unwrap(), "x");
        assert_eq!(entries(dir.path()).unwrap().flatten().count(), 3);
        assert_eq!((stamp(&path), stamp(dir.path())), ((0, 0), (0, 0)));
    }
}
