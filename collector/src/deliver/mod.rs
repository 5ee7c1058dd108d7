//! Deliver: batches to storage, in order within a lane, until they are acknowledged.
//!
//! Each sink is one task (or thread) that owns a queue of batches. The queue itself is unbounded:
//! the sink's memory budget, taken before a batch is begun, is the bound. A sink never gives a batch
//! up by itself: it is settled once, as delivered, or as dropped where the operator allowed that, or what
//! of it waits behind a refused record is given back to the reader.
//! Whatever is not settled is read and sent again after a restart.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    archive,
    batch::{Batch, Compression, Framing},
    config,
    metrics::SinkMetrics,
};

mod check;
mod console;
mod file;
pub mod http;
mod life;
mod null;
mod payload;
mod stamp;
mod thread;
mod troubles;

pub use check::{Waits, check};
pub use troubles::{Failure, Troubles};

pub use life::{Alive, Gone};
pub use stamp::{Stamp, stamps};

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod testing;

/// Starts the sink that `config` describes. `state_dir` is the agent's state directory; a sink
/// keeps there only what it needs to know its own files again.
///
/// # Errors
/// Only for what can never work as configured. A destination that is down, full or missing is no
/// such error: the sink starts, says so, and keeps trying.
pub fn start(
    config: &config::Sink,
    state_dir: &Path,
    context: Context,
    runtime: &tokio::runtime::Handle,
) -> Result<Handle, StartError> {
    match config {
        config::Sink::Console(config) => console::start(config, context, runtime),
        config::Sink::File(config) => file::start(config, state_dir, context, runtime),
        config::Sink::Http(config) => http::start(config, context, runtime),
        config::Sink::Archive(config) => {
            let dir = config.dir.clone().unwrap_or_else(|| state_dir.join("archive"));
            archive::start(config, dir, context)
        }
        config::Sink::Null(_) => Ok(null::start(context, runtime)),
    }
}

/// How records must be encoded for the sink. `threads`: how many reader threads will fill lanes.
pub fn encoding(config: &config::Sink, batch: &config::Batch, threads: usize) -> Encoding {
    let (framing, compression, level, lanes) = match config {
        config::Sink::Console(_) => (Framing::Lines, Compression::None, 0, 1),
        config::Sink::File(file) => (Framing::Lines, file.compression, file.level, 1),
        config::Sink::Archive(archive) => (Framing::Lines, Compression::Zstd, archive.level, 1),
        config::Sink::Null(null) => {
            (Framing::Lines, null.compression.unwrap_or(Compression::None), 1, 1)
        }
        config::Sink::Http(http) => {
            let framing = match http.body {
                config::HttpBody::Ndjson => Framing::Lines,
                config::HttpBody::Json => Framing::Array,
            };
            let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
            (framing, http.compression, http.level, http.concurrency.div_ceil(threads).max(1))
        }
    };
    let Grouping { max_bytes, max_lines, max_age } = Grouping::new(batch);
    let apart = matches!(config, config::Sink::Http(_));
    let most = usize::MAX;
    Encoding { framing, compression, level, max_bytes, max_lines, max_age, lanes, apart, most }
}

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

/// What a sink is given when it starts.
#[derive(Debug)]
pub struct Context {
    /// The sink's name in the configuration.
    pub name: String,
    /// The position last committed with the offsets, for sinks that truncate themselves back.
    /// `Some("")`: the checkpoint is sound and holds no position, so nothing the sink ever wrote
    /// counts. `None`: nothing is known (a lost or damaged checkpoint), so nothing may be removed.
    pub committed: Option<String>,
    /// The sink's own counters.
    pub metrics: SinkMetrics,
    /// Where it notes what is wrong.
    pub troubles: Troubles,
    /// To be held by whatever writes for the sink, as long as it may.
    pub alive: Alive,
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

/// Why a sink cannot be started: a fault of the configuration. Holds no secrets.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that cannot work.
    #[error("Sink `{sink}`: {what}. {advice}")]
    Invalid {
        /// The sink's name.
        sink: String,
        /// What is wrong.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A file the sink needs cannot be read.
    #[error("Sink `{sink}`: cannot read {what} {}: {source}. {advice}", path.display())]
    Unreadable {
        /// The sink's name.
        sink: String,
        /// What the file is (`the certificate authorities`).
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The operating system gave no thread.
    #[error("Sink `{sink}`: cannot start its thread: {source}. Raise the limit on threads.")]
    Thread {
        /// The sink's name.
        sink: String,
        /// What went wrong.
        source: std::io::Error,
    },
}
