//! Sizes and durations as people write them: `1MiB`, `250ms`.

use std::time::Duration;

/// A number of bytes: `512`, `64KiB`, `1MiB`, `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time: `0`, `250ms`, `1s`, `10m`, `24h`, `7d`.
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

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const SPANS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn parse_bytes(text: &str) -> Result<u64, String> {
    parse(text, &SIZES, 1)
        .ok_or_else(|| format!("`{text}` is not a size; write it like 64KiB, 1MiB or 10MB"))
}

fn parse_span(text: &str) -> Result<Duration, String> {
    parse(text, &SPANS, 0).map(Duration::from_millis).ok_or_else(|| {
        format!("`{text}` is not a duration; write it like 250ms, 1s, 10m, 24h or 7d")
    })
}

/// `bare`: what one unit of a number without a unit is; 0: only zero needs none.
fn parse(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim();
    if unit.is_empty() {
        return if number == 0 { Some(0) } else { (bare > 0).then_some(number.checked_mul(bare)?) };
    }
    let scale = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    number.checked_mul(scale)
}

fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZES[..3], "B")
}

fn show_span(span: Duration) -> String {
    show(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), &SPANS, "ms")
}

fn show(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    match units.iter().find(|(_, scale)| value > 0 && value.is_multiple_of(*scale)) {
        Some((name, scale)) => format!("{}{name}", value / scale),
        None => format!("{value}{smallest}"),
    }
}
