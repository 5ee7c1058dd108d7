//! One directory's entries: names, kinds, nothing else.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    hash::BuildHasher,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use foldhash::fast::FixedState;
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
    /// Its inode's number; 0: not known.
    pub(super) inode: u64,
}

/// What one listing keeps at most: this many bytes of names, each with what is kept beside it.
pub(super) const MOST: usize = 2 << 20;
const BESIDE: usize = 48;

/// Which entries are kept of a directory that has more than that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// Those with these inodes,
    pub(super) known: &'a HashSet<u64>,
    /// and of the others this part of so many, told by their names.
    pub(super) at: u32,
    pub(super) of: u32,
}

impl Part<'_> {
    fn has(&self, inode: u64, name: &OsStr) -> bool {
        let hash = FixedState::with_seed(0).hash_one(name) as u32;
        self.known.contains(&inode) || hash % self.of.max(1) == self.at
    }
}

/// All entries, by name; of very many some. One that goes away meanwhile is left out.
pub(super) fn read(directory: &Path) -> io::Result<Vec<Entry>> {
    Ok(read_part(directory, None)?.0)
}

/// A directory's entries, by name, no more than may be kept, and what all of them would take.
pub(super) fn read_part(
    directory: &Path,
    part: Option<Part<'_>>,
) -> io::Result<(Vec<Entry>, usize)> {
    let (mut entries, mut kept, mut all) = (Vec::new(), 0, 0);
    let mut listed = beneath::entries(directory)?;
    while let Some(entry) = listed.read() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let cost = name.len() + BESIDE;
        all += cost;
        let is_known = part.is_some_and(|part| part.known.contains(&entry.ino()));
        if !is_known && (kept + cost > MOST || part.is_some_and(|it| !it.has(entry.ino(), name))) {
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
        kept += cost;
        entries.push(Entry { name: name.to_owned(), kind, inode: entry.ino() });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((entries, all))
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
