//! Races: a log, a directory or something on the way to it is exchanged for a link as fast as the kernel can,
//! while agents in every way of watching collect there. Secrets lie outside of what the tenant may have
//! collected; not a byte of one may appear in anything that an agent writes.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    fs::{CWD, RenameFlags, mkfifoat, renameat_with},
    io::ioctl_fionread,
};

use super::{Attack, Setting};
use crate::process::{Agent, Running, Scratch};

/// In every line of every secret, and nowhere else.
const SECRET: &str = "s3cr3t-of-somebody-else";
const MODES: [&str; 3] = ["kernel", "inotify", "poll"];
/// How often the honest log beside all this gets a line.
const PACE: Duration = Duration::from_millis(50);
/// How long the honest log's last line may take at the end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const ATTACKS: [Attack; 8] = [
    Attack {
        name: "pod-file",
        what: "a pod's log, exchanged for links to logs and secrets of the host",
        run: |setting| race(setting, "pods/ten_pod_1111/c/1.log", Kind::Log, &TO_FILES),
    },
    Attack {
        name: "pod-directory",
        what: "a container's directory, exchanged for links to the host's and to an excluded namespace's",
        run: |setting| {
            race(setting, "pods/ten_pod_1111/d", Kind::Directory("0.log"), &TO_DIRECTORIES)
        },
    },
    Attack {
        name: "pod-middle",
        what: "a pod's directory in the middle of the path, exchanged for links to others",
        run: |setting| race(setting, "pods/ten_mid_2222", Kind::Directory("c/0.log"), &TO_PODS),
    },
    Attack {
        name: "static-file",
        what: "a file that a pattern names, exchanged for links to secrets of the host",
        run: |setting| race(setting, "static/x.log", Kind::Log, &TO_FILES),
    },
    Attack {
        name: "static-middle",
        what: "a directory below a pattern's beginning, exchanged for links",
        run: |setting| race(setting, "tenants/ten", Kind::Directory("0.log"), &TO_DIRECTORIES),
    },
    Attack {
        name: "static-base",
        what: "the directory that a pattern begins in, exchanged for links",
        run: |setting| race(setting, "own/logs", Kind::Directory("0.log"), &TO_DIRECTORIES),
    },
    Attack {
        name: "pod-link",
        what: "a link that a runtime might have made, pointed at other logs again and again",
        run: |setting| race(setting, "pods/ten_pod_1111/c/2.log", Kind::Link, &TO_FILES),
    },
    Attack {
        name: "pipe",
        what: "a file that a pattern names, exchanged for a pipe with a secret in it, which nobody may read",
        run: |setting| race(setting, "static/y.log", Kind::Pipe, &TO_FILES),
    },
];

/// Where the attackers' links lead, below the scratch directory.
const TO_FILES: [&str; 4] =
    ["host/auth.log", "host/shadow", "host/0.log", "pods/hidden_pod_3333/c/0.log"];
const TO_DIRECTORIES: [&str; 2] = ["host", "pods/hidden_pod_3333/c"];
const TO_PODS: [&str; 2] = ["host/pod", "pods/hidden_pod_3333"];

/// What is exchanged for links.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A log.
    Log,
    /// A directory with a log in it.
    Directory(&'static str),
    /// A link to a log that may be collected.
    Link,
    /// A log, for a pipe and for links.
    Pipe,
}

fn race(setting: &Setting, place: &str, kind: Kind, targets: &[&str]) -> Result<String> {
    let scratch = Scratch::new("e2e-hostile")?;
    prepare(&scratch)?;
    let place = scratch.path().join(place);
    let own = prepare_place(&scratch, &place, kind)?;
    let agents = MODES
        .iter()
        .map(|mode| Attacked::start(setting, &scratch, mode))
        .collect::<Result<Vec<_>>>()?;
    let over = AtomicBool::new(false);
    let targets: Vec<PathBuf> = targets.iter().map(|target| scratch.path().join(target)).collect();
    let (attempts, honest) = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| match kind {
            Kind::Pipe => attack_with_pipe(&place, &over),
            Kind::Log | Kind::Directory(_) | Kind::Link => attack(&place, &own, &targets, &over),
        });
        let honest = scope.spawn(|| write_honestly(&scratch, &over));
        std::thread::sleep(setting.lasting);
        over.store(true, Ordering::Release);
        let attempts = attacker.join().ok().context("The attacker panicked")?;
        let honest = honest.join().ok().context("The writer panicked")?;
        anyhow::Ok((attempts?, honest?))
    })?;
    let mut said = format!("{attempts} exchanges, 0 foreign bytes; of {honest} honest lines");
    for agent in agents {
        said += &format!(", {} delivered in mode {}", agent.judge(honest)?, agent.mode);
        agent.stop()?;
    }
    // Last, so that what was on its way is judged too.
    let leaks = leaks(&scratch)?;
    ensure!(
        leaks.is_empty(),
        "after {attempts} exchanges, secrets were found in {}",
        leaks
            .iter()
            .map(|(path, count)| format!("{} ({count})", path.display()))
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(said)
}

/// Everything that is there before the attack: secrets and honest logs.
fn prepare(scratch: &Scratch) -> Result<()> {
    for secret in [
        "host/auth.log",
        "host/shadow",
        "host/0.log",
        "host/pod/c/0.log",
        "pods/hidden_pod_3333/c/0.log",
    ] {
        let mut file = File::create(scratch.join(secret)?)?;
        for number in 0..50 {
            writeln!(file, "2026-01-01T00:00:00Z stdout F {SECRET} {number}")?;
        }
    }
    for directory in [
        "pods/ten_pod_1111/c",
        "pods/good_pod_4444/c",
        "containers",
        "docker",
        "static",
        "tenants",
        "own",
    ] {
        fs::create_dir_all(scratch.path().join(directory))?;
    }
    fs::write(scratch.path().join("pods/ten_pod_1111/c/0.log"), line("its own"))?;
    Ok(())
}

fn line(text: &str) -> String {
    format!("2026-01-01T00:00:00Z stdout F {text}\n")
}

/// Makes what is attacked; the log in it that the attacker goes on writing to.
fn prepare_place(scratch: &Scratch, place: &Path, kind: Kind) -> Result<PathBuf> {
    let id = "a".repeat(64);
    let own = match kind {
        Kind::Log | Kind::Pipe => place.to_owned(),
        Kind::Directory(log) => place.join(log),
        Kind::Link => scratch.path().join(format!("docker/{id}/{id}-json.log")),
    };
    fs::create_dir_all(own.parent().context("a log lies somewhere")?)?;
    fs::write(&own, line("its own"))?;
    if let Kind::Link = kind {
        symlink(&own, place)?;
    }
    Ok(own)
}

/// Exchanges `place` for links until it is over; how often.
fn attack(place: &Path, own: &Path, targets: &[PathBuf], over: &AtomicBool) -> Result<u64> {
    let spare = place.with_extension("spare");
    let mut log = File::options().append(true).open(own)?;
    let mut attempts = 0;
    for target in targets.iter().cycle() {
        if over.load(Ordering::Acquire) {
            break;
        }
        symlink(target, &spare)?;
        // An odd number of times now and then, so that the link stays for a moment.
        for _ in 0..64 {
            renameat_with(CWD, place, CWD, &spare, RenameFlags::EXCHANGE)?;
            attempts += 1;
        }
        if attempts % 1_024 == 0 {
            renameat_with(CWD, place, CWD, &spare, RenameFlags::EXCHANGE)?;
            std::thread::sleep(Duration::from_millis(1 + attempts / 1_024 % 120));
            renameat_with(CWD, place, CWD, &spare, RenameFlags::EXCHANGE)?;
            attempts += 2;
        }
        log.write_all(line("its own").as_bytes())?;
        fs::remove_file(&spare)?;
    }
    Ok(attempts)
}

/// Exchanges `place` for a pipe until it is over; how often. An error if a byte was taken out of it.
fn attack_with_pipe(place: &Path, over: &AtomicBool) -> Result<u64> {
    let pipe = place.with_extension("pipe");
    mkfifoat(CWD, &pipe, 0o600.into())?;
    // For reading too: so it can be filled before anybody else reads.
    let mut end = File::options().read(true).write(true).open(&pipe)?;
    end.write_all(SECRET.as_bytes())?;
    let mut attempts = 0;
    while !over.load(Ordering::Acquire) {
        // Half of the time it is the pipe that has the log's name.
        for _ in 0..65 {
            renameat_with(CWD, place, CWD, &pipe, RenameFlags::EXCHANGE)?;
            attempts += 1;
        }
        if attempts / 65 % 50 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(
            ioctl_fionread(&end)? == SECRET.len() as u64,
            "the pipe was read after {attempts} exchanges"
        );
    }
    Ok(attempts)
}

/// A log that nobody attacks gets its lines meanwhile; how many.
fn write_honestly(scratch: &Scratch, over: &AtomicBool) -> Result<u64> {
    let mut log = File::create(scratch.join("pods/good_pod_4444/c/0.log")?)?;
    let mut lines = 0;
    while !over.load(Ordering::Acquire) {
        log.write_all(line(&format!("honest {lines}")).as_bytes())?;
        lines += 1;
        std::thread::sleep(PACE);
    }
    Ok(lines)
}

/// An agent that collects where the attack goes on.
struct Attacked {
    mode: &'static str,
    agent: Agent,
    running: Running,
    output: PathBuf,
}

impl Attacked {
    fn start(setting: &Setting, scratch: &Scratch, mode: &'static str) -> Result<Self> {
        let name = format!("agent-{mode}");
        let output = scratch.join(&format!("{name}/out.ndjson"))?;
        let root = scratch.path().display();
        let yaml = format!(
            "sources:\n  \
             kubernetes: {{pods_dir: \"{root}/pods\", containers_dir: \"{root}/containers\", \
             exclude: {{namespaces: [hidden]}}}}\n  \
             docker: {{enabled: false, containers_dir: \"{root}/docker\"}}\n  \
             files:\n  - paths: [\"{root}/static/*.log\", \"{root}/tenants/*/*.log\", \"{root}/own/logs/*.log\"]\n\
             watch: {{mode: {mode}, poll_interval: 50ms, sweep_interval: 1s, kernel: {{pin_dir: \"{root}/{name}/none\"}}}}\n\
             sinks:\n  file: {{type: file, path: \"{}\", rotate_size: 100GiB}}\n",
            output.display(),
        );
        let agent = Agent::beside(setting.everyline.clone(), scratch, &name, &yaml)?;
        let mut running = agent.start()?;
        agent.ready(&mut running, Duration::from_secs(30))?;
        Ok(Self { mode, agent, running, output })
    }

    /// Waits until every honest line has arrived, and once; how many that are.
    fn judge(&self, written: u64) -> Result<u64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&self.output).unwrap_or_default();
            let arrived = text.matches("\"body\":\"honest ").count() as u64;
            if arrived == written {
                return Ok(arrived);
            }
            if Instant::now() > end {
                bail!(
                    "in mode {}, {arrived} of {written} lines of an honest log arrived\n{}",
                    self.mode,
                    self.agent.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn stop(self) -> Result<()> {
        let status = self.running.stop(Duration::from_secs(60))?;
        ensure!(status.success(), "The agent ended with {status}.\n{}", self.agent.log_tail());
        Ok(())
    }
}

/// Which of the agents' files (outputs, logs, state) hold anything secret, and how often.
fn leaks(scratch: &Scratch) -> Result<Vec<(PathBuf, usize)>> {
    let mut ahead: Vec<PathBuf> =
        MODES.iter().map(|mode| scratch.path().join(format!("agent-{mode}"))).collect();
    let mut leaks = Vec::new();
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory)? {
            let (path, kind) = entry.and_then(|it| Ok((it.path(), it.file_type()?)))?;
            if kind.is_dir() {
                ahead.push(path);
            } else if kind.is_file() {
                let found = String::from_utf8_lossy(&fs::read(&path)?).matches(SECRET).count();
                if found > 0 {
                    leaks.push((path, found));
                }
            }
        }
    }
    Ok(leaks)
}
