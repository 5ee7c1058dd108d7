//! `cargo xtask test`: every test of the workspace (repository law included), and a summary. Tests
//! that need another kernel than the running one are `cargo xtask vm`.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    bpf,
    packages::{self, Needed},
    process,
    summary::{SHOW_OUTPUT, Summary},
    workspace,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Passed on to cargo test
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Programs that the build runs, and the Debian package each is in.
const NEEDED: [Needed; 2] = [("cc", "gcc libc6-dev"), ("make", "make")];

/// Tests that run at once, at least: most of them wait for an agent most of the time.
const AT_ONCE: usize = 4;

/// The crash points, and what fuzz targets call, are compiled in only here: never into what the other tests run.
const APART: [&str; 16] = [
    "--package",
    "collector",
    "--features",
    "failpoints,fuzzing",
    "--test",
    "checkpoint_crash",
    "--test",
    "copy_race",
    "--test",
    "counted_crash",
    "--test",
    "cut_crash",
    "--test",
    "fuzz_corpora",
    "--test",
    "order_race",
];

/// How long a test binary may say nothing: longer than its slowest test takes on a busy machine, far less
/// than the patience of whoever waits for the result.
const SILENCE: Duration = Duration::from_secs(8 * 60);

/// Runs all tests.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::require(&NEEDED)?;
    bpf::build_if_possible();
    let begun = Instant::now();
    let mut sum = Summary::default();
    let mut good = cargo_test(&["--workspace", "--no-fail-fast"], &args.rest, &mut sum)?;
    println!("\n{sum} in {:.0} s.", begun.elapsed().as_secs_f64());
    for skip in &sum.skips {
        println!("    skipped: {skip}");
    }
    // What was asked for by name is all that is run.
    if args.rest.is_empty() {
        println!(
            "\nOnce more with a kill at each named point of a commit and of a cut, and the fuzz targets' seeds:"
        );
        good &= cargo_test(&APART, &[], &mut sum)?;
    }
    let names = sum.failures;
    if !good {
        bail!("Failed: {}", if names.is_empty() { "the build".into() } else { names.join(", ") });
    }
    Ok(())
}

/// Shows what `cargo test` says and sums it up; false if something failed.
fn cargo_test(what: &[&str], rest: &[String], sum: &mut Summary) -> Result<bool> {
    let mut command = workspace::cargo();
    command.args(["test", "--locked"]).args(what).args(rest);
    if !rest.iter().any(|argument| argument == "--") {
        command.arg("--");
    }
    // Who asks for it sees it; else it is only for the summary.
    let asked = rest.iter().any(|argument| argument == SHOW_OUTPUT);
    if !asked {
        command.arg(SHOW_OUTPUT);
    }
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.env("RUST_TEST_THREADS", cores.max(AT_ONCE).to_string());
    }
    let child = process::Running::start("cargo test", command.stdout(Stdio::piped()));
    let mut child = child.context("Starting cargo")?;
    let stdout = child.take_stdout()?;
    sum.begin();
    let (sender, lines) = sync_channel(64);
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().try_for_each(|line| sender.send(line))
    });
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                let line = line?;
                if sum.take(&line) || asked {
                    println!("{line}");
                }
            }
            // A build may take as long as it takes: it says nothing here.
            Err(RecvTimeoutError::Timeout) if !sum.is_running() => {}
            Err(RecvTimeoutError::Timeout) => {
                let stuck = sum.give_up();
                println!("Nothing was said for {SILENCE:?}; killed: {}.", stuck.join(", "));
                child.kill_descendants();
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(child.wait(SILENCE)?.success())
}
