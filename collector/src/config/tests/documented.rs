//! Holds `default.yaml` equal to the schema: the same defaults, every key, every key explained.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// The text with its commented examples made real.
fn uncommented() -> String {
    let mut text = String::new();
    for line in DEFAULT_YAML.lines() {
        let bare = line.trim_start();
        // Examples are commented without a space (`#  key:`), at the column they belong to.
        let example = bare
            .strip_prefix('#')
            .filter(|rest| rest.starts_with("  ") || rest.starts_with("- ") || rest.is_empty());
        match example {
            Some(rest) => {
                let indent = &line[..line.len() - bare.len()];
                text += &format!("{indent}{rest}\n");
            }
            None => {
                let line = match line.trim() {
                    "files: []" => "  files:",
                    "sinks: {}" => "sinks:",
                    _ => line,
                };
                text += &format!("{line}\n");
            }
        }
    }
    text
}

fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                keys(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, path, found)),
        _ => {}
    }
}

fn example() -> Config {
    Config::parse(&uncommented(), "default.yaml, uncommented").unwrap_or_else(|error| {
        panic!("{error}\n{}", uncommented());
    })
}

#[test]
fn the_printed_default_is_the_default() {
    assert_eq!(Config::parse(DEFAULT_YAML, "default.yaml").unwrap(), Config::default());
}

#[test]
fn the_commented_examples_are_valid_and_of_every_kind() {
    let config = example();
    let kinds: BTreeSet<_> = config.sinks.values().map(Sink::kind).collect();
    assert_eq!(kinds, BTreeSet::from(["archive", "console", "file", "http", "null"]));
    assert_eq!(config.sources.files.len(), 1);
}

#[test]
fn the_examples_show_the_defaults() {
    let config = example();
    for (name, sink) in &config.sinks {
        let required = match sink {
            Sink::Http(http) => format!("{{type: http, url: '{}'}}", http.url),
            Sink::File(file) => format!("{{type: file, path: {}}}", file.path.display()),
            other => format!("{{type: {}}}", other.kind()),
        };
        let text = format!("sinks:\n  {name}: {required}\n");
        let bare = Config::parse(&text, "bare").unwrap();
        // What stands in an example because the default is to leave it out.
        let shown = match sink.clone() {
            Sink::Archive(sink) => Sink::Archive(Archive { dir: None, ..sink }),
            Sink::Null(_) => Sink::Null(Null { compression: None }),
            Sink::Http(sink) => Sink::Http(Http {
                headers: Default::default(),
                auth: Auth::default(),
                tls: Tls { ca_file: None, ..sink.tls },
                ..sink
            }),
            other => other,
        };
        assert_eq!(bare.sinks[name], shown, "{name}");
    }
}

#[test]
fn every_key_of_the_schema_is_in_the_default() {
    let mut schema = BTreeSet::new();
    keys(&serde_json::to_value(example()).unwrap(), "", &mut schema);
    let text = uncommented();
    let mut problems = Vec::new();
    let root = tree::read(&text, &mut problems).unwrap();
    for path in &schema {
        let last = path.rsplit('.').next().unwrap();
        assert!(
            text.lines().any(|line| {
                let line = line.trim_start().trim_start_matches("- ");
                line.starts_with(&format!("{last}:"))
            }) || path.contains("attributes"),
            "{path} is not in default.yaml"
        );
    }
    // By place too: every struct of the schema lists all its keys where it stands.
    let mut written = BTreeSet::new();
    walk(&root, String::new(), &mut written);
    let missing: Vec<_> = schema.iter().filter(|path| !written.contains(*path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn walk(node: &tree::Node, path: String, found: &mut BTreeSet<String>) {
    match &node.value {
        tree::Value::Map(map) => {
            for (key, node) in &map.entries {
                let path = format!("{path}.{}", key.name);
                walk(node, path.clone(), found);
                found.insert(path);
            }
        }
        tree::Value::List(items) => items.iter().for_each(|item| walk(item, path.clone(), found)),
        tree::Value::Scalar { .. } => {}
    }
}

/// A key is explained by a comment right above it, or shares the one above its neighbours; the
/// filters' lists are explained once.
#[test]
fn every_key_is_explained() {
    let text = DEFAULT_YAML;
    let mut explained: BTreeSet<&str> = BTreeSet::new();
    let mut above = false;
    for line in text.lines() {
        let bare = line.trim_start().trim_start_matches('#').trim_start().trim_start_matches("- ");
        let key = bare.split_once(':').map(|(key, _)| key).filter(|key| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        });
        let comment =
            bare.starts_with('#') || (line.trim_start().starts_with("# ") && key.is_none());
        match key {
            _ if comment => above = true,
            Some(key) if above => {
                explained.insert(key);
            }
            _ => above = false,
        }
    }
    let mut schema = BTreeSet::new();
    keys(&serde_json::to_value(example()).unwrap(), "", &mut schema);
    for path in schema {
        let key = path.rsplit('.').next().unwrap();
        let named = path.matches('.').count() == 2 && path.starts_with(".sinks.");
        if !named && key != "type" && !path.contains(".attributes") && !path.contains(".headers.") {
            assert!(explained.contains(key), "{path} is not explained in default.yaml");
        }
    }
}

#[test]
fn the_committed_reference_is_the_printed_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/everyline.default.yaml");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, DEFAULT_YAML, "run: everyline config default > {}", path.display());
}
