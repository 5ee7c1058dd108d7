//! Floods: one tenant uses up what all share, while another writes a line now and then. The other's latency,
//! from a line's writing to its being stored, may not become more than twice what it is without the flood;
//! for a log that is known, and for the first line of a pod that is new.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    net::TcpStream,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Attack, Setting};
use crate::process::{Agent, Running, Scratch};

/// How often the known log gets a line, and how often a pod is born.
const PACE: Duration = Duration::from_millis(50);
const BIRTHS: Duration = Duration::from_millis(500);
/// How long what was written last may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A probe's timeout, as kubelet has it.
const PROBE: Duration = Duration::from_secs(1);
/// Descriptors of an agent whose descriptors are used up.
const DESCRIPTORS: usize = 1_024;

pub(super) const ATTACKS: [Attack; 6] = [
    Attack {
        name: "flood-descriptors",
        what: "1,100 logs of one tenant under a limit of 1,024 descriptors, all written to",
        run: |setting| flood(setting, Some(DESCRIPTORS), descriptors),
    },
    Attack {
        name: "flood-gzip",
        what: "compressed copies that unpack to a thousand times their size, one after the other",
        run: |setting| flood(setting, None, bombs),
    },
    Attack {
        name: "flood-listing",
        what: "30,000 files that are no logs, in a directory of logs that changes all the time",
        run: |setting| flood(setting, None, listing),
    },
    Attack {
        name: "flood-holes",
        what: "logs of a few lines, far apart in files of holes",
        run: |setting| flood(setting, None, holes),
    },
    Attack {
        name: "flood-names",
        what: "logs that are made, written, truncated and deleted without end",
        run: |setting| flood(setting, None, names),
    },
    Attack {
        name: "flood-admin",
        what: "40 clients that hold the admin port, ask without end and read nothing",
        run: |setting| flood(setting, None, clients),
    },
];

/// What an attacker is given: the tenant's directories, the admin port, and when it is over.
struct Place<'a> {
    pods: &'a Path,
    admin: &'a str,
    over: &'a AtomicBool,
}

impl Place<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn container(&self, pod: &str) -> Result<PathBuf> {
        let directory = self.pods.join(format!("loud_{pod}_1111/c"));
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }
}

/// The 99th percentile, of both kinds of lines.
#[derive(Debug, Clone, Copy)]
struct Latency {
    known: Duration,
    new: Duration,
}

fn flood(
    setting: &Setting,
    descriptors: Option<usize>,
    attack: fn(&Place<'_>) -> Result<u64>,
) -> Result<String> {
    let mut said = Vec::new();
    for mode in ["kernel", "inotify", "poll"] {
        let scratch = Scratch::new("e2e-flood")?;
        let attacked = Attacked::start(setting, &scratch, mode, descriptors)?;
        let third = setting.lasting / 3;
        let quiet = attacked.measure("quiet", third / 2, |_| Ok(0))?.0;
        let (loud, times) = attacked.measure("loud", third, attack)?;
        let probe = attacked.probe;
        let slowest = *probe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ensure!(slowest <= PROBE, "in mode {mode}, a probe took {slowest:?}");
        for (what, quiet, loud) in
            [("a line", quiet.known, loud.known), ("a new pod's line", quiet.new, loud.new)]
        {
            ensure!(
                loud <= quiet * 2,
                "in mode {mode}, {what} took {loud:?} beside the flood and {quiet:?} without it\n{}",
                attacked.agent.log_tail()
            );
        }
        let log = fs::metadata(scratch.path().join("agent/everyline.log"))?.len();
        ensure!(log < 256 << 10, "in mode {mode}, the agent's log has {log} bytes");
        said.push(format!(
            "{mode}: {times} times; p99 of a line {:.2} s (without {:.2}), of a new pod's {:.2} s ({:.2}), a probe {:.2} s, {} KiB of log",
            loud.known.as_secs_f64(),
            quiet.known.as_secs_f64(),
            loud.new.as_secs_f64(),
            quiet.new.as_secs_f64(),
            slowest.as_secs_f64(),
            log >> 10,
        ));
        let status = attacked.running.stop(Duration::from_secs(90))?;
        // A flood may leave more than can be delivered in time.
        ensure!(status.code().is_some(), "The agent ended with {status}.");
    }
    Ok(said.join("; "))
}

/// An agent beside which a flood goes on.
struct Attacked {
    agent: Agent,
    running: Running,
    root: PathBuf,
    output: PathBuf,
    admin: String,
    /// The slowest probe.
    probe: Mutex<Duration>,
}

impl Attacked {
    fn start(
        setting: &Setting,
        scratch: &Scratch,
        mode: &str,
        descriptors: Option<usize>,
    ) -> Result<Self> {
        let root = scratch.path().to_owned();
        fs::create_dir_all(root.join("pods"))?;
        fs::create_dir_all(root.join("containers"))?;
        let output = scratch.join("out/out.ndjson")?;
        let shown = root.display();
        let yaml = format!(
            "sources:\n  \
             kubernetes: {{pods_dir: \"{shown}/pods\", containers_dir: \"{shown}/containers\", wait_for_id: 0s}}\n  \
             docker: {{enabled: false}}\n\
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
    fn measure(
        &self,
        name: &str,
        lasting: Duration,
        attack: impl Fn(&Place<'_>) -> Result<u64> + Send,
    ) -> Result<(Latency, u64)> {
        let over = AtomicBool::new(false);
        let written = Mutex::new(HashMap::new());
        let pods = self.root.join("pods");
        std::thread::scope(|scope| {
            let place = Place { pods: &pods, admin: &self.admin, over: &over };
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

fn line(text: &str) -> Vec<u8> {
    format!("2026-01-01T00:00:00Z stdout F {text}\n").into_bytes()
}

fn descriptors(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("many")?;
    let paths: Vec<PathBuf> = (0..1_100).map(|n| directory.join(format!("{n}.log"))).collect();
    let mut times = 0;
    while !place.is_over() {
        for path in &paths {
            let mut log = File::options().create(true).append(true).open(path)?;
            log.write_all(&line("one of many"))?;
            times += 1;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(times)
}

fn bombs(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("bombs")?;
    let bomb = gzip(&line(&"x".repeat(900)).repeat(64 << 10))?;
    let mut times = 0;
    while !place.is_over() {
        let name = format!("{}.log.20260101-{:06}.gz", times % 20, times % 1_000_000);
        fs::write(directory.join(name), &bomb)?;
        times += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(times)
}

/// Compressed as well as `gzip -9` does.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-9", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("gzip is needed")?;
    let mut input = child.stdin.take().context("gzip has an input")?;
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes));
        Ok(child.wait_with_output()?.stdout)
    })
}

fn listing(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("names")?;
    fs::write(directory.join("0.log"), line("a log"))?;
    for n in 0..30_000 {
        File::create(directory.join(format!("no log of anybody {n}")))?;
    }
    let path = directory.join("comes and goes");
    let mut times = 0;
    while !place.is_over() {
        File::create(&path)?;
        fs::remove_file(&path)?;
        times += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(times)
}

fn holes(place: &Place<'_>) -> Result<u64> {
    let mut times = 0;
    while !place.is_over() {
        let directory = place.container(&format!("holes-{times}"))?;
        let file = File::create(directory.join("0.log"))?;
        for n in 0..20_000 {
            file.write_all_at(&line("an island"), n << 18)?;
        }
        times += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(times)
}

fn names(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("storm")?;
    let mut times = 0_u64;
    while !place.is_over() {
        let path = directory.join(format!("{times}.log"));
        fs::write(&path, line("soon gone").repeat(100))?;
        fs::write(&path, line("truncated"))?;
        fs::remove_file(&path)?;
        times += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(times)
}

fn clients(place: &Place<'_>) -> Result<u64> {
    let times = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..40 {
            let times = &times;
            scope.spawn(move || {
                while !place.is_over() {
                    // Whoever is closed comes again.
                    drop(hold(place, n));
                    times.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    Ok(times.into_inner())
}

/// One client: sends slowly, keeps asking, or asks for much and reads nothing.
fn hold(place: &Place<'_>, kind: u32) -> Result<()> {
    let mut stream = TcpStream::connect(place.admin)?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    for _ in 0..10 {
        let request: &[u8] = match kind % 3 {
            0 => b"G",
            1 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            _ => b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        stream.write_all(request)?;
        if kind % 3 == 1 {
            let mut reply = [0; 1_024];
            let _more = stream.read(&mut reply)?;
        }
        std::thread::sleep(Duration::from_millis(100));
        if place.is_over() {
            break;
        }
    }
    Ok(())
}
