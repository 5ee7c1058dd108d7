//! The configuration as a whole: what is refused and how it is said, and that the documented
//! default is the schema's.
//!
//! `broken/NAME.yaml` is refused with exactly `broken/NAME.txt`. `EVERYLINE_UPDATE=1` rewrites the
//! latter.

mod documented;

use std::{fs, path::Path};

use super::*;

fn refuse(text: &str) -> Vec<Problem> {
    match Config::parse(text, "everyline.yaml") {
        Err(ConfigError::Invalid(report)) => report.problems().to_vec(),
        other => panic!("accepted: {other:?}\n{text}"),
    }
}

#[test]
fn broken_configurations_say_where_and_what_to_do() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/broken");
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    let mut wrong = Vec::new();
    for path in names {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let said = match Config::parse(&text, &name) {
            Ok(_) => "accepted\n".to_owned(),
            Err(error) => format!("{error}\n"),
        };
        let expected = path.with_extension("txt");
        if env::var_os("EVERYLINE_UPDATE").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{name}:\n{said}"));
        }
        assert!(said.starts_with(&format!("{name}:")), "no place: {said}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn empty_texts_are_the_defaults() {
    for text in
        ["", "\n", "# nothing\n", "---\n", "\u{feff}read:\n", "sinks:\nread:\n  # start: end\n"]
    {
        assert_eq!(Config::parse(text, "t").unwrap(), Config::default(), "{text:?}");
    }
}

#[test]
fn an_empty_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let said = Config::load(Some(file.path())).unwrap_err().to_string();
    assert!(said.contains("the file is empty"), "{said}");
    fs::write(file.path(), "{}").unwrap();
    assert_eq!(Config::load(Some(file.path())).unwrap().config, Config::default());
}

#[test]
fn values_arrive() {
    let text = r#"
node_name: 0123
memory_budget: 33554432
read: {start: end, threads: 2, long_lines: cut}
sources:
  files:
  - paths: [/srv/a.log]
    format: docker-json
    attributes: {service.name: "a: b"}
sinks:
  nowhere: {type: null}
  out: {compression: gzip, url: "http://127.0.0.1:1/x?y", type: http, level: 9}
"#;
    let config = Config::parse(text, "t").unwrap();
    assert_eq!(config.node_name, "0123");
    assert_eq!(config.memory_budget, ByteSize(32 << 20));
    assert_eq!(config.read.start, Start::End);
    assert_eq!(config.sources.files[0].format, FileFormat::DockerJson);
    assert_eq!(config.sources.files[0].attributes["service.name"], "a: b");
    assert_eq!(config.sinks["nowhere"], Sink::Null(Null::default()));
    let Sink::Http(http) = &config.sinks["out"] else { panic!("{:?}", config.sinks["out"]) };
    assert_eq!((http.level, http.url.to_string().as_str()), (9, "http://127.0.0.1:1/x?y"));
}

#[test]
fn anchors_and_aliases_work_and_cannot_explode() {
    let text = "sources:\n  files:\n  - &a\n    paths: [/a]\n  - *a\n";
    assert_eq!(Config::parse(text, "t").unwrap().sources.files.len(), 2);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
    }
    let problems = refuse(&bomb);
    assert!(problems[0].what.contains("counting what aliases stand for"), "{problems:?}");
    assert!(problems[0].at.is_some());
}

#[test]
fn deep_and_large_texts_are_refused() {
    refuse(&format!("sinks: {}{}", "[".repeat(100_000), "]".repeat(100_000)));
    refuse(&format!("sinks: {}", "{a: ".repeat(500)));
    refuse(&"# filler\n".repeat(200_000));
    let mut nested = String::new();
    for level in 0..40 {
        nested += &format!("{}a:\n", "  ".repeat(level));
    }
    assert!(refuse(&nested)[0].what.contains("levels of nesting"));
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let error = Config::parse_bytes(b"read:\n  start: \xff\n", "t").unwrap_err().to_string();
    assert!(error.starts_with("t:2:10: not UTF-8"), "{error}");
}

#[test]
fn one_error_does_not_hide_another() {
    let text = "\
raed: 1
read:
  threads: many
  max_line_bytes: 1 potato
batch: {max_lines: -1}
sinks:
  a: {type: htpp, url: x}
  b: {type: http, urll: x}
  C: {type: null}
log: {level: loud}
";
    let lines: Vec<_> = refuse(text).iter().map(|problem| problem.at.unwrap().line).collect();
    assert_eq!(lines, [1, 3, 4, 5, 7, 8, 9, 10], "{:#?}", refuse(text));
}

#[test]
fn meaning_is_checked_key_by_key() {
    let cases: &[(&str, usize, usize, &str)] = &[
        ("state_dir: var\n", 1, 12, "not absolute"),
        ("checkpoint_interval: 0\n", 1, 22, "cannot be 0"),
        ("sources: {kubernetes: {wait_for_id: 2m}}\n", 1, 37, "too long"),
        ("read: {max_line_bytes: 0}\n", 1, 24, "cannot be 0"),
        ("read: {threads: 1000}\n", 1, 17, "too many"),
        ("admin: {listen: ':9477'}\n", 1, 17, "not an address"),
        ("read: {max_line_bytes: 2MiB}\n", 1, 24, "does not fit into a batch"),
        ("batch: {max_bytes: 1KiB}\n", 1, 20, "does not fit into a batch"),
        ("memory_budget: 1MiB\n", 1, 16, "at least 2MiB"),
        ("batch: {max_lines: 0}\n", 1, 20, "cannot be 0"),
        ("sources: {kubernetes: {enabled: no}}\n", 1, 33, "true or false"),
        (
            "sources:\n  docker:\n    enabled: false\n  kubernetes: {enabled: false}\n",
            1,
            1,
            "no source",
        ),
        ("sources: {files: [{paths: []}]}\n", 1, 20, "empty"),
        ("sources: {files: [{paths: [a.log]}]}\n", 1, 28, "not absolute"),
        ("sources: {files: [{}]}\n", 1, 19, "`paths` is missing"),
        ("sources: {docker: {exclude: {pods: ['a{b']}}}\n", 1, 37, "not a glob"),
        ("sinks: {A b: {type: null}}\n", 1, 9, "no name for a sink"),
        ("sinks: {a: {}}\n", 1, 9, "`type` is missing"),
        ("sinks:\n  a:\n", 2, 3, "`type` is missing"),
        ("sinks: {a: console}\n", 1, 12, "expected a mapping"),
        ("sinks: {a: {type: http}}\n", 1, 9, "`url` is missing"),
        ("sinks: {a: {type: file, path: /}}\n", 1, 31, "names no file"),
        ("sinks: {a: {type: file, path: /x, level: 23, compression: zstd}}\n", 1, 42, "no level"),
        ("sinks: {a: {type: file, path: /var/lib/everyline/x}}\n", 1, 31, "the agent's own"),
        ("sinks: {a: {type: archive, max_bytes: 32MiB}}\n", 1, 39, "two segments"),
        (
            "sinks: {a: {type: archive, max_bytes: 64KiB, segment_bytes: 4KiB}}\n",
            1,
            39,
            "does not fit into an archive of 64KiB",
        ),
        ("sinks: {a: {type: archive}, b: {type: archive}}\n", 1, 29, "both write"),
        ("sinks: {a: {type: http, url: 'ftp://x'}}\n", 1, 30, "must begin with"),
        ("sinks: {a: {type: http, url: 'http://u:p@x'}}\n", 1, 30, "credentials do not belong"),
        ("sinks: {a: {type: http, url: 'http:///x'}}\n", 1, 30, "not a URL"),
        ("sinks: {a: {type: http, url: 'http://x', proxy: 'socks://x'}}\n", 1, 49, "proxy"),
        ("sinks: {a: {type: http, url: 'http://x', timeout: 0}}\n", 1, 51, "cannot be 0"),
        ("sinks: {a: {type: http, url: 'http://x', backoff_max: 1ms}}\n", 1, 55, "less than"),
        ("sinks: {a: {type: http, url: 'http://x', concurrency: 0}}\n", 1, 55, "cannot be 0"),
        ("sinks: {a: {type: http, url: 'http://x', headers: {Host: x}}}\n", 1, 52, "follows from"),
        ("sinks: {a: {type: http, url: 'http://x', tls: {ca_file: /x}}}\n", 1, 42, "http://"),
        (
            "sinks: {a: {type: http, url: 'https://x', tls: {key_file: /x}}}\n",
            1,
            49,
            "without its client",
        ),
        (
            "sinks: {a: {type: http, url: 'http://x', auth: {header_name: x}}}\n",
            1,
            49,
            "incomplete",
        ),
        ("a: 1\n---\nb: 1\n", 2, 1, "second YAML document"),
        ("read: {<<: {start: end}}\n", 1, 8, "merge keys"),
        ("read: !x {start: end}\n", 1, 10, "tag"),
        ("[a, b]\n", 1, 1, "expected a mapping"),
    ];
    let mut wrong = Vec::new();
    for (text, line, column, what) in cases {
        let problems = refuse(text);
        let right = match problems.as_slice() {
            [Problem { at: Some(at), what: said, todo }] => {
                (at.line, at.column) == (*line, *column)
                    && (said.contains(what) || todo.contains(what))
                    && !todo.is_empty()
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{text}{problems:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn passwords_in_a_url_are_not_repeated() {
    let text = "sinks:\n  a:\n    type: http\n    url: http://u:secret@x\n";
    assert!(!refuse(text)[0].what.contains("secret"));
}

#[test]
fn an_error_shows_no_secret_of_the_line_that_it_is_about() {
    for text in [
        "sinks: {a: {type: http, url: 'http://h/', headers: {Authorization: Bearer hunter2}}}\n",
        "sinks: {a: {type: http, url: 'http://h/', headers: {X-Api-Key: hunter2, x: y}, levell: 1}}\n",
        "sinks:\n  a:\n    type: http\n    url: http://me:hunter2@h/\n",
        "sinks: {a: {type: http, url: 'http://h:0/?token=hunter2&x=y'}}\n",
        "sinks: {a: {type: http, url: 'http://h/', proxy: 'socks5://me:hunter2@h'}}\n",
        "sinks: {a: {type: http, url: 'http://h/', auth: {basic_password: hunter2}}}\n",
        "sinks: {a: {type: http, url: 'http://h/', auth: {\"bearer_token\": \"hunter2\"}}}\n",
        "sinks: {a: {type: http, url: 'http://h/', auth: {basic_user: me, password: hunter2 hunter2\n",
        "token = hunter2\n",
        "client-secret: 'hunter2\n",
    ] {
        let said = Config::parse(text, "t").unwrap_err().to_string();
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.contains('^') || !said.contains(" | "), "{said}");
    }
    // Which file a secret is in may be seen.
    let text = "sinks: {a: {type: http, url: 'http://h/', auth: {bearer_token_file: rel/token}}}\n";
    let said = Config::parse(text, "t").unwrap_err().to_string();
    assert!(
        said.contains(
            "1 | sinks: {a: {type: http, url: 'http://h/', auth: {bearer_token_file: rel/token}}}"
        ),
        "{said}"
    );
}

#[test]
fn a_file_that_is_missing_is_an_error_that_says_so() {
    let error = Config::load(Some(Path::new("/nonexistent/everyline.yaml"))).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(error.to_string().contains("/nonexistent/everyline.yaml"), "{error}");
}

proptest::proptest! {
    /// Whatever the text, it is accepted or refused with problems, never a panic, and every place
    /// lies in the text.
    #[test]
    fn any_text_is_judged(text in "([a-z_]{1,12}(: ?|\n|- |  |\\{|\\}|\\[|\\]|,|'|\"|&a|\\*a|!t|#|\t|é|0|\r\n)){0,40}") {
        if let Err(error) = Config::parse(&text, "t") {
            let ConfigError::Invalid(report) = &error else { panic!("{error}") };
            proptest::prop_assert!(!report.problems().is_empty());
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }

    /// The same for a text that is nearly right: one character of the default changed.
    #[test]
    fn a_damaged_default_is_judged(at in 0..DEFAULT_YAML.len(), with in proptest::char::any()) {
        let text: String = DEFAULT_YAML
            .char_indices()
            .map(|(index, c)| if index == at { with } else { c })
            .collect();
        if let Err(error) = Config::parse(&text, "t") {
            proptest::prop_assert!(error.to_string().starts_with("t:"), "{}", error);
        }
    }
}
