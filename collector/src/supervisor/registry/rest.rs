//! Directories that take long to look at rest between two looks.
//!
//! A look costs as much as a directory has entries, logs or not, and whoever may write there can have it looked
//! at again and again. So one that took long is left alone for twenty times as long, and all that take long have a
//! tenth of the registry's time together. What changes there meanwhile is noticed later; elsewhere it is
//! noticed as ever. Processor time counts: a busy machine makes nobody rest.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Map, Registry};
use crate::{
    held_back::{self, Resource},
    watch::DirToken,
};

/// A look that took less time costs nobody anything.
const LONG: Duration = Duration::from_millis(10);
/// So many times as long as its look took a directory rests.
const TIMES: u32 = 20;
/// So many times as long every other one rests that takes long.
const TIMES_ALL: u32 = 9;
/// No longer than this.
const LONGEST: Duration = Duration::from_secs(5);
/// So long after its rest one is known to take long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Directories that take long to look at.
#[derive(Debug, Default)]
pub(super) struct Rests {
    /// Until when each is left alone.
    until: Map<DirToken, Instant>,
    /// Until when all of them are.
    all_until: Option<Instant>,
}

impl Rests {
    /// When a directory may be looked at again; None: now.
    fn until(&self, directory: DirToken, now: Instant) -> Option<Instant> {
        let until = self.until.get(&directory).copied()?;
        self.all_until.into_iter().chain([until]).max().filter(|until| *until > now)
    }

    /// It was looked at, which took so long.
    fn looked(&mut self, directory: DirToken, took: Duration, now: Instant) {
        if took < LONG {
            self.until.remove(&directory);
            return;
        }
        self.until.retain(|_, until| now.saturating_duration_since(*until) < REMEMBERED);
        self.until.insert(directory, now + (took * TIMES).min(LONGEST));
        self.all_until = Some(now + (took * TIMES_ALL).min(LONGEST));
    }
}

impl Registry {
    /// Looks at a directory again, or plans to where it rests.
    pub(super) fn relist_in_turn(&mut self, token: DirToken, path: &Path) {
        if let Some(until) = self.rests.until(token, Instant::now()) {
            held_back::note(Resource::Listing, &path.to_string_lossy());
            self.retries.entry(path.to_owned()).or_insert(until);
            return;
        }
        let began = used();
        self.relist(token);
        self.rests.looked(token, used().saturating_sub(began), Instant::now());
    }
}

/// The processor time that this thread has used.
pub(super) fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Whether what began then (see [`used`]) takes too long to be done once more at once.
pub(super) fn takes_long(began: Duration) -> bool {
    used().saturating_sub(began) >= LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_rests_and_nothing_else_does() {
        let mut rests = Rests::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (quick, slow, other) =
            (DirToken::numbered(1), DirToken::numbered(2), DirToken::numbered(3));
        let ms = Duration::from_millis;
        rests.looked(quick, ms(1), at(1));
        assert_eq!(rests.until(quick, at(1)), None);
        rests.looked(slow, ms(100), at(100));
        assert_eq!(rests.until(slow, at(101)), Some(at(2_100)));
        assert_eq!(rests.until(quick, at(101)), None, "another's look costs it nothing");
        // Many that take long do not take all the time together.
        rests.looked(other, ms(20), at(1_100));
        assert_eq!(rests.until(other, at(1_400)), Some(at(1_500)), "its own rest");
        rests.looked(slow, ms(100), at(2_200));
        assert_eq!(rests.until(other, at(2_201)), Some(at(3_100)), "another's");
        assert_eq!(rests.until(other, at(3_100)), None);
        rests.looked(slow, ms(60_000), at(9_000));
        assert_eq!(rests.until(slow, at(9_001)), Some(at(14_000)), "never for long");
        rests.looked(slow, ms(1), at(14_000));
        assert_eq!(rests.until(slow, at(14_000)), None, "it takes long no more");
    }
}
