//! What is known of one source, and the places of its files.

use std::{path::Path, sync::Arc, time::Instant};

use crate::{
    identity::FileId,
    known_files::{self, Place},
    ledger::FileAccount,
    read::tail::TailId,
    watch::FileToken,
};

/// A source that is known.
pub(super) struct SourceState {
    pub(super) tail: TailId,
    pub(super) directory: Arc<Path>,
    /// Accounts of its files.
    pub(super) accounts: Vec<Kept>,
    /// Those that are held.
    pub(super) held: Vec<FileToken>,
    /// What its reader was told of it last.
    pub(super) described: u64,
}

/// A source's file that has an account.
pub(super) struct Kept {
    pub(super) id: FileId,
    /// Since when no file on disk belongs to it.
    pub(super) absent: Option<Instant>,
    _place: Place,
}

impl SourceState {
    /// It has this file's account, of which nothing is on disk since then (None: something is).
    pub(super) fn note(&mut self, account: &FileAccount, absent: Option<Instant>) {
        if !self.note_known(account.id, absent) {
            let length = account.path().as_os_str().len();
            let place = known_files::enter(&account.source.tenant(), length);
            self.accounts.push(Kept { id: account.id, absent, _place: place });
        }
    }

    /// The same of one that it has; false: it has it not.
    pub(super) fn note_known(&mut self, id: FileId, absent: Option<Instant>) -> bool {
        let known = self.accounts.iter_mut().find(|known| known.id == id);
        known.map(|known| known.absent = absent).is_some()
    }
}
