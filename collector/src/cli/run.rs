//! `everyline run`: the agent's own log, then the agent.

use std::{io, process::ExitCode};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{DEFAULT_PATH, Loaded, Log, LogFormat},
    ownership, supervisor, terminal,
};

/// Overrides the configured log level, per module if wanted (`info,collector::read=debug`).
const LOG_VARIABLE: &str = "EVERYLINE_LOG";

/// Runs the agent until it is told to stop.
pub fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    ownership::keep_from_others();
    start_log(&loaded.config.log);
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

fn start_log(log: &Log) {
    let wanted = std::env::var(LOG_VARIABLE).ok().filter(|value| !value.is_empty());
    let (filter, refused) = match wanted.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(log.level.name()), Some(error)),
        None => (EnvFilter::new(log.level.name()), None),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A subscriber is set already only where several agents run in one process (tests).
    let _set = match log.format {
        LogFormat::Text => builder.with_ansi(terminal::colors(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Some(error) = refused {
        tracing::warn!(%error, "{LOG_VARIABLE} is no log filter; the configured level is used.");
    }
}
