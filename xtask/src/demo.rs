//! `cargo xtask demo`: the main job, shown on a bare machine in under half a minute.
//!
//! Three real processes print, their output reaches disk as CRI logs through rotation, the agent
//! collects into its archive and is killed in the middle; in the end every line is found and the
//! audit balances. Where this machine has container logs of its own, new lines of theirs are
//! collected too. Everything lies in a temporary directory and is gone afterwards.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    build,
    process::{Agent, Running, Scratch},
};

/// What runs in a container of the demo.
struct Pod {
    namespace: &'static str,
    name: &'static str,
    container: &'static str,
    /// How many lines it prints.
    lines: u64,
    /// Prints them in about ten seconds and ends; `{loadgen}` is the load generator.
    script: &'static str,
}

const PODS: [Pod; 3] = [
    Pod {
        namespace: "shop",
        name: "checkout",
        container: "app",
        lines: 400,
        script: "i=1; while [ $i -le 400 ]; do \
                 echo \"{\\\"level\\\":\\\"info\\\",\\\"msg\\\":\\\"order $i shipped\\\"}\"; \
                 i=$((i+1)); sleep 0.02; done",
    },
    Pod {
        namespace: "shop",
        name: "web",
        container: "nginx",
        lines: 20_000,
        script: "exec {loadgen} emit --writer 1 --lines 20000 --rate 2500",
    },
    Pod {
        namespace: "data",
        name: "postgres",
        container: "db",
        lines: 90,
        script: "i=1; while [ $i -le 90 ]; do echo \"LOG: checkpoint $i complete\" >&2; \
                 i=$((i+1)); sleep 0.1; done",
    },
];

const NEEDLE: &str = "order 400 shipped";

/// Shows it.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    step("Building for release (the first time takes some minutes).");
    let everyline = build::binary(&["collector", "benches"], "everyline")?;
    let scratch = Scratch::new("demo")?;
    let shown = Instant::now();
    let said = show(everyline.clone(), &scratch);
    drop(scratch);
    said?;
    let (build, show) = (shown - begun, shown.elapsed());
    println!(
        "\nBuilt in {:.0} s, shown in {:.0} s; nothing is left behind. What to try next:\n  \
         sudo install {} /usr/local/bin/\n  \
         sudo everyline run                        this machine's container logs into the archive\n  \
         sudo everyline search error --since 10m   in another terminal: what was said\n  \
         sudo everyline status                     who is speaking, and what is unread\n  \
         sudo everyline doctor                     what works on this machine, what does not, and why\n  \
         everyline config default                  every setting, explained\n  \
         cargo xtask e2e containerd                real containers, a failing sink, three kills (as root)",
        build.as_secs_f64(),
        show.as_secs_f64(),
        everyline.display(),
    );
    Ok(())
}

fn show(everyline: PathBuf, scratch: &Scratch) -> Result<()> {
    let pods = scratch.directory("pods")?;
    let agent = Agent::new(everyline.clone(), scratch, &configuration(&pods))?;
    step("Starting the agent: no database, no collector, an archive in a temporary directory.");
    let mut running = agent.start()?;
    // It starts at the end of what is there: this machine's own logs may be long.
    agent.ready(&mut running, Duration::from_secs(5))?;
    std::thread::sleep(Duration::from_millis(300));
    let loadgen = everyline.with_file_name("loadgen");
    let mut writers =
        PODS.iter().map(|pod| start_pod(pod, &loadgen, &pods)).collect::<Result<Vec<_>>>()?;
    for pod in &PODS {
        println!("    {}/{} prints {} lines", pod.namespace, pod.name, pod.lines);
    }
    pause(4, &mut running)?;
    say_watch_mode(&agent)?;
    step("kill -9, in the middle of it. Writers go on, logs rotate and are compressed.");
    running.kill()?;
    std::thread::sleep(Duration::from_secs(2));
    step("Starting it again: it goes on from the last acknowledged byte.");
    let mut running = agent.start()?;
    pause(1, &mut running)?;
    for writer in &mut writers {
        let status = writer.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "A writer failed ({status}).");
    }

    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        // The last lines are in a batch that is still open.
        let arrived = |pod| count(&agent, pod).is_ok_and(|count| count >= pod.lines);
        if PODS.iter().all(arrived) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    step("All writers have ended. everyline audit:");
    let audit = agent.balanced(Duration::from_secs(10))?;
    print!("{}", indented(&audit));
    step(&format!("everyline search \"{NEEDLE}\":"));
    let found = agent.ask(&["search", NEEDLE])?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    print!("{}", indented(&text));
    ensure!(text.contains(NEEDLE), "The line was not found.\n{}", agent.log_tail());
    step("Every line, once:");
    for pod in &PODS {
        let count = count(&agent, pod)?;
        println!("    {}/{}: {count} of {}", pod.namespace, pod.name, pod.lines);
        ensure!(count == pod.lines, "Not every line is there once.\n{}", agent.log_tail());
    }
    running.stop(Duration::from_secs(30)).map(drop)
}

/// How the agent notices that files were written: what `everyline status` says of it.
fn say_watch_mode(agent: &Agent) -> Result<()> {
    let status = agent.ask(&["status"])?;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    let watched = text.lines().find(|line| line.starts_with("Files watched: "));
    println!("    {}", watched.context("everyline status does not say how files are watched")?);
    println!("    (kernel: eBPF, the default; `everyline doctor` says why another, if it is)");
    Ok(())
}

/// How many of a pod's lines the archive has.
fn count(agent: &Agent, pod: &Pod) -> Result<u64> {
    let arguments = ["search", "--namespace", pod.namespace, "--pod", pod.name, "--count"];
    let found = agent.ask(&arguments)?;
    Ok(String::from_utf8_lossy(&found.stdout).trim().parse().unwrap_or(0))
}

/// The demo's pods, and this machine's own containers from now on.
fn configuration(pods: &Path) -> String {
    let own = [("/var/log/containers", "Kubernetes"), ("/var/lib/docker/containers", "Docker")];
    for (dir, whose) in own {
        let logs = std::fs::read_dir(dir).map_or(0, Iterator::count);
        if logs > 0 {
            println!("    {logs} logs of this machine's own {whose} containers are collected too");
        }
    }
    format!("sources:\n  kubernetes: {{pods_dir: \"{}\"}}\nread: {{start: end}}\n", pods.display())
}

fn start_pod(pod: &Pod, loadgen: &Path, pods: &Path) -> Result<Running> {
    let loadgen_text = loadgen.to_str().context("The target directory's name is not UTF-8")?;
    let uid = format!("00000000-0000-4000-8000-{:012x}", pod.lines);
    let dir = pods.join(format!("{}_{}_{uid}", pod.namespace, pod.name)).join(pod.container);
    let mut command = Command::new(loadgen);
    command.args(["log", "--rotate-bytes", "300000", "--compress", "--path"]);
    command.arg(dir.join("0.log")).args(["--", "sh", "-c"]);
    command.arg(pod.script.replace("{loadgen}", &format!("'{loadgen_text}'")));
    Running::start(pod.name, command.stdin(Stdio::null()))
}

fn pause(seconds: u64, agent: &mut Running) -> Result<()> {
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        agent.ensure_running()?;
    }
    Ok(())
}

fn step(text: &str) {
    println!("\n=== {text}");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn the_agent_takes_the_configuration() {
        let scratch = Scratch::new("demo-test").unwrap();
        let yaml = configuration(&scratch.directory("pods").unwrap());
        let state = scratch.join("agent/state").unwrap();
        let text = process::configuration(&state, "127.0.0.1:1", &yaml);
        collector::config::Config::parse(&text, "demo").unwrap();
    }
}
