//! How records are encoded and grouped for a sink.

use std::time::Duration;

use super::Framing;
use crate::config::{self, Compression};

/// How records must be encoded and grouped for a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// How records are laid side by side.
    pub framing: Framing,
    /// How a batch is compressed.
    pub compression: Compression,
    /// The compressor's level.
    pub level: i32,
    /// A batch is sealed before it would exceed this, bytes before compression.
    pub max_bytes: usize,
    /// A batch is sealed at this many records.
    pub max_lines: u32,
    /// A batch is sealed when its first record is this old; zero: as soon as nothing is left to read.
    pub max_age: Duration,
    /// Batches each reader thread fills side by side, so that as many can be on the way at once
    /// without two of them holding the same file. 1 for a sink that writes in order.
    pub lanes: u32,
    /// Whether lanes wait for nothing but themselves, so that each has to have memory of its own.
    /// Not so where one writer serves all in turn.
    pub apart: bool,
    /// What `max_bytes` may be at most, so that a lane can fill one batch while another is on its way.
    pub most: usize,
}

impl Encoding {
    /// Fits the batches into `memory` bytes that `threads` reader threads share, and says how much of
    /// it one lane may hold. Open batches may take half of it at most; the rest is for those on the way.
    pub fn fit(&mut self, memory: usize, threads: usize) -> usize {
        let affordable = memory / (2 * self.max_bytes.max(1) * threads.max(1));
        self.lanes = self.lanes.min(u32::try_from(affordable).unwrap_or(u32::MAX)).max(1);
        if !self.apart {
            return memory;
        }
        let share = memory / (self.lanes as usize * threads.max(1));
        // A lane needs one batch to fill while another is on its way.
        self.most = (share / 2).max(SMALLEST_BATCH);
        self.max_bytes = self.max_bytes.min(self.most);
        share
    }

    /// Groups differently from now on.
    pub fn regroup(&mut self, grouping: &Grouping) {
        let Grouping { max_bytes, max_lines, max_age } = *grouping;
        self.max_bytes = max_bytes.min(self.most);
        (self.max_lines, self.max_age) = (max_lines, max_age);
    }
}

/// However little memory there is, a batch is at least this large.
const SMALLEST_BATCH: usize = 16 << 10;

/// How records are grouped, whatever the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// As [`Encoding::max_bytes`].
    pub max_bytes: usize,
    /// As [`Encoding::max_lines`].
    pub max_lines: u32,
    /// As [`Encoding::max_age`].
    pub max_age: Duration,
}

impl Grouping {
    /// As configured.
    pub fn new(batch: &config::Batch) -> Self {
        let max_bytes = usize::try_from(batch.max_bytes.0).unwrap_or(usize::MAX);
        Self { max_bytes, max_lines: batch.max_lines, max_age: batch.max_age.0 }
    }
}
