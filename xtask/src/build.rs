//! `cargo xtask build`, and the release binaries that other tasks run.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{bpf, symbols};

/// Builds the agent and says where it is.
pub fn run() -> Result<()> {
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
pub fn binary(packages: &[&str], name: &str) -> Result<PathBuf> {
    build(packages, &["--bins"], name)
}

/// Builds one binary of the load generator's package for release, and the agent beside it.
pub fn beside_agent(name: &str) -> Result<PathBuf> {
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

/// Cargo, in the workspace. Without what the outer cargo said of this program: build scripts watch
/// those variables, and would run again whenever a build comes through `cargo xtask` or not.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    manifest.parent().map_or(manifest.clone(), Path::to_path_buf)
}

/// Where cargo builds.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}
