//! One directory's entries: names, kinds, nothing else.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use rustix::fs::{AtFlags, FileType, statat};

use crate::identity::{self, beneath};

/// What an entry is, itself (a link is a link).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device: never opened.
    Other,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) kind: Kind,
}

/// All entries, by name. One that goes away meanwhile is left out.
pub(super) fn read(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut listed = beneath::entries(directory)?;
    while let Some(entry) = listed.read() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // The filesystem does not say it with the name.
            FileType::Unknown => match statat(listed.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(about) => FileType::from_raw_mode(about.st_mode),
                Err(_) => continue,
            },
            kind => kind,
        };
        let kind = match kind {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        entries.push(Entry { name: name.to_owned(), kind });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether a regular file lies at a path, reached without any link.
pub(super) fn is_regular(path: &Path) -> bool {
    identity::look_at(path).is_ok_and(|look| look.regular)
}

/// Whether there is a regular file of this name.
pub(super) fn has_file(entries: &[Entry], name: &str) -> bool {
    entries
        .binary_search_by(|entry| entry.name.as_os_str().cmp(name.as_ref()))
        .is_ok_and(|at| entries[at].kind == Kind::File)
}
