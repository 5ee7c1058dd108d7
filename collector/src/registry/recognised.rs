//! A found file that was opened: from its recognition until it has an account.

use std::fs::File;

use crate::{
    checkpoint::FileEntry,
    discover::Found,
    identity::{self, Identity, InodeKey, Look, checksum::Checksum},
    known_files::{self, Place},
    read::permits::{self, Permit},
    watch::FileToken,
};

/// A found file that was opened, and whose inode nobody knows.
pub(super) struct Unknown {
    pub(super) found: Found,
    pub(super) file: File,
    pub(super) look: Look,
    pub(super) identity: Identity,
}

/// A found file that was opened and recognised.
pub(super) struct Recognised {
    pub(super) found: Found,
    /// None: it found no room and is opened again when it is its turn.
    pub(super) open: Option<(File, Permit)>,
    /// Until it has an account.
    pub(super) place: Option<Place>,
    pub(super) look: Look,
    pub(super) identity: Identity,
    pub(super) past: Past,
    pub(super) head: Vec<u8>,
    /// A file of the same source that is held already and was written later.
    pub(super) before: Option<FileToken>,
    /// Its compressed copy, which was found in its place.
    pub(super) copy: Option<InodeKey>,
    /// The checksum of a compressed copy that was found while this file still began with the copy's content.
    pub(super) copied: Option<Checksum>,
}

/// What is known of a file from before.
pub(super) enum Past {
    /// Nothing.
    Nothing,
    /// Nothing, but its inode had another life, which a truncation ended while no agent ran.
    FormerLife(Beginning),
    /// What the checkpoint says: of the file, or of the one whose compressed copy it is.
    Entry(Box<FileEntry>),
    /// A copy that `copytruncate` left: its entry is new.
    Twin(Box<FileEntry>),
}

/// Where a life of an inode begins.
#[derive(Clone, Copy)]
pub(super) struct Beginning {
    pub(super) epoch: u32,
    /// What truncations had taken away of the inode by then.
    pub(super) truncated: u32,
}

impl Unknown {
    /// It takes a place, and stays open if its tenant finds a permit.
    pub(super) fn recognised(self, past: Past, head: Vec<u8>) -> Recognised {
        let Self { found, file, look, identity } = self;
        let tenant = found.source.tenant();
        let place = Some(known_files::enter(&tenant, found.path.as_os_str().len()));
        let open = permits::permit(tenant, &file).map(|permit| (file, permit));
        let (before, copy, copied) = (None, None, None);
        Recognised { found, open, place, look, identity, past, head, before, copy, copied }
    }
}

impl Recognised {
    /// The file, opened once more where it found no room; None: it is not there any more.
    pub(super) fn opened(&self) -> Option<File> {
        if let Some((file, _)) = &self.open {
            return file.try_clone().ok();
        }
        let opened = identity::open(&self.found.path).ok();
        opened.filter(|(_, look)| look.key == self.look.key).map(|(file, _)| file)
    }
}

impl Past {
    /// How far it is done with; None: nothing of it was read.
    pub(super) fn entry(&self) -> Option<&FileEntry> {
        match self {
            Self::Nothing | Self::FormerLife(_) => None,
            Self::Entry(entry) | Self::Twin(entry) => Some(entry),
        }
    }

    pub(super) fn into_entry(self) -> Option<FileEntry> {
        match self {
            Self::Nothing | Self::FormerLife(_) => None,
            Self::Entry(entry) | Self::Twin(entry) => Some(*entry),
        }
    }
}
