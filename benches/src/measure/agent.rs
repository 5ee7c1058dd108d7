//! The agent as a child process, measured from outside. Killed when done with: whether it stops in
//! order is a matter for tests.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::clock::process_cpu;

/// A running `everyline run`; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
}

impl Agent {
    /// Starts `binary` with a configuration: `yaml` (sources and sinks) completed by a state
    /// directory and an admin port of its own, both under the empty or new directory `dir`.
    pub fn start(binary: &Path, dir: &Path, yaml: &str) -> Result<Self> {
        let admin = free_address()?;
        let state = dir.join("state");
        fs::create_dir_all(&state)?;
        let config = dir.join("everyline.yaml");
        let text = format!(
            "node_name: bench\nstate_dir: {}\nadmin: {{enabled: true, listen: \"{admin}\"}}\n\
             log: {{level: warn}}\n{yaml}",
            state.display()
        );
        fs::write(&config, text)?;
        let log = dir.join("everyline.log");
        let stderr = File::create(&log)?;
        let child = Command::new(binary)
            .args(["run", "--config"])
            .arg(&config)
            .stdout(stderr.try_clone()?)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("Starting {}", binary.display()))?;
        Ok(Self { child, admin, log })
    }

    /// CPU time used so far, user and system, all threads.
    pub fn cpu(&self) -> Result<Duration> {
        process_cpu(self.child.id()).context("Reading the agent's CPU clock")
    }

    /// The most memory it has had resident, and what it has now, in MiB.
    pub fn memory_mib(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
        };
        field("VmHWM:").zip(field("VmRSS:")).context("The agent has ended")
    }

    /// Lines acknowledged by all sinks together, as its metrics say.
    pub fn delivered_lines(&self) -> Result<u64> {
        self.sum("everyline_delivered_lines_total")
    }

    /// The sum of all its series that begin with this name (and labels), as its metrics say.
    pub fn sum(&self, series: &str) -> Result<u64> {
        let text = self.metrics()?;
        let values = text
            .lines()
            .filter(|line| line.starts_with(series))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(values.sum())
    }

    /// inotify watches it holds.
    pub fn inotify_watches(&self) -> Result<u64> {
        let mut watches = 0;
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))?.flatten() {
            // A descriptor may be closed meanwhile.
            let about = fs::read_to_string(entry.path()).unwrap_or_default();
            watches += about.lines().filter(|line| line.starts_with("inotify wd:")).count() as u64;
        }
        Ok(watches)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `done`; an error if the agent ends or nothing comes of it for `timeout`.
    pub fn wait_until(
        &mut self,
        timeout: Duration,
        mut done: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + timeout;
        while !done(self)? {
            if let Some(status) = self.child.try_wait()? {
                bail!("The agent ended ({status}). Its log:\n{}", self.log_tail());
            }
            if Instant::now() > end {
                bail!("The agent was not done after {timeout:?}. Its log:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Whether it has looked for logs once.
    pub fn is_ready(&self) -> Result<bool> {
        Ok(self.get("/readyz")?.starts_with("HTTP/1.1 200 "))
    }

    fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    fn get(&self, path: &str) -> Result<String> {
        // Nobody listens yet while it starts.
        let Ok(mut stream) = TcpStream::connect(self.admin) else { return Ok(String::new()) };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already reaped if it was stopped; nothing else can be done about it here.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A loopback port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
