//! `cargo xtask build`, and the release binaries that other tasks run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    bpf, symbols,
    workspace::{cargo, target_dir},
};

/// Builds the agent and says where it is.
pub(crate) fn run() -> Result<()> {
    let path = binary(&["collector"], "everyline")?;
    println!("{} ({})", path.display(), mebibytes(&path)?);
    let symbols = symbols::beside(&path);
    if symbols.exists() {
        println!("{} ({}), for a debugger", symbols.display(), mebibytes(&symbols)?);
    }
    Ok(())
}

fn mebibytes(path: &Path) -> Result<String> {
    Ok(format!("{:.1} MiB", path.metadata()?.len() as f64 / f64::from(1 << 20)))
}

/// Builds these packages for release; the path of one binary of theirs.
pub(crate) fn binary(packages: &[&str], name: &str) -> Result<PathBuf> {
    build(packages, &["--bins"], name)
}

/// Builds one binary of the load generator's package for release, and the agent beside it.
pub(crate) fn beside_agent(name: &str) -> Result<PathBuf> {
    build(&["collector", "benches"], &["--bin", "everyline", "--bin", name], name)
}

fn build(packages: &[&str], what: &[&str], name: &str) -> Result<PathBuf> {
    bpf::build_if_possible();
    let mut command = cargo();
    command.args(["build", "--release", "--locked"]).args(what);
    for package in packages {
        command.args(["--package", package]);
    }
    // The symbols are taken out below, into a file of their own.
    command.env("CARGO_PROFILE_RELEASE_STRIP", "none");
    let status = command.status().context("Starting cargo")?;
    ensure!(status.success(), "Building {packages:?} failed; cargo says why above.");
    if packages.contains(&"collector") {
        symbols::take_out(&target_dir().join("release/everyline"))?;
    }
    Ok(target_dir().join("release").join(name))
}
