//! The labels of metrics. Their values are bounded sets.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

/// The label of per-sink metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabel {
    /// The sink's name in the configuration.
    pub sink: String,
}

/// The labels of `deliver_errors_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ErrorLabel {
    /// The sink's name in the configuration.
    pub sink: String,
    /// `connect`, `timeout`, `tls`, `1xx` to `5xx`, `io`, …
    pub class: &'static str,
}

// By hand: as a label the class is called `code_class`, as other agents call it.
impl EncodeLabelSet for ErrorLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("sink", self.sink.as_str()), ("code_class", self.class)].encode(encoder)
    }
}

/// The label of metrics that count by reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// One of a bounded set of words.
    pub reason: &'static str,
}

/// The label of metrics that count by resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResourceLabel {
    /// One of a bounded set of words.
    pub resource: &'static str,
}

/// The label of `watch_mode`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModeLabel {
    /// `kernel`, `inotify` or `poll`.
    pub mode: &'static str,
}
