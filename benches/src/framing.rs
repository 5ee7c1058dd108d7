//! Messages to physical log lines, as container runtimes write them.
//!
//! CRI as containerd does (16 KiB pieces marked `P`, the last `F`; nanoseconds without trailing
//! zeros), Docker's json-file as Docker does (pieces without the newline, Go's JSON escapes). Only
//! bytes: no files, no clock.

use std::io::Write;

use crate::tag::Stream;

/// At how many bytes runtimes split a message.
pub const PIECE: usize = 16 * 1024;

/// How a log's lines are laid out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The CRI log format.
    Cri,
    /// Docker's json-file.
    Docker,
}

/// A point in time as runtimes print it. Advances by itself, so no two lines have the same.
#[derive(Debug)]
pub struct Clock {
    seconds: i64,
    nanos: u32,
    prefix: String,
}

impl Clock {
    /// The wall clock's time.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        let mut clock = Self { seconds: 0, nanos: 0, prefix: String::new() };
        clock.set(now.as_second(), now.subsec_nanosecond().unsigned_abs());
        clock
    }

    /// Catches up with the wall clock if that is later.
    pub fn catch_up(&mut self) {
        let now = jiff::Timestamp::now();
        let nanos = now.subsec_nanosecond().unsigned_abs();
        if (now.as_second(), nanos) > (self.seconds, self.nanos) {
            self.set(now.as_second(), nanos);
        }
    }

    fn set(&mut self, seconds: i64, nanos: u32) {
        if self.prefix.is_empty() || seconds != self.seconds {
            let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
            self.prefix = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        (self.seconds, self.nanos) = (seconds, nanos);
    }

    /// Appends the time as Go's RFC3339Nano (trailing zeros dropped), then moves on a little.
    fn append(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        if self.nanos > 0 {
            put(out, format_args!(".{:09}", self.nanos));
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        out.push(b'Z');
        let next = self.nanos + 1_013;
        self.set(self.seconds + i64::from(next / 1_000_000_000), next % 1_000_000_000);
    }
}

/// A message's pieces, as the runtime cuts it; at character boundaries for Docker, which would
/// otherwise replace the halves.
pub fn pieces(message: &[u8], format: Format) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = message;
    while rest.len() > PIECE {
        let mut cut = PIECE;
        while format == Format::Docker && rest[cut] & 0xc0 == 0x80 {
            cut -= 1;
        }
        let (piece, tail) = rest.split_at(cut);
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

/// Appends one physical line. `last`: the message ends with this piece.
pub fn line(
    out: &mut Vec<u8>,
    format: Format,
    clock: &mut Clock,
    stream: Stream,
    piece: &[u8],
    last: bool,
) {
    match format {
        Format::Cri => {
            clock.append(out);
            put(out, format_args!(" {} {} ", stream.name(), if last { 'F' } else { 'P' }));
            out.extend_from_slice(piece);
            out.push(b'\n');
        }
        Format::Docker => {
            out.extend_from_slice(b"{\"log\":\"");
            escape(out, piece);
            out.extend_from_slice(if last { b"\\n\"" } else { b"\"" });
            put(out, format_args!(",\"stream\":\"{}\",\"time\":\"", stream.name()));
            clock.append(out);
            out.extend_from_slice(b"\"}\n");
        }
    }
}

/// Escapes like Go's encoder as Docker uses it: HTML characters too.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain = 0;
    for (index, &byte) in text.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 | b'<' | b'>' | b'&' => b"",
            _ => continue,
        };
        out.extend_from_slice(&text[plain..index]);
        plain = index + 1;
        if short.is_empty() {
            put(out, format_args!("\\u{byte:04x}"));
        } else {
            out.extend_from_slice(short);
        }
    }
    out.extend_from_slice(&text[plain..]);
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a vector cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Clock {
        let mut clock = Clock { seconds: 0, nanos: 0, prefix: String::new() };
        clock.set(1_700_000_000, 120_000_000);
        clock
    }

    #[test]
    fn cri_lines_are_containerds() {
        let (mut out, mut clock) = (Vec::new(), fixed());
        line(&mut out, Format::Cri, &mut clock, Stream::Stderr, b"hello", true);
        line(&mut out, Format::Cri, &mut clock, Stream::Stdout, b"wor", false);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "2023-11-14T22:13:20.12Z stderr F hello\n\
             2023-11-14T22:13:20.120001013Z stdout P wor\n"
        );
    }

    #[test]
    fn docker_lines_parse_back() {
        let message = "a\"b\\c\td<e>\u{1}é".as_bytes();
        let (mut out, mut clock) = (Vec::new(), fixed());
        line(&mut out, Format::Docker, &mut clock, Stream::Stdout, message, true);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["log"], "a\"b\\c\td<e>\u{1}é\n");
        assert_eq!(value["stream"], "stdout");
        assert_eq!(value["time"], "2023-11-14T22:13:20.12Z");
    }

    #[test]
    fn pieces_join_to_the_message() {
        let message = "é".repeat(20_001).into_bytes();
        for format in [Format::Cri, Format::Docker] {
            let pieces = pieces(&message, format);
            assert_eq!(pieces.concat(), message);
            assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece.len() <= PIECE));
            if format == Format::Docker {
                assert!(pieces.iter().all(|piece| std::str::from_utf8(piece).is_ok()));
            }
        }
    }
}
