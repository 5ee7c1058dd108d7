//! Checkpoint: how far every sink has acknowledged every file, durable and crash-safe.
//!
//! Holds absolute values only, so a lost or damaged record means an older offset: lines are sent
//! again, never skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::read::identity::FileId;

/// What is known of one file's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Names the file's life.
    pub id: FileId,
    /// The source's live path.
    pub source: String,
    /// The file's name in the source's directory when last seen.
    pub name: String,
    /// Device and inode as `stat` gives them.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Birth time, nanoseconds since the epoch; 0 where the filesystem has none.
    pub born_ns: i64,
    /// `name_to_handle_at`'s opaque handle (type, bytes in hex), if the filesystem gives one.
    pub handle: Option<(i32, String)>,
    /// Counts truncations of the same inode.
    pub epoch: u32,
    /// Guards identity: a hash of the first `fingerprint_len` bytes.
    pub fingerprint: u64,
    /// Bytes under `fingerprint`; 0: nothing seen yet.
    pub fingerprint_len: u32,
    /// Size last seen, bytes.
    pub size: u64,
    /// True once it can grow no more.
    pub ended: bool,
    /// Per sink name.
    pub sinks: BTreeMap<String, Offset>,
}

/// How far one sink is with one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Offset {
    /// Every byte before this is acknowledged (or dropped with the operator's leave).
    pub settled: u64,
    /// Where decoding restarts to rebuild the state at `settled`.
    pub resume: u64,
    /// Of the settled bytes, those dropped.
    pub dropped: u64,
    /// Bytes known to be lost.
    pub lost: u64,
}

/// One change; a commit applies a list of them in one step or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Adds or replaces a file's entry.
    File(Box<FileEntry>),
    /// Moves one sink's offset in one file.
    Offset {
        /// The file; unknown ones are ignored.
        file: FileId,
        /// The sink's name.
        sink: String,
        /// The new offset.
        offset: Offset,
        /// The file's size last seen, bytes.
        size: u64,
    },
    /// Forgets a file.
    Forget(FileId),
    /// Where a sink that truncates itself back stands.
    Position {
        /// The sink's name.
        sink: String,
        /// Opaque to all but the sink.
        position: String,
    },
    /// Adds to a total that outlives the files it came from (`lost.deleted`, `dropped.rejected`, …).
    Total {
        /// The total's name.
        name: String,
        /// Its new absolute value.
        value: u64,
    },
}
