//! What the operator hears of failing deliveries: the first one, then at most one line every ten
//! seconds, then that it works again. A server cannot flood the log.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    deliver::troubles::{self, Troubles},
    reason::Reason,
};

const INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Report {
    sink: String,
    troubles: Troubles,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When a failure was last said.
    said: Option<Instant>,
    /// Failures since, not said.
    unsaid: u64,
    /// Batches on the way that have failed at least once.
    troubled: usize,
    /// A failure was said, the recovery was not.
    failing: bool,
}

impl Report {
    pub(super) fn new(sink: String, troubles: Troubles) -> Self {
        Self { sink, troubles, state: Mutex::default() }
    }

    /// `text` is already safe to show and holds no secret.
    pub(super) fn failure(&self, text: &str) {
        self.troubles.failed(text);
        if let Some(unsaid) = self.admit(Instant::now()) {
            tracing::warn!(sink = self.sink, unsaid, "{text}");
        }
    }

    /// A batch has failed for the first time. Keep what this gives until it is settled.
    pub(super) fn trouble(&self) -> Trouble<'_> {
        self.lock().troubled += 1;
        Trouble { report: self, _shown: self.troubles.begin() }
    }

    /// A source waits behind a record that was refused.
    pub(super) fn park(&self, source: &Arc<Path>) {
        self.troubles.park(source);
    }

    /// It waits no more.
    pub(super) fn unpark(&self, source: &Path) {
        self.troubles.unpark(source);
        self.say_if_over(&mut self.lock());
    }

    /// Data is given up: never held back.
    pub(super) fn dropped(&self, lines: u32, reason: Reason, text: &str) {
        tracing::error!(
            sink = self.sink,
            lines,
            %reason,
            "Dropped, as `on_reject: drop` says: {text}"
        );
    }

    /// Some: say it, with how many were not said before.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        if state.said.is_some_and(|said| now.saturating_duration_since(said) < INTERVAL) {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(now);
        state.failing = true;
        Some(std::mem::take(&mut state.unsaid))
    }

    fn say_if_over(&self, state: &mut State) {
        let over = state.troubled == 0 && self.troubles.parked() == 0;
        if over && std::mem::take(&mut state.failing) {
            tracing::info!(sink = self.sink, "Deliveries go through again.");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch in trouble. When the last one is out of it, that is said: a lane that is stuck must not
/// be called well because another one moves.
pub(super) struct Trouble<'a> {
    report: &'a Report,
    _shown: troubles::Trouble,
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        let mut state = self.report.lock();
        state.troubled -= 1;
        self.report.say_if_over(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_failures_is_one_line_in_ten_seconds() {
        let report = Report::new("h".into(), Troubles::default());
        let start = Instant::now();
        assert_eq!(report.admit(start), Some(0));
        for n in 0..1_000 {
            assert_eq!(report.admit(start + Duration::from_millis(n)), None);
        }
        assert_eq!(report.admit(start + INTERVAL), Some(1_000));
    }
    #[test]
    fn it_works_again_only_when_no_batch_is_stuck() {
        let report = Report::new("h".into(), Troubles::default());
        report.admit(Instant::now());
        let (first, second) = (report.trouble(), report.trouble());
        drop(first);
        assert!(report.lock().failing);
        drop(second);
        assert!(!report.lock().failing);
    }
}
