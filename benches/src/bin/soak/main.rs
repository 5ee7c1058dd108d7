//! `soak`: one agent for minutes over everything that happens to logs and to an agent, all from a seed.
//!
//! A node's logs in three layouts, rotated in every way, born and deleted; an agent that is killed, stopped,
//! paused and reloaded, whose disk fills up, whose clock jumps and whose receivers fail. In the end every
//! line is accounted for: received once, or lost and stated by the audit. `cargo xtask soak` starts it in
//! namespaces of its own, which take whatever it leaves behind with them.

mod agent;
mod config;
mod disk;
mod judge;
mod logs;
mod memory;
mod run;
mod schedule;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

/// Lets everything happen to an agent and holds it to every line.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long logs are written.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// How the agent watches: auto, kernel, inotify, poll.
    #[arg(long, default_value = "auto")]
    watch: String,
    /// The agent; by default the one beside this binary.
    #[arg(long)]
    everyline: Option<PathBuf>,
    /// Where everything lies. Should be a disk; removed in the end.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Leave everything there.
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut dir = tempfile::Builder::new().prefix("everyline-soak-").tempdir_in(&args.dir)?;
    if args.keep {
        dir.disable_cleanup(true);
        println!("Everything is kept in {}.", dir.path().display());
    }
    let faults = run::run(&args, dir.path())?;
    for fault in &faults {
        println!("WRONG: {fault}.");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
