//! The ledger: what became of every byte.
//!
//! `seen = acknowledged + in flight + unread + dropped(reason) + lost(reason)`, per file and sink.

pub mod report;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{discover::Source, read::identity::FileId};

/// The account of one file's life. Shared by reader, receipts and status; all counters are bytes
/// of the (uncompressed) file.
#[derive(Debug)]
pub struct FileAccount {
    /// Which file.
    pub id: FileId,
    /// Whose.
    pub source: Arc<Source>,
    /// Its present or last path.
    pub path: std::sync::Mutex<PathBuf>,
    /// The size last seen.
    pub seen: AtomicU64,
    /// True once it can grow no more and its size is final.
    pub ended: AtomicBool,
    /// One per sink, in the checkpoint's order.
    pub sinks: Box<[SinkAccount]>,
}

/// One sink's side of a file's account.
#[derive(Debug, Default)]
pub struct SinkAccount {
    /// Bytes before this offset have been read and handed to batches (or skipped with a count).
    pub read: AtomicU64,
    /// Bytes before this offset are settled: acknowledged or dropped.
    pub settled: AtomicU64,
    /// Where decoding resumes to rebuild the state at `settled`.
    pub resume: AtomicU64,
    /// Of the settled ones, bytes that were dropped.
    pub dropped: AtomicU64,
    /// Bytes known to be lost: they were written and can no longer be read.
    pub lost: AtomicU64,
}

impl FileAccount {
    /// Whether every byte is settled for every sink and no byte can be added.
    pub fn is_done(&self) -> bool {
        let seen = self.seen.load(Ordering::Acquire);
        self.ended.load(Ordering::Acquire)
            && self.sinks.iter().all(|sink| {
                sink.settled.load(Ordering::Acquire) >= seen
                    && sink.resume.load(Ordering::Acquire) >= seen
            })
    }
}
