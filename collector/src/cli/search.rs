//! `everyline search`: lines out of the embedded archive.
//!
//! Arguments and exit codes; the search itself is `archive::search`.

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{
    times::{Times, ZoneArgs},
    waiting::Waiting,
};
use crate::{
    archive::{
        read,
        search::{Error, Excluded, Names, Options, Order, Pattern, Query, Search, Show, Summary},
    },
    causes,
    zone::Zone,
};

/// Find lines in the embedded archive
///
/// Lines come in the order of their times, oldest first; those of one log stay in the order in which
/// they were written, whatever its clock did. Exit status: 0 if a line was found, 1 if none was, 2 on
/// an error.
///
/// Times are read and shown in this machine's zone, unless they name another one: what is printed can be
/// given to --since. --utc reads and shows UTC. With -o json times stay as they are stored.
#[derive(Debug, Clone, Default, Args)]
pub struct SearchArgs {
    /// Regular expression to find in the message; without one every line is found
    pub regex: Option<String>,
    /// Not before this: a time (2026-01-31T10:11:12Z, "2026-01-31 10:11", or 10:11 for the last time
    /// that it was 10:11) or how long ago (10m, 2h30m, 1d)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Not after this
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only of this Kubernetes namespace (exact or glob; repeat for several)
    #[arg(short, long, value_name = "GLOB")]
    pub namespace: Vec<String>,
    /// Only of this pod (exact or glob; repeat for several)
    #[arg(short, long, value_name = "GLOB")]
    pub pod: Vec<String>,
    /// Only of this container (exact or glob; repeat for several)
    #[arg(short, long, value_name = "GLOB")]
    pub container: Vec<String>,
    /// Not of this Kubernetes namespace (exact or glob; repeat for several)
    #[arg(long, value_name = "GLOB")]
    pub exclude_namespace: Vec<String>,
    /// Not of this pod
    #[arg(long, value_name = "GLOB")]
    pub exclude_pod: Vec<String>,
    /// Not of this container
    #[arg(long, value_name = "GLOB")]
    pub exclude_container: Vec<String>,
    /// Only of this stream
    #[arg(short, long)]
    pub stream: Option<Stream>,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// REGEX is the text itself
    #[arg(short = 'F', long)]
    pub fixed_strings: bool,
    /// Lines that do not match
    #[arg(short = 'v', long)]
    pub invert_match: bool,
    /// Only the newest so many lines
    #[arg(short = 't', long, value_name = "N")]
    pub tail: Option<u64>,
    /// Newest first
    #[arg(short, long, conflicts_with = "follow")]
    pub reverse: bool,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// So many lines of the same log after each that is found
    #[arg(short = 'A', long, value_name = "N")]
    pub after_context: Option<usize>,
    /// So many lines of the same log before each that is found
    #[arg(short = 'B', long, value_name = "N")]
    pub before_context: Option<usize>,
    /// Both, so many before and after
    #[arg(short = 'C', long, value_name = "N")]
    pub context: Option<usize>,
    /// Print only how many lines there are
    #[arg(long, conflicts_with_all = ["follow", "output"])]
    pub count: bool,
    /// How lines are shown
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Show new lines as they are collected, from now on, or from --since or --tail on
    #[arg(short, long)]
    pub follow: bool,
    /// Search this archive instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub archive_dir: Option<PathBuf>,
    /// Never colour (NO_COLOR and TERM=dumb do the same)
    #[arg(long)]
    pub no_color: bool,
    /// In which zone times are read and shown
    #[command(flatten)]
    pub zone: ZoneArgs,
}

/// A container's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How lines are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Time, pod, stream and message; control characters escaped.
    #[default]
    Text,
    /// The records as stored, one JSON object a line.
    Json,
}

/// Runs `everyline search` on `archive_dir`, unless the arguments name another. Errors are printed
/// here, because their exit status is the command's own.
pub fn run(args: &SearchArgs, archive_dir: &Path) -> anyhow::Result<ExitCode> {
    let dir = args.archive_dir.as_deref().unwrap_or(archive_dir);
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut out = BufWriter::with_capacity(64 << 10, stdout.lock());
    let result = search(args, dir, terminal, &mut out);
    let mut stderr = io::stderr();
    let (code, message) = match result {
        Ok(Some(summary)) => (u8::from(summary.found == 0), damage(&summary)),
        // Whoever read the output has seen enough.
        Ok(None) => (0, None),
        Err(error) => (2, Some(format!("everyline: {}", causes::told(error.as_ref())))),
    };
    if let Some(message) = message {
        // Nobody left to tell.
        let _closed = writeln!(stderr, "{message}");
    }
    Ok(ExitCode::from(code))
}

/// `None`: the reader of `out` has closed it.
fn search(
    args: &SearchArgs,
    dir: &Path,
    terminal: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Option<Summary>> {
    let mut times = Times::new(args.zone);
    let query = query(args, &mut times)?;
    for note in times.notes() {
        eprintln!("everyline: {note}.");
    }
    let search = Search {
        query,
        show: show(args, terminal, times.zone),
        order: if args.reverse { Order::Newest } else { Order::Oldest },
        tail: args.tail,
        limit: args.limit,
        before: args.before_context.or(args.context).unwrap_or(0),
        after: args.after_context.or(args.context).unwrap_or(0),
        follow: args.follow,
        from_now: args.follow && args.since.is_none() && args.tail.is_none(),
        ..Search::default()
    };
    let _waiting = match args.follow {
        true => Some(Waiting::begin(dir)),
        false => {
            complain_if_missing(dir)?;
            None
        }
    };
    let found = search.run(dir, out).and_then(|summary| {
        if args.count {
            writeln!(out, "{}", summary.found).and_then(|()| out.flush()).map_err(Error::Write)?;
        }
        Ok(summary)
    });
    match found {
        Ok(summary) => Ok(Some(summary)),
        Err(Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(Error::Read { path, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(anyhow::anyhow!(
                "could not read the archive {}: {source}; run this as the user that the agent runs as (root, usually)",
                path.display()
            ))
        }
        Err(error) => Err(error.into()),
    }
}

fn query(args: &SearchArgs, times: &mut Times) -> anyhow::Result<Query> {
    let options = Options { ignore_case: args.ignore_case, fixed: args.fixed_strings };
    let pattern = args.regex.as_deref().map(|text| Pattern::new(text, options)).transpose();
    let pattern = pattern.context(
        "REGEX is not a regular expression (with -F it would be taken as the text itself)",
    )?;
    let names = |option: &str, globs: &[String]| {
        Names::new(globs).with_context(|| format!("--{option} is not a name or glob"))
    };
    let (since, until) = times.range(args.since.as_deref(), args.until.as_deref())?;
    Ok(Query {
        // With nothing to match, there is nothing not to match either.
        invert: args.invert_match && pattern.is_some(),
        pattern,
        since,
        until,
        namespaces: names("namespace", &args.namespace)?,
        pods: names("pod", &args.pod)?,
        containers: names("container", &args.container)?,
        excluded: Excluded {
            namespaces: names("exclude-namespace", &args.exclude_namespace)?,
            pods: names("exclude-pod", &args.exclude_pod)?,
            containers: names("exclude-container", &args.exclude_container)?,
        },
        stream: args.stream.map(|stream| match stream {
            Stream::Stdout => "stdout".to_owned(),
            Stream::Stderr => "stderr".to_owned(),
        }),
    })
}

fn show(args: &SearchArgs, terminal: bool, zone: Zone) -> Show {
    let color = !args.no_color && crate::terminal::colors(&io::stdout());
    match args.output {
        _ if args.count => Show::Nothing,
        Output::Text => Show::Text { color, zone },
        Output::Json => Show::Json { terminal },
    }
}

fn complain_if_missing(dir: &Path) -> anyhow::Result<()> {
    let empty = match read::segments(dir) {
        Ok(segments) => segments.is_empty(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(_) => false,
    };
    if empty {
        anyhow::bail!(
            "nothing has been collected into the archive {} yet; start the agent (`everyline run`) and give it a second, or name another archive with --archive-dir",
            dir.display()
        );
    }
    Ok(())
}

fn damage(summary: &Summary) -> Option<String> {
    (summary.damaged > 0).then(|| {
        format!(
            "everyline: the archive is damaged in {} places; what was there could not be searched",
            summary.damaged
        )
    })
}
