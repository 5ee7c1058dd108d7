//! What the fuzz targets (`collector/fuzz`) call of the inside; the feature `fuzzing`, in no release.
//!
//! Only what has no public name: decoders, frames and searches are called as everybody calls them. It
//! checks nothing itself.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

pub use crate::deliver::http::replies::{Answer, Replies};
use crate::{
    checkpoint::{self, Change, State},
    cli::times::Times,
    config::{Config, ConfigError},
    discover,
    zone::Zone,
};

/// What a checkpoint's bytes came to.
#[derive(Debug)]
pub struct Recovered {
    /// What is used of it.
    pub state: State,
    /// Bytes up to the end of the last line.
    pub whole_len: usize,
    /// Bytes behind that: an unfinished record.
    pub torn_len: usize,
    /// Records that were applied.
    pub records: usize,
    /// Stretches that cannot be read.
    pub damaged: Vec<Range<usize>>,
    /// There is no header.
    pub headless: bool,
    /// It is in another format version.
    pub foreign_version: Option<u32>,
}

/// Reads a checkpoint.
pub fn recover(bytes: &[u8]) -> Recovered {
    let recovery = checkpoint::recover(bytes);
    Recovered {
        state: recovery.state,
        whole_len: recovery.whole_len,
        torn_len: recovery.torn_len,
        records: recovery.records,
        damaged: recovery.damaged,
        headless: recovery.headless,
        foreign_version: recovery.foreign_version,
    }
}

/// Appends a checkpoint's header.
pub fn encode_header(out: &mut Vec<u8>) {
    let _length = checkpoint::encode_header(out);
}

/// Appends a checkpoint's record.
pub fn encode_record(changes: &[Change], out: &mut Vec<u8>) {
    let _length = checkpoint::encode_record(changes, &[], out);
}

/// Reads a configuration.
///
/// # Errors
/// What is wrong with it.
pub fn config(bytes: &[u8]) -> Result<Config, ConfigError> {
    Config::parse_bytes(bytes, "fuzzed.yaml")
}

/// A command line's times, at a given time, in UTC.
pub fn times(now: Timestamp) -> Times {
    Times::at(Zone::UTC, now)
}

/// A pattern of `sources.files`.
#[derive(Debug)]
pub struct Pattern(discover::Pattern);

impl Pattern {
    /// None: it is refused.
    pub fn new(pattern: &str) -> Option<Self> {
        discover::Pattern::new("sources.files[0].paths", pattern).ok().map(Self)
    }

    /// The directory in which the walk begins.
    pub fn base(&self) -> PathBuf {
        self.0.base.clone()
    }

    /// Whether a file is meant.
    pub fn is_match(&self, path: &Path) -> bool {
        self.0.is_match(path)
    }

    /// Whether the walk goes through a directory, so called below the base.
    pub fn leads_through(&self, below: &Path) -> bool {
        self.0.leads_through(below)
    }
}
