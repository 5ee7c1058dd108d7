//! The agent's own log, on standard error. What others wrote (names, paths, a server's words) is made safe to be read on
//! a terminal, also one that shows the log later (`kubectl logs`).

use std::io::{self, Write};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::format::{self, Writer},
};

use crate::{
    config::{Log, LogFormat},
    shown::{self, Style},
    terminal,
};

/// Overrides the configured log level, per module if wanted (`info,collector::read=debug`).
const LOG_VARIABLE: &str = "EVERYLINE_LOG";

const ITALIC: &str = "\x1b[3m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Starts it as configured.
pub(super) fn start(log: &Log) {
    let wanted = std::env::var(LOG_VARIABLE).ok().filter(|value| !value.is_empty());
    let (filter, refused) = match wanted.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(log.level.name()), Some(error)),
        None => (EnvFilter::new(log.level.name()), None),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // A subscriber is set already only where several agents run in one process (tests).
    let _set = match log.format {
        LogFormat::Text => builder
            .with_writer(io::stderr)
            .with_ansi(terminal::colors(&io::stderr()))
            .fmt_fields(format::debug_fn(field).delimited(" "))
            .try_init(),
        LogFormat::Json => {
            builder.with_writer(|| SafeJson(io::stderr())).json().flatten_event(true).try_init()
        }
    };
    if let Some(error) = refused {
        tracing::warn!(%error, "{LOG_VARIABLE} is no log filter; the configured level is used.");
    }
}

/// A field of an event, or its message.
fn field(out: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    let name = field.name();
    let value = format!("{value:?}");
    if name != "message" {
        match out.has_ansi_escapes() {
            true => write!(out, "{ITALIC}{name}{RESET}{DIM}={RESET}")?,
            false => write!(out, "{name}=")?,
        }
    }
    out.write_str(&shown::text(&value))
}

/// JSON lets stand what is no control character of ASCII.
struct SafeJson<W>(W);

impl<W: Write> Write for SafeJson<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // An event is written at once, and ends its line.
        let line = buffer.strip_suffix(b"\n").unwrap_or(buffer);
        let mut safe = Vec::with_capacity(buffer.len());
        shown::append(&mut safe, line, Style::Json);
        safe.extend_from_slice(&buffer[line.len()..]);
        self.0.write_all(&safe)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_in_json_stays_what_it_is() {
        let event = "{\"message\":\"a\u{9b}2J\u{202e}\",\"path\":\"\u{e0041}\"}\n";
        let mut out = Vec::new();
        SafeJson(&mut out).write_all(event.as_bytes()).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(shown::is_safe(out.trim_end()) && out.ends_with('\n'), "{out:?}");
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(event).unwrap(), serde_json::from_str(&out).unwrap());
        assert_eq!(before, after);
    }
}
