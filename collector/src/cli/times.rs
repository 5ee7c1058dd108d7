//! Times on the command line: in which zone they are read and shown, and what people mean by them.

use clap::Args;
use jiff::{Span, Timestamp, ToSpan as _, Zoned, civil};

use crate::zone::Zone;

/// In which zone times are read and shown.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ZoneArgs {
    /// Read and show times in this machine's zone: TZ, else /etc/localtime (the default)
    #[arg(long, conflicts_with = "utc")]
    local: bool,
    /// Read and show times in UTC
    #[arg(long)]
    utc: bool,
}

/// How times are read and shown now.
#[derive(Debug, Clone)]
pub struct Times {
    /// The zone of times that name none, and of those that are shown.
    pub zone: Zone,
    now: Zoned,
    /// What has to be said about it.
    notes: Vec<String>,
}

/// Not one of the ways to write a time.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a time; write it like 10m, 2h30m, 10:11, \"2026-01-31 10:11\" or \
     2026-01-31T10:11:12Z"
)]
pub struct NoTime(String);

/// A time as it was written.
enum Written {
    Instant(Timestamp),
    /// A time of day, without a date.
    Daily(civil::Time),
}

impl Times {
    /// As the arguments say.
    pub fn new(args: ZoneArgs) -> Self {
        let zone = if args.utc { Zone::UTC } else { Zone::local() };
        let mut times = Self::at(zone, Timestamp::now());
        if !args.utc
            && let Some(asked) = Zone::unknown()
        {
            times.notes.push(format!(
                "TZ={asked:?} is not a zone that this machine knows; times are read and shown in UTC"
            ));
        }
        times
    }

    /// At a given time.
    pub(crate) fn at(zone: Zone, now: Timestamp) -> Self {
        Self { zone, now: now.to_zoned(zone.time_zone()), notes: Vec::new() }
    }

    /// From when to when. A time of day means the last one that has been: yesterday's if today's is still
    /// to come, and for the end the first one after the beginning.
    pub fn range(
        &mut self,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<(Option<Timestamp>, Option<Timestamp>), RangeError> {
        let read = |option, text: Option<&str>| {
            let written = text.map(|text| self.read(text)).transpose();
            written.map_err(|error| RangeError::NoTime(option, error))
        };
        let (from, to) = (read("since", since)?, read("until", until)?);
        let daily = matches!(from, Some(Written::Daily(_)));
        let from = match from {
            Some(Written::Daily(time)) => Some(self.last(time, since.unwrap_or_default())?),
            Some(Written::Instant(at)) => {
                self.note_future(at);
                Some(at)
            }
            None => None,
        };
        let to = match to {
            Some(Written::Daily(time)) => {
                let first = from.filter(|_| daily).map(|at| at.to_zoned(self.zone.time_zone()));
                let mut end = self.on(first.as_ref().unwrap_or(&self.now), time, 0)?;
                if from.is_some_and(|from| daily && end < from) {
                    end = self.on(first.as_ref().unwrap_or(&self.now), time, 1)?;
                }
                Some(end)
            }
            Some(Written::Instant(at)) => Some(at),
            None => None,
        };
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            let (from, to) = (self.zone.show(from), self.zone.show(to));
            return Err(RangeError::Empty(from, to));
        }
        Ok((from, to))
    }

    /// What has to be said, each once.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The last time of this day's time.
    fn last(&mut self, time: civil::Time, text: &str) -> Result<Timestamp, RangeError> {
        let today = self.on(&self.now, time, 0)?;
        if today <= self.now.timestamp() {
            return Ok(today);
        }
        let yesterday = self.on(&self.now, time, -1)?;
        self.notes.push(format!(
            "--since {text} is still to come today; yesterday's is meant, {}",
            self.zone.show(yesterday)
        ));
        Ok(yesterday)
    }

    fn note_future(&mut self, at: Timestamp) {
        let now = self.now.timestamp();
        if at > now {
            self.notes.push(format!(
                "--since {} is still to come: it is {} now. Only lines that bear a later time can be \
                 found",
                self.zone.show(at),
                self.zone.show(now)
            ));
        }
    }

    /// A time of day, so many days after that day.
    fn on(&self, day: &Zoned, time: civil::Time, days: i64) -> Result<Timestamp, RangeError> {
        let date = day.date().checked_add(days.days()).map_err(RangeError::Calendar)?;
        let at = date.to_datetime(time).to_zoned(self.zone.time_zone());
        Ok(at.map_err(RangeError::Calendar)?.timestamp())
    }

    /// A time as written by people: an instant, a date with or without a time, a time of day, or how long
    /// ago. One that names a zone is in that.
    fn read(&self, text: &str) -> Result<Written, NoTime> {
        let text = text.trim();
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(Written::Instant(instant));
        }
        if let Ok(zoned) = text.parse::<Zoned>() {
            return Ok(Written::Instant(zoned.timestamp()));
        }
        let none = |_: jiff::Error| NoTime(text.to_owned());
        if let Ok(local) = text.parse::<civil::DateTime>() {
            let zoned = local.to_zoned(self.zone.time_zone()).map_err(none)?;
            return Ok(Written::Instant(zoned.timestamp()));
        }
        if let Ok(time) = text.parse::<civil::Time>() {
            return Ok(Written::Daily(time));
        }
        let ago: Span = text.parse().map_err(none)?;
        // "10m" and "10m ago" are the same.
        Ok(Written::Instant(self.now.checked_sub(ago.abs()).map_err(none)?.timestamp()))
    }
}

/// Why there is no range.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// What was given is not a time.
    #[error("--{0}: {1}")]
    NoTime(&'static str, NoTime),
    /// It ends before it begins.
    #[error("--since {0} is after --until {1}; nothing can lie between them")]
    Empty(String, String),
    /// Beyond what calendars know.
    #[error("no calendar has this time: {0}")]
    Calendar(jiff::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::posix;

    /// It is 14:20 in New York, 19:20 in UTC.
    fn times(zone: Zone) -> Times {
        Times::at(zone, "2026-11-26T19:20:00Z".parse().unwrap())
    }

    fn new_york() -> Zone {
        posix("EST5EDT,M3.2.0,M11.1.0")
    }

    #[track_caller]
    fn range(zone: Zone, since: &str, until: &str) -> (String, String, Vec<String>) {
        let mut times = times(zone);
        let given = |text: &'static str| (!text.is_empty()).then_some(text);
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let (from, to) = times.range(given(leak(since)), given(leak(until))).unwrap();
        let shown = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        (shown(from), shown(to), times.notes())
    }

    #[test]
    fn a_time_without_a_zone_is_in_the_zone_that_is_shown() {
        for (zone, since, at) in [
            (Zone::UTC, "10:11", "2026-11-26T10:11:00Z"),
            (new_york(), "10:11", "2026-11-26T15:11:00Z"),
            (Zone::UTC, "2026-07-01 10:11", "2026-07-01T10:11:00Z"),
            (new_york(), "2026-07-01 10:11", "2026-07-01T14:11:00Z"),
            (new_york(), "2026-07-01", "2026-07-01T04:00:00Z"),
            (new_york(), "2026-07-01T10:11:12Z", "2026-07-01T10:11:12Z"),
            (new_york(), "2026-07-01T10:11:12+02:00", "2026-07-01T08:11:12Z"),
            (new_york(), "2026-07-01T10:11:12.500[UTC]", "2026-07-01T10:11:12.5Z"),
            (new_york(), "10m", "2026-11-26T19:10:00Z"),
            (new_york(), "1d 2h ago", "2026-11-25T17:20:00Z"),
        ] {
            assert_eq!(range(zone, since, ""), (at.into(), String::new(), vec![]), "{since}");
        }
        // What is shown can be given back.
        let now = times(new_york()).now.timestamp();
        assert_eq!(range(Zone::UTC, &new_york().show(now), "").0, now.to_string());
    }

    #[test]
    fn a_time_of_day_that_is_still_to_come_is_yesterdays_and_that_is_said() {
        let (from, _, notes) = range(Zone::UTC, "23:59", "");
        assert_eq!(from, "2026-11-25T23:59:00Z");
        assert_eq!(
            notes,
            [
                "--since 23:59 is still to come today; yesterday's is meant, 2026-11-25T23:59:00.000Z"
            ]
        );
        // It is only 14:20 there.
        let (from, _, notes) = range(new_york(), "19:00", "");
        assert_eq!((from.as_str(), notes.len()), ("2026-11-26T00:00:00Z", 1));
        let (from, to, _) = range(Zone::UTC, "22:00", "02:00");
        assert_eq!(from, "2026-11-25T22:00:00Z");
        assert_eq!(to, "2026-11-26T02:00:00Z");
        let (from, to, notes) = range(Zone::UTC, "10:00", "23:59");
        assert_eq!(from, "2026-11-26T10:00:00Z");
        assert_eq!((to.as_str(), notes.len()), ("2026-11-26T23:59:00Z", 0));
        let (from, to, _) = range(Zone::UTC, "23:00", "23:59");
        assert_eq!(from, "2026-11-25T23:00:00Z");
        assert_eq!(to, "2026-11-25T23:59:00Z");
        assert_eq!(range(Zone::UTC, "3d", "12:00").1, "2026-11-26T12:00:00Z");
    }

    #[test]
    fn an_instant_that_is_still_to_come_is_said() {
        let (from, _, notes) = range(new_york(), "2026-11-27 10:00", "");
        assert_eq!(from, "2026-11-27T15:00:00Z");
        assert!(notes[0].starts_with("--since 2026-11-27T10:00:00.000-05:00 is still to come"));
        assert!(notes[0].contains("it is 2026-11-26T14:20:00.000-05:00 now"), "{notes:?}");
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_to_write() {
        let mut times = times(new_york());
        let wrong =
            |times: &mut Times, since, until| times.range(since, until).unwrap_err().to_string();
        let said = wrong(&mut times, Some("last tuesday"), None);
        assert!(
            said.starts_with("--since: `last tuesday` is not a time; write it like 10m"),
            "{said}"
        );
        let said = wrong(&mut times, Some("10m"), Some("1h"));
        assert_eq!(
            said,
            "--since 2026-11-26T14:10:00.000-05:00 is after --until 2026-11-26T13:20:00.000-05:00; \
             nothing can lie between them"
        );
    }
}
