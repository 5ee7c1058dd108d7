//! Deliver: batches to storage, in order within a lane, until they are acknowledged.
//!
//! Each sink is one task (or thread) that owns a queue of batches. The queue itself is unbounded:
//! the sink's memory budget, taken before a batch is begun, is the bound.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::{
    batch::{Batch, Compression, Framing},
    metrics::SinkMetrics,
};

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
}

/// What a sink is given when it starts.
#[derive(Debug)]
pub struct Context {
    /// The sink's name in the configuration.
    pub name: String,
    /// The position last committed with the offsets, for sinks that truncate themselves back.
    pub committed: Option<String>,
    /// The sink's own counters.
    pub metrics: SinkMetrics,
}

/// A running sink. Dropping `queue` (every clone) asks it to deliver what it holds and end.
#[derive(Debug)]
pub struct Handle {
    /// Where batches go.
    pub queue: mpsc::UnboundedSender<Batch>,
    /// Ends when the queue is closed and empty and everything is settled. Aborting it gives up
    /// what is in flight (it is sent again after a restart).
    pub task: tokio::task::JoinHandle<()>,
}

/// Why a sink cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration does not work here.
    #[error("{0}")]
    Invalid(String),
}
