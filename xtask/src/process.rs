//! Processes and directories that a task starts and that must not outlive it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http;

/// What must not outlive this process, whatever ends it.
static LEFT_BEHIND: Mutex<LeftBehind> =
    Mutex::new(LeftBehind { pids: Vec::new(), dirs: Vec::new() });

#[derive(Debug)]
struct LeftBehind {
    pids: Vec<u32>,
    dirs: Vec<PathBuf>,
}

/// From now on SIGINT and SIGTERM kill what was started and remove scratch directories.
pub(crate) fn clean_up_on_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut int) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        });
        let left = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
        // First who starts others, or it would go on with the next.
        let started = left.pids.iter().flat_map(|&pid| {
            let below = descendants(pid);
            [pid.cast_signed()].into_iter().chain(below)
        });
        for pid in started.filter_map(Pid::from_raw) {
            kill_process(pid, Signal::KILL).ok();
        }
        // Killed processes may hold mounts and write a moment longer.
        std::thread::sleep(Duration::from_millis(200));
        for dir in &left.dirs {
            fs::remove_dir_all(dir).ok();
        }
        eprintln!("Interrupted; cleaned up.");
        std::process::exit(130);
    });
    Ok(())
}

fn left_behind(change: impl FnOnce(&mut LeftBehind)) {
    change(&mut LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A directory under the system's temporary one; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty one.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("everyline-{name}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("Creating {}", path.display()))?;
        left_behind(|left| left.dirs.push(path.clone()));
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it, its directory made.
    pub(crate) fn join(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("Creating {}", dir.display()))?;
        }
        Ok(path)
    }

    /// A directory in it, made.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path).with_context(|| format!("Creating {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}.", self.0.display());
        }
        left_behind(|left| left.dirs.retain(|dir| *dir != self.0));
    }
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("Starting {name}"))?;
        left_behind(|left| left.pids.push(child.id()));
        Ok(Self { child, name: name.to_owned() })
    }

    /// The most memory that it has had, bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM")?;
        Ok(kib.trim().parse::<u64>()? << 10)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it prints, if its command piped that.
    pub(crate) fn take_stdout(&mut self) -> Result<ChildStdout> {
        let stdout = self.child.stdout.take();
        stdout.with_context(|| format!("{} has no output", self.name))
    }

    /// SIGKILL, and reaped.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGKILL to all that it started and what those started, but not to itself.
    pub(crate) fn kill_descendants(&self) {
        for pid in descendants(self.child.id()).into_iter().filter_map(Pid::from_raw) {
            kill_process(pid, Signal::KILL).ok();
        }
    }

    /// SIGTERM, and waits for its orderly end, at most so long.
    pub(crate) fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        self.terminate()?;
        self.wait(patience)
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "{} did not end within {patience:?}.", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// An error if it has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status}).", self.name),
            None => Ok(()),
        }
    }

    fn terminate(&self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::TERM)?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do about a child that has ended already.
        self.child.kill().ok();
        left_behind(|left| left.pids.retain(|pid| *pid != self.child.id()));
        self.child.wait().ok();
    }
}

/// The processes that descend from one, its children first, as far as their parents still live.
fn descendants(pid: u32) -> Vec<i32> {
    let mut found: Vec<i32> = Vec::new();
    let mut parents = vec![pid.cast_signed()];
    while let Some(parent) = parents.pop() {
        for thread in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children: Vec<i32> =
                children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            parents.extend(&children);
            found.extend(&children);
        }
    }
    found
}

/// The agent's installation for one task: binary, configuration, state, log.
#[derive(Debug)]
pub(crate) struct Agent {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    admin: String,
}

impl Agent {
    /// Writes its configuration: `yaml` (sources and sinks), with state, admin port and log of its
    /// own under `scratch`.
    pub(crate) fn new(binary: PathBuf, scratch: &Scratch, yaml: &str) -> Result<Self> {
        Self::beside(binary, scratch, "agent", yaml)
    }

    /// The same in a directory of this name, for several agents side by side.
    pub(crate) fn beside(
        binary: PathBuf,
        scratch: &Scratch,
        name: &str,
        yaml: &str,
    ) -> Result<Self> {
        let config = scratch.join(&format!("{name}/everyline.yaml"))?;
        let admin = http::free_address()?;
        fs::write(&config, configuration(&scratch.join(&format!("{name}/state"))?, &admin, yaml))?;
        let log = scratch.join(&format!("{name}/everyline.log"))?;
        Ok(Self { binary, config, log, admin })
    }

    /// Starts it; it goes on where it stopped.
    pub(crate) fn start(&self) -> Result<Running> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.args(["run", "--config"]).arg(&self.config);
        Running::start("everyline", command.stdout(log.try_clone()?).stderr(log))
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(&self, running: &mut Running, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        while http::ask("GET", &self.admin, "/readyz").is_err() {
            running.ensure_running().context(self.log_tail())?;
            ensure!(Instant::now() < end, "The agent is not ready.\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Where its admin port is.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Another of its commands, with its configuration.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(&self.config);
        command.output().with_context(|| format!("Running everyline {arguments:?}"))
    }

    /// Asks for the audit until it balances with nothing left to do; the last answer.
    pub(crate) fn balanced(&self, patience: Duration) -> Result<String> {
        let end = Instant::now() + patience;
        loop {
            let output = self.ask(&["audit"])?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() {
                return Ok(text);
            }
            if Instant::now() > end {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                bail!("The audit does not balance:\n{text}{errors}\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// An agent's configuration: its own part, and what a task says of sources and sinks.
pub(crate) fn configuration(state_dir: &Path, admin: &str, yaml: &str) -> String {
    let state_dir = state_dir.display();
    format!("node_name: here\nstate_dir: \"{state_dir}\"\nadmin: {{listen: \"{admin}\"}}\n{yaml}")
}

/// The oracle as a sink.
#[derive(Debug)]
pub(crate) struct Oracle {
    running: Running,
    /// Where it listens.
    pub address: String,
}

impl Oracle {
    /// Starts `oracle serve` with these further arguments.
    pub(crate) fn start(binary: &Path, manifest: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("serve").arg("--manifest").arg(manifest).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::start("oracle", &mut command)?;
        let stderr = running.child.stderr.take().context("the oracle has no standard error")?;
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line)?;
        let address = line.trim().trim_end_matches('.').rsplit('/').next().unwrap_or_default();
        ensure!(address.contains(':'), "The oracle does not say where it listens: {line}");
        Ok(Self { address: address.to_owned(), running })
    }

    /// Its report so far.
    pub(crate) fn report(&mut self) -> Result<Value> {
        self.running.ensure_running()?;
        Ok(serde_json::from_str(&http::ask("GET", &self.address, "/report")?)?)
    }

    /// Tells it that the agent has been killed.
    pub(crate) fn killed(&self) -> Result<()> {
        http::ask("POST", &self.address, "/killed").map(drop)
    }

    /// No more faults.
    pub(crate) fn calm(&self) -> Result<()> {
        http::ask("POST", &self.address, "/calm").map(drop)
    }
}
