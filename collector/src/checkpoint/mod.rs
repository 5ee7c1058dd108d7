//! Checkpoint: how far every sink has acknowledged every file, durable and crash-safe.
//!
//! Holds absolute values only, so a lost or damaged record means an older offset: lines are sent
//! again, never skipped. It does not decide what is acknowledged, does not look at log files, and
//! does not know what a sink's position means.
//!
//! # On disk
//! `STATE_DIR/lock` is held by [`StateLock`] for the agent's life and names its process.
//! `STATE_DIR/checkpoint` is a text journal, appended to, of records
//!
//! ```text
//! CRC SP LENGTH SP JSON LF
//! ```
//!
//! CRC is CRC-32C of JSON as eight lower-case hex digits, LENGTH the bytes of JSON in decimal. JSON
//! never contains a raw LF, so a reader finds the next record after a damaged one. The first record
//! is the header, `{"everyline":"checkpoint","version":1}`; every other is an array of [`Change`]s
//! that hold together or not at all. An offset is written short, with the file's id as it appears in
//! `log.record.uid`: `{"offset":[FILE,SINK,SETTLED,RESUME,DROPPED,LOST,SIZE,GUARD]}`, the last only
//! where there is one.
//!
//! When the journal is over 1 MiB and four times what the bare state needs, the state is written to
//! `checkpoint.new`, made durable and renamed over `checkpoint`. The state is split into records of
//! some files each, so one bad sector costs those files' offsets and not all.
//!
//! # Recovery
//! Every record whose CRC is right is applied, in order. An unfinished record at the end is what a
//! crash leaves: it is cut off. Anything else unreadable is damage: it is skipped, the file is kept
//! beside as `checkpoint.damaged-TIME` (the newest few are kept), and [`Recovered::damage`] says so.
//! A checkpoint of another format version is kept beside likewise, and nothing of it is used.
//!
//! **Invariant:** whatever was damaged, no offset is beyond what its sink acknowledged, and no
//! sink's offsets are ahead of its position. A sink truncates itself back to its position and is
//! sent everything after its offsets: were an offset ahead, lines between would be gone. So *every
//! record that holds an offset of a sink with a position holds the position too*
//! ([`Store::commit`] adds it where the caller did not, and every record of a snapshot has all of
//! them): the two survive together or are lost together, and a position only grows.
//!
//! # A full disk
//! Room for some minutes of records (4 MiB, at most a 256th of the filesystem) is allocated behind the
//! journal's end, which does not change its length. While others fill the disk, files are registered and
//! offsets committed in that room; once it is used up, commits fail whole and are tried again.
//!
//! # A directory that goes away
//! Somebody may remove the state directory, or a file in it, under the running agent. [`Store::keep_place`]
//! notices that the names no longer lead to what is held open, makes the directory again, takes its lock
//! and writes the whole state there. It makes nothing where the directory above is another one than before:
//! a filesystem that was unmounted may come back.
//!
//! # Assumptions about the medium
//! After a successful `fdatasync` the bytes are durable; rename is atomic and, after `fsync` of the
//! directory, durable; an append that was not synced may survive whole, in part, or not at all, but
//! changes nothing before it. Nothing is assumed about the atomicity of a page or a sector.

mod error;
mod journal;
mod keep;
mod lock;
mod offsets;
mod place;
mod recovered;
mod reserve;
mod salvage;
mod snapshot;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod usable;
mod wire;

pub use error::StoreError;
#[cfg(feature = "fuzzing")]
pub(crate) use journal::{encode_header, encode_record, recover};
pub use lock::{LockError, StateLock};
pub use offsets::Offsets;
pub use place::{OwnDirectory, Place};
pub use recovered::{Damage, Recovered};
pub use state::State;
pub use store::Store;
pub use usable::{Usable, nearest, usable, usable_as_own};

use std::{path::Path, sync::Arc};

/// What an agent opens in a state directory before anything else.
pub const STATE_FILES: &[&str] = &["lock", "checkpoint"];

use serde::{Deserialize, Serialize};

use crate::identity::{FileId, KernelInode, guard::Guard, prefix::PrefixGuards, sys::Handle};

/// What is known of one file's life. One is kept for every file, so all in it is no larger than it
/// must be, and shared where somebody has it already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Names the file's life.
    #[serde(with = "wire::hex_id")]
    pub id: FileId,
    /// The source's live path; written as text, replacement characters for what is not UTF-8.
    #[serde(with = "wire::path")]
    pub source: Arc<Path>,
    /// The file's name in the source's directory when last seen.
    pub name: Box<str>,
    /// Device and inode as `stat` gives them.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Birth time, nanoseconds since the epoch; 0 where the filesystem has none.
    pub born_ns: i64,
    /// `name_to_handle_at`'s opaque handle (type and bytes), if the filesystem gives one.
    #[serde(with = "wire::handle")]
    pub handle: Option<Handle>,
    /// Counts truncations of the same inode.
    pub epoch: u32,
    /// Guards identity: a hash of the first `fingerprint_len` bytes.
    pub fingerprint: u64,
    /// Bytes under `fingerprint`; 0: nothing seen yet.
    pub fingerprint_len: u16,
    /// CRC-32 of the first `size` bytes, once the file is finished; 0: not known.
    #[serde(default, skip_serializing_if = "wire::is_zero_crc")]
    pub crc: u32,
    /// What truncations had taken away of the inode when this life of it began, as the kernel counts.
    #[serde(default, skip_serializing_if = "wire::is_zero_crc")]
    pub truncated: u32,
    /// Size last seen, bytes.
    pub size: u64,
    /// True once it can grow no more.
    pub ended: bool,
    /// Per sink name.
    pub sinks: Offsets,
}

/// How far one sink is with one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Offset {
    /// Every byte before this is acknowledged (or dropped with the operator's leave).
    pub settled: u64,
    /// Where decoding restarts to rebuild the state at `settled`.
    pub resume: u64,
    /// Of the settled bytes, those dropped.
    #[serde(default, skip_serializing_if = "wire::is_zero")]
    pub dropped: u64,
    /// Bytes known to be lost.
    #[serde(default, skip_serializing_if = "wire::is_zero")]
    pub lost: u64,
    /// Of the bytes before `settled`: a file that differs in them is not the one that was read.
    #[serde(default, skip_serializing_if = "Guard::is_none")]
    pub guard: Guard,
}

/// What a file is a copy of that `copytruncate` made: its records are named after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOf {
    /// The life whose bytes it holds.
    #[serde(with = "wire::hex_id")]
    pub life: FileId,
    /// Records that begin before this offset have that life's name.
    pub until: u64,
    /// That life is cut at this offset, so a message that ends there ends there in both.
    #[serde(default, skip_serializing_if = "wire::is_false")]
    pub cut: bool,
}

/// One change; a commit applies a list of them in one step or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Adds or replaces a file's entry, the offsets in it included: they must not be newer than
    /// the positions in this commit and those before it.
    File(Box<FileEntry>),
    /// Moves one sink's offset in one file.
    #[serde(with = "wire::offset")]
    Offset {
        /// The file; unknown ones are ignored.
        file: FileId,
        /// The sink's name.
        sink: Arc<str>,
        /// The new offset.
        offset: Offset,
        /// The file's size last seen, bytes.
        size: u64,
    },
    /// Where a file is cut: all its cuts that somebody may still read across, in order.
    #[serde(with = "wire::cuts")]
    Cuts {
        /// The file; unknown ones are ignored.
        file: FileId,
        /// Offsets of uncompressed bytes.
        at: Box<[u64]>,
    },
    /// What tells the copies of a life that a truncation ended, where they end before what was read of it.
    Prefixes {
        /// The life; unknown ones are ignored.
        #[serde(with = "wire::hex_id")]
        file: FileId,
        /// Offsets, and what stands before them.
        guards: PrefixGuards,
    },
    /// What a file is a copy of.
    Copy {
        /// The copy; unknown ones are ignored.
        #[serde(with = "wire::hex_id")]
        file: FileId,
        /// Its original.
        of: CopyOf,
    },
    /// Forgets a file.
    Forget(#[serde(with = "wire::hex_id")] FileId),
    /// Where a sink that truncates itself back stands.
    Position {
        /// The sink's name.
        #[serde(with = "wire::name")]
        sink: Arc<str>,
        /// Opaque to all but the sink.
        position: String,
    },
    /// Files whose end the kernel told and that are in the totals and offsets of this commit and those
    /// before it. The kernel forgets them after the commit; until it has, the next agent would count them
    /// once more. Replaces those of the commit before, which the kernel has forgotten by now.
    Counted(Box<[KernelInode]>),
    /// Adds to a total that outlives the files it came from (`lost.deleted`, `dropped.rejected`, …).
    Total {
        /// The total's name.
        name: String,
        /// Its new absolute value.
        value: u64,
    },
}
