//! One directory's entries: names, kinds, nothing else.

use std::{ffi::OsString, fs, io, path::Path};

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
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(about) = entry.file_type() else { continue };
        let kind = match () {
            () if about.is_dir() => Kind::Directory,
            () if about.is_file() => Kind::File,
            () if about.is_symlink() => Kind::Link,
            () => Kind::Other,
        };
        entries.push(Entry { name: entry.file_name(), kind });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether there is a regular file of this name.
pub(super) fn has_file(entries: &[Entry], name: &str) -> bool {
    entries
        .binary_search_by(|entry| entry.name.as_os_str().cmp(name.as_ref()))
        .is_ok_and(|at| entries[at].kind == Kind::File)
}
