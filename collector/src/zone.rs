//! The zone in which people write and read times.
//!
//! Stored times are left as they are; here they are read and shown for people: always the same number of
//! digits, always with the zone, so that a time that was printed can be typed in again.

use std::{fmt::Write as _, sync::OnceLock};

use jiff::{Timestamp, tz::TimeZone};

use crate::record::timestamp::Recognizer;

/// UTC, or a zone of a place. Small enough to be handed along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(Option<&'static TimeZone>);

/// Names under which UTC may be configured.
const UTC_NAMES: [&str; 7] =
    ["UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Etc/Universal"];

impl Zone {
    /// UTC.
    pub const UTC: Self = Self(None);

    /// The machine's: `TZ`, else `/etc/localtime`, else UTC.
    pub fn local() -> Self {
        static LOCAL: OnceLock<TimeZone> = OnceLock::new();
        let zone = LOCAL.get_or_init(TimeZone::system);
        let is_utc = zone.is_unknown()
            || *zone == TimeZone::UTC
            || zone.iana_name().is_some_and(|name| UTC_NAMES.contains(&name));
        Self((!is_utc).then_some(zone))
    }

    /// What `TZ` asks for, if this machine cannot tell what it means: [`Zone::local`] is UTC then.
    pub fn unknown() -> Option<String> {
        let asked = std::env::var("TZ").ok().filter(|name| !name.is_empty())?;
        TimeZone::system().is_unknown().then_some(asked)
    }

    /// The same for calendars.
    pub fn time_zone(self) -> TimeZone {
        self.0.cloned().unwrap_or(TimeZone::UTC)
    }

    /// `2026-01-31T10:11:12.500Z` or, elsewhere than in UTC, `2026-01-31T11:11:12.500+01:00`.
    pub fn show(self, at: Timestamp) -> String {
        let offset = self.0.map(|zone| zone.to_offset(at));
        let local = offset.unwrap_or(jiff::tz::Offset::UTC).to_datetime(at);
        let mut text = String::with_capacity(29);
        let millisecond = local.subsec_nanosecond() / 1_000_000;
        // A year before the first has a sign, and then six digits.
        let _infallible = match local.year() {
            year @ 0.. => write!(text, "{year:04}"),
            year => write!(text, "{year:07}"),
        };
        let _infallible = write!(
            text,
            "-{:02}-{:02}T{:02}:{:02}:{:02}.{millisecond:03}",
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second(),
        );
        match offset.map(jiff::tz::Offset::seconds) {
            None => text.push('Z'),
            Some(seconds) => {
                let sign = if seconds < 0 { '-' } else { '+' };
                let minutes = seconds.abs() / 60;
                let _infallible = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            }
        }
        text
    }

    /// Appends a stored time as [`Zone::show`] does. False, and nothing is appended: it is not a time.
    pub fn append(self, stored: &[u8], out: &mut Vec<u8>) -> bool {
        if Recognizer::default().prefix(stored) != Some(stored.len()) {
            return false;
        }
        if let (None, [seconds @ .., b'Z']) = (self.0, stored)
            && let Some((seconds, fraction)) = seconds.split_at_checked(19)
        {
            let digits = fraction.get(1..).unwrap_or_default();
            out.extend_from_slice(seconds);
            out.push(b'.');
            out.extend((0..3).map(|at| digits.get(at).copied().unwrap_or(b'0')));
            out.push(b'Z');
            return true;
        }
        let Some(at) = std::str::from_utf8(stored).ok().and_then(|it| it.parse().ok()) else {
            return false;
        };
        out.extend_from_slice(self.show(at).as_bytes());
        true
    }

    /// A stored time as [`Zone::show`] has it; what is not a time stays as it is.
    pub fn shown(self, stored: &str) -> String {
        let mut out = Vec::new();
        match self.append(stored.as_bytes(), &mut out) {
            true => String::from_utf8_lossy(&out).into_owned(),
            false => stored.to_owned(),
        }
    }
}

/// A zone for tests: `CET-1CEST` and the like.
#[cfg(test)]
pub(crate) fn posix(rule: &str) -> Zone {
    Zone(Some(Box::leak(Box::new(TimeZone::posix(rule).unwrap()))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_time_has_three_digits_and_its_zone() {
        let berlin = posix("CET-1CEST,M3.5.0,M10.5.0/3");
        for (stored, utc, local) in [
            ("2026-01-31T14:00:00.1Z", "2026-01-31T14:00:00.100Z", "2026-01-31T15:00:00.100+01:00"),
            ("2026-07-31T14:00:00Z", "2026-07-31T14:00:00.000Z", "2026-07-31T16:00:00.000+02:00"),
            (
                "2026-01-31T14:00:00.999999999Z",
                "2026-01-31T14:00:00.999Z",
                "2026-01-31T15:00:00.999+01:00",
            ),
            (
                "2026-01-31T23:30:00.25-05:30",
                "2026-02-01T05:00:00.250Z",
                "2026-02-01T06:00:00.250+01:00",
            ),
        ] {
            assert_eq!(Zone::UTC.shown(stored), utc);
            assert_eq!(berlin.shown(stored), local);
        }
        assert_eq!(Zone::UTC.shown("0000-01-01T00:00:00Z"), "0000-01-01T00:00:00.000Z");
        assert_eq!(
            posix("<-0330>3:30").shown("2026-01-31T01:00:00Z"),
            "2026-01-30T21:30:00.000-03:30"
        );
        for text in
            ["", "yesterday", "2026-01-31", "2026-13-31T14:00:00Z", "2026-01-31T14:00:00Z\x1b"]
        {
            assert_eq!((Zone::UTC.shown(text), berlin.shown(text)), (text.into(), text.into()));
        }
    }

    #[test]
    fn a_time_before_the_first_year_can_be_typed_in_again() {
        for text in ["-000001-12-31T23:59:59.500Z", "-009999-01-02T01:59:59.000Z"] {
            assert_eq!(Zone::UTC.show(text.parse().unwrap()), text);
        }
        // Where it is later, the year has begun.
        let eve: Timestamp = "-000001-12-31T23:59:59.500Z".parse().unwrap();
        assert_eq!(posix("CET-1").show(eve), "0000-01-01T00:59:59.500+01:00");
        assert_eq!(posix("CET-1").show(eve).parse::<Timestamp>().unwrap(), eve);
    }

    proptest! {
        /// Both ways of showing agree, and what is shown is the same instant to the millisecond.
        #[test]
        fn what_is_shown_is_the_instant(nanoseconds in -2_000_000_000_000_000_000i128..4_000_000_000_000_000_000, digits in 0_u8..10) {
            let at = Timestamp::from_nanosecond(nanoseconds).unwrap();
            let stored = format!("{at:.*}", usize::from(digits));
            let kept: Timestamp = stored.parse().unwrap();
            prop_assert_eq!(Zone::UTC.shown(&stored), Zone::UTC.show(kept));
            for zone in [Zone::UTC, posix("EST5EDT,M3.2.0,M11.1.0")] {
                let again: Timestamp = zone.shown(&stored).parse().unwrap();
                prop_assert_eq!(again.as_millisecond(), kept.as_nanosecond().div_euclid(1_000_000) as i64);
            }
        }
    }
}
