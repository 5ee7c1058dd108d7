//! Documents against the code they speak of: metrics, configuration keys, guarantees.

use super::Files;

const METRICS: &str = "collector/src/metrics.rs";
const METRICS_DOCUMENT: &str = "deploy/METRICS.md";
/// Where the configuration's keys are, a file for each part of the agent.
const SCHEMA: &str = "collector/src/config/schema/";
const DEFAULT: &str = "collector/src/config/default.yaml";
const GUARANTEES: &str = "GUARANTEES.md";
const SECURITY: &str = "SECURITY.md";
/// The part of `SECURITY.md` of which each item names its tests.
const ATTACKS: &str = "## Attacks, and the tests that hold";

const REQUIRED: [&str; 11] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    SECURITY,
    GUARANTEES,
    METRICS,
    METRICS_DOCUMENT,
    DEFAULT,
    "Cargo.lock",
];

pub(super) fn check(files: &Files, breaches: &mut Vec<String>) {
    for path in REQUIRED.iter().filter(|path| files.get(path).is_none()) {
        breaches.push(format!("{path} is missing"));
    }
    if let (Some(code), Some(document)) = (files.get(METRICS), files.get(METRICS_DOCUMENT)) {
        check_metrics(code, document, breaches);
    }
    let schema: Vec<&str> =
        files.rust().filter(|(path, _)| path.starts_with(SCHEMA)).map(|(_, text)| text).collect();
    if schema.is_empty() {
        breaches.push(format!("{SCHEMA} is missing"));
    }
    if let Some(default) = files.get(DEFAULT) {
        schema.iter().for_each(|schema| check_keys(schema, default, breaches));
    }
    if let Some(guarantees) = files.get(GUARANTEES) {
        check_guarantees(GUARANTEES, guarantees, files, breaches);
    }
    if let Some(security) = files.get(SECURITY) {
        check_guarantees(SECURITY, &section(security, ATTACKS), files, breaches);
    }
}

/// The section of this heading down to the next one of its level, every line in its place.
fn section(document: &str, heading: &str) -> String {
    let mut inside = false;
    let line = |line: &str| {
        if line.starts_with("## ") {
            inside = line == heading;
        }
        format!("{}\n", if inside { line } else { "" })
    };
    document.lines().map(line).collect()
}

/// Every metric is documented by its full name, and every documented one exists.
fn check_metrics(code: &str, document: &str, breaches: &mut Vec<String>) {
    let mut names = metric_names(code);
    names.push("everyline_build_info".to_owned());
    let documented: Vec<&str> = words(document).filter(|w| w.starts_with("everyline_")).collect();
    for name in names.iter().filter(|name| !documented.contains(&name.as_str())) {
        breaches.push(format!("{METRICS_DOCUMENT}: {name} is not documented"));
    }
    for name in documented {
        // A histogram's series carry suffixes.
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = |wanted: &str| names.iter().any(|name| name == wanted);
        if !known(name) && !stem.is_some_and(known) {
            breaches.push(format!("{METRICS_DOCUMENT}: {name} does not exist"));
        }
    }
}

/// Full names as exposed: prefix, unit and (for counters) `_total`. A row of the table of metrics begins
/// with `field: Type = "name" in Unit`.
fn metric_names(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in code.lines() {
        let Some((declared, rest)) = line.trim().split_once(" = \"") else { continue };
        let Some((field, kind)) = declared.split_once(": ") else { continue };
        let Some((name, rest)) = rest.split_once('"') else { continue };
        if field.contains(' ') {
            continue;
        }
        let unit = match rest {
            _ if rest.starts_with(" in Bytes") => "_bytes",
            _ if rest.starts_with(" in Seconds") => "_seconds",
            _ => "",
        };
        let total = if kind.contains("Counter") { "_total" } else { "" };
        names.push(format!("everyline_{name}{unit}{total}"));
    }
    names
}

/// Every key of a part of the schema is in the default configuration, in effect or as a comment.
fn check_keys(schema: &str, default: &str, breaches: &mut Vec<String>) {
    let lines = default.lines().map(|line| line.trim_start_matches([' ', '#', '-']));
    let keys: Vec<&str> = lines.filter_map(|line| Some(line.split_once(':')?.0)).collect();
    for line in schema.lines() {
        let Some(field) = line.strip_prefix("    pub ") else { continue };
        let Some((key, _)) = field.split_once(": ") else { continue };
        let written = |known: &&str| *known == key || words(known).any(|word| word == key);
        if !key.contains(['(', '<', ' ']) && !keys.iter().any(written) {
            breaches.push(format!("{DEFAULT}: the key {key} is not documented"));
        }
    }
}

/// Every guarantee (a list item or a table row) of a text of the document `path` names a test, as
/// `file::test`, and every test that it names exists in that file.
fn check_guarantees(path: &str, document: &str, files: &Files, breaches: &mut Vec<String>) {
    let mut items = 0;
    for (line, item) in guarantees(document) {
        items += 1;
        let named = item.split('`').skip(1).step_by(2);
        let named: Vec<(&str, &str)> = named
            .filter_map(|code| code.rsplit_once("::"))
            .filter(|(file, _)| file.ends_with(".rs"))
            .collect();
        if named.is_empty() {
            breaches.push(format!("{path}:{line}: names no test"));
        }
        for (file, test) in named {
            if !files.get(file).is_some_and(|text| test_names(text).contains(&test)) {
                breaches.push(format!("{path}:{line}: there is no test {file}::{test}"));
            }
        }
    }
    if items == 0 {
        breaches.push(format!("{path}: guarantees nothing"));
    }
}

/// List items with their continuation lines, and table rows; with the number of the first line.
fn guarantees(document: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let (mut open, mut header) = (false, true);
    for (index, line) in document.lines().enumerate() {
        let text = line.trim();
        let numbered = text.split_once(". ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
        if text.starts_with('|') {
            // The rows before the rule name the columns.
            let rule = text.chars().all(|c| "|-: ".contains(c));
            if !rule && !header {
                items.push((index + 1, text.to_owned()));
            }
            header = header && !rule;
            open = false;
            continue;
        }
        header = true;
        if text.starts_with("- ") || text.starts_with("* ") || numbered {
            items.push((index + 1, text.to_owned()));
            open = true;
        } else if text.is_empty() || text.starts_with('#') {
            open = false;
        } else if open && let Some((_, item)) = items.last_mut() {
            item.push(' ');
            item.push_str(text);
        }
    }
    items
}

/// Functions with a test attribute, or listed in `in_every_mode!` or `watch_conformance!`, which make
/// tests of them.
fn test_names(source: &str) -> Vec<&str> {
    let (mut names, mut attribute, mut listed) = (Vec::new(), false, false);
    for line in source.lines().map(str::trim) {
        if matches!(line, "in_every_mode!(" | "watch_conformance! {") {
            listed = true;
        } else if listed {
            listed = !matches!(line, ");" | "}");
            names.extend(words(line));
        }
        if line.starts_with("#[") {
            attribute |= line.contains("test]") || line.contains("test(");
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if attribute && let Some(name) = function {
            names.push(name.split(['(', '<']).next().unwrap_or(name));
        }
        attribute = attribute && line.starts_with("//");
    }
    names
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::breaches;
    use super::*;

    const CODE: &str = r#"//! Metrics.
const OTHER: &str = "other";
metrics! {
    read_bytes: Counter = "read" in Bytes, "Bytes read";
    age: Family<SinkLabel, SecondsGauge> = "age" in Seconds,
        "Age";
    lines: Family<L, Counter> = "lines", "Lines";
}
"#;

    #[test]
    fn metric_names_are_as_exposed() {
        let expected =
            ["everyline_read_bytes_total", "everyline_age_seconds", "everyline_lines_total"];
        assert_eq!(metric_names(CODE), expected);
    }

    #[test]
    fn metrics_and_their_document_must_agree() {
        let document = "| `everyline_read_bytes_total` | `everyline_build_info` |\n\
                        `everyline_lines_total` `everyline_gone_total` `everyline_age_seconds_sum`\n";
        let found = breaches(&[(METRICS, CODE), (METRICS_DOCUMENT, document)]);
        let expected = [
            "deploy/METRICS.md: everyline_age_seconds is not documented",
            "deploy/METRICS.md: everyline_gone_total does not exist",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn keys_must_be_in_the_default() {
        let schema =
            "//! Schema.\npub struct A {\n    pub first_key: u8,\n    pub second: u8,\n}\n";
        let found =
            breaches(&[(&format!("{SCHEMA}part.rs"), schema), (DEFAULT, "a:\n  # second: 3\n")]);
        assert_eq!(
            found,
            ["collector/src/config/default.yaml: the key first_key is not documented"]
        );
    }

    #[test]
    fn guarantees_must_name_tests() {
        let code = "//! T.\nin_every_mode!(\n    listed,\n);\nwatch_conformance! {\n    conforms,\n}\n#[test]\nfn holds() {}\nfn helper() \
                    {}\n#[tokio::test]\n// why\nasync fn waits() {}\n";
        let document = "# G\n\n- Held by `config` and `a.rs::holds`.\n- Waits\n  (`a.rs::waits`, \
                        `a.rs::listed`).\n- Not, `a.rs::helper`.\n\n| what | test |\n|---|---|\n\
                        | x | `a.rs::holds` |\n| y | `holds` |\n- Half: `a.rs::holds` `b.rs::holds`\n";
        let found = breaches(&[("a.rs", code), (GUARANTEES, document)]);
        let expected = [
            "GUARANTEES.md:6: there is no test a.rs::helper",
            "GUARANTEES.md:11: names no test",
            "GUARANTEES.md:12: there is no test b.rs::holds",
        ];
        assert_eq!(found, expected);
        assert_eq!(breaches(&[(GUARANTEES, "# G\n")]), ["GUARANTEES.md: guarantees nothing"]);
    }

    #[test]
    fn attacks_must_name_tests_and_the_rest_of_the_document_need_not() {
        let code = "//! T.\n#[test]\nfn holds() {}\n";
        let document = "# S\n- Trusted: the operator.\n\n## Attacks, and the tests that hold\n\n\
                        ### 1. Paths\n- Links.\n  `a.rs::holds`\n- Races.\n  `a.rs::gone`\n\n\
                        ### 2. More\n- Floods.\n\n## The code\n- No `unsafe`.\n";
        let found = breaches(&[("a.rs", code), (SECURITY, document)]);
        let expected =
            ["SECURITY.md:13: names no test", "SECURITY.md:9: there is no test a.rs::gone"];
        assert_eq!(sorted(found), expected);
        let without = breaches(&[(SECURITY, "# S\n- Trusted.\n")]);
        assert_eq!(without, ["SECURITY.md: guarantees nothing"]);
    }

    fn sorted(mut breaches: Vec<String>) -> Vec<String> {
        breaches.sort();
        breaches
    }
}
