//! What is known of one writer and its streams. A stream that arrives in order costs a few words.

use std::{collections::VecDeque, ops::Range};

use super::{ranges::Ranges, record::Record};
use crate::tag::{Stream, Writer};

/// What is known of one writer.
#[derive(Debug)]
pub(super) struct Account {
    namespace: String,
    pod: String,
    container: String,
    container_id: String,
    pub(super) streams: [StreamAccount; 3],
    pub(super) doubled: u64,
    pub(super) doubled_same_uid: u64,
    pub(super) reordered: u64,
}

/// What is known of one sequence.
#[derive(Debug, Default)]
pub(super) struct StreamAccount {
    /// Every number below has been seen …
    next: u64,
    /// … and these above it.
    ahead: Ranges,
    /// Numbers that may be seen again.
    excused: Ranges,
    /// Per second, the lowest number first seen in it; only the last few seconds.
    recent: VecDeque<(u64, u64)>,
    /// Hashes of uids, from number `uids_from` on; 0: unknown.
    uids: VecDeque<u32>,
    uids_from: u64,
    /// The file and offset of the last first reception.
    last_uid: (u64, u64),
}

impl Account {
    /// Nothing received of this writer yet.
    pub(super) fn of(writer: Writer) -> Self {
        Self {
            namespace: writer.namespace(),
            pod: writer.pod(),
            container: writer.container(),
            container_id: writer.container_id(),
            streams: Default::default(),
            doubled: 0,
            doubled_same_uid: 0,
            reordered: 0,
        }
    }

    /// Whether a record's metadata is this writer's. Docker's logs know only the container's id, and
    /// plain files only their path.
    pub(super) fn labels(&self, record: &Record<'_>, stream: Stream) -> bool {
        if record.pod.is_empty() && record.container_id.is_empty() {
            let directory = format!("/{}/", self.pod);
            return record.path.contains(&directory) && record.stream.is_empty();
        }
        let source = if record.pod.is_empty() {
            record.container_id == self.container_id
        } else {
            record.namespace == self.namespace
                && record.pod == self.pod
                && record.container == self.container
        };
        let bare = stream == Stream::Bare;
        source && record.unparsed == bare && (bare || record.stream == stream.name())
    }
}

impl StreamAccount {
    /// How many numbers were received.
    pub(super) fn count(&self) -> u64 {
        self.next + self.ahead.count()
    }

    /// How many numbers below `bound` were received.
    pub(super) fn count_below(&self, bound: u64) -> u64 {
        self.next.min(bound) + self.ahead.count_below(bound)
    }

    /// The numbers below `count` that were not received.
    pub(super) fn missing(&self, count: u64) -> Vec<Range<u64>> {
        self.ahead.gaps(self.next..count)
    }

    /// Whether a number may be received again.
    pub(super) fn is_excused(&self, number: u64) -> bool {
        self.excused.contains(number)
    }

    /// A number may be received again.
    pub(super) fn excuse(&mut self, number: u64) {
        self.excused.insert(number..=number);
    }

    /// What was first received in this second or later may be received again.
    pub(super) fn excuse_since(&mut self, since: u64) {
        let recent = self.recent.iter().filter(|(second, _)| *second >= since);
        if let (Some(low), Some(high)) = (recent.map(|&(_, low)| low).min(), self.highest()) {
            self.excused.insert(low..=high);
        }
    }

    /// Whether a number was received.
    pub(super) fn has(&self, number: u64) -> bool {
        number < self.next || self.ahead.contains(number)
    }

    /// The highest number received.
    pub(super) fn highest(&self) -> Option<u64> {
        self.ahead.last().or(self.next.checked_sub(1))
    }

    /// Enters a number that was not received before.
    pub(super) fn add(&mut self, number: u64, second: u64, keep_seconds: u64) {
        if number == self.next {
            self.next += 1;
            if let Some(end) = self.ahead.take_from(self.next) {
                self.next = end + 1;
            }
        } else {
            self.ahead.insert(number..=number);
        }
        match self.recent.back_mut() {
            Some((last, low)) if *last == second => *low = (*low).min(number),
            _ => self.recent.push_back((second, number)),
        }
        while self.recent.front().is_some_and(|(old, _)| old + keep_seconds < second) {
            self.recent.pop_front();
        }
    }

    /// Whether `uid` (`FILE-OFFSET`, hexadecimal) is of another file than the last, or further on.
    pub(super) fn follows(&mut self, uid: &str) -> bool {
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let Some((Some(file), Some(offset))) =
            uid.split_once('-').map(|(file, offset)| (hex(file), hex(offset)))
        else {
            return false;
        };
        let last = std::mem::replace(&mut self.last_uid, (file, offset));
        self.highest().is_none() || last.0 != file || last.1 < offset
    }

    /// The hash of a number's uid, if it is still known.
    pub(super) fn uid(&self, number: u64) -> Option<u32> {
        let index = usize::try_from(number.checked_sub(self.uids_from)?).ok()?;
        self.uids.get(index).copied().filter(|&hash| hash != 0)
    }

    /// Returns how many more uids are held now. One far ahead of the others is not kept.
    pub(super) fn keep_uid(&mut self, number: u64, hash: u32) -> usize {
        let held = self.uids.len();
        let Some(index) = number.checked_sub(self.uids_from).and_then(|n| usize::try_from(n).ok())
        else {
            return 0;
        };
        if index > held + 100_000 {
            return 0;
        }
        self.uids.resize(held.max(index + 1), 0);
        self.uids[index] = hash;
        self.uids.len() - held
    }

    /// Forgets the older half of the uids; returns how many.
    pub(super) fn forget_half(&mut self) -> usize {
        let half = self.uids.len() / 2;
        self.uids.drain(..half);
        self.uids_from += half as u64;
        half
    }
}
