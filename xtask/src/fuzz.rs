//! `cargo xtask fuzz`: the targets of `collector/fuzz` under libFuzzer, one after the other, and a table of
//! what each came to.
//!
//! libFuzzer is the crate `libfuzzer-sys`, C++ that is built with the targets; what it steers by are LLVM's
//! coverage counters, which a stable compiler puts in too. So nothing is needed but the repository's own
//! toolchain and a C++ compiler, which is installed here where that is allowed. No sanitizer watches: they
//! need a nightly, and nearly all of the code is safe.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    packages::{self, Needed},
    process::Running,
    workspace::{cargo, root, target_dir},
};

mod said;

use said::Said;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One target [default: all of them]
    target: Option<String>,
    /// How long each target is fuzzed
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Run a target once, with the input in this file, as after a crash
    #[arg(long, requires = "target", value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Programs that the build runs, and the Debian package each is in.
const NEEDED: [Needed; 3] = [("cc", "gcc libc6-dev"), ("c++", "g++"), ("make", "make")];
/// Counters for edges, which say what an input reaches, and a look at what is compared, which says how to get
/// further.
const COVERAGE: [&str; 4] = ["level=4", "inline-8bit-counters", "pc-table", "trace-compares"];
/// Longer inputs cost time and find what shorter ones find.
const LONGEST: u32 = 4096;
/// One input may take so long, and the process so much memory.
const SECONDS_AN_INPUT: u32 = 10;
const MEGABYTES: u32 = 1024;
/// What a run may take beyond the time it was given.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    let chosen: Vec<&String> = match &args.target {
        None => all.iter().collect(),
        Some(target) => {
            let known = all.iter().find(|known| *known == target);
            vec![known.with_context(|| format!("There are the targets {}.", all.join(", ")))?]
        }
    };
    packages::install(&NEEDED)?;
    let binaries = build(args.target.as_deref())?;
    if let (Some(input), [target]) = (&args.input, &chosen[..]) {
        return once(&binaries.join(target), input);
    }
    println!(
        "{:<12} {:>12} {:>10} {:>8} {:>8}",
        "target", "executions", "a second", "edges", "crashes"
    );
    let mut crashes = Vec::new();
    for target in chosen {
        let said = fuzz(&binaries, target, args.seconds)?;
        println!(
            "{target:<12} {:>12} {:>10} {:>8} {:>8}",
            said.executions,
            said.executions / args.seconds.max(1),
            said.edges,
            said.crashes.len()
        );
        crashes.extend(said.crashes.into_iter().map(|input| (target, input)));
    }
    if crashes.is_empty() {
        return Ok(());
    }
    for (target, input) in &crashes {
        println!(
            "\n{target} fails with {input}; what it said is in {}. Again:",
            log(target).display()
        );
        println!("    cargo xtask fuzz {target} --input {input}");
    }
    bail!("{} inputs make a target fail.", crashes.len());
}

/// Runs a target's binary with one input.
fn once(binary: &Path, input: &Path) -> Result<()> {
    ensure!(input.exists(), "There is no {}.", input.display());
    let mut command = Command::new(binary);
    command.arg(input).arg(format!("-timeout={SECONDS_AN_INPUT}"));
    let status = Running::start("the target", &mut command)?.wait(PATIENCE)?;
    ensure!(status.success(), "It fails with this input ({status}).");
    println!("It does not fail with this input.");
    Ok(())
}

/// Fuzzes a target for so long, or until an input makes it fail.
fn fuzz(binaries: &Path, target: &str, seconds: u64) -> Result<Said> {
    let own = directory("corpus", target)?;
    let failed = directory("crashes", target)?;
    let log = log(target);
    fs::create_dir_all(log.parent().context("a log has a directory")?)?;
    let mut command = Command::new(binaries.join(target));
    // What is found goes into the first one.
    command.arg(own).arg(seeds().join(target));
    command.arg(format!("-artifact_prefix={}/", failed.display()));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={LONGEST}"));
    command.arg(format!("-timeout={SECONDS_AN_INPUT}"));
    command.arg(format!("-rss_limit_mb={MEGABYTES}"));
    command.args(["-print_final_stats=1", "-detect_leaks=0"]);
    let output = File::create(&log).with_context(|| format!("Creating {}", log.display()))?;
    command.stdout(output.try_clone()?).stderr(output);
    let patience = Duration::from_secs(seconds) + PATIENCE;
    let mut running = Running::start(target, &mut command)?;
    let pid = running.pid();
    let ended = running.wait(patience);
    // As the target calls what it leaves (`scratch`).
    for base in [Path::new("/dev/shm"), &std::env::temp_dir()] {
        fs::remove_dir_all(base.join(format!("everyline-fuzz-{target}-{pid}"))).ok();
    }
    let status = ended?;
    // What a target prints need not be text.
    let said = Said::of(&String::from_utf8_lossy(&fs::read(&log)?));
    let told = status.success() == said.crashes.is_empty() && said.executions > 0;
    ensure!(told, "{target} ended with {status} and did not say why: see {}.", log.display());
    Ok(said)
}

/// Builds the targets; where their binaries are.
fn build(target: Option<&str>) -> Result<PathBuf> {
    let host = host()?;
    let directory = target_dir().join("fuzz");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]);
    command.arg(manifest());
    // Named, so that build scripts and macros are built without counters.
    command.args(["--target", &host, "--target-dir"]).arg(&directory);
    match target {
        Some(target) => command.args(["--bin", target]),
        None => command.arg("--bins"),
    };
    command.env("CARGO_ENCODED_RUSTFLAGS", flags());
    let status = command.status().context("Starting cargo")?;
    ensure!(status.success(), "Building the fuzz targets failed; cargo says why above.");
    Ok(directory.join(host).join("release"))
}

fn flags() -> OsString {
    let mut flags = ["--cfg", "fuzzing", "-Cpasses=sancov-module"].map(str::to_owned).to_vec();
    flags.extend(COVERAGE.map(|what| format!("-Cllvm-args=-sanitizer-coverage-{what}")));
    flags.join("\x1f").into()
}

/// The platform that is built for: this one.
fn host() -> Result<String> {
    let mut rustc = Command::new("rustc");
    let output = rustc.arg("-vV").current_dir(root()).output().context("Starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it builds for")?.to_owned())
}

/// The targets' names, as the manifest has them.
fn targets() -> Result<Vec<String>> {
    let manifest = manifest();
    let text = fs::read_to_string(&manifest);
    let text = text.with_context(|| format!("Reading {}", manifest.display()))?;
    let paths = text.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    let names = paths.filter_map(|path| path.strip_suffix(".rs\""));
    Ok(names.map(str::to_owned).collect())
}

fn manifest() -> PathBuf {
    root().join("collector/fuzz/Cargo.toml")
}

/// What every run begins with.
fn seeds() -> PathBuf {
    root().join("collector/fuzz/corpus")
}

/// A directory of what was found, made.
fn directory(kind: &str, target: &str) -> Result<PathBuf> {
    let path = target_dir().join("fuzz").join(kind).join(target);
    fs::create_dir_all(&path).with_context(|| format!("Creating {}", path.display()))?;
    Ok(path)
}

fn log(target: &str) -> PathBuf {
    target_dir().join("fuzz/logs").join(format!("{target}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds() {
        let targets = targets().unwrap();
        assert!(targets.len() >= 9, "{targets:?}");
        for target in targets {
            let seeds = fs::read_dir(seeds().join(&target)).unwrap();
            assert!(seeds.count() >= 3, "{target}");
        }
    }
}
