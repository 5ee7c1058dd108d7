//! The Retry-After header of a reply: seconds, or a date. What is absurd is cut to the bound, what
//! cannot be read is ignored.

use std::time::Duration;

use hyper::{HeaderMap, header};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

/// How long the server asks to wait, at most `max`. None: it does not say, or not legibly.
pub(super) fn parse(headers: &HeaderMap, now: Timestamp, max: Duration) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number are more than any bound.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(max));
    }
    // The three formats of HTTP dates end alike; only the first is still sent.
    let date = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    let wait = Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, text.parse().unwrap());
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        parse(&headers, now, Duration::from_secs(60)).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        assert_eq!(of("7"), Some(7));
        assert_eq!(of("0"), Some(0));
        assert_eq!(of("1000000000000"), Some(60));
        assert_eq!(of("99999999999999999999999999"), Some(60));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
        assert_eq!(of("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        assert_eq!(of("Wed, 06 Nov 2999 08:49:37 GMT"), Some(60));
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        for text in ["", "soon", "-1", "1e12", "1.5", "Sun, 99 Nov 1994 08:49:37 GMT", "é"] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::RETRY_AFTER,
                header::HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            );
            assert_eq!(parse(&headers, Timestamp::now(), Duration::from_secs(60)), None, "{text}");
        }
    }
}
