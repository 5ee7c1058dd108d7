//! From one configuration to the next while the agent runs: what is read, checked, and can be applied.
//!
//! Everything is checked before anything changes. What the running threads were made with stays as it
//! is until a restart, and is said; the rest of the new configuration is applied.

use std::path::Path;

use serde_json::Value;

use super::kinds;
use crate::{
    config::{Config, ConfigError, Read},
    discover::{Discovery, OwnOutputs},
};

/// A key that stays as it is until the agent is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where it stands in the configuration.
    pub key: String,
    /// What it is.
    pub old: String,
    /// What was asked for.
    pub new: String,
}

/// Reads and checks the configuration again: what can be applied of it, how logs are looked for then,
/// and what cannot be applied.
///
/// # Errors
/// It is wrong, or something in it can never work.
pub(super) fn load(
    old: &Config,
    path: Option<&Path>,
    runtime: &tokio::runtime::Handle,
) -> Result<(Config, Discovery, Vec<Kept>), String> {
    let wanted = Config::load(path).map_err(|error: ConfigError| error.to_string())?.config;
    let next = applicable(old, &wanted);
    let kept = differences(&next, &wanted);
    if !kept.is_empty() {
        // What stays may not go together with what is new.
        let text = serde_json::to_string(&next).map_err(|error| error.to_string())?;
        let name = "the new configuration with the values that cannot change while the agent runs";
        Config::parse(&text, name).map_err(|error| error.to_string())?;
    }
    for (name, sink) in &next.sinks {
        kinds::check(sink, name, &next.state_dir, runtime).map_err(|error| error.to_string())?;
    }
    let discovery = Discovery::new(&next, &OwnOutputs::detect(&next));
    let discovery = discovery.map_err(|error| error.to_string())?;
    Ok((next, discovery, kept))
}

/// The new configuration, with the old one's values where they cannot change.
fn applicable(old: &Config, wanted: &Config) -> Config {
    Config {
        sources: wanted.sources.clone(),
        sinks: wanted.sinks.clone(),
        batch: wanted.batch.clone(),
        memory_budget: wanted.memory_budget,
        checkpoint_interval: wanted.checkpoint_interval,
        drain_timeout: wanted.drain_timeout,
        admin: wanted.admin.clone(),
        read: Read {
            start: wanted.read.start,
            max_unpacked_bytes: wanted.read.max_unpacked_bytes,
            unpacking_bytes: wanted.read.unpacking_bytes,
            known_files: wanted.read.known_files,
            ..old.read.clone()
        },
        ..old.clone()
    }
}

/// The keys in which two configurations differ.
fn differences(applied: &Config, wanted: &Config) -> Vec<Kept> {
    let mut found = Vec::new();
    let value = |config| serde_json::to_value(config).unwrap_or_default();
    compare("", &value(applied), &value(wanted), &mut found);
    found
}

fn compare(key: &str, old: &Value, new: &Value, found: &mut Vec<Kept>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, old) in old {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&key, old, new.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (old, new) if old != new => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
            found.push(Kept { key: key.to_owned(), old: text(old), new: text(new) });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "test").unwrap()
    }

    #[test]
    fn what_cannot_change_is_named_and_the_rest_is_applied() {
        let old = config("state_dir: /a\nread: {start: beginning, quantum: 1MiB}\n");
        let wanted = config(
            "state_dir: /b\nread: {start: end, quantum: 2MiB}\nwatch: {kernel: {max_files: 99}}\n\
             sinks: {it: {type: 'null'}}\ndrain_timeout: 3s\n",
        );
        let next = applicable(&old, &wanted);
        let kept: Vec<_> = differences(&next, &wanted)
            .into_iter()
            .map(|kept| (kept.key, kept.old, kept.new))
            .collect();
        let kept: Vec<_> =
            kept.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        let files = old.watch.kernel.max_files.to_string();
        assert_eq!(
            kept,
            [
                ("read.quantum", "1MiB", "2MiB"),
                ("state_dir", "/a", "/b"),
                ("watch.kernel.max_files", files.as_str(), "99"),
            ]
        );
        assert_eq!((&next.sinks, next.drain_timeout), (&wanted.sinks, wanted.drain_timeout));
        assert_eq!((next.state_dir, next.read.start), (old.state_dir, wanted.read.start));
    }

    #[test]
    fn a_configuration_that_was_put_together_can_be_checked_as_one_that_was_read() {
        for text in [
            "",
            "sinks: {a: {type: http, url: 'https://x/', tls: {ca_file: /c}}, b: {type: archive}}\n",
        ] {
            let text = format!("{text}sources: {{files: [{{paths: [/var/log/x]}}]}}\n");
            let config = config(&text);
            let again = serde_json::to_string(&config).unwrap();
            assert_eq!(Config::parse(&again, "again").unwrap(), config);
        }
    }
}
