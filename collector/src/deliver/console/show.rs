//! Records as text. Pure; decides nothing about where it goes.

use std::borrow::Cow;

use serde::Deserialize;

use crate::{
    batch::Framing,
    deliver::payload,
    shown::{self, Style},
    zone::Zone,
};

const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// The parts of a record that a line for people has room for.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    observed_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow, rename = "log.iostream")]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "k8s.namespace.name")]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "k8s.pod.name")]
    pod: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "k8s.container.name")]
    container: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "container.name")]
    docker_name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "container.id")]
    docker_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "log.file.path")]
    path: Option<Cow<'a, str>>,
}

/// JSON lines as other sinks get them. Characters that could steer a terminal are written as
/// escapes of JSON, which mean the same.
pub(super) fn json(raw: &[u8], framing: Framing) -> Vec<u8> {
    let lines = match framing {
        Framing::Lines => Cow::Borrowed(raw),
        Framing::Array => {
            Cow::Owned(payload::frame(raw, &payload::records(raw, framing), Framing::Lines))
        }
    };
    let text = String::from_utf8_lossy(&lines);
    if text.split('\n').all(shown::is_safe) {
        return lines.into_owned();
    }
    let mut out = String::with_capacity(text.len() + 64);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        // Valid JSON has unsafe characters only inside strings.
        shown::push_as(&mut out, line, Style::Json);
    }
    out.into_bytes()
}

/// `TIME NAMESPACE/POD CONTAINER STREAM│ MESSAGE`, one line a record, the time in UTC.
pub(super) fn human(raw: &[u8], framing: Framing, color: bool) -> Vec<u8> {
    let mut out = String::with_capacity(raw.len());
    for record in payload::records(raw, framing) {
        let line = &raw[record];
        match serde_json::from_slice::<Record<'_>>(line) {
            Ok(record) => push_record(&mut out, &record, color),
            Err(_not_a_record) => shown::push(&mut out, &String::from_utf8_lossy(line)),
        }
        out.push('\n');
    }
    out.into_bytes()
}

fn push_record(out: &mut String, record: &Record<'_>, color: bool) {
    let mut part = |style: &str, texts: &[&str]| {
        if color {
            out.push_str(style);
        }
        for text in texts {
            shown::push(out, text);
        }
        if color {
            out.push_str(RESET);
        }
    };
    let time = record.timestamp.as_deref().or(record.observed_timestamp.as_deref());
    let time = time.map_or(Cow::Borrowed("-"), |time| Cow::Owned(Zone::UTC.shown(time)));
    part(DIM, &[&time, " "]);
    match (&record.namespace, &record.pod, &record.container) {
        (Some(namespace), Some(pod), container) => {
            part(CYAN, &[namespace, "/", pod, " ", container.as_deref().unwrap_or("-"), " "]);
        }
        _ => {
            let name =
                record.docker_name.as_ref().or(record.docker_id.as_ref()).or(record.path.as_ref());
            part(CYAN, &[name.map_or("-", |name| name), " "]);
        }
    }
    let stream = record.stream.as_deref().unwrap_or("");
    part(if stream == "stderr" { RED } else { DIM }, &[stream, "│ "]);
    shown::push(out, &record.body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(body: &str) -> Vec<u8> {
        let value = serde_json::json!({
            "timestamp": "2026-01-31T10:11:12.5Z", "body": body, "log.iostream": "stderr",
            "k8s.namespace.name": "shop", "k8s.pod.name": "web-1", "k8s.container.name": "nginx",
        });
        format!("{value}\n").into_bytes()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_record_is_one_line_for_people() {
        insta::assert_snapshot!(
            text(human(&record("GET /\x1b[2J 200"), Framing::Lines, false)),
            @r"2026-01-31T10:11:12.500Z shop/web-1 nginx stderr│ GET /\x1b[2J 200"
        );
        let docker = br#"{"observed_timestamp":"T","body":"hi","container.id":"abc"}"#;
        assert_eq!(text(human(docker, Framing::Lines, false)), "T abc │ hi\n");
    }

    #[test]
    fn what_is_not_a_record_is_shown_all_the_same() {
        assert_eq!(text(human(b"not \x1bjson\n", Framing::Lines, false)), "not \\x1bjson\n");
    }

    #[test]
    fn colour_is_only_ours() {
        let colored = text(human(&record("a\x1b[31mb"), Framing::Lines, true));
        let plain = [DIM, CYAN, RED, RESET].iter().fold(colored.clone(), |t, s| t.replace(s, ""));
        assert_ne!(colored, plain);
        assert!(!plain.contains('\x1b'), "{plain:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_tenant_cannot_reach_the_terminal(body in any::<String>(), evil in "[\\x00-\\x1f\\x7f-\\u{9f}\\u{202e}\\u{2028}\\u{200b}\\u{e0041}]{0,8}") {
            let body = body + &evil;
            let line = record(&body);
            for seen in [human(&line, Framing::Lines, false), json(&line, Framing::Lines)] {
                let seen = text(seen);
                let line = seen.strip_suffix('\n').unwrap();
                prop_assert!(shown::is_safe(line), "{line:?}");
            }
        }

        #[test]
        fn json_means_the_same(body in any::<String>(), evil in "[\\x7f-\\u{9f}\\u{202e}\\u{2028}\\u{200b}\\u{e0041}]{0,8}") {
            let body = body + &evil;
            let seen = json(&record(&body), Framing::Lines);
            let value: serde_json::Value = serde_json::from_slice(&seen).unwrap();
            prop_assert_eq!(value["body"].as_str().unwrap(), &body);
        }
    }
}
