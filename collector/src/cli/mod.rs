//! The command line: what can be asked of the binary, and what it answers with.
//!
//! Parses and dispatches; each subcommand has a module. Exit codes: 0 clean, 1 failed, 2 (audit) not
//! complete yet, 64 usage,
//! 75 another agent holds the state directory, 78 configuration.

mod agent;
mod audit;
mod doctor;
mod host_paths;
mod own_log;
mod run;
pub mod search;
mod status;
mod table;
pub mod times;
mod validate;
mod waiting;

#[cfg(test)]
pub(crate) use audit::sums as audit_sums;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use serde::Serialize;

use crate::{
    causes,
    config::{self, Archive, Config, ConfigError, Loaded, Sink},
    shown::{self, Style},
    terminal, watch,
};

/// Exit code: the command line is wrong.
pub const USAGE: u8 = 64;
/// Exit code: another agent holds the state directory; later it may not.
pub const LOCKED: u8 = 75;
/// Exit code: the configuration is wrong.
pub const CONFIG: u8 = 78;

/// Collects every container's log lines on this machine, once, and proves it.
///
/// Without a command it runs the agent. Without a configuration file it collects this machine's
/// container logs into an archive under /var/lib/everyline, which `everyline search` reads.
#[derive(Debug, Parser)]
#[command(name = "everyline", disable_version_flag = true)]
struct Cli {
    /// The configuration file [default: $EVERYLINE_CONFIG, else /etc/everyline/everyline.yaml if
    /// it exists, else the defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'V', long)]
    version: bool,
    /// With --version: print what was built, too
    #[arg(long, requires = "version")]
    verbose: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent (the default)
    ///
    /// Times in the agent's own log and of the console sink are in UTC.
    Run,
    /// Check a configuration and say what is wrong
    ///
    /// What passes starts an agent; what does not, `run` refuses in the same words. Exit status: 0 if it is
    /// right, 78 if it is wrong or cannot be read, or with --check-files if something that it names
    /// cannot be used here.
    Validate(validate::Args),
    /// Print configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show every file: how fast it grows, how much is unread, what is not acknowledged
    ///
    /// Times are shown in this machine's zone; --utc shows UTC. With -o json they are in UTC.
    Status(status::Args),
    /// Prove that every byte is accounted for; exit status 1 if not, or if any was lost, 2 while the
    /// agent still looks for the files that it knows
    Audit(audit::Args),
    /// Say what works on this machine, what does not, and what to do about it; exit status 1 if
    /// there is a problem
    Doctor(doctor::Args),
    // Its arguments say what it is for.
    Search(Box<search::SearchArgs>),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Every key with its default and what it means
    Default,
}

/// Runs the command line `args` (the program's name first).
pub fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nobody reads it if the stream is closed.
            let _closed = error.print();
            return ExitCode::from(if asked { 0 } else { USAGE });
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match error.downcast_ref::<ConfigError>() {
                Some(_) => CONFIG,
                None => 1,
            };
            say(&causes::told(error.as_ref()));
            ExitCode::from(code)
        }
    }
}

fn parse(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> clap::error::Result<Cli> {
    // Where nothing may be coloured, neither are help and errors; else clap looks which stream it is.
    let colors = terminal::colors(&io::stdout()) || terminal::colors(&io::stderr());
    let choice = if colors { ColorChoice::Auto } else { ColorChoice::Never };
    let mut command = Cli::command().color(choice);
    let mut matches = command.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.version {
        return print(&version(cli.verbose));
    }
    let load = || Config::load(cli.config.as_deref());
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => run::run(load()?),
        Command::Validate(args) => validate::run(&args, cli.config.as_deref()),
        Command::Config(ConfigCommand::Default) => print(config::DEFAULT_YAML),
        Command::Status(args) => status::run(&args, &load()?.config),
        Command::Audit(args) => audit::run(&args, &load()?.config),
        Command::Doctor(args) => doctor::run(&args, &load()?),
        Command::Search(args) => {
            // With a directory named, a configuration is not needed.
            let loaded = match args.archive_dir {
                Some(_) => Loaded { config: Config::default(), path: None },
                None => load()?,
            };
            search::run(&args, &archive_dir(&loaded.config))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "everyline", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// The archive that a search is about: the first one configured.
fn archive_dir(config: &Config) -> PathBuf {
    let configured = config.sinks.values().find_map(|sink| match sink {
        Sink::Archive(archive) => Some(archive),
        _ => None,
    });
    configured.unwrap_or(&Archive::default()).directory(&config.state_dir)
}

fn version(verbose: bool) -> String {
    let version = concat!("everyline ", env!("CARGO_PKG_VERSION"), "\n");
    if !verbose {
        return version.to_owned();
    }
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let failpoints = if cfg!(feature = "failpoints") { "on (for tests only)" } else { "off" };
    let object = watch::digest().map_or_else(
        || "none (this build has no kernel watch)".to_owned(),
        |digest| format!("sha256:{digest}"),
    );
    format!(
        "{version}target: {}\nprofile: {profile}\nrust: {}\neBPF object: {object}\nfailpoints: {failpoints}\n",
        env!("EVERYLINE_TARGET"),
        env!("EVERYLINE_RUSTC"),
    )
}

/// Says something on standard error. Others may have written some of it.
fn say(text: &str) {
    eprintln!("{}", shown::lines(text));
}

/// A line of JSON for standard output, which may be a terminal.
fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(value)?;
    let mut line = String::with_capacity(text.len() + 1);
    if io::stdout().is_terminal() {
        shown::push_as(&mut line, &text, Style::Json);
    } else {
        line.push_str(&text);
    }
    line.push('\n');
    Ok(line)
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_search_is_about_the_configured_archive() {
        let dir = |text| archive_dir(&Config::parse(text, "t").unwrap());
        assert_eq!(dir(""), PathBuf::from("/var/lib/everyline/archive"));
        assert_eq!(dir("state_dir: /s\nsinks: {a: {type: archive}}"), PathBuf::from("/s/archive"));
        assert_eq!(dir("sinks: {a: {type: archive, dir: /d}}"), PathBuf::from("/d"));
        let two = "state_dir: /s\nsinks: {a: {type: archive}, b: {type: archive, dir: /d}}";
        assert_eq!(dir(two), PathBuf::from("/s/archive"));
    }
}
