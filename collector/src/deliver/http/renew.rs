//! Begins anew where deliveries fail: the server's name is looked up again, connections are made
//! again, certificates, keys and secrets are read again. Any failure may come of one that is out of
//! date: a server that moved while the old one answers 503, an expired client certificate that a
//! gateway answers with 400, a token that another status than 401 refuses.
//!
//! Files that changed are used at once. Without a change that can be seen it is done every
//! [`Pace::every`] at most, for a lookup and a handshake for each request would make an overload
//! worse. Connections that work are renewed too, rarely: else one to a single address of several
//! would last as long as the agent, whatever became of the name and the certificates meanwhile.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Fault, Sink};

/// How often things are renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// At most, while deliveries fail.
    pub(super) every: Duration,
    /// At least, however well they go.
    pub(super) at_last: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        // Agents that started together must not all come back together.
        let spread = Duration::from_secs(RandomState::new().hash_one(0_u8) % 240);
        Self { every: Duration::from_secs(5), at_last: Duration::from_secs(480) + spread }
    }
}

/// Content that was refused while others was taken this short a time before speaks of itself.
const TAKEN_LATELY: Duration = Duration::from_secs(1);

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// What was sent was refused. Renewing is worth it only if nothing else is taken either.
    Content,
    /// Anything else.
    Delivery,
}

/// When what was renewed and what was delivered.
#[derive(Debug)]
pub(super) struct Renewal {
    pace: Pace,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    renewed: Instant,
    delivered: Option<Instant>,
}

impl Renewal {
    /// Everything is new at present.
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, state: Mutex::new(State { renewed: Instant::now(), delivered: None }) }
    }

    /// Something was delivered.
    pub(super) fn delivered(&self) {
        self.state().delivered = Some(Instant::now());
    }

    /// Whether it is time to renew after a failure. If so, that is taken for done.
    fn is_due(&self, failed: Failed, now: Instant) -> bool {
        let mut state = self.state();
        let since = |then: Instant| now.saturating_duration_since(then);
        let taken_lately = state.delivered.is_some_and(|then| since(then) < TAKEN_LATELY);
        let due =
            since(state.renewed) >= self.pace.every && !(failed == Failed::Content && taken_lately);
        if due {
            state.renewed = now;
        }
        due
    }

    /// The same where nothing failed.
    fn is_old(&self, now: Instant) -> bool {
        let mut state = self.state();
        let old = now.saturating_duration_since(state.renewed) >= self.pace.at_last;
        if old {
            state.renewed = now;
        }
        old
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    /// A delivery failed. True: it is worth another attempt at once, for the reason may be gone.
    pub(super) fn renew_after(&self, failed: Failed) -> bool {
        let due = self.renewal.is_due(failed, Instant::now());
        let changed = self.renew(due);
        if due && !changed {
            self.report.renewing(self.renewal.pace.every);
        }
        changed || (due && failed == Failed::Content)
    }

    /// Before a request: connections that are in use for long are given up.
    pub(super) fn renew_if_old(&self) {
        if self.renewal.is_old(Instant::now()) {
            self.renew(true);
        }
    }

    /// Reads secrets and certificates again, and connects anew if it is `due` or certificates are
    /// others. True: secrets or certificates are others.
    fn renew(&self, due: bool) -> bool {
        let secret = self.auth.reload();
        let read = self.client.reread(due, Fault { sink: &self.name });
        self.report.unusable(&read.as_ref().err().map(ToString::to_string).unwrap_or_default());
        let certificates = read.unwrap_or(false);
        if due || certificates {
            self.client.reconnect();
        }
        if secret || certificates {
            self.report.renewed();
        }
        secret || certificates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { every: Duration::from_secs(5), at_last: Duration::from_secs(600) };

    #[test]
    fn it_is_bounded_and_a_refused_record_among_others_is_no_reason() {
        let renewal = Renewal::new(PACE);
        let start = renewal.state().renewed;
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(!renewal.is_due(Failed::Delivery, at(4)));
        assert!(renewal.is_due(Failed::Delivery, at(5)));
        for _ in 0..100 {
            assert!(!renewal.is_due(Failed::Delivery, at(9)));
        }
        renewal.state().delivered = Some(at(20));
        assert!(!renewal.is_due(Failed::Content, at(20)));
        assert!(renewal.is_due(Failed::Content, at(21)), "nothing else is taken");
        assert!(!renewal.is_due(Failed::Content, at(22)));
        assert!(!renewal.is_old(at(620)));
        assert!(renewal.is_old(at(621)));
        assert!(!renewal.is_old(at(622)));
    }

    #[test]
    fn agents_do_not_renew_in_step() {
        let first = Pace::default().at_last;
        assert!((0..50).any(|_| Pace::default().at_last != first));
    }
}
