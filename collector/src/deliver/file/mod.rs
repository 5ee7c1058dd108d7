//! The file sink: NDJSON into a local file, each record exactly once.
//!
//! Batches are written at the end of `path`, made durable a group at a time, and only then settled,
//! each with the [`Position`] behind it. The position is committed in one step with the offsets, so
//! after a crash the file is truncated back to it and what was cut off is written again.
//!
//! Rotation: when `path` has reached `rotate_size` (0: never) it is renamed to `path.N` and a new
//! `path` begun. N only grows (`path.7` is newer than `path.6`): a rename of many files could not be
//! one step. Beyond `keep` files the oldest are removed. With compression every batch is a frame
//! (zstd) or member (gzip) of its own; one after the other they are a valid file, whose name ends in `.zst`
//! or `.gz` (`path.zst`, `path.7.zst`), or tools would not know what it is. When the compression changes,
//! what was written so far becomes a former file under the ending that fits it.
//!
//! Nothing that this sink did not write is ever changed or removed: a stranger at `path` is moved
//! aside to the next `path.N`. No retention by age, no following of symbolic links.

use std::{collections::VecDeque, path::Path, time::Duration};

use tokio::runtime;

use super::{Context, Handle, StartError, thread};
use crate::{
    batch::{Batch, troubles::Troubles},
    config,
};

mod error;
mod family;
mod output;
mod owned;
mod position;
#[cfg(test)]
mod tests;

use output::Output;
use position::Known;

/// Bytes made durable with one fdatasync, at most (and one batch).
const GROUP_BYTES: usize = 8 << 20;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

/// Starts the sink's thread, which appends batches to the file.
///
/// # Errors
/// What can never work as configured.
pub fn start(
    config: &config::FileSink,
    state_dir: &Path,
    context: Context,
    runtime: &runtime::Handle,
) -> Result<Handle, StartError> {
    let Context { name, committed, metrics, troubles, alive } = context;
    let known = Known::parse(&name, committed.as_deref());
    let output = Output::new(&name, config, state_dir, known);
    let mut writer = Writer { output, name: name.clone(), metrics, troubles, failing: None };
    thread::spawn(&name, runtime, move |inbox| {
        let _alive = alive;
        let mut group = VecDeque::new();
        while let Some(first) = inbox.next() {
            let mut bytes = first.payload.len();
            group.push_back(first);
            while bytes < GROUP_BYTES
                && let Some(batch) = inbox.ready()
            {
                bytes += batch.payload.len();
                group.push_back(batch);
            }
            if writer.deliver(&mut group, &inbox).is_err() {
                return;
            }
        }
    })
}

/// What the sink would wait for if it started now: what is wrong, and what to do.
pub fn check(config: &config::FileSink) -> Option<String> {
    Output::check(&config.written()).err().map(|failure| failure.to_string())
}

struct Writer {
    output: Output,
    name: String,
    metrics: crate::metrics::SinkMetrics,
    troubles: Troubles,
    /// The pause after the last failure, and what failed.
    failing: Option<(Duration, String)>,
}

impl Writer {
    /// Writes and settles the whole group, however often it takes.
    fn deliver(
        &mut self,
        group: &mut VecDeque<Batch>,
        inbox: &thread::Inbox,
    ) -> Result<(), thread::Stopped> {
        while !group.is_empty() {
            match self.output.append(group) {
                Ok(written) => {
                    for (batch, position) in group.drain(..written.len()).zip(written) {
                        self.metrics.delivered(batch.payload.len());
                        batch.delivered(Some(position.to_string()));
                    }
                    if self.failing.take().is_some() {
                        self.troubles.mended();
                        tracing::info!(sink = self.name, "The file can be written again.");
                    }
                }
                Err(failure) => {
                    let pause = self.report(&failure);
                    inbox.pause(pause)?;
                }
            }
        }
        Ok(())
    }

    /// Says a failure once; a different one is said again.
    fn report(&mut self, failure: &error::Failure) -> Duration {
        self.metrics.error("io");
        self.metrics.retry();
        let text = failure.to_string();
        self.troubles.failed(&text);
        let pause = match self.failing.take() {
            Some((pause, last)) if last == text => (pause * 2).min(PAUSE_LONGEST),
            _ => {
                tracing::error!(sink = self.name, "{text}");
                PAUSE_FIRST
            }
        };
        self.failing = Some((pause, text));
        pause
    }
}
