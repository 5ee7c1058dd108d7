//! What is found: files, and what one directory holds.

use std::{io, path::PathBuf, sync::Arc};

use crate::source::Source;

/// What a file's name says about its place in the life of its source.
///
/// Orders as written: everything rotated or compressed comes before the live file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A former live file. The key orders former files of one source, oldest first.
    Rotated(AgeKey),
    /// The file being written now.
    Live,
}

/// Orders the former files of one source, oldest first, from their names alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgeKey {
    /// `name.3`: the larger the number, the older (so it is stored negated).
    Number(i64),
    /// `name.20260131-101112`, `name-20260131`: compares as text.
    Date(String),
}

/// A file that may hold unread lines.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it lies now.
    pub path: PathBuf,
    /// Whose it is.
    pub source: Arc<Source>,
    /// Which of the source's files it is.
    pub role: Role,
    /// Whether it is gzip-compressed (kubelet's and logrotate's `….gz`).
    pub gzip: bool,
    /// True where a former file is followed only if the checkpoint knows it: rotated siblings of a
    /// statically configured file whose own path no pattern names.
    pub only_if_known: bool,
    /// Its inode's number as the listing of its directory had it; 0: not known.
    pub inode: u64,
    /// With more names (hard links) than this it is refused, unless it is known. 0: any number.
    pub max_links: u32,
}

/// Of a directory that has more entries than are looked at at once, every look shows a part. A round of looks shows all of
/// them, as they are since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// A round begins with this look.
    pub begins: bool,
    /// It ends with this look.
    pub ends: bool,
}

impl Part {
    /// The directory is not that large.
    pub const ALL: Self = Self { begins: true, ends: true };
}

/// What one directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Directories below it that can hold logs and want watching and listing too.
    pub directories: Vec<PathBuf>,
    /// Directories elsewhere an entry of which may change so that its links lead to something else: to be
    /// watched, and this directory listed again then. They need not be listed.
    pub ways: Vec<PathBuf>,
    /// Files in it (or linked from it) that can hold lines.
    pub files: Vec<Found>,
    /// What could not be looked at, said in full (what, where, why, what to do).
    pub problems: Vec<String>,
    /// How much of the directory it shows; None: the directory could not be looked at.
    pub part: Option<Part>,
    /// Nothing was seen, or not all that belongs to it, for there was no descriptor to look with.
    pub shortage: Option<io::Error>,
}

impl Listing {
    /// The directory has more entries than are looked at at once: there are more looks to come that show others.
    pub fn has_more(&self) -> bool {
        self.part.is_some_and(|part| !part.ends)
    }
}
