//! Summary: what a search came to.

use std::{io, path::PathBuf};

/// What a search came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines found.
    pub found: u64,
    /// Segments looked at.
    pub segments: u64,
    /// Frames decompressed and scanned.
    pub frames: u64,
    /// Frames passed over because their header says that nothing in them can match.
    pub skipped: u64,
    /// Places where the archive is damaged; what was there is not searched.
    pub damaged: u64,
}

/// Why a search ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive could not be read.
    #[error("could not read the archive {path}: {source}")]
    Read {
        /// What of it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No thread is left that scans.
    #[error("there is not enough memory to decompress the archive")]
    Memory,
    /// What was found could not be written.
    #[error("could not write the result: {0}")]
    Write(#[source] io::Error),
}
