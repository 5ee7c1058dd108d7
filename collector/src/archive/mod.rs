//! Archive: the embedded storage. A sink that keeps batches in compressed segments on this machine,
//! and a search over them.
//!
//! A segment is a file of frames; a frame is a zstd *skippable* frame that holds our header (what
//! the batch covers, checksums) followed by the batch as one ordinary zstd frame. So `zstdcat` and
//! `grep` work on a segment as it is, and a reader can walk the headers without decompressing.
//!
//! - [`segment`]: the format, sans I/O.
//! - [`write`]: appends durably, truncates back to a committed position (exactly once).
//! - [`sink`]: batches in, receipts out; knows nothing of the format.
//! - [`retain`]: which segments are too old or too many; [`clock`]: whether the time can be trusted with that.
//! - [`read`]: walks the frames of segments, also of one that is being written.
//! - [`search`]: finds lines.
//!
//! It is not a database: no index beyond the headers, no update, no query language. Lines lie in the
//! order of collection; a search puts them in that of their times.

use crate::{
    batch::{Framing, encoding::Encoding},
    config::{self, Compression},
};

pub mod clock;
pub mod read;
pub mod retain;
pub mod search;
pub mod segment;
pub mod sink;
pub mod write;

#[cfg(test)]
mod tests;

pub use sink::{check, start};
pub use write::{is_written, position};

/// How records must be encoded for an archive.
pub fn encoding(archive: &config::Archive, batch: &config::Batch) -> Encoding {
    Encoding {
        framing: Framing::Lines,
        compression: Compression::Zstd,
        level: archive.level,
        max_bytes: usize::try_from(batch.max_bytes.0).unwrap_or(usize::MAX),
        max_lines: batch.max_lines,
        max_age: batch.max_age.0,
        lanes: 1,
        apart: false,
        most: usize::MAX,
    }
}
