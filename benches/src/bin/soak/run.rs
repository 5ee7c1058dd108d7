//! One run: events come when they are due, and in the end everything is counted.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use benches::{
    measure::StalledSink,
    oracle::{Faults, Limits, Oracle, Server, serve, verify_files},
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{
    Args,
    agent::Agent,
    config::Config,
    disk::{BpfFs, Disk},
    judge::Verdict,
    logs::{Logs, Written},
    memory::Memory,
    schedule::{Change, Event, Planned, kinds, schedule},
};

const TICK: Duration = Duration::from_millis(20);
const SAMPLE: Duration = Duration::from_millis(500);
/// How long the agent may take to deliver what is left.
const CATCH_UP: Duration = Duration::from_secs(180);
/// Longer than `drain_timeout`.
const STOP: Duration = Duration::from_secs(30);
/// What arrived so long before a kill may not be known as acknowledged: a checkpoint and some time.
const WINDOW: Duration = Duration::from_secs(4);
/// The longest that no checkpoint can be written.
const WINDOW_MAX: Duration = Duration::from_secs(40);

/// The sinks that are judged.
const SINKS: [&str; 3] = ["file", "archive", "http"];

/// What an audit's sums are made of.
const PARTS: [&str; 6] = ["seen", "acknowledged", "in_flight", "unread", "dropped", "lost"];

/// Lets the schedule happen; what was wrong in the end.
pub(crate) fn run(args: &Args, dir: &Path) -> Result<Vec<String>> {
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let planned = schedule(args.seed, length);
    println!("Seed {}, {} events in {:.0} s.", args.seed, planned.len(), length.as_secs_f64());
    let mut soak = Soak::start(args, dir)?;
    let mut faults = soak.live(&planned, length)?;
    let written = soak.calm()?;
    faults.extend(soak.catch_up()?);
    let audit = soak.agent.audit()?;
    soak.agent.stop(STOP)?;
    let stored = soak.agent.audit()?;
    for sink in SINKS {
        let (before, after) = (&audit["sinks"][sink], &stored["sinks"][sink]);
        // How many files they are spread over may change.
        let same = PARTS.iter().all(|part| before[part] == after[part]);
        if !same {
            faults.push(format!("the audit of {sink} changed by a stop: {before} → {after}"));
        }
    }
    let verdicts = soak.judge(&written, &audit)?;
    println!("{}", soak.summary(args.seed, &planned, &written));
    let mut told: &[String] = &[];
    for verdict in &verdicts {
        println!("{verdict}");
        let examples = verdict.report.examples.iter().filter(|text| !text.ends_with(" lost"));
        let gaps = if verdict.gaps == told { &[] } else { verdict.gaps.as_slice() };
        for text in gaps.iter().chain(examples) {
            println!("    {text}");
        }
        told = &verdict.gaps;
        faults.extend(verdict.faults());
    }
    println!("audit: {}", serde_json::to_string(&audit)?);
    if !soak.memory.is_flat() {
        faults.push(format!("memory grows: {:?} MiB", soak.memory.quarters()));
    }
    Ok(faults)
}

/// A run that goes on.
struct Soak {
    start: Instant,
    agent: Agent,
    config: Config,
    logs: Option<Logs>,
    disk: Disk,
    server: Arc<Server>,
    memory: Memory,
    sampled: Instant,
    /// What ends by itself, and when.
    ends: Vec<(Instant, Event)>,
    /// Since when no checkpoint can be written.
    full_since: Option<Instant>,
    clock_steps_skipped: u32,
    _silent: StalledSink,
    _pins: BpfFs,
    _runtime: Runtime,
}

impl Soak {
    fn start(args: &Args, dir: &Path) -> Result<Self> {
        let disk = Disk::mount(dir, 8 << 30)?;
        let pins = BpfFs::mount(&dir.join("bpf"))?;
        for name in ["logs/pods", "logs/docker", "logs/plain"] {
            std::fs::create_dir_all(dir.join(name))?;
        }
        std::fs::create_dir(disk.path().join("out"))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let faults = Faults {
            seed: args.seed,
            unavailable: 0.04,
            throttle: 0.02,
            reset: 0.04,
            lose_reply: 0.04,
            stall: 0.01,
            stall_ms: 1_500,
            retry_after: 1,
        };
        let limits = Limits { kill_window: WINDOW_MAX, ..Limits::default() };
        let server = Server::new(Oracle::new(limits), faults, None);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let receiver = listener.local_addr()?;
        runtime.spawn(serve(listener, Arc::clone(&server)));
        let (admin, silent) = (free_address()?, free_address()?);
        let stalled = StalledSink::start(silent)?;
        let config = Config::new(dir, disk.path(), &args.watch, [admin, receiver, silent]);
        config.write()?;
        let everyline = match &args.everyline {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("everyline"),
        };
        let mut agent = Agent::new(everyline, config.path(), dir)?;
        if !agent.has_clock() {
            println!("skipped: clock steps: libfaketime is not installed");
        }
        agent.start()?;
        agent.await_first_look()?;
        let start = Instant::now();
        Ok(Self {
            logs: Some(Logs::start(&dir.join("logs"), args.seed, start)),
            start,
            agent,
            config,
            disk,
            server,
            memory: Memory::default(),
            sampled: start,
            ends: Vec::new(),
            full_since: None,
            clock_steps_skipped: 0,
            _silent: stalled,
            _pins: pins,
            _runtime: runtime,
        })
    }

    /// Until the time is over. An agent that ends by itself is a fault, and is started again.
    fn live(&mut self, planned: &[Planned], length: Duration) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let mut planned = planned.iter().peekable();
        while self.start.elapsed() < length {
            if let Some(next) = planned.next_if(|next| next.at <= self.start.elapsed()) {
                self.happen(next.event)?;
            }
            if let Err(error) = self.tick() {
                faults.push(format!("{error:#}"));
                self.agent.start()?;
            }
        }
        Ok(faults)
    }

    /// A moment in which nothing new happens.
    fn tick(&mut self) -> Result<()> {
        std::thread::sleep(TICK);
        while let Some(index) = self.ends.iter().position(|(at, _)| Instant::now() >= *at) {
            let (_, event) = self.ends.swap_remove(index);
            self.end(event)?;
        }
        if let Some(logs) = &self.logs {
            logs.check()?;
        }
        let running = self.agent.running()?;
        if let (Some(pid), true) = (running, self.sampled.elapsed() >= SAMPLE) {
            self.sampled = Instant::now();
            self.memory.sample(self.start.elapsed(), pid);
        }
        Ok(())
    }

    fn wait(&mut self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.tick()?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        println!("{:8.2} s  {event:?}", self.start.elapsed().as_secs_f64());
        match event {
            Event::Kill { off } => {
                self.agent.kill()?;
                self.server.oracle().killed();
                self.excuse();
                self.wait(off)?;
                self.agent.start()?;
            }
            Event::Restart { off } => {
                self.agent.stop(STOP)?;
                self.server.oracle().killed();
                self.wait(off)?;
                self.agent.start()?;
            }
            Event::Reload(change) => {
                self.config.change(change);
                self.config.write()?;
                if change == Change::HttpSink {
                    self.excuse();
                }
                self.agent.hang_up()?;
                if change == Change::Wrong {
                    // Time to refuse it; with this one the agent could not be started either.
                    self.wait(Duration::from_millis(300))?;
                    self.config.mend();
                    self.config.write()?;
                }
            }
            Event::Pause { length } => {
                self.agent.signal(Signal::STOP)?;
                // Requests that are under way may be given up for their age.
                self.excuse();
                self.wait(length)?;
                self.excuse();
                self.agent.signal(Signal::CONT)?;
            }
            Event::DeadSink { length } => {
                self.server.set_dead(true);
                self.ends.push((Instant::now() + length, event));
            }
            Event::FullDisk { length } => {
                self.full_since.get_or_insert(Instant::now());
                self.disk.fill()?;
                self.ends.push((Instant::now() + length, event));
            }
            Event::ClockStep { seconds, length } => {
                self.clock_steps_skipped += u32::from(!self.agent.has_clock());
                self.agent.set_clock(seconds)?;
                self.ends.push((Instant::now() + length, event));
            }
            Event::Storm { length } => self.logs()?.storm(length),
            Event::ShortLived { logs, life } => self.logs()?.short_lived(logs, life),
        }
        Ok(())
    }

    fn end(&mut self, event: Event) -> Result<()> {
        match event {
            Event::DeadSink { .. } => self.server.set_dead(false),
            Event::FullDisk { .. } => {
                self.disk.free()?;
                self.full_since = None;
            }
            Event::ClockStep { .. } => self.agent.set_clock(0)?,
            _ => {}
        }
        Ok(())
    }

    /// What has just arrived may come again.
    fn excuse(&self) {
        let full = self.full_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.server.oracle().excuse_since(full + WINDOW);
    }

    fn logs(&self) -> Result<&Logs> {
        self.logs.as_ref().context("Nothing is written any more")
    }

    /// Nothing more is written and nothing more goes wrong.
    fn calm(&mut self) -> Result<Vec<Written>> {
        let written = self.logs.take().context("Nothing is written")?.stop()?;
        for (_, event) in std::mem::take(&mut self.ends) {
            self.end(event)?;
        }
        self.server.calm();
        self.config.settle();
        self.config.write()?;
        self.agent.hang_up()?;
        Ok(written)
    }

    /// Until everything is settled; faults if that never comes.
    fn catch_up(&mut self) -> Result<Vec<String>> {
        let (end, mut last) = (Instant::now() + CATCH_UP, Value::Null);
        let mut since = Instant::now();
        loop {
            self.wait(Duration::from_secs(1))?;
            let audit = self.agent.audit()?;
            if audit["sinks"] != last {
                since = Instant::now();
                last = audit["sinks"].clone();
            }
            let waiting = |sink: &Value| {
                [&sink["unread"], &sink["in_flight"]].iter().any(|part| part.as_u64() != Some(0))
            };
            let settled = !SINKS.iter().any(|sink| waiting(&last[sink]));
            if settled && since.elapsed() > Duration::from_secs(7) {
                return Ok(Vec::new());
            }
            if Instant::now() > end {
                return Ok(vec![format!("after {CATCH_UP:?} not everything is settled: {last}")]);
            }
        }
    }

    fn judge(&self, written: &[Written], audit: &Value) -> Result<Vec<Verdict>> {
        let mut file = Oracle::new(Limits::default());
        verify_files(&mut file, &outputs(&self.config.output())?)?;
        let mut archive = Oracle::new(Limits::default());
        let mut command = self.agent.archived(&self.config.archive());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("everyline search has no output")?;
        let mut stdout = BufReader::with_capacity(1 << 20, stdout);
        let mut piece = Vec::new();
        while stdout.by_ref().take(4 << 20).read_to_end(&mut piece)? > 0 {
            stdout.read_until(b'\n', &mut piece)?;
            archive.accept(&piece, false);
            piece.clear();
        }
        let status = child.wait()?;
        ensure!(status.success(), "everyline search failed ({status}).");
        let [into_file, into_archive, into_http] = SINKS;
        Ok(vec![
            Verdict::of(into_file, &file, written, audit, false),
            Verdict::of(into_archive, &archive, written, audit, false),
            Verdict::of(into_http, &self.server.oracle(), written, audit, true),
        ])
    }

    fn summary(&self, seed: u64, planned: &[Planned], written: &[Written]) -> String {
        let kinds = kinds(planned.iter().map(|planned| planned.event));
        let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let bytes: u64 = written.iter().map(Written::bytes).sum();
        let rotations = written.iter().flat_map(|log| &log.marks);
        let rotations = rotations.filter(|mark| mark.1 == "rotating").count();
        let slope = self.memory.slope();
        let slope = slope.map_or("too short to say".to_owned(), |mib| format!("{mib:+.1} MiB/h"));
        let (second, last) = self.memory.quarters();
        let skipped = match self.clock_steps_skipped {
            0 => String::new(),
            count => format!(" ({count} clock steps skipped: no libfaketime)"),
        };
        format!(
            "\nseed {seed}: {}{skipped}\n{} logs, {rotations} rotations, {bytes} bytes\n\
             memory: most {:.1} MiB, {slope}, medians {second:.1} (second quarter), {last:.1} (last)",
            kinds.join(", "),
            written.len(),
            self.memory.max(),
        )
    }
}

/// The file sink's files, oldest first.
fn outputs(live: &Path) -> Result<Vec<PathBuf>> {
    let ending = live.extension().unwrap_or_default().to_string_lossy();
    let prefix = format!("{}.", live.file_stem().unwrap_or_default().to_string_lossy());
    let mut former = Vec::new();
    for entry in std::fs::read_dir(live.parent().context("The output has no directory")?)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let tail = name.strip_prefix(&prefix).and_then(|tail| tail.strip_suffix(&*ending));
        let number = tail.and_then(|tail| tail.strip_suffix('.')?.parse::<u64>().ok());
        if let Some(number) = number {
            former.push((number, entry.path()));
        }
    }
    former.sort();
    let former = former.into_iter().map(|(_, path)| path);
    Ok(former.chain(live.exists().then(|| live.to_owned())).collect())
}

/// A loopback port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
