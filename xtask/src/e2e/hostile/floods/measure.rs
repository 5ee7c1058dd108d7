//! An agent beside which a flood goes on, and how long another tenant's lines take meanwhile.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::attacks::Place;
use crate::{
    e2e::hostile::Setting,
    process::{Agent, Running, Scratch},
};

/// How often the known log gets a line, and how often a pod is born.
const PACE: Duration = Duration::from_millis(50);
const BIRTHS: Duration = Duration::from_millis(500);
/// How long what was written last may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The 99th percentile, of both kinds of lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    pub(super) known: Duration,
    pub(super) new: Duration,
}

/// An agent beside which a flood goes on.
pub(super) struct Attacked {
    pub(super) agent: Agent,
    pub(super) running: Running,
    root: PathBuf,
    output: PathBuf,
    admin: String,
    /// The slowest probe.
    probe: Mutex<Duration>,
}

impl Attacked {
    /// Starts one that watches in this mode.
    pub(super) fn start(
        setting: &Setting,
        scratch: &Scratch,
        mode: &str,
        descriptors: Option<usize>,
    ) -> Result<Self> {
        let root = scratch.path().to_owned();
        fs::create_dir_all(root.join("pods"))?;
        fs::create_dir_all(root.join("containers"))?;
        fs::create_dir_all(root.join("files"))?;
        let output = scratch.join("out/out.ndjson")?;
        let shown = root.display();
        let yaml = format!(
            "sources:\n  \
             kubernetes: {{pods_dir: \"{shown}/pods\", containers_dir: \"{shown}/containers\", wait_for_id: 0s}}\n  \
             docker: {{enabled: false}}\n  files: [{{paths: [\"{shown}/files/**/*.log\"]}}]\n\
             watch: {{mode: {mode}, kernel: {{pin_dir: \"{shown}/none\"}}}}\n\
             sinks:\n  file: {{type: file, path: \"{}\", rotate_size: 100GiB}}\n",
            output.display(),
        );
        let agent = Agent::new(setting.everyline.clone(), scratch, &yaml)?;
        let mut running = agent.start()?;
        agent.ready(&mut running, Duration::from_secs(30))?;
        if let Some(limit) = descriptors {
            let pid = running.pid().to_string();
            let limit = format!("--nofile={limit}:{limit}");
            let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status()?;
            ensure!(status.success(), "prlimit ended with {status}.");
            // The agent asks for its limit every two seconds.
            std::thread::sleep(Duration::from_secs(3));
        }
        let admin = agent.admin().to_owned();
        Ok(Self { agent, running, root, output, admin, probe: Mutex::default() })
    }

    /// Measures for so long, beside an attack: the latencies, and how often the attack did what it does.
    pub(super) fn measure(
        &self,
        name: &str,
        lasting: Duration,
        attack: impl Fn(&Place<'_>) -> Result<u64> + Send,
    ) -> Result<(Latency, u64)> {
        let over = AtomicBool::new(false);
        let written = Mutex::new(HashMap::new());
        let (pods, files) = (self.root.join("pods"), self.root.join("files"));
        std::thread::scope(|scope| {
            let place = Place { pods: &pods, files: &files, admin: &self.admin, over: &over };
            let attacker = scope.spawn(move || attack(&place));
            let writer = scope.spawn(|| write(&pods, name, lasting, &written));
            let probes = scope.spawn(|| self.ask_probes(&over));
            let stored = self.watch(name, lasting + PATIENCE, || {
                // What was written until now is waited for while the flood goes on.
                writer.is_finished().then(|| lock(&written).len())
            });
            over.store(true, Ordering::Release);
            let panicked = |_| anyhow::anyhow!("A thread of the measurement panicked.");
            writer.join().map_err(panicked)??;
            probes.join().map_err(panicked)??;
            let times = attacker.join().map_err(panicked)?.context("the attack itself failed")?;
            Ok((latency(&lock(&written), &stored?)?, times))
        })
    }

    /// Reads what is stored as it is: when each line of this name was seen first.
    fn watch(
        &self,
        name: &str,
        patience: Duration,
        wanted: impl Fn() -> Option<usize>,
    ) -> Result<HashMap<String, Instant>> {
        let (mut stored, mut rest) = (HashMap::new(), Vec::new());
        let end = Instant::now() + patience;
        let mut file = None;
        let mut at = 0;
        // This program may be slower than the agent, which stores much more than these lines: only what is
        // around them is looked at closely.
        let marker = format!("\"body\":\"{name} ");
        let marker = memchr::memmem::Finder::new(&marker);
        loop {
            if file.is_none() {
                file = File::open(&self.output).ok();
            }
            if let Some(file) = &mut file {
                file.seek(SeekFrom::Start(at))?;
                at += file.read_to_end(&mut rest)? as u64;
            }
            let now = Instant::now();
            let whole = memchr::memrchr(b'\n', &rest).map_or(0, |end| end + 1);
            for begin in marker.find_iter(&rest[..whole]) {
                let body = &rest[begin + marker.needle().len()..whole];
                let length = memchr::memchr(b'"', body).unwrap_or(0);
                let key = String::from_utf8_lossy(&body[..length]).into_owned();
                stored.entry(key).or_insert(now);
            }
            rest.drain(..whole);
            if wanted().is_some_and(|wanted| stored.len() >= wanted) {
                return Ok(stored);
            }
            ensure!(
                now < end,
                "of {:?} lines, {} were stored\n{}",
                wanted(),
                stored.len(),
                self.agent.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The slowest probe so far.
    pub(super) fn slowest_probe(&self) -> Duration {
        *lock(&self.probe)
    }

    fn ask_probes(&self, over: &AtomicBool) -> Result<()> {
        while !over.load(Ordering::Acquire) {
            let began = Instant::now();
            crate::http::ask("GET", &self.admin, "/healthz")?;
            let mut slowest = lock(&self.probe);
            *slowest = slowest.max(began.elapsed());
            drop(slowest);
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Writes the quiet tenant's lines: to one log, and the first line of pods that are born.
fn write(
    pods: &Path,
    name: &str,
    lasting: Duration,
    written: &Mutex<HashMap<String, Instant>>,
) -> Result<()> {
    let known = pods.join(format!("quiet_{name}_2222/c"));
    fs::create_dir_all(&known)?;
    let mut log = File::create(known.join("0.log"))?;
    let (began, mut born, mut number) = (Instant::now(), Instant::now(), 0);
    while began.elapsed() < lasting {
        number += 1;
        let say = |log: &mut File, key: String| -> Result<()> {
            lock(written).insert(key.clone(), Instant::now());
            log.write_all(format!("2026-01-01T00:00:00Z stdout F {name} {key}\n").as_bytes())?;
            Ok(())
        };
        say(&mut log, format!("known {number}"))?;
        if born.elapsed() >= BIRTHS {
            born = Instant::now();
            let directory = pods.join(format!("quiet_{name}-{number}_3333/c"));
            fs::create_dir_all(&directory)?;
            say(&mut File::create(directory.join("0.log"))?, format!("new {number}"))?;
        }
        std::thread::sleep(PACE);
    }
    Ok(())
}

fn latency(
    written: &HashMap<String, Instant>,
    stored: &HashMap<String, Instant>,
) -> Result<Latency> {
    let of = |kind: &str| {
        let lines = written.iter().filter(|(key, _)| key.starts_with(kind));
        let mut all: Vec<Duration> = lines
            .map(|(key, at)| {
                let stored = stored.get(key).with_context(|| format!("{key} is missing"))?;
                anyhow::Ok(stored.saturating_duration_since(*at))
            })
            .collect::<Result<_>>()?;
        all.sort_unstable();
        let at = (all.len() * 99).div_ceil(100).saturating_sub(1);
        all.get(at).copied().with_context(|| format!("no {kind} line was written"))
    };
    Ok(Latency { known: of("known ")?, new: of("new ")? })
}
