//! Rotated files that are written over: `cp app.log app.log.1` puts the next copy into the former copy's inode.
//!
//! What the inode holds then is another file, and perhaps a copy of what was read already. Who it is, the
//! next look at its directory tells, as of any file that nobody knows.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Registry, evidence, unfinished::age};
use crate::{
    identity::{self, Identity, Look},
    ledger::FileAccount,
    watch::FileToken,
};

/// Events of a write come within this.
const LATELY: Duration = Duration::from_secs(10);

impl Registry {
    /// Looks whether a file that was let go, and is as long as it was then, holds the same still.
    pub(super) fn look_inside(&mut self, token: FileToken) {
        let Some(held) = self.held.get(token).filter(|held| held.dormant) else { return };
        let (key, account) = (held.key, Arc::clone(&held.account));
        let path = account.path();
        // Thousands of files are let go, or found again, that nobody has written to: they are not opened.
        let is_it = |look: &Look| look.key == key && age(look) < LATELY;
        if !identity::look_at(&path).is_ok_and(|look| is_it(&look)) {
            return;
        }
        if let Ok((file, look)) = identity::open(&path)
            && is_it(&look)
            && self.is_written_over(&account, &file)
        {
            self.give_up_dormant(token, &account);
        }
    }

    /// Whether a file that was let go holds something else than what was read of it.
    pub(super) fn is_written_over(&self, account: &FileAccount, file: &File) -> bool {
        let head = identity::head(file);
        head.is_ok_and(|head| !evidence::goes_on_in(&account.entry(&self.setup.sinks), file, &head))
    }

    /// A file that was let go was written over.
    pub(super) fn give_up_dormant(&mut self, token: FileToken, account: &Arc<FileAccount>) {
        if let Some(taken) = self.taken_away(account.id, &account.identity) {
            account.end_at(taken);
        }
        self.setup.accounts.prefixes.end(account.id);
        account.let_go();
        account.stale.store(true, Ordering::Release);
        self.heed_written_over(token, Arc::clone(account));
        self.heed_cut_off(account.id);
    }

    /// A rotated file was written over; `former` is what was read of it.
    pub(super) fn heed_written_over(&mut self, token: FileToken, former: Arc<FileAccount>) {
        // A reader that has it in two places tells it twice.
        if self.held.get(token).is_none_or(|held| held.account.id != former.id) {
            return;
        }
        if !self.setup.watcher.is_tallied(token) {
            self.note_uncounted_truncation();
        }
        let path = former.path();
        tracing::debug!(path = %path.display(), former = %former.id, "A rotated file was written over.");
        self.end_life(former);
        self.forget_token(token);
        self.retries.insert(path.parent().unwrap_or(&path).to_owned(), Instant::now());
    }

    /// Whether an inode that nobody knows was collected before it was written over.
    pub(super) fn was_written_over(&self, identity: &Identity) -> bool {
        let first = identity.first_epoch();
        self.setup.accounts.free_epoch(identity, first) != first
    }

    /// What truncations had taken away of an inode before this life of it began, as the kernel counts.
    pub(super) fn taken_before(&self, identity: &Identity, epoch: u32) -> u32 {
        if epoch == identity.first_epoch() {
            return 0;
        }
        self.taken_away(identity.id(epoch.wrapping_sub(1)), identity).unwrap_or(0)
    }
}
