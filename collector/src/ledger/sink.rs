//! How far one sink is in one file.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{checkpoint::Offset, identity::guard::Guard};

/// One sink's side of a file's account.
#[derive(Debug, Default)]
pub struct SinkAccount {
    /// Bytes before this offset have been read and handed to batches (or skipped with a count).
    pub read: AtomicU64,
    /// Bytes before this offset are settled: acknowledged, dropped or lost.
    pub settled: AtomicU64,
    /// Where decoding resumes to rebuild the state at `settled`.
    pub resume: AtomicU64,
    /// Of the settled ones, bytes that were dropped.
    pub dropped: AtomicU64,
    /// Of the settled ones, bytes known to be lost: written, and no longer to be read.
    pub lost: AtomicU64,
    /// True once this run's cursor has been in the file.
    pub entered: AtomicBool,
    /// The guard of `read`, as bits. The reader's alone.
    read_guard: AtomicU64,
    /// The guard of `settled`, as bits. Whoever moves `settled` moves it too.
    settled_guard: AtomicU64,
}

impl SinkAccount {
    /// Of a file that the sink has not read yet.
    pub(super) const fn new() -> Self {
        Self {
            read: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            resume: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            entered: AtomicBool::new(false),
            read_guard: AtomicU64::new(0),
            settled_guard: AtomicU64::new(0),
        }
    }

    /// The sink goes on where the checkpoint says.
    pub(super) fn recover(&self, offset: &Offset) {
        for place in [&self.read, &self.settled] {
            place.store(offset.settled, Ordering::Relaxed);
        }
        self.resume.store(offset.resume, Ordering::Relaxed);
        self.dropped.store(offset.dropped, Ordering::Relaxed);
        self.lost.store(offset.lost, Ordering::Relaxed);
        for place in [&self.read_guard, &self.settled_guard] {
            place.store(offset.guard.to_bits(), Ordering::Relaxed);
        }
    }

    /// As the checkpoint keeps it.
    pub fn offset(&self) -> Offset {
        Offset {
            settled: self.settled.load(Ordering::Acquire),
            resume: self.resume.load(Ordering::Acquire),
            dropped: self.dropped.load(Ordering::Acquire),
            lost: self.lost.load(Ordering::Acquire),
            guard: Guard::from_bits(self.settled_guard.load(Ordering::Acquire)),
        }
    }

    /// The guard of what was read.
    pub fn read_guard(&self) -> Guard {
        Guard::from_bits(self.read_guard.load(Ordering::Acquire))
    }

    /// The file is not this sink's: it was gone before the sink was there.
    pub fn exclude(&self) {
        for place in [&self.read, &self.settled, &self.resume] {
            place.store(u64::MAX, Ordering::Release);
        }
    }

    /// Whether the file is none of this sink's.
    pub fn is_excluded(&self) -> bool {
        self.settled.load(Ordering::Acquire) == u64::MAX
    }

    /// Skips to `offset` before anything was read: those bytes count as dropped.
    pub fn start_at(&self, offset: u64, guard: Guard) {
        for place in [&self.read, &self.settled, &self.resume, &self.dropped] {
            place.store(offset, Ordering::Release);
        }
        for place in [&self.read_guard, &self.settled_guard] {
            place.store(guard.to_bits(), Ordering::Release);
        }
    }

    /// The sink begins anew where it is settled: what was on its way is read again.
    pub fn restart(&self) {
        if self.is_excluded() {
            return;
        }
        let guard = self.settled_guard.load(Ordering::Acquire);
        self.read_guard.store(guard, Ordering::Release);
        self.read.store(self.settled.load(Ordering::Acquire), Ordering::Release);
        self.entered.store(false, Ordering::Release);
    }

    /// Bytes up to `end` were handed on.
    pub fn read_to(&self, end: u64, guard: Guard) {
        self.read_guard.store(guard.to_bits(), Ordering::Release);
        self.read.store(end, Ordering::Release);
    }

    /// Bytes up to `end` are settled. One thread settles, so the three move together; an end that
    /// others have passed already says nothing new.
    pub fn settle(&self, end: u64, resume: u64, guard: Guard) {
        if end >= self.settled.load(Ordering::Acquire) {
            self.settled_guard.store(guard.to_bits(), Ordering::Release);
            self.resume.store(resume, Ordering::Release);
            self.settled.store(end, Ordering::Release);
        }
    }
}
