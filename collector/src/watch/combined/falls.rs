//! Falls from a better mode to a lesser one: each is counted, and each kind is said once.

use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    metrics::{Metrics, ReasonLabel},
    watch::{Mode, inotify, kernel},
};

/// An overflow is said at most so often.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What was said so far.
pub(super) struct Falls {
    metrics: Arc<Metrics>,
    inotify: HashSet<inotify::Refusal>,
    kernel: HashSet<kernel::Refusal>,
    overflow: Option<Instant>,
}

/// Counts one fall from a better mode.
pub(in crate::watch) fn count_fallback(metrics: &Metrics, reason: &'static str) {
    metrics.watch_fallbacks.get_or_create(&ReasonLabel { reason }).inc();
}

impl Falls {
    /// Nothing was said yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, inotify: HashSet::new(), kernel: HashSet::new(), overflow: None }
    }

    /// One more for this reason.
    pub(super) fn count(&self, reason: &'static str) {
        count_fallback(&self.metrics, reason);
    }

    /// inotify does not watch a directory.
    pub(super) fn say_inotify(&mut self, refusal: inotify::Refusal, path: &Path) {
        self.count(refusal.reason());
        if self.inotify.insert(refusal) {
            tracing::warn!(
                directory = ?path,
                reason = refusal.reason(),
                "inotify cannot watch a directory; it and others like it are polled instead, at \
                 the cost of some CPU. To mend it: {}.",
                refusal.advice()
            );
        }
    }

    /// The kernel watch does not watch a directory, or a file in it.
    pub(super) fn say_kernel(&mut self, refusal: kernel::Refusal, path: &Path) {
        self.count(refusal.reason());
        if !self.kernel.insert(refusal) {
            return;
        }
        match refusal {
            // As good as it gets there, and no fault of anybody's.
            kernel::Refusal::Filesystem => tracing::info!(
                directory = ?path,
                "The kernel watch does not reach this directory's filesystem; inotify watches it \
                 and others like it. Nothing needs doing."
            ),
            kernel::Refusal::Full => tracing::warn!(
                directory = ?path,
                "The kernel watch is full; inotify watches what is left. Raise \
                 watch.kernel.max_files."
            ),
            kernel::Refusal::Unknown => tracing::warn!(
                directory = ?path,
                "The kernel did not say what it calls a file; inotify watches it. Nothing needs \
                 doing."
            ),
        }
    }

    /// What this mode's mechanism had to tell found no room.
    pub(super) fn say_overflow(&mut self, mode: Mode) {
        self.count("overflow");
        if self.overflow.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        self.overflow = Some(Instant::now());
        if mode == Mode::Kernel {
            tracing::warn!(
                "The kernel watch's ring overflowed; every file is looked at instead, nothing is \
                 lost. If it recurs, give the agent more CPU."
            );
        } else {
            tracing::warn!(
                "The kernel's inotify queue overflowed; every file is looked at instead, nothing \
                 is lost. If it recurs, raise the sysctl fs.inotify.max_queued_events."
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    /// `deploy/METRICS.md` has a table of them.
    #[test]
    fn every_reason_of_a_fall_is_documented() {
        use crate::watch::{LoadError, inotify::Refusal as Inotify, kernel::Refusal as Kernel};
        let inotify = [
            Inotify::Missing,
            Inotify::WatchLimit,
            Inotify::Resources,
            Inotify::Permission,
            Inotify::Unsupported,
        ];
        let kernel = [Kernel::Filesystem, Kernel::Full, Kernel::Unknown];
        let load = [
            LoadError::NoObject,
            LoadError::NoBtf(io::ErrorKind::NotFound.into()),
            LoadError::Refused(String::new()),
            LoadError::NoHook(Vec::new()),
        ];
        let mut ours: Vec<&str> = vec!["overflow", "network_filesystem"];
        ours.extend(inotify.map(Inotify::reason));
        ours.extend(kernel.map(Kernel::reason));
        ours.extend(load.iter().map(LoadError::reason));
        ours.sort_unstable();
        let text = include_str!("../../../../deploy/METRICS.md");
        let (_, table) = text.split_once("## Falls to a lesser watch mode").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let mut rows: Vec<&str> = rows.map(|row| row.split('`').next().unwrap()).collect();
        rows.sort_unstable();
        assert_eq!(rows, ours);
    }
}
