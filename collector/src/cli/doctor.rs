//! `everyline doctor`: what works on this machine, what does not, and what to do about it.
//!
//! Looks at the machine as the agent would with the same configuration: it loads the programs,
//! watches every directory, opens every log, writes a file into the state directory, and lets all of
//! it go again. It reads no log and needs no agent; with `--unpin` it removes what one left at work
//! in the kernel.

mod capabilities;
mod filesystem;
mod finding;
mod handles;
mod kernel;
mod limits;
mod runtimes;
mod show;
mod sinks;
mod state;
mod survey;
mod unpin;
mod watched;

use std::{io, process::ExitCode};

use anyhow::Context as _;
use serde::Serialize;

use super::{json, print, status::Output};
use crate::{
    config::{DEFAULT_PATH, Loaded},
    discover::{Discovery, OwnOutputs},
    supervisor, terminal,
    watch::{HookReport, LoadError, Trial},
};
use finding::{Finding, Status};
use survey::{Survey, WatchedFile};

/// What to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// List how each file would be watched (-o json always does)
    #[arg(long)]
    files: bool,
    /// Look at nothing: remove what an agent with this state directory left at work in the kernel
    #[arg(long, conflicts_with = "files")]
    unpin: bool,
}

/// What the doctor found.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    /// How many of the findings are problems.
    problems: usize,
    findings: Vec<Finding>,
    /// What came of each filesystem's hooks; empty where the programs cannot be loaded at all.
    hooks: Vec<HookReport>,
    /// How each file would be watched.
    files: Vec<WatchedFile>,
}

/// Looks, prints what was found and makes it the exit status.
pub(super) fn run(args: &Args, loaded: &Loaded) -> anyhow::Result<ExitCode> {
    if args.unpin {
        return unpin::run(&loaded.config, args.output);
    }
    let report = examine(loaded)?;
    print(&match args.output {
        Output::Text => show::text(&report, args.files, terminal::colors(&io::stdout())),
        Output::Json => json(&report)?,
    })?;
    Ok(ExitCode::from(u8::from(report.problems > 0)))
}

fn examine(loaded: &Loaded) -> anyhow::Result<Report> {
    let config = &loaded.config;
    // As the agent does, before it opens a file.
    supervisor::raise_file_limit(config);
    let discovery = Discovery::new(config, &OwnOutputs::detect(config))?;
    let mut trial = Trial::new(config).context("Trying the watcher failed")?;
    let survey = Survey::new(&discovery, &mut trial).context("Trying the watcher failed")?;
    let mut findings = vec![configuration(loaded)];
    findings.extend(kernel::findings(config, &trial.hooks, &survey));
    findings.extend(watched::findings(config, &trial, &survey));
    findings.extend(capabilities::findings(config.watch.mode));
    findings.extend(limits::findings(config, &survey));
    findings.extend(state::findings(config));
    findings.extend(handles::findings(&config.state_dir, &survey));
    findings.extend(sinks::findings(config)?);
    findings.extend(runtimes::findings(&discovery)?);
    let hooks = match trial.hooks {
        Ok(hooks) | Err(LoadError::NoHook(hooks)) => hooks,
        Err(_) => Vec::new(),
    };
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        problems: findings.iter().filter(|it| it.status == Status::Problem).count(),
        findings,
        hooks,
        files: survey.files,
    })
}

fn configuration(loaded: &Loaded) -> Finding {
    Finding::ok(
        "configuration",
        match &loaded.path {
            Some(path) => format!("{} is valid.", path.display()),
            None => {
                format!("None is named and {DEFAULT_PATH} does not exist: the default is used.")
            }
        },
    )
}
