//! What is known of files that no reader holds.

use crate::identity::{FileId, Look};

/// What is known of an inode that no reader holds.
#[derive(Clone, Copy)]
pub(super) enum Inode {
    /// What it held at this look is settled, or held under another inode (a compressed copy).
    Done(FileId, Still),
    /// Nothing of ours (a former file that the checkpoint does not know), and its source's number.
    Ignored(Still, u64),
}

/// What must not have changed of a file that nobody holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Still {
    /// The file's length in bytes.
    pub(super) size: u64,
    /// Last modification, if the inode number may be another file's by now: there is no birth time.
    pub(super) modified_ns: Option<i64>,
}

impl Still {
    pub(super) fn of(look: &Look) -> Self {
        let modified_ns = (look.key.born_ns == 0).then_some(look.modified_ns);
        Self { size: look.size, modified_ns }
    }

    /// Of a file that has no name any more, or none that is known.
    pub(super) fn unnamed(size: u64) -> Self {
        Self { size, modified_ns: None }
    }

    /// Whether it is the same file with as many bytes or more.
    pub(super) fn may_have_grown(self, look: &Look) -> bool {
        self.is(look) || self.modified_ns.is_none() && self.size <= look.size
    }

    /// Whether the file is as it was, as far as is known.
    pub(super) fn is(self, look: &Look) -> bool {
        let Self { size, modified_ns } = Self::of(look);
        size == self.size && self.modified_ns.is_none_or(|known| Some(known) == modified_ns)
    }
}
