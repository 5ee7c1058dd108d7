//! `cargo xtask bench`: builds for release and hands over to the binary `bench`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names and options of the binary `bench` (`cargo xtask bench -- --help` lists them)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Measures.
pub fn run(args: &Args) -> Result<()> {
    let bench = build::binary(&["collector", "benches"], "bench")?;
    let rest = args.rest.iter().filter(|argument| *argument != "--");
    let status = Command::new(bench).args(rest).status().context("Starting the bench")?;
    ensure!(status.success(), "The bench failed ({status}).");
    Ok(())
}
