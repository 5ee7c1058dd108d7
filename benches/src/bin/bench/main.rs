//! `bench`: the agent's figures beside the machine's bare limits, on the same bytes, in one run.
//!
//! Throughput is per CPU-second: MB (10^6 bytes) divided by user and system time of the agent's
//! process, or of the thread that runs a bare limit. The agent and its limit take turns, `--rounds`
//! times; of each the *fastest* round counts, because whatever else a machine does can only add
//! time, and the ratio is between the two fastest. The medians are shown beside them. The archive
//! scan is compared in wall time by its *medians*, because two processes share that work. Memory is
//! the peak resident set (VmHWM) of one run; its ratio is limit by value, so that everywhere a
//! larger ratio is better.
//!
//! What the kernel watch adds and spares is a group of its own (`kernel`, see there), which has to be
//! asked for.

mod kernel;
mod memory;
mod search;
mod throughput;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use benches::{
    framing::Format,
    loadgen::{self, Options},
};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use kernel::Part;

/// Measures the agent beside the machine's bare limits.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// What to measure; everything but the kernel watch if nothing is named.
    names: Vec<Name>,
    /// How results are printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// The agent; by default the one beside this binary.
    #[arg(long)]
    everyline: Option<PathBuf>,
    /// Size of each corpus. What an agent spends before it is given one does not count.
    #[arg(long, default_value_t = 512)]
    corpus_mib: u64,
    /// How often each side of a comparison is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long the dead sink is dead, in seconds.
    #[arg(long, default_value_t = 60)]
    dead_seconds: u64,
    /// How long an idle agent is looked at, in seconds.
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// Where the corpus goes; removed in the end. Should be a disk.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// A table.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// What can be measured, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Name {
    LimitPageCacheRead,
    LimitReadSplitCopy,
    #[value(name = "limit_zstd1")]
    LimitZstd1,
    LimitSimdJsonTape,
    CriNdjsonZstdHttp,
    CriEncodedNull,
    DockerEncodedNull,
    #[value(name = "rss_1000_files_mib")]
    Rss1000FilesMib,
    RssDeadSinkMib,
    #[value(alias = "search")]
    SearchScan,
    /// All of the following.
    Kernel,
    WatchedWrite,
    UnwatchedWrite,
    #[value(name = "latency_p50_us")]
    LatencyP50Us,
    #[value(name = "latency_p99_us")]
    LatencyP99Us,
    IdleCpuPercent,
    IdleInotifyWatches,
    IdleRssMib,
    WakeupsPerRead,
}

impl Name {
    /// Which part of the kernel watch's figures it belongs to.
    fn part(self) -> Option<Part> {
        match self {
            Self::WatchedWrite | Self::UnwatchedWrite => Some(Part::Writes),
            Self::LatencyP50Us | Self::LatencyP99Us => Some(Part::Latency),
            Self::IdleCpuPercent | Self::IdleInotifyWatches | Self::IdleRssMib => Some(Part::Idle),
            Self::WakeupsPerRead => Some(Part::Wakeups),
            _ => None,
        }
    }

    fn text(self) -> String {
        self.to_possible_value().expect("no name is hidden").get_name().to_owned()
    }
}

/// One figure.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// What it is compared with: a bare limit's figure, or the bound for memory.
    limit: f64,
    /// How it compares; larger is better (of the kernel watch's figures, smaller).
    ratio: f64,
    #[serde(skip)]
    note: String,
}

/// What the cases share.
#[derive(Debug)]
struct Bench {
    everyline: PathBuf,
    dir: tempfile::TempDir,
    rounds: usize,
    dead: Duration,
    idle: Duration,
    cri: Option<Corpus>,
    docker: Option<Corpus>,
    corpus_bytes: u64,
}

/// Logs on disk.
#[derive(Debug, Clone)]
struct Corpus {
    root: PathBuf,
    files: Vec<PathBuf>,
    lines: u64,
    bytes: u64,
}

/// Nothing takes longer unless something hangs.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> Result<()> {
    let args = Args::parse();
    let mut bench = Bench::new(&args)?;
    remove_on_interrupt(bench.dir.path().to_path_buf())?;
    let asked = |name: &Name| args.names.contains(name);
    let kernel = |name: &Name| *name == Name::Kernel || name.part().is_some();
    if args.output == Output::Text {
        println!("{:<22} {:>9} {:<11} {:>9} {:>6}", "name", "value", "unit", "limit", "ratio");
    }
    let plain = Name::value_variants().iter().filter(|name| !kernel(name));
    for name in plain.filter(|name| args.names.is_empty() || asked(name)) {
        let begun = Instant::now();
        let figure = bench.measure(*name).with_context(|| format!("Measuring {name:?}"))?;
        print(&figure, args.output, begun)?;
    }
    for part in kernel::PARTS {
        let of_part = |name: &&Name| name.part() == Some(part);
        let wanted = |figure: &Figure| {
            let named = |name: &Name| figure.name.starts_with(&name.text());
            asked(&Name::Kernel) || args.names.iter().filter(of_part).any(named)
        };
        if !asked(&Name::Kernel) && !args.names.iter().any(|name| of_part(&name)) {
            continue;
        }
        let begun = Instant::now();
        let figures = kernel::measure(&bench, part);
        for figure in figures.with_context(|| format!("Measuring {part:?}"))? {
            if wanted(&figure) {
                print(&figure, args.output, begun)?;
            }
        }
    }
    Ok(())
}

fn print(figure: &Figure, output: Output, begun: Instant) -> Result<()> {
    match output {
        Output::Json => println!("{}", serde_json::to_string(figure)?),
        Output::Text => println!(
            "{:<22} {:>9.1} {:<11} {:>9.1} {:>6.2}  {} ({:.0} s)",
            figure.name,
            figure.value,
            figure.unit,
            figure.limit,
            figure.ratio,
            figure.note,
            begun.elapsed().as_secs_f64()
        ),
    }
    Ok(())
}

impl Bench {
    fn new(args: &Args) -> Result<Self> {
        let everyline = match &args.everyline {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("everyline"),
        };
        let what = || format!("Creating a directory under {}", args.dir.display());
        let dir = tempfile::Builder::new()
            .prefix("everyline-bench-")
            .tempdir_in(&args.dir)
            .with_context(what)?;
        ensure!(args.rounds > 0, "--rounds must be at least 1");
        Ok(Self {
            everyline,
            dir,
            rounds: args.rounds,
            dead: Duration::from_secs(args.dead_seconds),
            idle: Duration::from_secs(args.idle_seconds.max(1)),
            cri: None,
            docker: None,
            corpus_bytes: args.corpus_mib << 20,
        })
    }

    fn measure(&mut self, name: Name) -> Result<Figure> {
        let mut figure = match name {
            Name::LimitPageCacheRead => throughput::page_cache_read(self)?,
            Name::LimitReadSplitCopy => throughput::read_split_copy(self)?,
            Name::LimitZstd1 => throughput::zstd1(self)?,
            Name::LimitSimdJsonTape => throughput::simd_json_tape(self)?,
            Name::CriNdjsonZstdHttp => throughput::cri_ndjson_zstd_http(self)?,
            Name::CriEncodedNull => throughput::cri_encoded_null(self)?,
            Name::DockerEncodedNull => throughput::docker_encoded_null(self)?,
            Name::Rss1000FilesMib => memory::thousand_files(self)?,
            Name::RssDeadSinkMib => memory::dead_sink(self)?,
            Name::SearchScan => search::scan(self)?,
            _ => bail!("{} is no figure by itself", name.text()),
        };
        figure.name = name.text();
        Ok(figure)
    }

    /// The corpus of this format, made when first asked for.
    fn corpus(&mut self, format: Format) -> Result<Corpus> {
        let slot = match format {
            Format::Cri => &mut self.cri,
            Format::Docker => &mut self.docker,
        };
        if let Some(corpus) = slot {
            return Ok(corpus.clone());
        }
        let root = self.dir.path().join(format!("{format:?}").to_lowercase());
        let mut options = Options::new(&root);
        (options.files, options.format, options.threads) = (64, format, 2);
        options.bytes = self.corpus_bytes / u64::from(options.files);
        let manifest = loadgen::run(&options, &false.into())?;
        let files = manifest.writers.iter().map(|written| PathBuf::from(&written.path)).collect();
        let corpus = Corpus { root, files, lines: manifest.messages(), bytes: manifest.bytes() };
        Ok(slot.insert(corpus).clone())
    }

    /// An empty directory for one agent.
    fn fresh_dir(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(self.dir.path())?)
    }
}

/// The sources part of a configuration: one root, nothing of this machine.
fn sources(format: Format, root: &std::path::Path) -> String {
    let root = root.display();
    match format {
        Format::Cri => format!(
            "sources:\n  kubernetes: {{enabled: true, pods_dir: \"{root}\", \
             containers_dir: \"{root}-none\"}}\n  docker: {{enabled: false}}\n"
        ),
        Format::Docker => format!(
            "sources:\n  kubernetes: {{enabled: false}}\n  \
             docker: {{enabled: true, containers_dir: \"{root}\"}}\n"
        ),
    }
}

/// An interrupted run leaves no corpus behind either. The agent ends by itself: a terminal's
/// interrupt reaches it too.
fn remove_on_interrupt(dir: PathBuf) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            // Best effort: the process ends now.
            std::fs::remove_dir_all(dir).ok();
            std::process::exit(130);
        }
    });
    Ok(())
}

/// The middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
