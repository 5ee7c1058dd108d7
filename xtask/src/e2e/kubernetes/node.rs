//! The node from outside: started, spoken to by kubectl, and taken down with everything in it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    parts::{Parts, run},
    settings::Settings,
};
use crate::process::{Running, Scratch};

/// Where control groups of version 1 are.
const GROUPS: &str = "/sys/fs/cgroup";
const READY: Duration = Duration::from_secs(180);

/// A running node.
#[derive(Debug)]
pub(super) struct Node<'a> {
    parts: &'a Parts,
    pub(super) settings: Settings,
    /// Its name, which no other process's control group bears.
    name: String,
    groups: Vec<PathBuf>,
    running: Option<Running>,
}

/// A process of the node's.
#[derive(Debug)]
struct Process {
    pid: i32,
    /// Its number in the innermost of as many namespaces.
    inner: Vec<u32>,
    command: String,
}

impl<'a> Node<'a> {
    /// Starts one in `scratch` and waits until it takes pods.
    pub(super) fn start(scratch: &Scratch, parts: &'a Parts) -> Result<Self> {
        let settings = Settings::of(scratch.path());
        settings.write(&parts.root)?;
        let name = format!("everyline-node-{}", std::process::id());
        let groups = control_groups(&name)?;
        let log = File::create(settings.path("out/node.log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["e2e", "inside", "--dir"]).arg(&settings.dir);
        command.arg("--root").arg(&parts.root).arg("--kube").arg(&parts.kube);
        for group in &groups {
            command.arg("--enter").arg(group);
        }
        let running = Running::start("the node", command.stdout(log.try_clone()?).stderr(log))?;
        let mut node = Self { parts, settings, name, groups, running: Some(running) };
        node.wait_for("the API server", READY, |node| node.kubectl(&["get", "--raw=/readyz"]))?;
        Ok(node)
    }

    /// Waits until it takes pods.
    pub(super) fn ready(&mut self) -> Result<()> {
        self.wait_for("the node", READY, |node| {
            let nodes = node.kubectl(&["get", "nodes", "--no-headers"])?;
            ensure!(nodes.contains(" Ready "), "{nodes}");
            node.kubectl(&["get", "serviceaccount", "default"])
        })
    }

    /// Imports an image's archive.
    pub(super) fn import(&mut self, archive: &Path) -> Result<()> {
        self.wait_for("containerd", READY, |node| {
            let ctr = node.parts.root.join("usr/bin/ctr");
            let mut command = node.within()?;
            command.arg(ctr).args(["-n", "k8s.io", "images", "import"]).arg(archive);
            run(&mut command)
        })
    }

    /// What kubectl prints.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.kubectl_command(arguments)?)
    }

    /// kubectl with something to read.
    pub(super) fn apply(&self, text: &str) -> Result<()> {
        let file = self.settings.path("conf/applied.yaml");
        fs::write(&file, text)?;
        let file = file.display().to_string();
        self.kubectl(&["apply", "-f", &file]).map(drop)
    }

    /// What kubectl prints, whether it is content or not.
    pub(super) fn kubectl_output(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_command(arguments)?.output().context("Starting kubectl")
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.within()?;
        command.arg(&self.parts.kube).arg("kubectl").arg("--kubeconfig");
        command.arg(self.settings.user("admin")).args(arguments);
        Ok(command)
    }

    /// A command that runs in the node.
    fn within(&self) -> Result<Command> {
        let first = self.processes().into_iter().find(|process| process.inner == [1]);
        let first = first.context("the node has no first process")?;
        let mut command = Command::new("nsenter");
        command.args(["-t", &first.pid.to_string(), "-m", "-n", "-p", "-i", "-u", "--"]);
        Ok(command)
    }

    /// SIGKILL to every process of the node's whose command line contains all of `words`.
    pub(super) fn kill(&self, words: &[&str]) -> Result<()> {
        let wanted = |process: &Process| words.iter().all(|word| process.command.contains(word));
        let found: Vec<_> = self.processes().into_iter().filter(wanted).collect();
        ensure!(!found.is_empty(), "No process of the node's is called {words:?}.");
        for process in found {
            if let Some(pid) = Pid::from_raw(process.pid) {
                kill_process(pid, Signal::KILL)?;
            }
        }
        Ok(())
    }

    /// Every process in the node's control groups.
    fn processes(&self) -> Vec<Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| self.process(&entry.path())).collect()
    }

    fn process(&self, proc: &Path) -> Option<Process> {
        let pid = proc.file_name()?.to_str()?.parse().ok()?;
        let groups = fs::read_to_string(proc.join("cgroup")).ok()?;
        if !groups.contains(&self.name) {
            return None;
        }
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let inner = numbers.split_whitespace().skip(1).filter_map(|number| number.parse().ok());
        let command = String::from_utf8_lossy(&fs::read(proc.join("cmdline")).ok()?).into_owned();
        Some(Process { pid, inner: inner.collect(), command: command.replace('\0', " ") })
    }

    /// Tries until it works.
    pub(super) fn wait_for<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut(&Self) -> Result<T>,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            if let Some(running) = &mut self.running {
                running.ensure_running()?;
            }
            match ask(self) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    bail!("Waited {patience:?} for {what}: {error:#}\n{}", self.logs());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    /// The last lines that each component wrote.
    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.settings.path("out")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            text += &format!("--- {}\n", entry.file_name().display());
            text += &lines[lines.len().saturating_sub(5)..].join("\n");
            text += "\n";
        }
        text
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // Its first process ends with it, and all others, containers too, with that one.
        if let Some(running) = self.running.take()
            && let Err(error) = running.kill()
        {
            eprintln!("The node did not end: {error:#}.");
        }
        let end = Instant::now() + Duration::from_secs(30);
        for group in &self.groups {
            // Processes that were killed take a moment to leave.
            while let Err(error) = remove_group(group) {
                if Instant::now() > end {
                    eprintln!("{} stays: {error}.", group.display());
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// A control group of its own in every hierarchy this process is in.
fn control_groups(name: &str) -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for line in fs::read_to_string("/proc/self/cgroup")?.lines() {
        let [_, hierarchy, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let hierarchy = hierarchy.strip_prefix("name=").unwrap_or(hierarchy);
        let base = Path::new(GROUPS).join(hierarchy);
        if hierarchy.is_empty() || !base.exists() {
            continue;
        }
        let parent = base.join(path.trim_start_matches('/'));
        let group = parent.join(name);
        fs::create_dir_all(&group).with_context(|| format!("Creating {}", group.display()))?;
        if hierarchy == "cpuset" {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(group.join(file), fs::read(parent.join(file))?)?;
            }
        }
        groups.push(group);
    }
    ensure!(!groups.is_empty(), "The node needs control groups of version 1 in {GROUPS}.");
    Ok(groups)
}

/// Removes a control group and those in it.
fn remove_group(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
