//! Show: found lines as text for people, or as they are stored.
//!
//! What a container logged never reaches a terminal as a control sequence: control characters and
//! those that reorder text are written as escapes.

use super::{
    query::Query,
    record::{Record, Text},
};
use crate::{
    shown::{self, Style},
    zone::Zone,
};

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const MATCH: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";

/// How found lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Time, whose, stream if it is not standard output, body.
    Text {
        /// Whether to colour.
        color: bool,
        /// In which zone times are shown.
        zone: Zone,
    },
    /// The line as it is stored; for a terminal control characters (that JSON lets stand) are
    /// escaped, still as JSON.
    Json {
        /// Whether it goes to a terminal.
        terminal: bool,
    },
    /// Not at all: lines are only counted.
    Nothing,
}

impl Show {
    /// Appends a line of the archive that was not found, shown as one that was.
    pub fn stored(&self, line: &[u8], query: &Query, out: &mut Vec<u8>) {
        let record = Record::head(line);
        let body = record.body.unwrap_or(Text { raw: line, escaped: false });
        self.line(line, record, body, query, out);
    }

    /// Appends what stands between lines that do not follow each other.
    pub fn gap(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::Text { .. }) {
            out.extend_from_slice(b"--\n");
        }
    }

    /// Appends a line of the archive, shown, with a newline.
    pub fn line(
        &self,
        line: &[u8],
        record: Record<'_>,
        body: Text<'_>,
        query: &Query,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Nothing => return,
            Self::Json { terminal: false } => out.extend_from_slice(line),
            Self::Json { terminal: true } => shown::append(out, line, Style::Json),
            Self::Text { color, zone } => {
                text(record.complete(line), body, query, (*color, *zone), out);
            }
        }
        out.push(b'\n');
    }
}

fn text(
    record: Record<'_>,
    body: Text<'_>,
    query: &Query,
    (color, zone): (bool, Zone),
    out: &mut Vec<u8>,
) {
    let paint = |out: &mut Vec<u8>, code: &str| {
        if color {
            out.extend_from_slice(code.as_bytes());
        }
    };
    paint(out, DIM);
    match record.time {
        Some(time) if zone.append(time.raw, out) => {}
        Some(time) => shown::append(out, time.raw, Style::Text),
        None => out.push(b'-'),
    }
    out.push(b' ');
    let names = [record.namespace, record.pod, record.container];
    for (index, name) in names.into_iter().flatten().enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        shown::append(out, &name.value(), Style::Text);
    }
    paint(out, RESET);
    if record.stream.is_some_and(|stream| stream.raw == b"stderr") {
        paint(out, RED);
        out.extend_from_slice(b" stderr");
        paint(out, RESET);
    }
    out.extend_from_slice("│ ".as_bytes());
    let body = body.value();
    let mut done = 0;
    if let Some(pattern) = query.pattern.as_ref().filter(|_| color && !query.invert) {
        for found in pattern.find_iter(&body).filter(|found| !found.is_empty()) {
            shown::append(out, &body[done..found.start], Style::Text);
            paint(out, MATCH);
            shown::append(out, &body[found.clone()], Style::Text);
            paint(out, RESET);
            done = found.end;
        }
    }
    shown::append(out, &body[done..], Style::Text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::pattern::Pattern, *};

    fn shown(line: &str, show: Show, pattern: Option<&str>) -> String {
        let pattern = pattern.map(|pattern| Pattern::new(pattern, <_>::default()).unwrap());
        let query = Query { pattern, ..Query::default() };
        let record = Record::head(line.as_bytes());
        let mut out = Vec::new();
        let body = record.body.unwrap_or(Text { raw: line.as_bytes(), escaped: false });
        show.line(line.as_bytes(), record, body, &query, &mut out);
        String::from_utf8(out).unwrap()
    }

    const LINE: &str = r#"{"timestamp":"2026-01-31T10:11:12.123456789Z","log.record.uid":"1-0","body":"a\u001b[2Jb\u009b \"c\"\u202e\n","log.iostream":"stderr","k8s.namespace.name":"shop","k8s.pod.name":"web-1","k8s.container.name":"nginx"}"#;

    #[test]
    fn text_is_time_names_stream_and_body_without_control_characters() {
        let text = shown(LINE, Show::Text { color: false, zone: Zone::UTC }, None);
        assert_eq!(
            text,
            "2026-01-31T10:11:12.123Z shop/web-1/nginx stderr│ a\\x1b[2Jb\\x9b \"c\"\\u{202e}\\n\n"
        );
    }

    #[test]
    fn matches_are_coloured() {
        let text = shown(LINE, Show::Text { color: true, zone: Zone::UTC }, Some("\"c\""));
        assert!(text.contains("b\\x9b \x1b[1;31m\"c\"\x1b[0m\\u{202e}"), "{text}");
    }

    #[test]
    fn a_stranger_is_its_own_body() {
        let line = "not json \u{7} at all";
        assert_eq!(
            shown(line, Show::Text { color: false, zone: Zone::UTC }, None),
            "- │ not json \\x07 at all\n"
        );
        assert_eq!(shown(line, Show::Json { terminal: false }, None), "not json \u{7} at all\n");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_reaches_the_terminal(body: String, pod: String, time: String) {
            let line = serde_json::json!({ "timestamp": time, "body": body, "k8s.pod.name": pod });
            for show in [Show::Text { color: false, zone: Zone::UTC }, Show::Json { terminal: true }] {
                let text = shown(&line.to_string(), show, Some("a"));
                let text = text.strip_suffix('\n').unwrap();
                prop_assert!(shown::is_safe(text), "{text:?}");
                if show != (Show::Text { color: false, zone: Zone::UTC }) {
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(text).unwrap(), &line);
                }
            }
        }
    }
}
