//! A source that a reload excludes: what was read of it is settled, the rest is left, counted.

use std::sync::atomic::Ordering;

use super::{Reader, lane_of};
use crate::{
    identity::guard::Guard,
    read::tail::{LogFile, Tail, TailId},
    reason::Reason,
};

impl Reader {
    /// The source is excluded, or is not any more.
    pub(super) fn exclude(&mut self, id: TailId, excluded: bool) {
        self.with_tail(id, |tail| tail.exclude(excluded));
        self.enqueue(id);
    }

    /// Leaves what one sink has not read of a file. False: no room for what is left.
    pub(super) fn leave_rest(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
    ) -> bool {
        let Some(unread) = self.end_here(id, tail, sink, file) else { return false };
        let lanes = &mut self.sinks[sink];
        let lane = lane_of(id.0, lanes.lanes.len() as u32) as usize;
        let seen = file.account.seen.load(Ordering::Acquire);
        let guard = file.content.plain().and_then(|plain| Guard::in_file(plain, seen).ok());
        let cursor = &mut tail.cursors[sink];
        let left = seen.saturating_sub(cursor.offset) + unread;
        cursor.give_up(Reason::NotCollected, left);
        let lane = (&lanes.outlet, &mut lanes.lanes[lane]);
        cursor.end_life(lane, &file.account, (seen, guard.unwrap_or_default()));
        self.next_file(id, tail, sink, file);
        true
    }
}
