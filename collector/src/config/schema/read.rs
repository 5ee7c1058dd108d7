//! How logs are read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{GIB, MIB};
use crate::config::{ByteSize, Span};

/// How logs are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Read {
    /// Where to start in a file seen for the first time.
    pub start: Start,
    /// Reader threads. 0: one a core, at most 4.
    pub threads: usize,
    /// A message longer than this is split or cut.
    pub max_line_bytes: ByteSize,
    /// What to do with a longer one.
    pub long_lines: LongLines,
    /// A message whose end is not there is ended when nothing has followed it for this long.
    pub unfinished_after: Span,
    /// Bytes read from one file before the next file's turn.
    pub quantum: ByteSize,
    /// What one compressed former file may unpack to; what is beyond it is not read.
    pub max_unpacked_bytes: ByteSize,
    /// What all compressed files may take on disk while they are unpacked.
    pub unpacking_bytes: ByteSize,
    /// How many log files, and directories that are looked through for them, are known at once.
    pub known_files: u64,
}

impl Default for Read {
    fn default() -> Self {
        Self {
            start: Start::Beginning,
            threads: 0,
            max_line_bytes: ByteSize(MIB),
            long_lines: LongLines::Split,
            unfinished_after: Span(Duration::from_secs(5)),
            quantum: ByteSize(MIB),
            max_unpacked_bytes: ByteSize(4 * GIB),
            unpacking_bytes: ByteSize(64 * MIB),
            known_files: 48_000,
        }
    }
}

/// Where to start in a file seen for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At its first byte.
    #[default]
    Beginning,
    /// At its end, for what is there when the agent first starts; files born later are read whole.
    End,
}

/// What to do with a message longer than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LongLines {
    /// Deliver it in numbered pieces.
    #[default]
    Split,
    /// Deliver its beginning and count the rest as dropped.
    Cut,
}
