//! What the operator hears of failing deliveries: the first one, then at most one line every ten
//! seconds, once that connections are renewed meanwhile, and at the next delivery that it works again.
//! A server cannot flood the log.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    batch::troubles::{Trouble, Troubles},
    messages::Limit,
    reason::Reason,
};

const INTERVAL: Duration = Duration::from_secs(10);
/// Records that are given up and said in that time: who writes them may write any number.
const DROPS: u32 = 3;

pub(super) struct Report {
    sink: String,
    troubles: Troubles,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of failures.
    limit: Limit,
    /// Of what was given up.
    drops: Limit,
    /// A failure was said, the recovery was not.
    failing: bool,
    /// That connections are renewed was said, the recovery was not.
    renewing: bool,
    /// Why renewed files could not be used, as said last.
    unusable: String,
}

impl Report {
    pub(super) fn new(sink: String, troubles: Troubles) -> Self {
        Self { sink, troubles, state: Mutex::default() }
    }

    /// `text` is already safe to show and holds no secret.
    pub(super) fn failure(&self, text: &str) {
        self.troubles.failed(text);
        if let Some(unsaid) = self.admit(Instant::now()) {
            match unsaid {
                0 => tracing::warn!(sink = self.sink, "{text}"),
                1 => tracing::warn!(
                    sink = self.sink,
                    "{text} One more delivery failed since this was last said."
                ),
                more => tracing::warn!(
                    sink = self.sink,
                    "{text} {more} more deliveries failed since this was last said."
                ),
            }
        }
    }

    /// A batch has failed for the first time. Keep what this gives until it is settled.
    pub(super) fn trouble(&self) -> Trouble {
        self.troubles.begin()
    }

    /// A batch was delivered, at least in part. If no other one is in trouble, it works again.
    pub(super) fn delivered(&self) {
        if !self.troubles.mended() {
            return;
        }
        let mut state = self.lock();
        state.renewing = false;
        if std::mem::take(&mut state.failing) {
            tracing::info!(sink = self.sink, "Deliveries go through again.");
        }
    }

    /// Because deliveries fail, connections are renewed every `every`.
    pub(super) fn renewing(&self, every: Duration) {
        if !std::mem::replace(&mut self.lock().renewing, true) {
            tracing::info!(
                sink = self.sink,
                ?every,
                "Deliveries fail: looking the server's name up again, connecting anew, and reading \
                 certificates and secrets again, at most this often."
            );
        }
    }

    /// Certificates, keys or secrets on disk are others than before, and are used from now on.
    pub(super) fn renewed(&self) {
        tracing::info!(sink = self.sink, "Certificates or secrets were renewed; using them.");
    }

    /// They are others, and cannot be used: said once. `error` holds no secret; empty: they can.
    pub(super) fn unusable(&self, error: &str) {
        let mut state = self.lock();
        if error.is_empty() {
            state.unusable.clear();
        } else if state.unusable != error {
            error.clone_into(&mut state.unusable);
            tracing::warn!(
                sink = self.sink,
                "Certificates were renewed but cannot be used; the old ones are kept. {error}"
            );
        }
    }

    /// A source waits behind a record that was refused.
    pub(super) fn park(&self, source: &Arc<Path>) {
        self.troubles.park(source);
    }

    /// It waits no more: the record was taken.
    pub(super) fn unpark(&self, source: &Path) {
        self.troubles.unpark(source);
        self.delivered();
    }

    /// Data is given up. The ledger has all of it, also what is not said.
    pub(super) fn dropped(&self, lines: u32, reason: Reason, text: &str) {
        let Some(unsaid) = self.lock().drops.admit(Instant::now(), (DROPS, INTERVAL)) else {
            return;
        };
        let more = match unsaid {
            0 => String::new(),
            more => format!(" {more} more times since this was last said."),
        };
        tracing::error!(
            sink = self.sink,
            lines,
            %reason,
            "Dropped, as `on_reject: drop` says: {text}{more}"
        );
    }

    /// Some: say it, with how many were not said before.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        let unsaid = state.limit.admit(now, (1, INTERVAL))?;
        state.failing = true;
        Some(unsaid)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_file_that_cannot_be_used_is_said_once_until_it_can() {
        let report = Report::new("h".into(), Troubles::default());
        report.unusable("no PEM");
        report.delivered();
        assert_eq!(report.lock().unusable, "no PEM", "deliveries do not mend it");
        report.unusable("");
        assert!(report.lock().unusable.is_empty());
    }

    #[test]
    fn it_works_again_only_when_no_batch_is_stuck() {
        let report = Report::new("h".into(), Troubles::default());
        report.admit(Instant::now());
        let (first, second) = (report.trouble(), report.trouble());
        drop(first);
        report.delivered();
        assert!(report.lock().failing);
        drop(second);
        assert!(report.lock().failing, "given up, not delivered");
        report.delivered();
        assert!(!report.lock().failing);
    }
}
