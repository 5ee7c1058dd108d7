//! What a name says about being the former file of another: `app.log.2.gz`, `0.log.20260131-101112`.
//!
//! Knows the habits of kubelet, Docker, logrotate and the usual logging libraries. Only reads
//! names; whether the live file exists or is wanted at all is the caller's business.

use super::AgeKey;

/// One way to read a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// The live file's name.
    pub(super) live: String,
    /// How old.
    pub(super) key: AgeKey,
    /// True for `app-20260131.log`, which today may well be the live file itself.
    pub(super) infix: bool,
}

/// The name without `.gz`, and whether it had it.
pub(super) fn gunzipped(name: &str) -> (&str, bool) {
    match name.strip_suffix(".gz") {
        Some(stem) if !stem.is_empty() => (stem, true),
        _ => (name, false),
    }
}

/// Whether a name says that its content is compressed in a way that is not read.
pub(super) fn is_unreadable(name: &str) -> bool {
    [".xz", ".bz2", ".zst", ".lz4", ".lzma", ".zip", ".Z", ".7z"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Every way to read a name (without its `.gz`) as a former file's, likeliest first.
pub(super) fn readings(name: &str) -> Vec<Reading> {
    let mut readings = Vec::new();
    if let Some((live, key)) = split_suffix(name) {
        readings.push(Reading { live: live.to_owned(), key, infix: false });
    }
    if let Some((stem, extension)) = name.rsplit_once('.')
        && !extension.is_empty()
        && !extension.starts_with(|c: char| c.is_ascii_digit())
        && let Some((live, key)) = split_suffix(stem)
    {
        readings.push(Reading { live: format!("{live}.{extension}"), key, infix: true });
    }
    readings
}

/// `app.log.3` → `app.log` and 3; `app.log-20260131` → `app.log` and the date.
fn split_suffix(name: &str) -> Option<(&str, AgeKey)> {
    let separators = name.bytes().enumerate().skip(1).filter(|(_, c)| b".-_".contains(c));
    for (at, _) in separators {
        let (live, tail) = (&name[..at], &name[at + 1..]);
        if let Some(date) = date(tail) {
            return Some((live, AgeKey::Date(date)));
        }
    }
    let (live, tail) = name.rsplit_once('.')?;
    // Longer numbers are process ids, ports, ids: not the count of rotations.
    let number = !live.is_empty() && (1..=5).contains(&tail.len()) && is_number(tail);
    let number: i64 = number.then(|| tail.parse().ok())??;
    Some((live, AgeKey::Number(-number)))
}

/// A date, so written that dates compare as text.
fn date(tail: &str) -> Option<String> {
    let (day, rest) = match tail.get(..10) {
        // Seconds since 1970 (logrotate's `dateformat -%s`).
        Some(seconds) if tail.len() == 10 && is_number(seconds) && is_hours(seconds) => {
            return Some(seconds.to_owned());
        }
        Some(seconds) if tail.len() == 10 && is_number(seconds) && seconds.starts_with('1') => {
            return Some(seconds.to_owned());
        }
        Some(dashed) if is_dashed_day(dashed) => tail.split_at(10),
        _ => (tail.get(..8).filter(|day| is_day(day))?, tail.get(8..)?),
    };
    let allowed = |c: char| c.is_ascii_digit() || "-_:.TZ+".contains(c);
    if !rest.chars().all(allowed) {
        return None;
    }
    // `2026-01-31.10` comes after `2026-01-31.9`.
    Some(match rest.rsplit_once('.') {
        Some((before, count)) if is_number(count) && count.len() <= 5 => {
            format!("{day}{before}.{count:0>5}")
        }
        _ => tail.to_owned(),
    })
}

fn is_dashed_day(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes[4] == bytes[7]
        && b"-_.".contains(&bytes[4])
        && text.is_ascii()
        && is_day(&format!("{}{}{}", &text[..4], &text[5..7], &text[8..]))
}

/// `2026013123`
fn is_hours(text: &str) -> bool {
    is_day(&text[..8]) && matches!(text[8..].parse(), Ok(0..=23_u8))
}

/// `20260131`
fn is_day(text: &str) -> bool {
    is_number(text)
        && text.len() == 8
        && matches!(text[..4].parse(), Ok(1970..=2999_u16))
        && matches!(text[4..6].parse(), Ok(1..=12_u8))
        && matches!(text[6..].parse(), Ok(1..=31_u8))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &[(&str, AgeKey, bool)]) {
        let found: Vec<_> = readings(name)
            .into_iter()
            .map(|reading| (reading.live, reading.key, reading.infix))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(live, key, infix)| (live.to_string(), key.clone(), *infix))
            .collect();
        assert_eq!(found, expected, "{name}");
    }

    fn number(n: i64) -> AgeKey {
        AgeKey::Number(-n)
    }

    fn dated(date: &str) -> AgeKey {
        AgeKey::Date(date.to_owned())
    }

    #[test]
    fn the_usual_names_of_former_files() {
        check("app.log.1", &[("app.log", number(1), false)]);
        check("ID-json.log.12", &[("ID-json.log", number(12), false)]);
        check("0.log.20260131-101112", &[("0.log", dated("20260131-101112"), false)]);
        check("app.log-20260131", &[("app.log", dated("20260131"), false)]);
        check("app.log-2026013123", &[("app.log", dated("2026013123"), false)]);
        check("app.log-1767225600", &[("app.log", dated("1767225600"), false)]);
        check("app.log.2026-01-31", &[("app.log", dated("2026-01-31"), false)]);
        check("app.log.2026-01-31.7", &[("app.log", dated("2026-01-31.00007"), false)]);
        check("app-20260131.log", &[("app.log", dated("20260131"), true)]);
        check("app.2026-01-31.3.log", &[("app.log", dated("2026-01-31.00003"), true)]);
        check("app.1.log", &[("app.log", number(1), true)]);
    }

    #[test]
    fn the_usual_names_of_live_files() {
        for name in ["app.log", "0.log", "syslog", "20260131", "a.1234567", "v1.2", "x-99999999"] {
            let wrong: Vec<_> = readings(name).into_iter().filter(|it| it.live != "v1").collect();
            assert_eq!(wrong, [], "{name}");
        }
        for name in ["", ".", "..", ".1", "-", ".gz", "a.", "a..log", "1", "0.log.tmp"] {
            check(name, &[]);
        }
    }

    #[test]
    fn gzip_is_told_from_the_name() {
        assert_eq!(gunzipped("0.log.20260131-101112.gz"), ("0.log.20260131-101112", true));
        assert_eq!(gunzipped("0.log"), ("0.log", false));
        assert_eq!(gunzipped(".gz"), (".gz", false));
        assert!(is_unreadable("app.log.1.xz") && !is_unreadable("app.log.1.gz"));
    }

    #[test]
    fn oldest_first() {
        let mut names = ["a.log.1", "a.log.10", "a.log.2", "a.log.9"];
        names.sort_by_key(|name| readings(name)[0].key.clone());
        assert_eq!(names, ["a.log.10", "a.log.9", "a.log.2", "a.log.1"]);
        let mut names = [
            "0.log.20260201-000000",
            "0.log.20260131-101112",
            "0.log.20251231-235959",
            "0.log.20260131-101111",
        ];
        names.sort_by_key(|name| readings(name)[0].key.clone());
        assert_eq!(
            names,
            [
                "0.log.20251231-235959",
                "0.log.20260131-101111",
                "0.log.20260131-101112",
                "0.log.20260201-000000",
            ]
        );
        let mut names = ["a.log.2026-01-31.10", "a.log.2026-01-31.9", "a.log.2026-01-30.11"];
        names.sort_by_key(|name| readings(name)[0].key.clone());
        assert_eq!(names, ["a.log.2026-01-30.11", "a.log.2026-01-31.9", "a.log.2026-01-31.10"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_name_has_shorter_live_names(name in "\\PC{0,40}|[0-9a.\\-_log]{0,30}") {
            for reading in readings(gunzipped(&name).0) {
                prop_assert!(!reading.live.is_empty());
                prop_assert!(reading.live.len() < name.len());
            }
        }

        #[test]
        fn a_number_is_read_back(stem in "[a-z]{1,8}\\.log", n in 0_i64..100_000) {
            let found = readings(&format!("{stem}.{n}"));
            prop_assert_eq!(&found[0], &Reading { live: stem, key: number(n), infix: false });
        }
    }
}
