//! Deliver: batches to storage, in order within a lane, until they are acknowledged.
//!
//! Each sink is one task (or thread) that owns a queue of batches. The queue itself is unbounded:
//! the sink's memory budget, taken before a batch is begun, is the bound. A sink never gives a batch
//! up by itself: it is settled once, as delivered, or as dropped where the operator allowed that, or what
//! of it waits behind a refused record is given back to the reader.
//! Whatever is not settled is read and sent again after a restart.

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::{
    batch::{Batch, alive::Alive, troubles::Troubles},
    metrics::SinkMetrics,
};

pub mod console;
pub mod file;
pub mod http;
pub mod null;
mod payload;
mod stamp;
mod thread;

pub use stamp::{Stamp, stamps};

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod testing;

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
