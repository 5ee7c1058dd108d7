//! The attempts at one batch or its pieces, with the pauses between them.

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::{
    Sink,
    attempt::{Verdict, attempt},
    backoff::Backoff,
};
use crate::{batch::troubles::Trouble, config::Compression, reason::Reason};

/// The attempts at delivering one batch.
pub(super) struct Attempts<'a> {
    sink: &'a Sink,
    compression: Compression,
    backoff: Backoff,
    trouble: Option<Trouble>,
    /// Some of it was delivered, and nothing failed since.
    delivered: bool,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(sink: &'a Sink, compression: Compression) -> Self {
        let backoff = Backoff::new(sink.backoff_base, sink.backoff_max);
        Self { sink, compression, backoff, trouble: None, delivered: false }
    }

    /// Sends it until the server has it (None), or says that it will not (why).
    pub(super) async fn send(
        &mut self,
        payload: Bytes,
        header: HeaderValue,
    ) -> Option<(Reason, String)> {
        loop {
            match attempt(self.sink, payload.clone(), self.compression, header.clone()).await {
                Verdict::Delivered => {
                    self.backoff = Backoff::new(self.sink.backoff_base, self.sink.backoff_max);
                    self.delivered = true;
                    return None;
                }
                Verdict::TooLarge(said) => return Some((Reason::TooLarge, said)),
                Verdict::Refused(said) => return Some((Reason::Rejected, said)),
                Verdict::Again => self.sink.metrics.retry(),
                Verdict::Retry => self.wait().await,
            }
        }
    }

    /// Waits before the next one.
    pub(super) async fn wait(&mut self) {
        self.sink.metrics.retry();
        self.delivered = false;
        self.trouble.get_or_insert_with(|| self.sink.report.trouble());
        tokio::time::sleep(self.backoff.next()).await;
    }

    /// The batch is settled, and out of trouble.
    pub(super) fn settled(self) {
        drop(self.trouble);
        if self.delivered {
            self.sink.report.delivered();
        }
    }
}
