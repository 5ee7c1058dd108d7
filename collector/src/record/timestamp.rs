//! RFC 3339 timestamps as container runtimes write them: recognised, kept verbatim, rarely parsed.
//!
//! A timestamp is checked for its exact shape and for being a real date, because it is copied into
//! records as it stands. It is not converted: only [`parse_seconds`] does that, for the time bounds
//! of batches. Lower-case `t` and `z`, a space for the `T` and fractions beyond nine digits are
//! legal by the RFC's letter, written by no runtime, and refused.

/// Longest timestamp there is: `2026-11-22T01:42:33.123456789+00:00`.
pub const MAX_LEN: usize = 35;

/// Recognises timestamps, quickly where one falls into the same minute as the one before.
#[derive(Debug, Clone, Default)]
pub struct Recognizer {
    /// `YYYY-MM-DDThh:mm` of the last valid timestamp.
    minute: [u8; 16],
}

impl Recognizer {
    /// The length of the valid timestamp that `input` begins with, if it does. What follows it is
    /// the caller's to check.
    #[inline]
    pub fn prefix(&mut self, input: &[u8]) -> Option<usize> {
        let (minute, rest) = input.split_first_chunk::<16>()?;
        if *minute != self.minute {
            if !is_minute(minute) {
                return None;
            }
            self.minute = *minute;
        }
        // `:ss.nnnnnnnnnZ`, what every runtime writes that keeps UTC.
        if let Some(tail) = rest.first_chunk::<14>()
            && tail[13] == b'Z'
            && tail[3] == b'.'
            && all_digits(&tail[4..12])
            && tail[12].is_ascii_digit()
            && is_second(tail)
        {
            return Some(30);
        }
        Some(16 + seconds_and_zone(rest)?)
    }
}

/// A timestamp kept beyond the buffer it was read in.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Stamp {
    /// Keeps `timestamp`. None, and anything too long to be one, is kept as none.
    pub fn new(timestamp: Option<&[u8]>) -> Self {
        let mut stamp = Self { bytes: [0; MAX_LEN], len: 0 };
        if let Some(text) = timestamp
            && let Some(place) = stamp.bytes.get_mut(..text.len())
        {
            place.copy_from_slice(text);
            stamp.len = text.len() as u8;
        }
        stamp
    }

    /// What was kept.
    pub fn get(&self) -> Option<&[u8]> {
        (self.len > 0).then(|| &self.bytes[..usize::from(self.len)])
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::new(None)
    }
}

/// Seconds since the epoch, rounded down; None if `timestamp` is not, as a whole, a valid one. A
/// leap second counts as the second before it.
pub fn parse_seconds(timestamp: &[u8]) -> Option<i64> {
    if Recognizer::default().prefix(timestamp)? != timestamp.len() {
        return None;
    }
    let number = |at: usize, len: usize| {
        timestamp[at..at + len].iter().fold(0_i64, |n, digit| n * 10 + i64::from(digit - b'0'))
    };
    let days = days_since_epoch(number(0, 4), number(5, 2), number(8, 2));
    let time = number(11, 2) * 3600 + number(14, 2) * 60 + number(17, 2).min(59);
    let sign_at = timestamp.len() - 6;
    let ahead = match timestamp[sign_at] {
        b'+' => number(sign_at + 1, 2) * 3600 + number(sign_at + 4, 2) * 60,
        b'-' => -(number(sign_at + 1, 2) * 3600 + number(sign_at + 4, 2) * 60),
        _ => 0,
    };
    // A fraction changes nothing: bounds round down, and offsets are whole minutes.
    Some(days * 86_400 + time - ahead)
}

/// Nanoseconds since the epoch, as far as they can be told (until 2262); None as above.
pub fn parse_nanos(timestamp: &[u8]) -> Option<i64> {
    let seconds = parse_seconds(timestamp)?;
    let fraction = timestamp.get(20..).filter(|_| timestamp[19] == b'.').unwrap_or_default();
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit());
    let (value, unit) = digits.fold((0, 1_000_000_000), |(value, unit), digit| {
        (value + i64::from(digit - b'0') * (unit / 10), unit / 10)
    });
    debug_assert!(unit > 0, "a fraction has nine digits at most");
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(value))
}

/// The zone of a valid timestamp: `Z` or `±hh:mm`.
pub fn zone(timestamp: &[u8]) -> &[u8] {
    let len = if timestamp.last() == Some(&b'Z') { 1 } else { 6 };
    &timestamp[timestamp.len().saturating_sub(len)..]
}

/// `YYYY-MM-DDThh:mm`, a minute that exists.
fn is_minute(text: &[u8; 16]) -> bool {
    let shaped = text.iter().zip(b"0000-00-00T00:00").all(|(byte, pattern)| match pattern {
        b'0' => byte.is_ascii_digit(),
        separator => byte == separator,
    });
    if !shaped {
        return false;
    }
    let two = |at: usize| (text[at] - b'0') * 10 + (text[at + 1] - b'0');
    let year = u32::from(two(0)) * 100 + u32::from(two(2));
    let (month, day) = (two(5), two(8));
    (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && two(11) <= 23
        && two(14) <= 59
}

/// `:ss` at the front; 60 is a leap second.
fn is_second(text: &[u8]) -> bool {
    text[0] == b':'
        && text[2].is_ascii_digit()
        && (matches!(text[1], b'0'..=b'5') || text[1..3] == *b"60")
}

/// The length of `:ss[.n…](Z|±hh:mm)` at the front of `text`.
fn seconds_and_zone(text: &[u8]) -> Option<usize> {
    if text.len() < 4 || !is_second(text) {
        return None;
    }
    let mut at = 3;
    if text[at] == b'.' {
        let digits = text[4..].iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        at = 4 + digits;
    }
    match text.get(at)? {
        b'Z' => Some(at + 1),
        b'+' | b'-' => {
            let zone = text.get(at + 1..at + 6)?;
            let hour = matches!(zone[..2], [b'0' | b'1', b'0'..=b'9'] | [b'2', b'0'..=b'3']);
            let minute = matches!(zone[3..], [b'0'..=b'5', b'0'..=b'9']);
            (hour && zone[2] == b':' && minute).then_some(at + 6)
        }
        _ => None,
    }
}

/// Whether eight bytes are all digits.
#[inline]
fn all_digits(text: &[u8]) -> bool {
    let Some(eight) = text.first_chunk::<8>() else { return false };
    // Digits become 0..=9, and only those stay below 0x80 when 0x76 is added; a carry out of a
    // byte can only come from one that is itself at or above 0x80.
    let values = u64::from_ne_bytes(*eight) ^ 0x3030_3030_3030_3030;
    (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080 == 0
}

fn days_in_month(year: u32, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Counts years from March, so that the
/// leap day is the last of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> bool {
        Recognizer::default().prefix(text.as_bytes()) == Some(text.len())
    }

    #[test]
    fn accepts_what_runtimes_write() {
        for text in [
            "2026-11-22T01:42:33.123456789Z",
            "2026-11-22T01:42:33Z",
            "2026-11-22T01:42:33.1Z",
            "2026-11-22T01:42:33.123456789+00:00",
            "2026-11-22T01:42:33-23:59",
            "2024-02-29T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "1970-01-01T00:00:00.000000000Z",
            "2262-04-11T23:47:16.854775807Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert!(whole(text), "{text}");
        }
    }

    #[test]
    fn refuses_garbage() {
        for text in [
            "",
            "2026",
            "2026-11-22T01:42:33",
            "2026-11-22 01:42:33Z",
            "2026-11-22t01:42:33z",
            "2026-13-22T01:42:33Z",
            "2026-00-22T01:42:33Z",
            "2026-11-31T01:42:33Z",
            "2026-02-29T01:42:33Z",
            "1900-02-29T01:42:33Z",
            "2026-11-22T24:42:33Z",
            "2026-11-22T01:60:33Z",
            "2026-11-22T01:42:61Z",
            "2026-11-22T01:42:33.Z",
            "2026-11-22T01:42:33.1234567890Z",
            "2026-11-22T01:42:33.12345678aZ",
            "2026-11-22T01:42:33+24:00",
            "2026-11-22T01:42:33+00:60",
            "2026-11-22T01:42:33+0000",
            "2026-11-22T01:42:33,123Z",
            "+2026-11-22T01:42:33Z",
            "2026-11-22T01:42:3\u{663}Z",
        ] {
            assert!(!whole(text), "{text}");
        }
    }

    #[test]
    fn the_remembered_minute_excuses_nothing() {
        let mut recognizer = Recognizer::default();
        assert_eq!(recognizer.prefix(b"2026-11-22T01:42:33.123456789Z x"), Some(30));
        assert_eq!(recognizer.prefix(b"2026-11-22T01:42:73.123456789Z x"), None);
        assert_eq!(recognizer.prefix(b"2026-11-22T01:42"), None);
        assert_eq!(recognizer.prefix(b"2026-11-22T01:42:34Z"), Some(20));
        assert_eq!(Recognizer::default().prefix(&[0; 40]), None);
    }

    #[test]
    fn zones() {
        assert_eq!(zone(b"2026-11-22T01:42:33Z"), b"Z");
        assert_eq!(zone(b"2026-11-22T01:42:33-05:30"), b"-05:30");
    }

    fn timestamps() -> impl Strategy<Value = String> {
        "[0-9]{4}-(0[0-9]|1[0-3])-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:[0-6][0-9])"
    }

    /// What jiff makes of it, narrowed to what we mean to accept.
    fn oracle(text: &str) -> Option<i64> {
        let date = text.parse::<jiff::Timestamp>().ok()?;
        let fraction = text.get(19..)?.trim_start_matches('.');
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let hours = text.rsplit_once(['+', '-']).filter(|_| !text.ends_with('Z'));
        let hours_fit = hours.is_none_or(|(_, zone)| zone[..2] <= *"23");
        (digits <= 9 && hours_fit).then(|| date.as_nanosecond().div_euclid(1_000_000_000) as i64)
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(text in timestamps()) {
            // jiff's timestamps end before the last hours of the year 9999.
            prop_assume!(!text.starts_with("9999-12-3") && !text.starts_with("0000-01-0"));
            prop_assert_eq!(parse_seconds(text.as_bytes()), oracle(&text), "{}", text);
        }

        #[test]
        fn a_stamp_keeps_what_it_got(text in timestamps()) {
            let text = &text.as_bytes()[..text.len().min(MAX_LEN)];
            let (some, none) = (Stamp::new(Some(text)), Stamp::default());
            prop_assert_eq!(some.get(), Some(text));
            prop_assert_eq!(none.get(), None);
        }

        #[test]
        fn bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            if let Some(len) = Recognizer::default().prefix(&bytes) {
                prop_assert!(len <= bytes.len());
            }
            let _seconds = parse_seconds(&bytes);
        }

        #[test]
        fn mutated_timestamps_agree_with_jiff(mut text in timestamps().prop_map(String::into_bytes), at: prop::sample::Index, byte in 0x20_u8..0x7f) {
            let at = at.index(text.len());
            text[at] = byte;
            let text = String::from_utf8(text).unwrap();
            prop_assume!(!text.starts_with("9999-12-3") && !text.starts_with("0000-01-0"));
            if let Some(seconds) = parse_seconds(text.as_bytes()) {
                prop_assert_eq!(Some(seconds), oracle(&text), "{}", text);
            }
        }
    }
}
