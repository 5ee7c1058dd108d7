//! `cargo xtask e2e hostile`: what somebody who may write into one log directory does on purpose, against
//! the real agent as root. An attack says what it tried how often, and fails if it got anything.

mod floods;
mod races;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

use super::step;
use crate::build;

/// How long, and what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each attack goes on, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only the attacks whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// Another build of the agent than this workspace's (to see what an attack came to before)
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// One thing that is tried.
struct Attack {
    name: &'static str,
    /// What is tried, for people.
    what: &'static str,
    /// Tries it; what it came to, or an error if it succeeded.
    run: fn(&Setting) -> Result<String>,
}

/// What every attack is given.
struct Setting {
    everyline: PathBuf,
    lasting: Duration,
}

/// Tries everything; an error if any attack succeeded.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(rustix::process::getuid().is_root(), "The attacks need root: run this as root.");
    let everyline = match &args.agent {
        Some(agent) => agent.clone(),
        None => build::binary(&["collector"], "everyline")?,
    };
    let setting = Setting { everyline, lasting: Duration::from_secs(args.seconds) };
    let mut succeeded = Vec::new();
    for attack in races::ATTACKS.into_iter().chain(floods::ATTACKS) {
        if args.only.as_ref().is_some_and(|only| !attack.name.contains(only)) {
            continue;
        }
        step(&format!("{}: {}", attack.name, attack.what));
        match (attack.run)(&setting) {
            Ok(said) => println!("    held: {said}"),
            Err(error) => {
                println!("    FAILED: {error:#}");
                succeeded.push(attack.name);
            }
        }
    }
    ensure!(succeeded.is_empty(), "Not held: {}.", succeeded.join(", "));
    Ok(())
}
