//! How long to wait after a failure: exponential, with full jitter (any length between nothing and
//! the bound is as likely), so that agents that failed together do not come back together.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Counts the failures of one batch.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(base: Duration, max: Duration) -> Self {
        // Zero would spin.
        let base = base.max(Duration::from_millis(1));
        Self { base, max: max.max(base), failures: 0 }
    }

    /// The pause after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        self.next_with(random())
    }

    /// The same for a given 64-bit random number.
    fn next_with(&mut self, random: u64) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        // The high half of a product maps evenly onto 0..=nanos.
        let scaled = (u128::from(random) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(nanos))
    }

    /// The longest pause now: `base * 2^failures`, at most `max`.
    fn bound(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

/// Every `RandomState` has keys of its own, so the hash of nothing is a random number, good enough
/// to spread agents out.
fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_pause_is_within_its_bound_and_the_bound_doubles(
            base in 0_u64..5_000, max in 0_u64..100_000, randoms in proptest::collection::vec(any::<u64>(), 1..80),
        ) {
            let mut backoff = Backoff::new(Duration::from_millis(base), Duration::from_millis(max));
            let base = base.max(1);
            let max = max.max(base);
            for (n, random) in randoms.into_iter().enumerate() {
                let expected = u128::from(base) << n.min(64);
                let bound = expected.min(u128::from(max));
                prop_assert_eq!(backoff.bound().as_millis(), bound);
                prop_assert!(backoff.next_with(random) <= Duration::from_millis(bound as u64));
            }
        }

        #[test]
        fn both_ends_can_be_drawn(failures in 0_u32..40) {
            let backoff = Backoff { failures, ..Backoff::new(Duration::from_millis(200), Duration::from_secs(30)) };
            prop_assert_eq!(backoff.clone().next_with(0), Duration::ZERO);
            prop_assert_eq!(backoff.clone().next_with(u64::MAX), backoff.bound());
        }
    }

    #[test]
    fn pauses_are_spread_over_the_whole_range() {
        let draw = || Backoff::new(Duration::from_secs(8), Duration::from_secs(8)).next();
        let mut quarters = [0; 4];
        for _ in 0..400 {
            quarters[usize::try_from(draw().as_secs() / 2).unwrap().min(3)] += 1;
        }
        assert!(quarters.iter().all(|&count| count > 40), "{quarters:?}");
    }
}
