//! `everyline validate`: says what is wrong with a configuration, or that nothing is.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{CONFIG, print, say};
use crate::{config::Config, supervisor::preflight};

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file; - for standard input [default: what `run` would use]
    file: Option<PathBuf>,
    /// Look at this machine too: the state directory, certificates and secrets, directories of outputs
    #[arg(long)]
    check_files: bool,
    /// Say nothing if it is right
    #[arg(short, long)]
    quiet: bool,
}

/// Checks the file named, else what `run` would use.
pub(super) fn run(args: &Args, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = Config::load(args.file.as_deref().or(config))?;
    let name = match &loaded.path {
        Some(path) if path == Path::new("-") => "Standard input".to_owned(),
        Some(path) => path.display().to_string(),
        None => "No configuration file is named or installed; the default".to_owned(),
    };
    if args.check_files && !files(&loaded.config, &name)? {
        return Ok(ExitCode::from(CONFIG));
    }
    if args.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    let sinks: Vec<_> = loaded
        .config
        .sinks
        .iter()
        .map(|(name, sink)| format!("{name} ({})", sink.kind()))
        .collect();
    let sinks = if sinks.is_empty() { "the archive".to_owned() } else { sinks.join(", ") };
    let files = match args.check_files {
        true => "An agent can start with it here.",
        false => "Files and directories were not looked at (--check-files does that).",
    };
    print(&format!("{name} is valid. Records go to {sinks}. {files}\n"))
}

/// Says what an agent would refuse here, or wait for. False: it would refuse to start.
fn files(config: &Config, name: &str) -> anyhow::Result<bool> {
    let found = preflight::check(config).context("Checking files failed")?;
    for refusal in &found.refusals {
        say(&format!("{name}: {refusal}"));
    }
    for remark in &found.remarks {
        say(&format!("{name}: note: {remark}"));
    }
    for waits in found.sinks.iter().filter_map(|sink| sink.waits.as_ref()) {
        say(&format!("{name}: note: {waits}"));
    }
    Ok(found.refusals.is_empty())
}
