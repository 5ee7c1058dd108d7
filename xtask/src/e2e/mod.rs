//! `cargo xtask e2e`: the agent end to end, with real writers, a sink that fails on a seed, and
//! SIGKILL in the middle. What came of it is judged by the oracle, which knows only what was
//! written and what arrived.

mod containerd;
mod cri;
mod files;
mod hostile;
mod image;
mod kubernetes;
mod node;
mod protobuf;
mod wakeups;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    build,
    process::{Agent, Oracle, Running, Scratch},
};

/// What is run.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Scenario {
    /// Real containers through containerd's CRI, rotated, three kills (installs what it needs)
    Containerd,
    /// A Kubernetes node: the manifest's DaemonSet through rolls, kills and a pause, pod by pod (fetches and
    /// builds what it needs)
    Kubernetes(kubernetes::Args),
    /// The node of `kubernetes`, from within
    #[command(hide = true)]
    Inside(kubernetes::Inside),
    /// 200 files, rotated and compressed, the agent down for three rotations
    Files,
    /// What a tenant does on purpose: links swapped under the agent's hands, in every way of watching (root)
    Hostile(hostile::Args),
    /// A million lines at random intervals, each of which has to arrive at once: no wake-up is lost
    Wakeups,
}

/// Runs it; an error unless nothing is lost and every double is explained.
pub(crate) fn run(scenario: &Scenario) -> Result<()> {
    match scenario {
        Scenario::Containerd => {
            containerd::run()?;
            files::run()
        }
        Scenario::Kubernetes(args) => kubernetes::run(args),
        Scenario::Inside(args) => kubernetes::inside(args),
        Scenario::Files => files::run(),
        Scenario::Hostile(args) => hostile::run(args),
        Scenario::Wakeups => wakeups::run(),
    }
}

/// One agent that delivers to the failing oracle and into a file.
struct Trial {
    agent: Agent,
    running: Running,
    oracle: Oracle,
    loadgen: PathBuf,
    verify: PathBuf,
    manifest: PathBuf,
    ndjson: PathBuf,
}

impl Trial {
    /// Builds everything and starts it over the pod logs in `pods`.
    fn start(scratch: &Scratch, pods: &Path) -> Result<Self> {
        let everyline = build::binary(&["collector", "benches"], "everyline")?;
        let (loadgen, verify) =
            (everyline.with_file_name("loadgen"), everyline.with_file_name("oracle"));
        let (manifest, ndjson) = (scratch.join("manifest.json")?, scratch.join("out/all.ndjson")?);
        let faults = "--seed 7 --unavailable 0.05 --throttle 0.03 --reset 0.05 --lose-reply 0.05 \
                      --stall 0.02 --stall-ms 1500";
        let faults: Vec<_> = faults.split_whitespace().collect();
        let oracle = Oracle::start(&verify, &manifest, &faults)?;
        let yaml = configuration(pods, &oracle.address, &ndjson);
        let agent = Agent::new(everyline, scratch, &yaml)?;
        let running = agent.start()?;
        Ok(Self { agent, running, oracle, loadgen, verify, manifest, ndjson })
    }

    /// SIGKILL, `meanwhile`, and a new start.
    fn kill_and_restart(self, meanwhile: impl FnOnce() -> Result<()>) -> Result<Self> {
        let Self { agent, running, oracle, loadgen, verify, manifest, ndjson } = self;
        running.kill()?;
        oracle.killed()?;
        meanwhile()?;
        let running = agent.start()?;
        Ok(Self { agent, running, oracle, loadgen, verify, manifest, ndjson })
    }

    /// When everything is written (the manifest too): waits until everything has arrived, then
    /// judges both sinks.
    fn judge(mut self, patience: Duration) -> Result<()> {
        self.oracle.calm()?;
        let end = Instant::now() + patience;
        loop {
            self.running.ensure_running().context(self.agent.log_tail())?;
            let report = self.oracle.report()?;
            if number(&report, "lost") == 0 || Instant::now() > end {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        // What arrived is told even where the audit does not balance or the agent does not end.
        let audit = self.agent.balanced(Duration::from_secs(20));
        let stopped = self.running.stop(Duration::from_secs(40));
        let http = self.oracle.report()?;
        print_report("http", &http);
        let mut verify = Command::new(&self.verify);
        verify.arg("verify").arg("--ndjson").arg(&self.ndjson);
        let output = verify.arg("--manifest").arg(&self.manifest).output()?;
        let file: Value =
            serde_json::from_slice(&output.stdout).context("The oracle did not report")?;
        print_report("file", &file);
        println!("    audit:\n{}", audit?);
        ensure!(number(&file, "doubled") == 0, "Lines are doubled in the file.");
        if http["ok"] != true || file["ok"] != true {
            bail!("Not every line once:\n{http:#}\n{file:#}\n{}", self.agent.log_tail());
        }
        let status = stopped.with_context(|| self.agent.log_tail())?;
        ensure!(status.success(), "The agent ended with {status}.\n{}", self.agent.log_tail());
        Ok(())
    }
}

/// These pods' logs, into the oracle and into a file.
fn configuration(pods: &Path, oracle: &str, ndjson: &Path) -> String {
    format!(
        "sources:\n  kubernetes: {{pods_dir: \"{pods}\", containers_dir: \"{pods}-none\"}}\n  \
         docker: {{enabled: false}}\n\
         sinks:\n  oracle: {{type: http, url: \"http://{oracle}/\", backoff_max: 1s}}\n  \
         file: {{type: file, path: \"{}\", rotate_size: 100GiB}}\n",
        ndjson.display(),
        pods = pods.display(),
    )
}

fn print_report(sink: &str, report: &Value) {
    println!(
        "    into {sink}: {} written, lost {}, doubled {} (unexplained {}), reordered {}, damaged {}, \
         distinct uids {} of {} records; requests {}",
        report["expected"],
        report["lost"],
        report["doubled"],
        report["doubled_unexplained"],
        report["reordered"],
        report["damaged"],
        report["distinct_uids"],
        report["records_distinct"],
        report["requests"],
    );
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or(u64::MAX)
}

fn step(text: &str) {
    println!("=== {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn the_agent_takes_the_configuration() {
        let scratch = Scratch::new("e2e-test").unwrap();
        let ndjson = scratch.join("out/all.ndjson").unwrap();
        let yaml = configuration(&scratch.directory("pods").unwrap(), "127.0.0.1:2", &ndjson);
        let state = scratch.join("agent/state").unwrap();
        let text = process::configuration(&state, "127.0.0.1:1", &yaml);
        collector::config::Config::parse(&text, "e2e").unwrap();
    }
}
