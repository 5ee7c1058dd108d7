//! A truncation under the reader: how one life of an inode ends and the next begins.
//!
//! What the life held that was not read is not given up here: a copy may hold it (`copytruncate`). The
//! registry decides that once all that was read is settled.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Feedback, Reader, TailId, lane_of};
use crate::{
    ledger::FileAccount,
    messages::{self, Kind},
    read::{
        cursor::Cursor,
        tail::{LogFile, Tail},
    },
};

/// How often the count is looked at before it is taken to stay as it is. Other logs wait meanwhile, and a
/// program can write over its file as often as it likes: some milliseconds in all.
const LOOKS: u32 = 10;
/// Between two of these looks.
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

impl Reader {
    /// The file is not the one that was read before: its inode was truncated. The inode's next life
    /// begins behind this one. False: no room for what is left.
    pub(super) fn truncated(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
    ) -> bool {
        if !self.flush(id, tail, sink, file, (0..0, true)) {
            return false;
        }
        let index = tail.cursors[sink].index;
        if tail.slot(index).is_some_and(|slot| !slot.truncated) {
            let next = self.next_life(file);
            tail.replace(index, next);
        }
        let lanes = &mut self.sinks[sink];
        let lane = lane_of(id.0, lanes.lanes.len() as u32) as usize;
        let cursor = &mut tail.cursors[sink];
        // Of the bytes that were read: a copy that holds them goes on behind them.
        let end = (cursor.offset, cursor.guard());
        cursor.end_life((&lanes.outlet, &mut lanes.lanes[lane]), &file.account, end);
        self.next_file(id, tail, sink, file);
        true
    }

    /// The next life of a truncated inode.
    fn next_life(&self, file: &LogFile) -> LogFile {
        let old = &file.account;
        let path = old.path();
        let account = Arc::new(FileAccount::new(
            old.identity.clone(),
            self.setup.accounts.free_epoch(&old.identity, old.epoch + 1),
            Arc::clone(&old.source),
            &path,
            self.sinks.len(),
        ));
        // What is taken away after this is the next life's.
        if let Some(taken) = count_of_end(file) {
            old.end_at(taken);
            account.truncated.store(taken, Ordering::Release);
        }
        old.ended.store(true, Ordering::Release);
        old.stale.store(true, Ordering::Release);
        old.let_go();
        if let Some(plain) = file.content.plain() {
            account.hold(plain);
        }
        if let Some(unsaid) = messages::admit(Kind::Truncated, &path) {
            tracing::warn!(path = %path.display(), "A log file was truncated; it is read anew from its beginning.{unsaid}");
        }
        self.setup.accounts.insert(Arc::clone(&account));
        let (next, former) = (Arc::clone(&account), Arc::clone(old));
        self.tell(Feedback::Truncated(file.token, next, former));
        LogFile { account, ..file.clone() }
    }
}

/// What truncations had taken away of a file when its life ended, as the kernel counts. The new size can
/// be seen a moment before it is counted.
fn count_of_end(file: &LogFile) -> Option<u32> {
    let before = file.account.truncated.load(Ordering::Acquire);
    for _ in 0..LOOKS {
        let taken = file.bell.as_ref()?.truncated()?;
        if taken != before {
            return Some(taken);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    // It was written over.
    Some(before)
}

/// Whether a life ended of which nothing was read: no guard can tell, and the kernel's count does.
pub(super) fn is_overlooked(cursor: &Cursor, file: &LogFile) -> bool {
    let taken = |file: &LogFile| file.bell.as_ref()?.truncated();
    let known = |file: &LogFile| file.account.truncated.load(Ordering::Acquire);
    cursor.offset == 0 && taken(file).is_some_and(|taken| taken != known(file))
}
