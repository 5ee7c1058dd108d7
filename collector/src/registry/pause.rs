//! Time in which nobody could look for anything: the agent was stopped, others had the processors, or a disk
//! did not answer.
//!
//! What waits for an older file waits for some seconds of looking. Where these passed while the agent was
//! paused, the older file would be given up at the first look afterwards.

use std::time::{Duration, Instant};

use super::{Registry, rest};

/// Less is what a busy machine takes.
const LEAST: Duration = Duration::from_millis(500);

/// When this thread was at this place last, and what time of a processor it had had by then.
pub(super) struct Awake {
    at: Instant,
    used: Duration,
}

impl Awake {
    /// From now on.
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), used: rest::used() }
    }

    /// How long this thread neither worked nor meant to wait (`planned`) since it was here last.
    fn paused(&mut self, planned: Duration) -> Duration {
        let former = std::mem::replace(self, Self::now());
        let worked = self.used.saturating_sub(former.used);
        self.at.saturating_duration_since(former.at).saturating_sub(worked + planned)
    }
}

impl Registry {
    /// Has a pause since the last call count for nothing that waits; how long it was. `planned`: what this
    /// thread meant to wait meanwhile.
    pub(super) fn heed_pause(&mut self, planned: Duration) -> Duration {
        let pause = self.awake.paused(planned);
        if pause < LEAST {
            return Duration::ZERO;
        }
        for parked in self.parked.values_mut() {
            parked.since += pause;
            parked.begun += pause;
        }
        for unfinished in self.unfinished.values_mut() {
            unfinished.since += pause;
        }
        pause
    }
}
