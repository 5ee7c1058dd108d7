//! When a tail is visited without a hint: one timer a tail, however much it waits for.

use std::{cmp::Reverse, time::Instant};

use super::{Reader, Tail};
use crate::read::tail::TailId;

impl Reader {
    /// Has the tail visited then. Every visit finds out anew what it has to wait for, so one timer a
    /// tail, the earliest, is enough.
    pub(super) fn look_again(&mut self, id: TailId, tail: &mut Tail, at: Instant) {
        if tail.timer.is_none_or(|timer| at < timer) {
            tail.timer = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    /// Queues the tails whose time has come.
    pub(super) fn expire_timers(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, id))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            self.with_tail(id, |tail| {
                if tail.timer == Some(at) {
                    tail.timer = None;
                }
            });
            self.enqueue(id);
        }
    }
}
