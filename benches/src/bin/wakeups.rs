//! `wakeups`: whether a wake-up is ever lost.
//!
//! A real agent with nothing lingering and (in effect) no sweeps; a writer that appends a line at
//! random intervals, about as long as the agent needs for one; a receiver that notes when each
//! arrives. Again and again the writer waits until everything has arrived before it writes on: a
//! line whose wake-up was lost would lie there until the next one, which does not come.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use benches::measure::{Agent, Arrival, Arrivals};
use clap::Parser;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::Serialize;

/// Appends lines at random intervals and holds the agent to delivering each at once.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Lines to write.
    #[arg(long, default_value_t = 1_000_000)]
    lines: u64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What watches: kernel, inotify.
    #[arg(long, default_value = "kernel")]
    mode: String,
    /// The longest interval between two lines, microseconds.
    #[arg(long, default_value_t = 100)]
    interval_us: u64,
    /// A line that takes longer is a fault, milliseconds.
    #[arg(long, default_value_t = 1_000)]
    bound_ms: u64,
    /// The agent; by default the one beside this binary.
    #[arg(long)]
    everyline: Option<PathBuf>,
    /// Where the log goes; removed in the end. Should be a disk.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    lines: u64,
    /// How often the writer waited until everything had arrived.
    waits: u64,
    latency_p50_us: u32,
    latency_p99_us: u32,
    latency_max_us: u32,
    /// Files noticed as written, and reads of them.
    wakeups: u64,
    reads: u64,
    seconds: f64,
}

const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let args = Args::parse();
    let everyline = match &args.everyline {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("everyline"),
    };
    let dir = tempfile::Builder::new().prefix("everyline-wakeups-").tempdir_in(&args.dir)?;
    let arrivals = Arrivals::start()?;
    let logs = dir.path().join("logs");
    fs::create_dir(&logs)?;
    let file = OpenOptions::new().create(true).append(true).open(logs.join("0.log"))?;
    let yaml = configuration(&args.mode, &logs, &arrivals);
    let mut agent = Agent::start(&everyline, dir.path(), &yaml)?;
    let covered = format!("everyline_watch_mode{{mode=\"{}\"}}", args.mode);
    agent
        .wait_until(PATIENCE, |agent| Ok(agent.sum(&covered)? == 1))
        .with_context(|| format!("The file is not watched by {}", args.mode))?;
    let begun = Instant::now();
    let course = &Course::new(args.lines, Duration::from_millis(args.bound_ms));
    let received = std::thread::scope(|scope| {
        let received = scope.spawn(move || {
            let result = receive(&arrivals, course);
            course.over.store(true, Ordering::Release);
            result
        });
        let written = write(&args, file, course);
        course.over.store(true, Ordering::Release);
        let received = received.join().expect("the receiver panicked");
        // What the receiver found wrong is why the writer waited in vain.
        let latencies = received?;
        anyhow::Ok((written?, latencies))
    });
    let (waits, mut latencies) = received?;
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part).round() as usize];
    let wakeups = format!("everyline_watch_wakeups_total{{mode=\"{}\"}}", args.mode);
    let report = Report {
        lines: args.lines,
        waits,
        latency_p50_us: at(0.5),
        latency_p99_us: at(0.99),
        latency_max_us: at(1.0),
        wakeups: agent.sum(&wakeups)?,
        reads: agent.sum("everyline_reads_total")?,
        seconds: begun.elapsed().as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn configuration(mode: &str, logs: &Path, arrivals: &Arrivals) -> String {
    format!(
        "sources:\n  kubernetes: {{enabled: false}}\n  docker: {{enabled: false}}\n  \
         files: [{{paths: [\"{}/*.log\"]}}]\n\
         watch: {{mode: {mode}, sweep_interval: 1h, kernel: {{pin_dir: /nonexistent}}}}\n\
         batch: {{max_age: 0s}}\nsinks: {{out: {{type: http, url: \"http://{}/\"}}}}\n",
        logs.display(),
        arrivals.address(),
    )
}

/// What writer and receiver know of each other.
struct Course {
    begun: Instant,
    bound: Duration,
    /// When each line was written, nanoseconds since `begun`.
    written: Vec<AtomicU64>,
    arrived: AtomicU64,
    over: AtomicBool,
    /// Whom to wake when everything up to a line has arrived.
    writer: Mutex<Option<(u64, std::thread::Thread)>>,
}

impl Course {
    fn new(lines: u64, bound: Duration) -> Self {
        Self {
            begun: Instant::now(),
            bound,
            written: (0..lines).map(|_| AtomicU64::new(0)).collect(),
            arrived: AtomicU64::new(0),
            over: AtomicBool::new(false),
            writer: Mutex::new(None),
        }
    }

    /// Waits until all lines before this one have arrived.
    fn wait_for(&self, lines: u64) -> Result<()> {
        let end = Instant::now() + self.bound;
        *self.writer.lock().expect("the receiver panicked") = Some((lines, std::thread::current()));
        while self.arrived.load(Ordering::Acquire) < lines {
            ensure!(!self.over.load(Ordering::Acquire), "the receiver has given up");
            let now = Instant::now();
            if now >= end {
                let arrived = self.arrived.load(Ordering::Acquire);
                bail!(
                    "line {arrived} of {lines} has not arrived after {:?}: a wake-up was lost",
                    self.bound
                );
            }
            std::thread::park_timeout(end - now);
        }
        Ok(())
    }

    fn arrive(&self, lines: u64) {
        self.arrived.store(lines, Ordering::Release);
        let mut writer = self.writer.lock().expect("the writer panicked");
        if writer.as_ref().is_some_and(|(wanted, _)| *wanted <= lines)
            && let Some((_, thread)) = writer.take()
        {
            thread.unpark();
        }
    }
}

/// Writes all lines; how often it waited for their arrival.
fn write(args: &Args, mut file: File, course: &Course) -> Result<u64> {
    let mut random = Pcg64Mcg::seed_from_u64(args.seed);
    let (mut waits, mut wait_at, mut pause_at) = (0, 20, 300);
    let mut line = Vec::new();
    for number in 0..args.lines {
        line.clear();
        writeln!(line, "{number} {:016x}", random.random::<u64>())?;
        let now = u64::try_from(course.begun.elapsed().as_nanos())?;
        course.written[usize::try_from(number)?].store(now, Ordering::Release);
        ensure!(file.write(&line)? == line.len(), "a short write");
        if number == pause_at {
            std::thread::sleep(Duration::from_micros(random.random_range(1_000..5_000)));
            pause_at += random.random_range(200..400);
            wait_at = number;
        }
        if number == wait_at {
            course.wait_for(number + 1)?;
            waits += 1;
            wait_at = number + random.random_range(1..60);
        }
        interval(random.random_range(0..=args.interval_us), random.random());
    }
    course.wait_for(args.lines)?;
    Ok(waits + 1)
}

/// Asleep or not: the kernel wakes others in another way beside a thread that runs on.
fn interval(micros: u64, asleep: bool) {
    let pause = Duration::from_micros(micros);
    if asleep {
        return std::thread::sleep(pause);
    }
    let begun = Instant::now();
    while begun.elapsed() < pause {
        std::hint::spin_loop();
    }
}

/// Takes all lines in; how long each was on the way, microseconds. Fails at one that is missing,
/// doubled, out of order or late.
fn receive(arrivals: &Arrivals, course: &Course) -> Result<Vec<u32>> {
    let mut latencies = Vec::with_capacity(course.written.len());
    while latencies.len() < course.written.len() {
        let Some(arrival) = arrivals.next(Duration::from_millis(100)) else {
            ensure!(!course.over.load(Ordering::Acquire), "the writer has given up");
            continue;
        };
        take(arrival, course, &mut latencies)?;
        course.arrive(latencies.len() as u64);
    }
    Ok(latencies)
}

fn take(arrival: Arrival, course: &Course, latencies: &mut Vec<u32>) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Record<'a> {
        body: &'a str,
    }
    let at = u64::try_from((arrival.at - course.begun).as_nanos())?;
    let text = String::from_utf8(arrival.text()?)?;
    for line in text.lines() {
        let record: Record<'_> = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let number = record.body.split(' ').next().and_then(|number| number.parse().ok());
        let number: usize = number.with_context(|| format!("No line of ours: {line}"))?;
        ensure!(number == latencies.len(), "line {number} arrived as number {}", latencies.len());
        let took = at - course.written[number].load(Ordering::Acquire);
        let took = Duration::from_nanos(took);
        ensure!(took <= course.bound, "line {number} took {took:?}");
        latencies.push(u32::try_from(took.as_micros())?);
    }
    Ok(())
}
