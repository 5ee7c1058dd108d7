//! What a reader says of files that it cannot read, or not to their end.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{LogFile, Reader, Tail, Turn, lane_of};
use crate::{
    identity::guard::Guard,
    messages::{self, Kind},
    read::{tail::TailId, unpack},
    reason::Reason,
};

/// Where there is no room to unpack a file, it is tried again after this.
const NO_ROOM: Duration = Duration::from_millis(100);

impl Reader {
    /// A compressed file could not be unpacked to its end: what was seen of it before it was
    /// compressed, and is not there, is lost.
    pub(super) fn damaged(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        why: &str,
    ) {
        let lanes = &mut self.sinks[sink];
        let lane = lane_of(id.0, lanes.lanes.len() as u32) as usize;
        let seen = file.account.seen.load(Ordering::Acquire);
        let first = tail.cursors.iter().all(|cursor| cursor.index <= tail.cursors[sink].index);
        let cursor = &mut tail.cursors[sink];
        let lost = seen.saturating_sub(cursor.offset);
        if lost > 0 {
            cursor.give_up(Reason::DamagedGzip, lost);
            let lane = (&lanes.outlet, &mut lanes.lanes[lane]);
            cursor.cover(lane, &file.account, (seen, Guard::NONE), 0);
        }
        if !first {
            return;
        }
        if lost == 0 {
            // How much is missing nobody knows; that something is, is counted.
            self.setup.metrics.files_lost(Reason::DamagedGzip);
        }
        let path = file.account.path();
        if let Some(unsaid) = messages::admit(Kind::Damaged, &path) {
            tracing::error!(path = %path.display(), why, lost, "A compressed log file is damaged; everything before the damage was collected.{unsaid}");
        }
    }

    /// A read failed: say so and try again in a second. One that only has to wait is no failure.
    pub(super) fn unreadable(file: &LogFile, error: &io::Error) -> Turn {
        if unpack::is_not_yet(error) {
            return Turn::More;
        }
        if unpack::is_no_room(error) {
            return Turn::Later(Instant::now() + NO_ROOM);
        }
        let path = file.account.path();
        if let Some(unsaid) = messages::admit(Kind::Unreadable, &path) {
            tracing::error!(path = %path.display(), %error, "Reading a log file failed; it is tried again every second.{unsaid}");
        }
        Turn::Later(Instant::now() + Duration::from_secs(1))
    }
}
