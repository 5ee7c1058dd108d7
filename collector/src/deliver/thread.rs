//! A sink on a thread of its own, for destinations that block: files, terminals, pipes.
//!
//! A task forwards the queue to the thread and ends when the thread does. Aborting the task stops
//! the thread at the next batch or pause; a system call that hangs is not interrupted.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};

use super::{Handle, StartError};
use crate::batch::Batch;

/// Runs `body` on a new thread until its inbox ends.
pub(super) fn spawn(
    sink: &str,
    runtime: &runtime::Handle,
    body: impl FnOnce(Inbox) + Send + 'static,
) -> Result<Handle, StartError> {
    let (queue, mut incoming) = mpsc::unbounded_channel::<Batch>();
    let (forward, batches) = crossbeam_channel::unbounded();
    let (running, stop) = crossbeam_channel::bounded::<()>(0);
    let (ended, end) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name(format!("sink-{sink}").chars().take(15).collect())
        .spawn(move || {
            // Dropped when the body returns or panics; either way the task ends.
            let _ended = ended;
            body(Inbox { batches, stop });
        })
        .map_err(|source| StartError::Thread { sink: sink.to_owned(), source })?;
    let task = runtime.spawn(async move {
        let _running: Sender<()> = running;
        while let Some(batch) = incoming.recv().await {
            if forward.send(batch).is_err() {
                break;
            }
        }
        drop(forward);
        // Never sent: the thread's end drops the sender.
        let _closed = end.await;
    });
    Ok(Handle { queue, task })
}

/// The thread's side of the queue.
pub(super) struct Inbox {
    batches: Receiver<Batch>,
    /// Disconnected when the task was aborted.
    stop: Receiver<()>,
}

/// The task was aborted: leave everything unsettled and return.
#[derive(Debug)]
pub(super) struct Stopped;

impl Inbox {
    /// Waits for the next batch. None: the queue is closed and empty, or the task was aborted.
    pub(super) fn next(&self) -> Option<Batch> {
        let batch = self.batches.recv().ok()?;
        if self.is_stopped() { None } else { Some(batch) }
    }

    /// The next batch if there is one now.
    pub(super) fn ready(&self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }

    /// Waits, or returns at once if the task is aborted.
    pub(super) fn pause(&self, length: Duration) -> Result<(), Stopped> {
        match self.stop.recv_timeout(length) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Stopped),
        }
    }

    fn is_stopped(&self) -> bool {
        matches!(self.stop.try_recv(), Err(TryRecvError::Disconnected))
    }
}
