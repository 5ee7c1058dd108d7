//! The time bounds of a batch, from its records' timestamps, without parsing each one.
//!
//! Lines come in bursts: a timestamp in the same minute as the one before changes nothing. Bounds
//! are therefore whole minutes around the records' times, which is all that skipping needs.

use super::TimeBounds;
use crate::record::timestamp;

/// Gathers the bounds of one batch after another.
#[derive(Debug, Clone, Default)]
pub struct TimeTracker {
    /// `YYYY-MM-DDThh:mm:` of the last timestamp taken into the bounds …
    minute: [u8; 17],
    /// … and its zone, padded with zeros.
    zone: [u8; 6],
    bounds: Option<TimeBounds>,
}

impl TimeTracker {
    /// Takes in one record: its timestamp (a valid one), or else when it was read, in seconds since
    /// the epoch.
    #[inline]
    pub fn add(&mut self, timestamp: Option<&[u8]>, observed: i64) {
        if let Some(text) = timestamp
            && let Some(minute) = text.first_chunk::<17>()
            && *minute == self.minute
            && same_zone(text, &self.zone)
        {
            return;
        }
        self.widen(timestamp, observed);
    }

    /// The bounds of what was added; None: nothing was.
    pub fn bounds(&self) -> Option<TimeBounds> {
        self.bounds
    }

    /// The bounds, beginning anew.
    pub fn take(&mut self) -> Option<TimeBounds> {
        std::mem::take(self).bounds
    }

    fn widen(&mut self, timestamp: Option<&[u8]>, observed: i64) {
        let parsed = timestamp.and_then(|text| Some((text, timestamp::parse_seconds(text)?)));
        if let Some((text, _)) = parsed {
            self.minute.copy_from_slice(&text[..17]);
            let zone = timestamp::zone(text);
            self.zone = [0; 6];
            self.zone[..zone.len()].copy_from_slice(zone);
        }
        let seconds = parsed.map_or(observed, |(_, seconds)| seconds);
        let from = seconds.div_euclid(60) * 60;
        let bounds = self.bounds.get_or_insert(TimeBounds { from, to: from });
        bounds.from = bounds.from.min(from);
        // The whole minute, leap second included.
        bounds.to = bounds.to.max(from + 60);
    }
}

#[inline]
fn same_zone(timestamp: &[u8], zone: &[u8; 6]) -> bool {
    if zone[0] == b'Z' { timestamp.ends_with(b"Z") } else { timestamp.ends_with(zone) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(timestamps: &[&str]) -> Option<(i64, i64)> {
        let mut tracker = TimeTracker::default();
        for timestamp in timestamps {
            tracker.add(Some(timestamp.as_bytes()), 0);
        }
        tracker.take().map(|bounds| (bounds.from, bounds.to))
    }

    #[test]
    fn whole_minutes_around_the_records() {
        assert_eq!(bounds(&[]), None);
        assert_eq!(bounds(&["1970-01-01T00:00:07.5Z"]), Some((0, 60)));
        assert_eq!(bounds(&["1970-01-01T00:01:00Z", "1970-01-01T00:00:59.999Z"]), Some((0, 120)));
        assert_eq!(bounds(&["1970-01-01T00:00:00Z", "1970-01-01T00:00:00-01:00"]), Some((0, 3660)));
        assert_eq!(
            bounds(&["2262-04-11T23:47:16.854775807Z", "1969-12-31T23:59:30Z"]),
            Some((-60, 9_223_372_080))
        );
    }

    #[test]
    fn records_without_a_time_count_with_when_they_were_read() {
        let mut tracker = TimeTracker::default();
        tracker.add(None, 3_601);
        tracker.add(None, -1);
        assert_eq!(tracker.bounds(), Some(TimeBounds { from: -60, to: 3_660 }));
        assert!(tracker.take().is_some());
        assert_eq!(tracker.bounds(), None);
    }

    proptest! {
        #[test]
        fn contains_every_time(times in proptest::collection::vec((0_i64..10_000, prop_oneof![Just("Z"), Just("+00:01"), Just("-00:01")]), 1..50)) {
            let mut tracker = TimeTracker::default();
            let (mut least, mut most) = (i64::MAX, i64::MIN);
            for (seconds, zone) in times {
                let text = jiff::Timestamp::from_second(seconds).unwrap().to_string();
                let text = text.replace('Z', zone);
                let exact = text.parse::<jiff::Timestamp>().unwrap().as_second();
                (least, most) = (least.min(exact), most.max(exact));
                tracker.add(Some(text.as_bytes()), 0);
            }
            let TimeBounds { from, to } = tracker.bounds().unwrap();
            prop_assert!(from <= least && least - from < 60, "{from} {least}");
            prop_assert!(to >= most && to - most <= 60, "{to} {most}");
        }
    }
}
