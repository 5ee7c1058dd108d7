//! What one sink counts.

use std::sync::Arc;

use super::{ErrorLabel, Metrics, SinkLabel};

/// One sink's view of the metrics.
#[derive(Debug, Clone)]
pub struct SinkMetrics {
    sink: String,
    metrics: Arc<Metrics>,
}

impl SinkMetrics {
    /// The view of the sink of this name.
    pub fn new(metrics: Arc<Metrics>, sink: &str) -> Self {
        Self { sink: sink.to_owned(), metrics }
    }

    /// A delivery failed; `class` is one of a bounded set of words.
    pub fn error(&self, class: &'static str) {
        let label = ErrorLabel { sink: self.sink.clone(), class };
        self.metrics.deliver_errors.get_or_create(&label).inc();
    }

    /// A delivery is tried again.
    pub fn retry(&self) {
        self.metrics.retries.get_or_create(&self.label()).inc();
    }

    /// `bytes` arrived, as sent.
    pub fn delivered(&self, bytes: usize) {
        self.metrics.delivered_bytes.get_or_create(&self.label()).inc_by(bytes as u64);
    }

    /// Deliveries under way at once, now.
    pub fn concurrency(&self, now: usize) {
        self.metrics.concurrency.get_or_create(&self.label()).set(now as i64);
    }

    fn label(&self) -> SinkLabel {
        SinkLabel { sink: self.sink.clone() }
    }
}
