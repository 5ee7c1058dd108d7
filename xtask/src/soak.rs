//! `cargo xtask soak`: builds for release and hands over to the binary `soak`, in mount and process
//! namespaces of its own: whatever ends it, its mounts and processes end with it.

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};

use crate::{
    build,
    packages::{self, Needed},
    process::Running,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Everything follows from it; without one, one is made and printed
    #[arg(long)]
    seed: Option<u64>,
    /// How long logs are written; a few minutes more are spent on counting
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// How the agent watches: auto, kernel, inotify, poll
    #[arg(long, default_value = "auto")]
    watch: String,
    /// Leave logs, state and output in a directory that is printed
    #[arg(long)]
    keep: bool,
}

const NEEDED: [Needed; 3] =
    [("mkfs.ext4", "e2fsprogs"), ("mount", "mount"), ("unshare", "util-linux")];
/// Makes an agent's clock what a file says.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// What counting may take beyond the writing.
const COUNTING: Duration = Duration::from_secs(900);

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = rustix::process::getuid().is_root();
    ensure!(root, "The soak mounts small file systems: run it as root.");
    packages::install(&NEEDED)?;
    if !Path::new(FAKETIME).exists()
        && let Err(error) = packages::install_all("libfaketime")
    {
        println!("skipped: clock steps: {error:#}");
    }
    let soak = build::beside_agent("soak")?;
    let seed = args.seed.unwrap_or_else(seed);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(soak);
    command.args(["--seed", &seed.to_string(), "--minutes", &args.minutes.to_string()]);
    command.args(["--watch", &args.watch]);
    if args.keep {
        command.arg("--keep");
    }
    let mut running = Running::start("soak", &mut command)?;
    let status = running.wait(Duration::from_secs_f64(args.minutes * 60.0) + COUNTING)?;
    ensure!(status.success(), "The soak found something wrong ({status}). Again: --seed {seed}");
    Ok(())
}

fn seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) % 1_000_000
}
