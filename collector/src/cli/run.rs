//! `everyline run`: the agent's own log, then the agent.

use std::process::ExitCode;

use super::own_log;
use crate::{
    config::{DEFAULT_PATH, Loaded},
    ownership, privileges, supervisor,
};

/// Runs the agent until it is told to stop.
pub(super) fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    ownership::keep_from_others();
    own_log::start(&loaded.config.log);
    if let Err(error) = privileges::keep_memory_private() {
        tracing::warn!(%error, "A crash of the agent may leave an image of its memory, with secrets in it.");
    }
    match &loaded.path {
        Some(path) => tracing::info!(config = %path.display(), "Read the configuration."),
        None => tracing::info!(
            "No configuration file is named and {DEFAULT_PATH} does not exist: this machine's \
             container logs go into the archive."
        ),
    }
    match supervisor::run(loaded.config, loaded.path) {
        Ok(code) => Ok(code),
        Err(error) => {
            let code = error.exit_code();
            tracing::error!("{error}");
            Ok(ExitCode::from(code))
        }
    }
}
