//! Everyline's own metrics: every name, help text and label in one place.
//!
//! Labels are bounded sets (sink, reason, mode): never a pod or a path. Names are documented in
//! `deploy/METRICS.md`, which `cargo xtask tidy` holds against this file.

mod labels;
mod sink;

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{
    held_back::{self, Resource},
    reason::{Kind, Reason},
};

pub use labels::{ErrorLabel, ModeLabel, ReasonLabel, ResourceLabel, SinkLabel};
pub use sink::SinkMetrics;

/// A gauge of fractional seconds.
pub type SecondsGauge = Gauge<f64, AtomicU64>;

/// Declares a field for each row, and registers it: what it is, its name, its unit if it has one, what it says
/// of itself, and where a value that is not the default comes from.
macro_rules! metrics {
    ($($(#[$more:meta])* $field:ident: $kind:ty = $name:literal $(in $unit:ident)?, $help:literal
        $(, from $value:expr)?;)*) => {
        /// Every metric. Shared; counters are cheap to increment from anywhere.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = concat!($help, ".")] $(#[$more])* pub $field: $kind,)*
        }

        impl Metrics {
            /// All metrics at zero, registered.
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("everyline");
                let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
                registry.register("build", "The agent's version", build);
                $(
                    let $field: $kind = metrics!(@value $($value)?);
                    metrics!(@register registry $name $help $field $($unit)?);
                )*
                let metrics = Self { registry, $($field),* };
                metrics.create_bounded();
                metrics
            }
        }
    };
    (@value) => { Default::default() };
    (@value $value:expr) => { $value };
    (@register $registry:ident $name:literal $help:literal $field:ident) => {
        $registry.register($name, $help, $field.clone());
    };
    (@register $registry:ident $name:literal $help:literal $field:ident $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $field.clone());
    };
}

metrics! {
    read_bytes: Counter = "read" in Bytes, "Bytes read from log files";
    /// Also those that found nothing new.
    reads: Counter = "reads", "Reads of log files";
    lines: Counter = "lines", "Records decoded";
    dropped_lines: Family<ReasonLabel, Counter> = "dropped_lines", "Records dropped, by reason";
    dropped_bytes: Family<ReasonLabel, Counter> = "dropped" in Bytes, "Bytes dropped, by reason";
    lost_bytes: Family<ReasonLabel, Counter> = "lost" in Bytes, "Bytes known to be lost, by reason";
    files_lost: Family<ReasonLabel, Counter> = "files_lost",
        "Files lost with unread bytes, by reason";
    unparsed_lines: Counter = "unparsed_lines", "Lines that did not parse, delivered whole";
    /// `split` or `cut`.
    long_lines: Family<ReasonLabel, Counter> = "long_lines",
        "Messages longer than the bound, by what was done";
    delivered_lines: Family<SinkLabel, Counter> = "delivered_lines",
        "Records acknowledged, per sink";
    delivered_bytes: Family<SinkLabel, Counter> = "delivered" in Bytes,
        "Bytes acknowledged, as sent, per sink";
    deliver_errors: Family<ErrorLabel, Counter> = "deliver_errors",
        "Failed deliveries, per sink and class";
    retries: Family<SinkLabel, Counter> = "retries", "Deliveries tried again, per sink";
    concurrency: Family<SinkLabel, Gauge> = "concurrency", "Deliveries under way at once, per sink";
    in_flight_bytes: Family<SinkLabel, Gauge> = "in_flight" in Bytes,
        "Bytes between reader and acknowledgement, per sink";
    /// For the slowest sink.
    backlog_bytes: Gauge = "backlog" in Bytes, "Bytes in files not yet read";
    oldest_unacked_seconds: Family<SinkLabel, SecondsGauge> = "oldest_unacked" in Seconds,
        "Age of the oldest unacknowledged batch, per sink";
    /// 0: they go through.
    failing_seconds: Family<SinkLabel, SecondsGauge> = "failing" in Seconds,
        "How long deliveries have been failing, per sink";
    parked_sources: Family<SinkLabel, Gauge> = "parked_sources",
        "Logs that wait behind a record that the sink refuses, per sink";
    checkpoint_age_seconds: SecondsGauge = "checkpoint_age" in Seconds,
        "Time since the last durable checkpoint";
    checkpoint_fsync_seconds: Histogram = "checkpoint_fsync" in Seconds,
        "How long making a checkpoint durable took", from Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
    open_files: Gauge = "open_files", "Log files held open";
    known_files: Gauge = "known_files", "Log files, and directories that are looked through for them, that are known; a long path counts several times";
    waiting_files: Gauge = "waiting_files", "Log files that wait to be known, because their tenant has its share";
    file_descriptors: Gauge = "file_descriptors", "Descriptors that log files may have";
    closed_files: Gauge = "closed_files",
        "Log files that found no descriptor and are opened in turn";
    sources: Gauge = "sources", "Live logs known";
    unnamed_sources: Counter = "unnamed_sources",
        "Containers whose first lines went without container.id: its link did not come in time";
    own_logs: Gauge = "own_logs", "The agent's own pods and containers, whose logs are left out";
    watch_mode: Family<ModeLabel, Gauge> = "watch_mode", "Files watched, by mode";
    watch_fallbacks: Family<ReasonLabel, Counter> = "watch_fallbacks",
        "Falls to a lesser watch mode, by reason";
    watch_wakeups: Family<ModeLabel, Counter> = "watch_wakeups",
        "Written files that were noticed, by mode";
    limited: Family<ResourceLabel, Counter> = "limited",
        "How often somebody was held back at the bound of a shared resource, by resource";
    memory_budget_bytes: Gauge = "memory_budget" in Bytes, "Bound on bytes in flight";
    config_last_reload_success: Gauge = "config_last_reload_success",
        "1 if the last reload was accepted";
}

impl Metrics {
    /// Bytes were given up, as the ledger books them.
    pub fn given_up(&self, reason: Reason, bytes: u64) {
        self.bytes(reason).inc_by(bytes);
    }

    fn bytes(&self, reason: Reason) -> Counter {
        let family = match reason.kind() {
            Kind::Dropped => &self.dropped_bytes,
            Kind::Lost => &self.lost_bytes,
        };
        family.get_or_create(&ReasonLabel { reason: reason.name() }).clone()
    }

    /// Goes on where the ledger's totals stand: so metric and ledger say the same after a restart too.
    pub fn resume(&self, total: impl Fn(Reason) -> u64) {
        for reason in Reason::ALL {
            let counter = self.bytes(reason);
            counter.inc_by(total(reason).saturating_sub(counter.get()));
        }
    }

    /// Bytes given up by now.
    #[cfg(test)]
    pub(crate) fn given_up_so_far(&self, reason: Reason) -> u64 {
        self.bytes(reason).get()
    }

    /// Records were given up, or (too long) a part of them.
    pub fn dropped_lines(&self, reason: Reason, lines: u64) {
        self.dropped_lines.get_or_create(&ReasonLabel { reason: reason.name() }).inc_by(lines);
    }

    /// Bytes of another file are lost.
    pub fn files_lost(&self, reason: Reason) {
        self.files_lost.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
    }

    /// Brings up to date how often somebody was held back.
    pub fn count_held_back(&self) {
        for resource in Resource::ALL {
            let label = ResourceLabel { resource: resource.name() };
            let counter = self.limited.get_or_create(&label);
            counter.inc_by(held_back::count(resource).saturating_sub(counter.get()));
        }
    }

    /// How many files are watched how.
    pub fn watched(&self) -> [(&'static str, i64); 3] {
        ["kernel", "inotify", "poll"]
            .map(|mode| (mode, self.watch_mode.get_or_create(&ModeLabel { mode }).get()))
    }

    /// Series whose labels are known beforehand exist from the start: a counter that appears with
    /// its first event has no rate for it.
    fn create_bounded(&self) {
        let create = |family: &Family<ReasonLabel, Counter>, reasons: &[&'static str]| {
            for reason in reasons {
                drop(family.get_or_create(&ReasonLabel { reason }));
            }
        };
        let dropped: Vec<_> = Reason::of(Kind::Dropped).map(Reason::name).collect();
        let lost: Vec<_> = Reason::of(Kind::Lost).map(Reason::name).collect();
        create(&self.dropped_lines, &dropped);
        create(&self.dropped_bytes, &dropped);
        create(&self.lost_bytes, &lost);
        create(&self.files_lost, &lost);
        create(&self.long_lines, &["split", "cut"]);
        create(&self.watch_fallbacks, &["overflow", "watch_limit"]);
        for resource in Resource::ALL.map(Resource::name) {
            drop(self.limited.get_or_create(&ResourceLabel { resource }));
        }
        for mode in ["kernel", "inotify", "poll"] {
            drop(self.watch_mode.get_or_create(&ModeLabel { mode }));
            drop(self.watch_wakeups.get_or_create(&ModeLabel { mode }));
        }
        self.config_last_reload_success.set(1);
    }

    /// The same for the configured sinks' series.
    pub fn create_sinks<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for sink in names {
            let label = SinkLabel { sink: sink.to_owned() };
            for family in [&self.delivered_lines, &self.delivered_bytes, &self.retries] {
                drop(family.get_or_create(&label));
            }
            for family in [&self.concurrency, &self.in_flight_bytes, &self.parked_sources] {
                drop(family.get_or_create(&label));
            }
            for family in [&self.oldest_unacked_seconds, &self.failing_seconds] {
                drop(family.get_or_create(&label));
            }
            for class in ["connect", "timeout", "tls", "4xx", "5xx", "io"] {
                let label = ErrorLabel { sink: sink.to_owned(), class };
                drop(self.deliver_errors.get_or_create(&label));
            }
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;

    fn example() -> String {
        let metrics = Arc::new(Metrics::new());
        metrics.create_sinks(["out"]);
        metrics.read_bytes.inc_by(7);
        let sink = SinkMetrics::new(Arc::clone(&metrics), "out");
        sink.error("5xx");
        sink.retry();
        sink.delivered(3);
        metrics.checkpoint_fsync_seconds.observe(0.001);
        metrics.render().unwrap()
    }

    /// Everything that is exposed; a change here is a change for somebody's dashboard.
    #[test]
    fn names_and_labels_stay() {
        let text = example();
        let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        // Series of a family come in no order.
        lines.sort_unstable();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        # EOF
        # TYPE everyline_backlog_bytes gauge
        # TYPE everyline_build info
        # TYPE everyline_checkpoint_age_seconds gauge
        # TYPE everyline_checkpoint_fsync_seconds histogram
        # TYPE everyline_closed_files gauge
        # TYPE everyline_concurrency gauge
        # TYPE everyline_config_last_reload_success gauge
        # TYPE everyline_deliver_errors counter
        # TYPE everyline_delivered_bytes counter
        # TYPE everyline_delivered_lines counter
        # TYPE everyline_dropped_bytes counter
        # TYPE everyline_dropped_lines counter
        # TYPE everyline_failing_seconds gauge
        # TYPE everyline_file_descriptors gauge
        # TYPE everyline_files_lost counter
        # TYPE everyline_in_flight_bytes gauge
        # TYPE everyline_known_files gauge
        # TYPE everyline_limited counter
        # TYPE everyline_lines counter
        # TYPE everyline_long_lines counter
        # TYPE everyline_lost_bytes counter
        # TYPE everyline_memory_budget_bytes gauge
        # TYPE everyline_oldest_unacked_seconds gauge
        # TYPE everyline_open_files gauge
        # TYPE everyline_own_logs gauge
        # TYPE everyline_parked_sources gauge
        # TYPE everyline_read_bytes counter
        # TYPE everyline_reads counter
        # TYPE everyline_retries counter
        # TYPE everyline_sources gauge
        # TYPE everyline_unnamed_sources counter
        # TYPE everyline_unparsed_lines counter
        # TYPE everyline_waiting_files gauge
        # TYPE everyline_watch_fallbacks counter
        # TYPE everyline_watch_mode gauge
        # TYPE everyline_watch_wakeups counter
        # UNIT everyline_backlog_bytes bytes
        # UNIT everyline_checkpoint_age_seconds seconds
        # UNIT everyline_checkpoint_fsync_seconds seconds
        # UNIT everyline_delivered_bytes bytes
        # UNIT everyline_dropped_bytes bytes
        # UNIT everyline_failing_seconds seconds
        # UNIT everyline_in_flight_bytes bytes
        # UNIT everyline_lost_bytes bytes
        # UNIT everyline_memory_budget_bytes bytes
        # UNIT everyline_oldest_unacked_seconds seconds
        # UNIT everyline_read_bytes bytes
        everyline_backlog_bytes 0
        everyline_build_info{version="0.1.0"} 1
        everyline_checkpoint_age_seconds 0.0
        everyline_checkpoint_fsync_seconds_bucket{le="+Inf"} 1
        everyline_checkpoint_fsync_seconds_bucket{le="0.0001"} 0
        everyline_checkpoint_fsync_seconds_bucket{le="0.0004"} 0
        everyline_checkpoint_fsync_seconds_bucket{le="0.0016"} 1
        everyline_checkpoint_fsync_seconds_bucket{le="0.0064"} 1
        everyline_checkpoint_fsync_seconds_bucket{le="0.0256"} 1
        everyline_checkpoint_fsync_seconds_bucket{le="0.1024"} 1
        everyline_checkpoint_fsync_seconds_bucket{le="0.4096"} 1
        everyline_checkpoint_fsync_seconds_bucket{le="1.6384"} 1
        everyline_checkpoint_fsync_seconds_bucket{le="6.5536"} 1
        everyline_checkpoint_fsync_seconds_count 1
        everyline_checkpoint_fsync_seconds_sum 0.001
        everyline_closed_files 0
        everyline_concurrency{sink="out"} 0
        everyline_config_last_reload_success 1
        everyline_deliver_errors_total{sink="out",code_class="4xx"} 0
        everyline_deliver_errors_total{sink="out",code_class="5xx"} 1
        everyline_deliver_errors_total{sink="out",code_class="connect"} 0
        everyline_deliver_errors_total{sink="out",code_class="io"} 0
        everyline_deliver_errors_total{sink="out",code_class="timeout"} 0
        everyline_deliver_errors_total{sink="out",code_class="tls"} 0
        everyline_delivered_bytes_total{sink="out"} 3
        everyline_delivered_lines_total{sink="out"} 0
        everyline_dropped_bytes_total{reason="before_start"} 0
        everyline_dropped_bytes_total{reason="hole"} 0
        everyline_dropped_bytes_total{reason="line_too_long"} 0
        everyline_dropped_bytes_total{reason="not_collected"} 0
        everyline_dropped_bytes_total{reason="rejected"} 0
        everyline_dropped_bytes_total{reason="sink_removed"} 0
        everyline_dropped_bytes_total{reason="too_large"} 0
        everyline_dropped_lines_total{reason="before_start"} 0
        everyline_dropped_lines_total{reason="hole"} 0
        everyline_dropped_lines_total{reason="line_too_long"} 0
        everyline_dropped_lines_total{reason="not_collected"} 0
        everyline_dropped_lines_total{reason="rejected"} 0
        everyline_dropped_lines_total{reason="sink_removed"} 0
        everyline_dropped_lines_total{reason="too_large"} 0
        everyline_failing_seconds{sink="out"} 0.0
        everyline_file_descriptors 0
        everyline_files_lost_total{reason="damaged_gzip"} 0
        everyline_files_lost_total{reason="deleted_unseen"} 0
        everyline_files_lost_total{reason="deleted_while_down"} 0
        everyline_files_lost_total{reason="truncated"} 0
        everyline_in_flight_bytes{sink="out"} 0
        everyline_known_files 0
        everyline_limited_total{resource="admin_connections"} 0
        everyline_limited_total{resource="admin_hosts"} 0
        everyline_limited_total{resource="admin_large_answers"} 0
        everyline_limited_total{resource="descriptors"} 0
        everyline_limited_total{resource="holes"} 0
        everyline_limited_total{resource="known_files"} 0
        everyline_limited_total{resource="listing"} 0
        everyline_limited_total{resource="messages"} 0
        everyline_limited_total{resource="unpacking"} 0
        everyline_lines_total 0
        everyline_long_lines_total{reason="cut"} 0
        everyline_long_lines_total{reason="split"} 0
        everyline_lost_bytes_total{reason="damaged_gzip"} 0
        everyline_lost_bytes_total{reason="deleted_unseen"} 0
        everyline_lost_bytes_total{reason="deleted_while_down"} 0
        everyline_lost_bytes_total{reason="truncated"} 0
        everyline_memory_budget_bytes 0
        everyline_oldest_unacked_seconds{sink="out"} 0.0
        everyline_open_files 0
        everyline_own_logs 0
        everyline_parked_sources{sink="out"} 0
        everyline_read_bytes_total 7
        everyline_reads_total 0
        everyline_retries_total{sink="out"} 1
        everyline_sources 0
        everyline_unnamed_sources_total 0
        everyline_unparsed_lines_total 0
        everyline_waiting_files 0
        everyline_watch_fallbacks_total{reason="overflow"} 0
        everyline_watch_fallbacks_total{reason="watch_limit"} 0
        everyline_watch_mode{mode="inotify"} 0
        everyline_watch_mode{mode="kernel"} 0
        everyline_watch_mode{mode="poll"} 0
        everyline_watch_wakeups_total{mode="inotify"} 0
        everyline_watch_wakeups_total{mode="kernel"} 0
        everyline_watch_wakeups_total{mode="poll"} 0
        "#);
    }

    #[test]
    fn label_values_are_escaped() {
        let metrics = Metrics::new();
        metrics.create_sinks(["a\"b\\c\nd"]);
        assert!(metrics.render().unwrap().contains(r#"retries_total{sink="a\"b\\c\nd"} 0"#));
    }

    /// `deploy/METRICS.md` has every metric by its exposed name, type and labels, and no other.
    #[test]
    fn every_metric_is_documented() {
        let text = include_str!("../../deploy/METRICS.md");
        let documented: BTreeMap<String, (String, String)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `everyline_"))
            .map(|row| {
                let cells: Vec<_> = row.split('|').map(str::trim).collect();
                let [name, kind, labels, meaning, alert, ""] = cells.as_slice() else {
                    panic!("five cells: {row}")
                };
                assert!(!meaning.is_empty() && !alert.is_empty(), "{row}");
                let name = format!("everyline_{}", name.trim_end_matches('`'));
                (name, ((*kind).to_owned(), labels.replace('`', "")))
            })
            .collect();
        assert_eq!(documented, exposed(&example()));
    }

    /// Name → (type, label names).
    fn exposed(text: &str) -> BTreeMap<String, (String, String)> {
        let mut kinds = BTreeMap::new();
        for line in text.lines() {
            if let Some((family, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                let suffix = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                let name = format!("{family}{suffix}");
                let of_name = |line: &&str| {
                    line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                };
                let labels = text.lines().find(of_name).and_then(|line| {
                    let (_, rest) = line.split_once('{')?;
                    let (labels, _) = rest.split_once('}')?;
                    let names: Vec<_> = labels
                        .split(',')
                        .filter_map(|label| label.split_once('=').map(|(name, _)| name))
                        .collect();
                    Some(names.join(", "))
                });
                kinds.insert(name, (kind.to_owned(), labels.unwrap_or_default()));
            }
        }
        kinds
    }
}
