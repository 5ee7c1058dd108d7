//! Times, lengths of time and sizes as machines and people write them: what is read is shown, and what is
//! shown is read as the same.

use collector::{
    config::{ByteSize, Span},
    fuzzing,
    record::timestamp::{self, Recognizer, Stamp},
    zone::Zone,
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::input::Input;

/// No choices. Content: one text, or two in lines of their own for a range.
pub fn run(data: &[u8]) {
    let content = Input::new(data).content;
    let Ok(text) = std::str::from_utf8(content) else {
        recognised(content);
        return;
    };
    recognised(content);
    shown(text);
    written_by_people::<Span>(text);
    written_by_people::<ByteSize>(text);
    ranges(text);
}

/// A timestamp is one as a whole, whatever was recognised before it, and jiff agrees on what it means.
fn recognised(bytes: &[u8]) {
    let alone = Recognizer::default().prefix(bytes);
    let mut warm = Recognizer::default();
    // The same minute, so that the recogniser has nothing to look at but the rest.
    if let Some(minute) = bytes.get(..16) {
        let _first = warm.prefix(&[minute, b":00Z"].concat());
        assert_eq!(warm.prefix(bytes), alone, "a minute that is remembered excuses something");
    }
    let Some(length) = alone else {
        assert_eq!(timestamp::parse_nanos(bytes), None);
        return;
    };
    let text = &bytes[..length];
    assert!(length <= timestamp::MAX_LEN && text.is_ascii());
    assert_eq!(Stamp::new(Some(text)).get(), Some(text));
    let seconds = timestamp::parse_seconds(text).expect("it is a timestamp");
    let nanoseconds = timestamp::parse_nanos(text).expect("it is a timestamp");
    let text = std::str::from_utf8(text).expect("ASCII");
    // jiff's calendar ends some hours earlier at both ends.
    if let Ok(known) = text.parse::<Timestamp>() {
        assert_eq!(seconds, known.as_nanosecond().div_euclid(1_000_000_000) as i64, "{text}");
        if let Ok(wanted) = i64::try_from(known.as_nanosecond()) {
            assert_eq!(nanoseconds, wanted, "{text}");
        }
    } else {
        let year: u32 = text[..4].parse().expect("digits");
        assert!(matches!(year, 0 | 9999), "{text} is no time to jiff");
    }
}

/// A stored time is shown as the same millisecond, and what is none stays as it is.
fn shown(text: &str) {
    let shown = Zone::UTC.shown(text);
    if Recognizer::default().prefix(text.as_bytes()) != Some(text.len()) {
        assert_eq!(shown, text);
        return;
    }
    if let (Ok(stored), Ok(again)) = (text.parse::<Timestamp>(), shown.parse::<Timestamp>()) {
        let milliseconds = stored.as_nanosecond().div_euclid(1_000_000);
        assert_eq!(again.as_nanosecond(), milliseconds * 1_000_000, "{text} is shown as {shown}");
    }
}

/// What is taken is written so that it is taken as the same.
fn written_by_people<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) {
    let Ok(read) = serde_json::from_value::<T>(text.into()) else { return };
    let written = serde_json::to_value(&read).expect("a text");
    let again: Result<T, _> = serde_json::from_value(written.clone());
    assert_eq!(again.ok().as_ref(), Some(&read), "{text} is written as {written}");
}

/// A range of the command line ends after it begins, and its ends as shown are its ends.
fn ranges(text: &str) {
    let now: Timestamp = "2026-11-22T01:42:33.5Z".parse().expect("a time");
    let (since, until) = match text.split_once('\n') {
        Some((since, until)) => (Some(since), Some(until)),
        None => (Some(text), None),
    };
    let mut times = fuzzing::times(now);
    let Ok((from, to)) = times.range(since, until) else { return };
    if let (Some(from), Some(to)) = (from, to) {
        assert!(from <= to, "{text:?}");
    }
    for end in [from, to].into_iter().flatten() {
        let shown = Zone::UTC.show(end);
        let again = fuzzing::times(now).range(Some(&shown), None);
        let Ok((Some(again), None)) = again else { panic!("{text:?} is shown as {shown}") };
        assert_eq!(again.as_nanosecond(), end.as_nanosecond().div_euclid(1_000_000) * 1_000_000);
    }
    // Each is said once.
    let notes = times.notes();
    assert!(notes.len() <= 2 && times.notes().is_empty(), "{notes:?}");
}
