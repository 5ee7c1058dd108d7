//! supervisor

use std::{path::PathBuf, process::ExitCode};

use crate::config::Config;

/// Why the agent did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("{0}")]
    Failed(String),
}

impl RunError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        1
    }
}

/// Runs the agent.
pub fn run(_config: Config, _path: Option<PathBuf>) -> Result<ExitCode, RunError> {
    Err(RunError::Failed("This build has no agent.".to_owned()))
}
