//! Preflight: whether an agent could start here with a configuration. Asks the parts that would refuse, in
//! their own words; changes nothing.

use std::{io, path::Path};

use super::{kinds, sinks::effective_sinks};
use crate::{
    checkpoint::{LockError, STATE_FILES, usable_as_own},
    config::Config,
    discover::{Discovery, OwnOutputs},
};

/// What stands in an agent's way.
#[derive(Debug, Default)]
pub(crate) struct Preflight {
    /// An agent would refuse to start: each in the words in which it would.
    pub(crate) refusals: Vec<String>,
    /// What is unusual, and accepted.
    pub(crate) remarks: Vec<String>,
    /// Each sink of which something is known.
    pub(crate) sinks: Vec<SinkCheck>,
}

/// One sink.
#[derive(Debug)]
pub(crate) struct SinkCheck {
    /// Its name.
    pub(crate) name: String,
    /// Why it would not start.
    pub(crate) refusal: Option<String>,
    /// What it would wait for.
    pub(crate) waits: Option<String>,
}

/// Looks at the state directory, at what sinks read and at where they write.
///
/// # Errors
/// No runtime can be had.
pub(crate) fn check(config: &Config) -> io::Result<Preflight> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut found = Preflight::default();
    match state_directory(&config.state_dir) {
        Ok(remark) => found.remarks.extend(remark),
        Err(error) => found.refusals.push(error.to_string()),
    }
    if let Err(error) = Discovery::new(config, &OwnOutputs::default()) {
        found.refusals.push(error.to_string());
    }
    for (name, sink) in effective_sinks(config) {
        let checked = kinds::check(&sink, &name, &config.state_dir, runtime.handle());
        let (refusal, waits) = match checked {
            Ok(waits) => (None, waits.map(|waits| waits.0)),
            Err(error) => (Some(error.to_string()), None),
        };
        found.refusals.extend(refusal.clone());
        found.sinks.push(SinkCheck { name, refusal, waits });
    }
    Ok(found)
}

fn state_directory(dir: &Path) -> Result<Option<String>, LockError> {
    match usable_as_own(dir, STATE_FILES) {
        Ok((_how, remark)) => Ok(remark),
        Err(source) => Err(LockError::Io { dir: dir.to_owned(), source }),
    }
}
