//! Retain: which segments have to go. Decides, removes nothing; see `write`.

use std::time::Duration;

use super::clock::{Clock, Reading, seconds};

/// Of the segments that are too old, one in so many goes at a time: were the clock wrong after all, most
/// of the history would outlive it until somebody notices.
const SHARE: usize = 10;

/// What retention knows of a closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its size, bytes.
    pub bytes: u64,
    /// When its last line was stored, seconds since the epoch.
    pub stored: i64,
}

/// How much is kept.
#[derive(Debug)]
pub struct Limits {
    /// Of all segments, the open one included.
    bytes: u64,
    /// Since a segment's last line was stored.
    age: Duration,
    clock: Clock,
    /// When segments last went for their age, since boot.
    removed: Option<Duration>,
}

impl Limits {
    /// Limits whose clock is watched from `now` on.
    pub fn new(bytes: u64, age: Duration, now: Reading) -> Self {
        Self { bytes, age, clock: Clock::new(age, now), removed: None }
    }

    /// The bound on all segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of the closed segments, oldest first, have to go so that no more than the bound of
    /// bytes is there. `open` is what cannot go: the open segment and what is about to be written.
    pub fn beyond_bytes(&self, closed: impl IntoIterator<Item = Kept>, open: u64) -> usize {
        let closed: Vec<Kept> = closed.into_iter().collect();
        let sizes = closed.iter().map(|kept| kept.bytes);
        let mut bytes = sizes.fold(open, u64::saturating_add);
        for (gone, kept) in closed.iter().enumerate() {
            if bytes <= self.bytes {
                return gone;
            }
            bytes = bytes.saturating_sub(kept.bytes);
        }
        closed.len()
    }

    /// How many of the closed segments, oldest first, go now for their age. None while the clock is
    /// not trusted; else a share of all at a time, and the next after a while.
    pub fn beyond_age(&mut self, closed: impl IntoIterator<Item = Kept>, now: Reading) -> usize {
        if !self.clock.is_trusted(now) {
            return 0;
        }
        let pause = self.clock.settle() / 6;
        if self.removed.is_some_and(|last| now.running.saturating_sub(last) < pause) {
            return 0;
        }
        let oldest = seconds(now.wall).saturating_sub_unsigned(self.age.as_secs());
        let closed: Vec<Kept> = closed.into_iter().collect();
        let old = closed.iter().take_while(|kept| kept.stored < oldest).count();
        let going = old.min(closed.len().div_ceil(SHARE));
        if going > 0 {
            self.removed = Some(now.running);
        }
        going
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(second: u64) -> Reading {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + second);
        Reading { wall, running: Duration::from_secs(5_000 + second) }
    }

    fn closed(segments: &[(u64, i64)]) -> impl Iterator<Item = Kept> {
        segments.iter().map(|&(bytes, ago)| Kept { bytes, stored: NOW as i64 - ago })
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let beyond = |bytes, open| {
            let limits = Limits::new(bytes, Duration::from_secs(100), at(0));
            limits.beyond_bytes(closed(&[(10, 10), (10, 9), (10, 8)]), open)
        };
        assert_eq!(beyond(100, 10), 0);
        assert_eq!(beyond(40, 10), 0);
        assert_eq!(beyond(39, 10), 1);
        assert_eq!(beyond(20, 10), 2);
        assert_eq!(beyond(5, 10), 3);
        assert_eq!(beyond(u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn a_segment_goes_when_its_last_line_was_stored_too_long_ago() {
        let segments = [(10, 101), (10, 100), (10, 8)];
        let mut limits = Limits::new(1_000, Duration::from_secs(100), at(0));
        assert_eq!(limits.beyond_age(closed(&segments), at(9)), 0, "the clock is not trusted yet");
        let mut limits = Limits::new(1_000, Duration::from_secs(109), at(0));
        assert_eq!(limits.beyond_age(closed(&segments), at(10)), 1);
        assert_eq!(limits.beyond_age(closed(&segments[1..]), at(10)), 0);
    }

    #[test]
    fn a_clock_that_is_wrong_for_good_removes_a_share_at_a_time() {
        let segments: Vec<_> = (0..95).map(|number| (10, 200 - number)).collect();
        let mut limits = Limits::new(1_000, Duration::from_secs(600), at(0));
        let ahead = |second| at(second + 1_000_000);
        assert_eq!(limits.beyond_age(closed(&segments), at(60)), 0);
        let stepped = |second| Reading { running: at(second).running, ..ahead(second) };
        assert_eq!(limits.beyond_age(closed(&segments), stepped(61)), 0, "it stepped");
        assert_eq!(limits.beyond_age(closed(&segments), stepped(86)), 10);
        assert_eq!(limits.beyond_age(closed(&segments[10..]), stepped(87)), 0);
        assert_eq!(limits.beyond_age(closed(&segments[10..]), stepped(91)), 9);
    }
}
