//! Records as lines that the operator laid out. Values are made safe to look at; the layout is the operator's.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::{
    batch::Framing,
    config::{Field, Part, Template},
    deliver::payload,
    shown,
    zone::Zone,
};

/// One line a record.
pub(super) fn lines(raw: &[u8], framing: Framing, template: &Template) -> Vec<u8> {
    let mut out = String::with_capacity(raw.len());
    for record in payload::records(raw, framing) {
        let line = &raw[record];
        match serde_json::from_slice::<Map<String, Value>>(line) {
            Ok(record) => push(&mut out, &record, template),
            Err(_not_a_record) => shown::push(&mut out, &String::from_utf8_lossy(line)),
        }
        out.push('\n');
    }
    out.into_bytes()
}

fn push(out: &mut String, record: &Map<String, Value>, template: &Template) {
    for part in template.parts() {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Field(field) => shown::push(out, &value(record, field)),
        }
    }
}

/// What a record has there; `-`: nothing.
fn value<'a>(record: &'a Map<String, Value>, field: &Field) -> Cow<'a, str> {
    let text = |key: &str| match record.get(key)? {
        Value::String(text) => Some(Cow::Borrowed(text.as_str())),
        other => Some(Cow::Owned(other.to_string())),
    };
    let first = |keys: &[&str]| keys.iter().find_map(|key| text(key));
    let found = match field {
        Field::Time => first(&["timestamp", "observed_timestamp"])
            .map(|time| Cow::Owned(Zone::UTC.shown(&time))),
        Field::Namespace => text("k8s.namespace.name"),
        Field::Pod => text("k8s.pod.name"),
        Field::Container => {
            first(&["k8s.container.name", "container.name", "container.id", "log.file.path"])
        }
        Field::Stream => text("log.iostream"),
        Field::Level => {
            let error = record.get("log.iostream").is_some_and(|stream| stream == "stderr");
            Some(Cow::Borrowed(if error { "error" } else { "info" }))
        }
        Field::Node => text("k8s.node.name"),
        Field::Path => text("log.file.path"),
        Field::Body => text("body"),
        Field::Attribute(name) => text(name),
    };
    found.unwrap_or(Cow::Borrowed("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(template: &str, record: &Value) -> String {
        let raw = format!("{record}\n");
        let template = Template::parse(template).unwrap();
        String::from_utf8(lines(raw.as_bytes(), Framing::Lines, &template)).unwrap()
    }

    fn record() -> Value {
        serde_json::json!({
            "timestamp": "2026-01-31T10:11:12.123456789Z", "log.record.uid": "1-0",
            "body": "GET \u{1b}[2J {body}\n", "log.iostream": "stderr", "everyline.split": 2,
            "k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.container.name": "app",
            "k8s.node.name": "n", "log.file.path": "/a/0.log", "service.name": "shop-web",
        })
    }

    #[test]
    fn a_line_is_what_the_template_says_and_values_are_safe() {
        let body = "GET \\x1b[2J {body}\\n";
        assert_eq!(
            shown("{container}/[{level}] : {body}", &record()),
            format!("app/[error] : {body}\n")
        );
        assert_eq!(
            shown(
                "{{{namespace}/{pod}}} {stream} {node} {path} {service.name} {everyline.split}",
                &record()
            ),
            "{shop/web-0} stderr n /a/0.log shop-web 2\n"
        );
        assert!(shown("{time} {body}", &record()).starts_with("2026-01-31T10:11:12.123Z GET"));
    }

    #[test]
    fn what_a_record_lacks_is_a_dash_and_a_container_has_some_name() {
        let record = serde_json::json!({"body": "b", "log.file.path": "/a.log"});
        assert_eq!(shown("{pod} {container} [{level}] {no.such}", &record), "- /a.log [info] -\n");
        let record = serde_json::json!({"body": "b", "container.id": "4fa6"});
        assert_eq!(shown("{container}", &record), "4fa6\n");
    }

    #[test]
    fn what_is_no_record_is_shown_as_it_is() {
        let template = Template::parse("{body}").unwrap();
        assert_eq!(lines(b"not json\n", Framing::Lines, &template), b"not json\n");
    }
}
