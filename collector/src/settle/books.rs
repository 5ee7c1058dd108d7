//! The ledger's bookings: what becomes of a file's bytes, by sink and reason.
//!
//! Only the settling thread books. So a byte is booked once, under one reason, and account, totals
//! and metric move together; what is booked goes into the same record of the journal as the offset
//! that it belongs to, and a file's sums into the same as its forgetting.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use super::slots::SinkTable;
use crate::{
    batch::{Outcome, Range},
    checkpoint::{FileEntry, Offset},
    ledger::{
        Accounts, FileAccount, SinkAccount, SinkSlot,
        report::{Finished, LostFile, Totals},
    },
    messages,
    metrics::Metrics,
    reason::{ByReason, Kind, Reason, Unknown},
};

/// Where is booked.
pub struct Books {
    /// All accounts, and the totals.
    pub accounts: Arc<Accounts>,
    /// Counts since the agent's start.
    pub metrics: Arc<Metrics>,
    /// The sinks.
    pub sinks: SinkTable,
}

impl Books {
    /// Books what became of a range of a file that one sink has settled.
    pub fn settle(&self, (sink, name): (u16, &str), range: &Range, outcome: Outcome) {
        let file = &range.file;
        let account = file.sink(sink);
        account.settle(range.end, range.resume, range.guard);
        let mut by_reason = range.given_up.clone();
        if let Outcome::Dropped(reason) = outcome {
            by_reason.add(reason, range.bytes.saturating_sub(range.given_up.sum()));
        }
        if by_reason.is_empty() || file.is_forgotten() {
            return;
        }
        // A cut message may have begun in an earlier file: no more than this one has.
        let offset = account.offset();
        let mut room = offset.settled.saturating_sub(offset.dropped).saturating_sub(offset.lost);
        let sinks = self.sinks.wanted();
        let nothing_lost =
            |sink: &SinkSlot| file.sink(sink.number).lost.load(Ordering::Acquire) == 0;
        let first = sinks.iter().all(nothing_lost);
        let mut files = first;
        for (reason, bytes) in by_reason.iter() {
            let bytes = bytes.min(room);
            room -= bytes;
            self.give_up(name, reason, bytes);
            account.give_up(reason.kind(), bytes);
            if bytes > 0 && reason.kind() == Kind::Lost {
                self.note_lost(&file.path(), name, reason, bytes);
                if std::mem::take(&mut files) {
                    self.metrics.files_lost(reason);
                }
            }
        }
    }

    /// Books what was not read of a life that a truncation ended. Up to `copied` a copy goes on, and
    /// `read_anew` bytes behind that are in copies of lives in between that nobody saw.
    pub fn cut_off(&self, file: &Arc<FileAccount>, copied: u64, read_anew: u64) {
        let seen = file.seen.load(Ordering::Acquire);
        let mut most = 0;
        for slot in self.sinks.wanted() {
            let sink = file.sink(slot.number);
            let Offset { settled, guard, .. } = sink.offset();
            if sink.is_excluded() || settled >= seen {
                continue;
            }
            let held = settled.max(copied).saturating_add(read_anew).min(seen);
            let (bytes, lost) = (seen - settled, seen - held);
            most = most.max(lost);
            let mut given_up = ByReason::default();
            given_up.add(Reason::Truncated, lost);
            // The guard is that of what was read: a copy that turns up later goes on behind it.
            sink.read_to(seen, guard);
            let (file, lines, again) = (Arc::clone(file), 0, false);
            let range =
                Range { file, end: seen, resume: seen, guard, bytes, given_up, lines, again };
            self.settle((slot.number, &slot.name), &range, Outcome::Delivered);
        }
        self.say_lost(&file.path(), Reason::Truncated, most);
    }

    /// Books, once, what was skipped of a file before anything of it was read.
    pub fn begin(&self, file: &FileAccount) {
        if !file.begin() {
            return;
        }
        for sink in self.sinks.wanted() {
            self.skip(file, sink.number);
        }
    }

    /// Books what a new sink skips of the files that are there. Those that are not registered yet are
    /// booked when they are.
    pub fn join(&self, sink: u16) {
        for file in self.accounts.all() {
            self.skip(&file, sink);
        }
    }

    /// Books what a sink skips of a file.
    pub fn skip(&self, file: &FileAccount, sink: u16) {
        let Some(name) = self.sinks.name(sink).filter(|_| file.has_begun()) else { return };
        let skipped = file.sink(sink).dropped.load(Ordering::Acquire);
        self.give_up(&name, Reason::BeforeStart, skipped);
    }

    /// Books the sums of a file of which nothing more will come, as they are in its last `entry`.
    /// What is open counts under `reason`.
    pub fn finish(&self, entry: &FileEntry, size: u64, reason: Reason) {
        let path = entry.source.with_file_name(&*entry.name);
        let mut totals = Totals::default();
        let mut most = 0;
        for (name, offset) in entry.sinks.iter() {
            // A sink that is not configured any more is owed nothing.
            let owed = self.sinks.wants(name);
            let reason = if owed { reason } else { Reason::SinkRemoved };
            let (finished, open) = finished(*offset, size, reason.kind());
            most = most.max(if owed { open } else { 0 });
            totals.finished.insert(name.to_string(), finished);
            totals.give_up(name, reason, open);
            self.metrics.given_up(reason, open);
            self.note_lost(&path, name, reason, open);
        }
        self.accounts.close(entry.id, &totals);
        self.say_lost(&path, reason, most);
    }

    /// Books a file that is gone and that no account was ever opened for.
    pub fn lose_unseen(&self, path: &Path, bytes: u64, reason: Reason) {
        let mut totals = Totals::default();
        for SinkSlot { name, .. } in self.sinks.wanted() {
            let (finished, _) = finished(Offset::default(), bytes, reason.kind());
            totals.finished.insert(name.to_string(), finished);
            totals.give_up(&name, reason, bytes);
            self.metrics.given_up(reason, bytes);
            self.note_lost(path, &name, reason, bytes);
        }
        self.accounts.add(&totals);
        self.say_lost(path, reason, bytes);
    }

    /// Notes that something could not be known.
    pub fn note_unknown(&self, why: Unknown) {
        let unknown = [(why.name().to_owned(), 1)].into();
        self.accounts.add(&Totals { unknown, ..Totals::default() });
    }

    fn give_up(&self, sink: &str, reason: Reason, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut totals = Totals::default();
        totals.give_up(sink, reason, bytes);
        self.accounts.add(&totals);
        self.metrics.given_up(reason, bytes);
    }

    fn note_lost(&self, path: &Path, sink: &str, reason: Reason, bytes: u64) {
        if bytes > 0 && reason.kind() == Kind::Lost {
            tracing::debug!(path = %path.display(), sink, bytes, %reason, "A loss is booked.");
            self.accounts.note_lost(LostFile {
                path: path.to_string_lossy().into_owned(),
                sink: sink.to_owned(),
                reason: reason.name().to_owned(),
                bytes,
            });
        }
    }

    fn say_lost(&self, path: &Path, reason: Reason, bytes: u64) {
        if bytes > 0 && reason.kind() == Kind::Lost {
            self.metrics.files_lost(reason);
            messages::say_lost(path, reason, bytes);
        }
    }
}

/// The sums of a sink with a file of `size` bytes that ended at `offset`, and what was open.
fn finished(offset: Offset, size: u64, kind: Kind) -> (Finished, u64) {
    let Offset { settled, resume, mut dropped, mut lost, .. } = offset;
    // What waits in a decoder is in no record.
    let done = settled.min(resume).max(dropped.saturating_add(lost));
    let seen = size.max(done);
    let (acknowledged, open) = (done - dropped - lost, seen - done);
    match kind {
        Kind::Dropped => dropped += open,
        Kind::Lost => lost += open,
    }
    (Finished { files: 1, seen, acknowledged, dropped, lost }, open)
}

impl SinkAccount {
    fn give_up(&self, kind: Kind, bytes: u64) {
        let sum = match kind {
            Kind::Dropped => &self.dropped,
            Kind::Lost => &self.lost,
        };
        sum.fetch_add(bytes, Ordering::AcqRel);
    }
}
