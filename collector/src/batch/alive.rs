//! Whether anything of a sink is left that could still act: a task that was aborted may have left a
//! thread in the middle of a write, and a reader may still hold a batch for it.

use tokio::sync::mpsc;

/// Held by everything that acts for a sink. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Alive {
    _held: mpsc::Sender<()>,
}

/// Tells when nothing is left of a sink.
#[derive(Debug)]
pub struct Gone(mpsc::Receiver<()>);

impl Alive {
    /// The first of a sink, and what tells when the last is dropped.
    pub fn new() -> (Self, Gone) {
        let (held, gone) = mpsc::channel(1);
        (Self { _held: held }, Gone(gone))
    }
}

impl Gone {
    /// Waits until every [`Alive`] of the sink is dropped.
    pub async fn wait(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}
