//! `everyline validate`: says what is wrong with a configuration, or that nothing is.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::print;
use crate::config::Config;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file; - for standard input [default: what `run` would use]
    file: Option<PathBuf>,
    /// Say nothing if it is right
    #[arg(short, long)]
    quiet: bool,
}

/// Checks the file named, else what `run` would use.
pub fn run(args: &Args, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = Config::load(args.file.as_deref().or(config))?;
    if args.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    let name = match &loaded.path {
        Some(path) if path == Path::new("-") => "Standard input".to_owned(),
        Some(path) => path.display().to_string(),
        None => "No configuration file is named or installed; the default".to_owned(),
    };
    let sinks: Vec<_> = loaded
        .config
        .sinks
        .iter()
        .map(|(name, sink)| format!("{name} ({})", sink.kind()))
        .collect();
    let sinks = if sinks.is_empty() { "the archive".to_owned() } else { sinks.join(", ") };
    print(&format!("{name} is valid. Records go to {sinks}.\n"))
}
