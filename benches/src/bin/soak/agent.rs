//! The agent's process: started, signalled, and looked at from outside.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Preloaded, it makes the clock what a file says.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// How long it may take to listen for signals.
const LISTENS: Duration = Duration::from_secs(20);

/// An installation of the agent, running or not.
#[derive(Debug)]
pub(crate) struct Agent {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// Says how far off the agent's clock is; None: it cannot be set.
    clock: Option<PathBuf>,
    child: Option<Child>,
}

impl Agent {
    /// Not started yet. Its log and its clock lie in `dir`.
    pub(crate) fn new(binary: PathBuf, config: &Path, dir: &Path) -> Result<Self> {
        let clock = Path::new(FAKETIME).exists().then(|| dir.join("clock"));
        let agent = Self {
            binary,
            config: config.to_owned(),
            log: dir.join("everyline.log"),
            clock,
            child: None,
        };
        agent.set_clock(0)?;
        Ok(agent)
    }

    /// Whether its clock can be set.
    pub(crate) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Sets its clock off by so many seconds; what it measures intervals with stays right.
    pub(crate) fn set_clock(&self, seconds: i64) -> Result<()> {
        if let Some(clock) = &self.clock {
            fs::write(clock, format!("{seconds:+}")).context("Setting the agent's clock")?;
        }
        Ok(())
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.args(["run", "--config"]).arg(&self.config);
        if let Some(clock) = &self.clock {
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_CACHE_DURATION", "1").env("NO_FAKE_STAT", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        self.child = Some(child.context("Starting the agent")?);
        Ok(())
    }

    /// Until it has looked for logs for the first time: what is gone by then is nobody's loss.
    pub(crate) fn await_first_look(&mut self) -> Result<()> {
        let end = Instant::now() + LISTENS;
        while self.running()?.is_some() && Instant::now() < end {
            // An audit would be answered by the checkpoint as long as no agent answers.
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            // It says this of an empty node at its first look.
            if log.contains("No log was found") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("The agent does not say that it has looked for logs.\n{}", self.log_tail())
    }

    /// Its process, if it runs; an error if it has ended by itself.
    pub(crate) fn running(&mut self) -> Result<Option<u32>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        if let Some(status) = child.try_wait()? {
            self.child = None;
            bail!("The agent ended by itself ({status}).\n{}", self.log_tail());
        }
        Ok(Some(child.id()))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("The agent does not run")?;
        let pid = Pid::from_child(child);
        kill_process(pid, signal).with_context(|| format!("Sending {signal:?} to the agent"))
    }

    /// SIGHUP, once it listens for that: before, it would end a process that has hardly begun.
    pub(crate) fn hang_up(&mut self) -> Result<()> {
        let end = Instant::now() + LISTENS;
        while let Some(pid) = self.running()? {
            if catches(pid, Signal::HUP) {
                return self.signal(Signal::HUP);
            }
            ensure!(Instant::now() < end, "The agent does not listen for signals.");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let end = Instant::now() + patience;
        let child = self.child.as_mut().context("The agent does not run")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            ensure!(
                Instant::now() < end,
                "The agent did not end within {patience:?} of a SIGTERM.\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it (or its checkpoint) accounts for.
    pub(crate) fn audit(&self) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        let output =
            command.args(["audit", "-o", "json", "--config"]).arg(&self.config).output()?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            format!("everyline audit printed no JSON: {errors}")
        })
    }

    /// Every record of an archive, one JSON object a line.
    pub(crate) fn archived(&self, archive: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["search", "-o", "json", "--archive-dir"]).arg(archive);
        command.arg("--config").arg(&self.config);
        command
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Whether a process has a handler of its own for a signal.
fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("The agent could not be killed: {error:#}.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_listens_for_a_signal_is_told_from_one_that_does_not() {
        let mut script = Command::new("sh");
        script.args(["-c", "trap : USR1; while :; do sleep 0.1; done"]);
        let mut child = script.spawn().unwrap();
        let end = Instant::now() + LISTENS;
        while !catches(child.id(), Signal::USR1) {
            assert!(Instant::now() < end, "the trap is not seen");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!catches(child.id(), Signal::TERM));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
