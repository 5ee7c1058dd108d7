//! `cargo xtask bench`: builds for release and hands over to the binary `bench`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{
    build,
    packages::{self, Needed},
};

/// Programs that the agent is measured beside, and the Debian package each is in.
const NEEDED: [Needed; 2] = [("grep", "grep"), ("zstdcat", "zstd")];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names and options of the binary `bench` (`cargo xtask bench -- --help` lists them)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Measures.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::install(&NEEDED)?;
    let bench = build::binary(&["collector", "benches"], "bench")?;
    let rest = args.rest.iter().filter(|argument| *argument != "--");
    let status = Command::new(bench).args(rest).status().context("Starting the bench")?;
    ensure!(status.success(), "The bench failed ({status}).");
    Ok(())
}
