//! `cargo xtask test`: every test of the workspace (repository law included), and a summary.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use crate::build;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on to cargo test
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Programs that the build runs, and the Debian package each is in.
const NEEDED: [(&str, &str); 2] = [("cc", "gcc libc6-dev"), ("make", "make")];

/// The crash points are compiled in only here: never into what the other tests run.
const CRASHES: [&str; 6] =
    ["--package", "collector", "--features", "failpoints", "--test", "checkpoint_crash"];

/// Runs all tests.
pub fn run(args: &Args) -> Result<()> {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| !installed(program))
        .map(|(_, package)| *package)
        .collect();
    ensure!(missing.is_empty(), "Install first: apt-get install {}", missing.join(" "));
    let begun = Instant::now();
    let mut sum = Summary::default();
    let mut good = cargo_test(&["--workspace", "--no-fail-fast"], &args.rest, &mut sum)?;
    let Summary { passed, failed, ignored, .. } = sum;
    let seconds = begun.elapsed().as_secs_f64();
    println!("\n{passed} passed, {failed} failed, {ignored} ignored in {seconds:.0} s.");
    // What was asked for by name is all that is run.
    if args.rest.is_empty() {
        println!("\nOnce more with a kill at each named point of a commit:");
        good &= cargo_test(&CRASHES, &[], &mut sum)?;
    }
    let names = sum.names;
    if !good {
        bail!("Failed: {}", if names.is_empty() { "the build".into() } else { names.join(", ") });
    }
    Ok(())
}

/// Shows what `cargo test` says and sums it up; false if something failed.
fn cargo_test(what: &[&str], rest: &[String], sum: &mut Summary) -> Result<bool> {
    let mut child = build::cargo()
        .args(["test", "--locked"])
        .args(what)
        .args(rest)
        .stdout(Stdio::piped())
        .spawn()
        .context("Starting cargo")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        sum.take(&line);
    }
    Ok(child.wait()?.success())
}

/// Whether `program` is in the search path.
pub fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v -- \"$1\"", "sh", program]).output();
    found.is_ok_and(|output| output.status.success())
}

#[derive(Debug, Default, PartialEq)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    names: Vec<String>,
}

impl Summary {
    fn take(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.names.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_up() {
        let mut sum = Summary::default();
        for line in [
            "test a::b ... FAILED",
            "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
             finished in 0.10s",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            sum.take(line);
        }
        let names = vec!["a::b".to_owned()];
        assert_eq!(sum, Summary { passed: 15, failed: 1, ignored: 2, names });
        assert!(installed("sh") && !installed("no-such-program-anywhere"));
    }
}
