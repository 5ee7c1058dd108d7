//! Room that is kept behind the journal's end, so that commits go on while the disk is full.
//!
//! A file must be registered before anything of it is sent. Without room for that on a full disk, its
//! records would be sent unregistered, and could come again with another uid after a restart.

use std::{fs::File, os::fd::AsFd};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

/// Bytes that are kept, on a disk that is large enough: some minutes of commits on a busy node.
const ROOM: u64 = 4 << 20;
/// No more than this part of the filesystem is kept.
const PART: u64 = 256;
/// Less than this is not worth it, bytes.
const LEAST: u64 = 4 << 10;

/// The room behind a journal's end.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// The offset up to which there is room in the file.
    until: u64,
}

impl Reserve {
    /// Sees to it that there is room behind `len`, the journal's length. Where the filesystem cannot
    /// keep room, or has none, nothing is kept.
    pub(super) fn keep(&mut self, file: &File, len: u64) {
        if self.until > len + ROOM / 2 {
            return;
        }
        let Ok(room) = fstatvfs(file).map(|disk| (disk.f_blocks * disk.f_frsize / PART).min(ROOM))
        else {
            return;
        };
        if room < LEAST || self.until > len + room / 2 {
            return;
        }
        match fallocate(file.as_fd(), FallocateFlags::KEEP_SIZE, len, room) {
            Ok(()) => self.until = len + room,
            Err(error) => tracing::trace!(%error, "No room is kept for the checkpoint."),
        }
    }

    /// The file was cut off, and its room with that; or it is another file.
    pub(super) fn is_gone(&mut self) {
        self.until = 0;
    }
}
