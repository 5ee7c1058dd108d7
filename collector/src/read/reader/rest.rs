//! Logs that are mostly holes, and compressed ones that unpack to hardly anything, rest between their visits.
//!
//! A hole costs its writer nothing, and a reader the time to look at it: a small file can have a reader look
//! through a terabyte. What is skipped counts towards a visit's quantum, so others have their turn; a log whose
//! visit was spent on zeros then waits nine times as long as it took, so it has a tenth of a thread at most. So does
//! one whose visit was spent on empty members of a gzip file: they cost their writer little, being a copy each.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Reader, Tail};
use crate::{
    held_back::{self, Resource},
    read::tail::TailId,
};

/// Zeros that a visit may skip at its cost: what a line before a block's end leaves.
const FREE: u64 = 128 << 10;
/// What a read of a compressed file, of as much as may be read at once, should unpack to at least.
const HARDLY_ANYTHING: usize = 16 << 10;
/// So many times as long as a visit took its log rests.
const TIMES: u32 = 9;
/// No longer than this.
const LONGEST: Duration = Duration::from_secs(1);

/// Logs that rest, and until when; and what was skipped of the one that is visited.
#[derive(Debug, Default)]
pub(super) struct Rests {
    until: HashMap<TailId, Instant, foldhash::fast::RandomState>,
    pub(super) skipped: u64,
}

impl Rests {
    /// As much of a compressed file was read as may be at once, and it unpacked to so many bytes.
    pub(super) fn unpacked(&mut self, bytes: usize) {
        if bytes < HARDLY_ANYTHING {
            self.skipped += FREE + 1;
        }
    }
}

impl Reader {
    /// Whether a tail rests now. At a stop none does.
    pub(super) fn rests(&mut self, id: TailId) -> bool {
        self.rests.skipped = 0;
        if self.rests.until.is_empty() {
            return false;
        }
        let until = self.rests.until.get(&id).copied();
        let Some(until) = until.filter(|until| *until > Instant::now() && self.asked.is_empty())
        else {
            self.rests.until.remove(&id);
            return false;
        };
        if let Some(mut tail) = self.tails.remove(&id) {
            tail.queued = false;
            self.look_again(id, &mut tail, until);
            self.tails.insert(id, tail);
        }
        true
    }

    /// After a visit that `began` then and would go on: whether its tail is to rest instead.
    pub(super) fn is_to_rest(&mut self, id: TailId, tail: &mut Tail, began: Instant) -> bool {
        if self.rests.skipped <= FREE || !self.asked.is_empty() {
            return false;
        }
        held_back::note(Resource::Holes, &tail.source.tenant());
        let until = Instant::now() + (began.elapsed() * TIMES).min(LONGEST);
        self.rests.until.insert(id, until);
        self.look_again(id, tail, until);
        true
    }
}
