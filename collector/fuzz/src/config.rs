//! Configurations: any bytes are a configuration, or an error that says where and what to do.

use collector::{
    config::{Config, ConfigError, Report},
    fuzzing,
};

/// Content: the file, all of the input. No choices.
pub fn run(data: &[u8]) {
    match fuzzing::config(data) {
        Ok(config) => stands(&config),
        Err(ConfigError::Invalid(report)) => explains(data, &report),
        Err(error) => panic!("nothing was read from a file: {error}"),
    }
}

/// What was taken is written, and what is written is taken as the same.
fn stands(config: &Config) {
    let written = serde_json::to_string(config).expect("a configuration has a JSON form");
    // YAML has JSON in it.
    let again =
        Config::parse(&written, "again").unwrap_or_else(|error| panic!("{written}\n{error}"));
    assert_eq!(&again, config, "{written}");
}

/// Each problem has a place within the text, if any, and all of it can be shown.
fn explains(data: &[u8], report: &Report) {
    assert!(!report.problems().is_empty(), "refused without a reason");
    let text = String::from_utf8_lossy(data);
    let lines = text.split(['\n', '\r']).count();
    for problem in report.problems() {
        assert!(!problem.what.is_empty() && !problem.todo.is_empty(), "{problem:?}");
        if let Some(at) = problem.at {
            assert!(
                (1..=lines).contains(&at.line) && at.column >= 1,
                "{problem:?} of {lines} lines"
            );
            assert!(at.length >= 1, "{problem:?}");
        }
    }
    let said = report.to_string();
    assert!(said.starts_with("fuzzed.yaml:"), "{said}");
}
