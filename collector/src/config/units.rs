//! Sizes and durations as people write them: `1MiB`, `64Mi`, `1.5GiB`; `250ms`, `1h30m`.

use std::time::Duration;

/// A number of bytes: `512`, `64KiB`, `64Ki`, `1MiB`, `10MB`, `1.5TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time: `0`, `250ms`, `1s`, `1h30m`, `7d`, `2w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show_bytes(self.0))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show_span(self.0))
    }
}

macro_rules! via_str {
    ($type:ty, $parse:path, $show:path) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$show(self.0))
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map(Self).map_err(serde::de::Error::custom)
            }
        }
    };
}

via_str!(ByteSize, parse_bytes, show_bytes);
via_str!(Span, parse_span, show_span);

/// Those that are shown come first.
const SIZES: [(&str, u64); 17] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    // As Kubernetes writes them.
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
    ("bytes", 1),
];
/// How many of [`SIZES`] are shown.
const SHOWN_SIZES: usize = 5;

/// Those that are shown come first. Larger ones have to come first in what is written, too.
const SPANS: [(&str, u64); 6] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
    ("w", 7 * 86_400_000),
];
const SHOWN_SPANS: usize = 5;

fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = |todo: &str| format!("`{}` is not a size; {todo}", text.escape_debug());
    let known = "write it like 512, 64KiB, 1MiB, 1.5GiB or 10MB";
    let (number, unit) = split(text.trim()).ok_or_else(|| wrong(known))?;
    if unit.is_empty() && number.fraction == 0 {
        return number.of(1).ok_or_else(|| wrong(known));
    }
    if let Some((_, scale)) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        if *scale == 1 && number.fraction > 0 {
            return Err(wrong(known));
        }
        return number.of(*scale).ok_or_else(|| wrong("it is larger than any disk; lower it"));
    }
    Err(match unit {
        // A thousand thousands to some, 1024 * 1024 to others.
        "K" | "M" | "G" | "T" | "P" | "k" | "m" | "g" | "t" | "p" => {
            let unit = unit.to_uppercase();
            wrong(&format!(
                "`{unit}` has two meanings: write {unit}iB (of 1024) or {unit}B (of 1000)"
            ))
        }
        _ => wrong(known),
    })
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = |todo: &str| format!("`{}` is not a duration; {todo}", text.escape_debug());
    let known = "write it like 250ms, 1s, 10m, 1h30m or 7d";
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total, mut last) = (0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let letters = rest[digits..].trim_start();
        let end = letters.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(letters.len());
        let (number, _) = split(&rest[..digits]).ok_or_else(|| wrong(known))?;
        let (unit, behind) = letters.split_at(end);
        if unit.is_empty() {
            return Err(wrong("give a unit: ms, s, m, h or d"));
        }
        let scale = SPANS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let scale = scale.ok_or_else(|| wrong(known))?.1;
        if scale >= last {
            return Err(wrong("write larger units first, each once, like 1h30m"));
        }
        if scale == 1 && number.fraction > 0 {
            return Err(wrong("nothing is shorter than 1ms; round it"));
        }
        last = scale;
        let part = number.of(scale).and_then(|part| total.checked_add(part));
        total = part.ok_or_else(|| wrong("it is longer than anything lasts; lower it"))?;
        rest = behind.trim_start();
    }
    match last {
        u64::MAX => Err(wrong(known)),
        _ => Ok(Duration::from_millis(total)),
    }
}

/// A decimal number.
struct Number {
    whole: u64,
    /// Digits behind the point.
    fraction: u64,
    /// What one of these is a part of.
    parts: u64,
}

impl Number {
    /// So many units of this scale, rounded down; None: too many.
    fn of(&self, scale: u64) -> Option<u64> {
        let behind = u128::from(self.fraction) * u128::from(scale) / u128::from(self.parts);
        self.whole.checked_mul(scale)?.checked_add(u64::try_from(behind).ok()?)
    }
}

/// A number and what follows it.
fn split(text: &str) -> Option<(Number, &str)> {
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (whole, rest) = text.split_at(digits(text));
    let whole = whole.parse().ok()?;
    let Some(behind) = rest.strip_prefix('.') else {
        return Some((Number { whole, fraction: 0, parts: 1 }, rest.trim()));
    };
    let (fraction, rest) = behind.split_at(digits(behind));
    let parts = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some((Number { whole, fraction: fraction.parse().ok()?, parts }, rest.trim()))
}

fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZES[..SHOWN_SIZES], "B")
}

fn show_span(span: Duration) -> String {
    show(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), &SPANS[..SHOWN_SPANS], "ms")
}

fn show(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    match units.iter().find(|(_, scale)| value > 0 && value.is_multiple_of(*scale)) {
        Some((name, scale)) => format!("{}{name}", value / scale),
        None => format!("{value}{smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_are_plainly_meant_are_taken() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1b", 1),
            ("64Ki", 64 << 10),
            ("64Mi", 64 << 20),
            ("64 MiB", 64 << 20),
            ("64mib", 64 << 20),
            ("2Gi", 2 << 30),
            ("1TiB", 1 << 40),
            ("1.5GiB", 3 << 29),
            ("0.5Ki", 512),
            ("10KB", 10_000),
            ("10kb", 10_000),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }
        for (text, what) in [
            ("", "write it like"),
            ("-1", "write it like"),
            ("1.5", "write it like"),
            ("1MiBB", "write it like"),
            ("64M", "MiB (of 1024) or MB (of 1000)"),
            ("1k", "KiB (of 1024) or KB (of 1000)"),
            ("20000PiB", "larger than any disk"),
            ("99999999999999999999", "write it like"),
            ("1e6", "write it like"),
            ("1,5GiB", "write it like"),
        ] {
            let said = parse_bytes(text).unwrap_err();
            assert!(said.contains(what), "{said}");
        }
    }

    #[test]
    fn durations_that_are_plainly_meant_are_taken() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1d12h", 129_600_000),
            ("1m500ms", 60_500),
            ("1.5s", 1_500),
            ("2w", 1_209_600_000),
            ("1H", 3_600_000),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(milliseconds)), "{text}");
            let shown = show_span(Duration::from_millis(milliseconds));
            assert_eq!(parse_span(&shown), Ok(Duration::from_millis(milliseconds)));
        }
        for (text, what) in [
            ("", "write it like"),
            ("30", "give a unit"),
            ("1h30", "give a unit"),
            ("30m1h", "larger units first"),
            ("1h1h", "larger units first"),
            ("1us", "write it like"),
            ("-1s", "write it like"),
            ("s", "write it like"),
            ("0.5ms", "shorter than 1ms"),
            ("999999999999999d", "lower it"),
        ] {
            let said = parse_span(text).unwrap_err();
            assert!(said.contains(what), "{text}: {said}");
        }
    }
}
