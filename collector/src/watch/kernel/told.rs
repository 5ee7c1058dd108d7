//! What the kernel watch tells: that a file was written, that one is gone, and why something is not watched.

use std::path::PathBuf;

use collector_ebpf::Key;

use super::tables::Departures;
use crate::{
    identity::{FileId, KernelInode},
    watch::{DirToken, FileToken},
};

/// Why something is not watched by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::watch) enum Refusal {
    /// The filesystem has no hook.
    Filesystem,
    /// Every slot is in use.
    Full,
    /// The kernel did not tell of the descriptor.
    Unknown,
}

impl Refusal {
    /// The metric's word for it.
    pub(in crate::watch) fn reason(self) -> &'static str {
        match self {
            Self::Filesystem => "kernel_filesystem",
            Self::Full => "kernel_full",
            Self::Unknown => "kernel_unknown",
        }
    }
}

/// What the programs tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::watch) enum Told {
    /// A watched file was written or truncated.
    Written(FileToken),
    /// A watched directory changed.
    Changed(DirToken),
    /// Wake-ups found no room: everything must be looked at.
    Overflow,
    /// Files were born and are gone that nobody had claimed.
    Departed,
}

/// For so many files that are gone and not counted yet the kernel has room.
pub const DEPARTURES: usize = collector_ebpf::DEPARTED as usize;

/// A file that is gone, as the kernel saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Whose life it was; None: nobody had claimed it.
    pub id: Option<FileId>,
    /// Its inode.
    pub inode: KernelInode,
    /// Its size at its end, bytes.
    pub size: u64,
    /// Bytes that truncations took away before, since it was born, modulo 2³².
    pub truncated: u32,
    /// False while somebody holds it open: it may grow on, and is told again.
    pub ended: bool,
    /// Its last path; None where the kernel was not told its name, or the directory's is too long.
    pub path: Option<PathBuf>,
    /// The directory it was in last, or was born in; None likewise.
    pub directory: Option<PathBuf>,
}

impl Departed {
    /// Whether it ever held a byte, as far as the kernel saw.
    pub fn held_bytes(&self) -> bool {
        self.size > 0 || self.truncated > 0
    }
}

/// Files that are gone and were told.
pub struct Counted {
    pub(super) departures: Departures,
    pub(super) told: Vec<Key>,
    /// Whether that is all that the kernel told.
    pub(super) all: bool,
}

impl Counted {
    /// What the kernel calls them.
    pub fn inodes(&self) -> impl Iterator<Item = KernelInode> {
        self.told.iter().copied().map(inode_of)
    }

    /// Whether nothing else was told: an earlier agent's are among them, or forgotten.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// They need not be told again.
    pub fn forget(self) {
        self.departures.forget(&self.told);
    }
}

/// What the kernel calls an inode, as the checkpoint keeps it.
pub(super) fn inode_of(Key { inode, device, generation }: Key) -> KernelInode {
    KernelInode { inode, device, generation }
}
