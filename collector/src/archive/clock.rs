//! Clock: whether the wall clock can be trusted with a removal by age.
//!
//! A wall clock that is wrong (a restored virtual machine, a dead battery, a wrong time server) makes
//! a whole history look old. What was removed cannot be brought back, so a clock is trusted only after it
//! has agreed with the time since boot, which nobody sets, for a while.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The wall clock and the time since boot (suspension included), read together.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// What the wall clock says.
    pub wall: SystemTime,
    /// Since boot.
    pub running: Duration,
}

/// Watches the wall clock.
#[derive(Debug)]
pub struct Clock {
    /// Since this reading the wall clock has agreed with the time since boot.
    anchor: Reading,
    settle: Duration,
    tolerance: Duration,
}

impl Reading {
    /// Reads both clocks.
    pub fn now() -> Self {
        let running = clock_gettime(ClockId::Boottime);
        let whole = Duration::from_secs(running.tv_sec.unsigned_abs());
        let rest = Duration::from_nanos(running.tv_nsec.unsigned_abs());
        Self { wall: SystemTime::now(), running: whole + rest }
    }
}

impl Clock {
    /// Watches from `now` on, for removals at the age `max_age`. The clock is trusted when it has
    /// agreed for a 24th of that (10 s to 1 h). A step of up to a hundredth of it is tolerated,
    /// because it can remove hardly anything too early.
    pub fn new(max_age: Duration, now: Reading) -> Self {
        let settle = (max_age / 24).clamp(Duration::from_secs(10), Duration::from_secs(3_600));
        let tolerance = (max_age / 100).max(Duration::from_secs(1));
        Self { anchor: now, settle, tolerance }
    }

    /// Whether the wall clock of `now` can be trusted. Call it often: a step is seen only between
    /// two calls.
    pub fn is_trusted(&mut self, now: Reading) -> bool {
        let agreed = now.running.saturating_sub(self.anchor.running);
        let expected = self.anchor.wall + agreed;
        let step = now.wall.duration_since(expected).unwrap_or_else(|behind| behind.duration());
        if step > self.tolerance {
            self.anchor = now;
            return false;
        }
        agreed >= self.settle
    }

    /// How long the clock has to agree.
    pub fn settle(&self) -> Duration {
        self.settle
    }
}

/// Seconds since the epoch.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn at(running: Duration, ahead: Duration) -> Reading {
        let boot = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Reading { wall: boot + running + ahead, running }
    }

    #[test]
    fn a_clock_is_trusted_after_it_has_agreed_for_a_while() {
        let mut clock = Clock::new(WEEK, at(Duration::ZERO, Duration::ZERO));
        assert!(!clock.is_trusted(at(HOUR / 2, Duration::ZERO)));
        assert!(clock.is_trusted(at(HOUR, Duration::ZERO)));
        // A step ahead, and the step back, each cost an hour.
        assert!(!clock.is_trusted(at(HOUR * 2, WEEK * 4)));
        assert!(!clock.is_trusted(at(HOUR * 2 + HOUR / 2, WEEK * 4)));
        assert!(!clock.is_trusted(at(HOUR * 3, Duration::ZERO)));
        assert!(!clock.is_trusted(at(HOUR * 4 - Duration::from_secs(1), Duration::ZERO)));
        assert!(clock.is_trusted(at(HOUR * 4, Duration::ZERO)));
    }

    #[test]
    fn small_steps_are_tolerated_but_do_not_add_up() {
        let mut clock = Clock::new(WEEK, at(Duration::ZERO, Duration::ZERO));
        assert!(clock.is_trusted(at(HOUR * 2, HOUR)));
        assert!(!clock.is_trusted(at(HOUR * 4, HOUR * 2)));
    }

    #[test]
    fn a_short_retention_trusts_sooner() {
        let mut clock = Clock::new(Duration::from_secs(60), at(Duration::ZERO, Duration::ZERO));
        assert!(!clock.is_trusted(at(Duration::from_secs(9), Duration::ZERO)));
        assert!(clock.is_trusted(at(Duration::from_secs(10), Duration::ZERO)));
    }
}
