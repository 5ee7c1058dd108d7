//! Real containers through containerd's CRI: their logs rotated as the kubelet does, the agent
//! killed three times, the sink failing on its seed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    Trial,
    cri::{Container, Cri, Pod},
    node::{IMAGE, Node, install},
    step,
};
use crate::process::Scratch;

const PODS: u32 = 4;
/// Messages a container prints, and how many a second.
const LINES: u64 = 30_000;
const RATE: &str = "2000";
const ROTATE_BYTES: u64 = 500_000;
const KILLS: [u64; 3] = [4, 8, 12];

pub(super) fn run() -> Result<()> {
    step("Real containers through containerd, rotated logs, three kills, a failing sink.");
    install()?;
    let scratch = Scratch::new("e2e")?;
    let pods = scratch.directory("pods")?;
    let mut trial = Trial::start(&scratch, &pods)?;
    let (_node, cri) = Node::start(&scratch)?;
    println!("    containerd {} answers", cri.version()?);
    let logs = (0..PODS)
        .map(|writer| Log::start(writer, &cri, &pods, &trial.loadgen))
        .collect::<Result<Vec<_>>>()?;
    fs::write(&trial.manifest, manifest().to_string())?;

    let (begun, mut kills) = (Instant::now(), KILLS.into_iter().peekable());
    let mut rotations = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        for log in &logs {
            rotations += u32::from(log.rotate_if_due(&cri)?);
        }
        if kills.next_if(|&at| begun.elapsed().as_secs() >= at).is_some() {
            println!("    kill -9 after {:.0} s", begun.elapsed().as_secs_f64());
            trial = trial.kill_and_restart(|| {
                std::thread::sleep(Duration::from_millis(500));
                Ok(())
            })?;
        }
        let mut exited = logs.iter().map(|log| cri.has_exited(&log.container));
        if exited.try_fold(true, |all, one| anyhow::Ok(all && one?))? {
            break;
        }
        ensure!(begun.elapsed() < Duration::from_secs(120), "The containers do not end.");
    }
    ensure!(kills.peek().is_none(), "The containers ended before the last kill.");
    println!("    {PODS} containers have printed {LINES} lines each, {rotations} rotations");
    let judged = trial.judge(Duration::from_secs(60));
    for log in &logs {
        cri.remove_pod(&log.sandbox)?;
    }
    judged
}

/// One container and its log.
#[derive(Debug)]
struct Log {
    sandbox: String,
    container: String,
    live: PathBuf,
}

impl Log {
    fn start(writer: u32, cri: &Cri, pods: &Path, loadgen: &Path) -> Result<Self> {
        let names = Names::of(writer);
        let dir = pods.join(format!("{}_{}_{}", names.namespace, names.pod, names.uid));
        let pod = Pod {
            namespace: &names.namespace,
            name: &names.pod,
            uid: &names.uid,
            log_directory: dir.to_str().context("the temporary directory is not UTF-8")?,
        };
        let sandbox = cri.run_pod(&pod)?;
        let (writer, lines) = (writer.to_string(), LINES.to_string());
        let loadgen = loadgen.to_str().context("the target directory is not UTF-8")?;
        let container = Container {
            name: &names.container,
            image: IMAGE,
            command: &["/loadgen", "emit", "--writer", &writer, "--lines", &lines, "--rate", RATE],
            // The load generator is linked dynamically; the host's libraries serve it.
            mounts: &[
                (loadgen, "/loadgen"),
                ("/lib", "/lib"),
                ("/lib64", "/lib64"),
                ("/usr/lib", "/usr/lib"),
            ],
        };
        // The kubelet makes this directory, not the runtime.
        fs::create_dir_all(dir.join(&names.container))?;
        let live = dir.join(&names.container).join("0.log");
        let container = cri.run_container(&sandbox, &pod, &container)?;
        Ok(Self { sandbox, container, live })
    }

    /// As the kubelet does: compress the former one, rename the live one, have it reopened.
    fn rotate_if_due(&self, cri: &Cri) -> Result<bool> {
        if self.live.metadata().map_or(0, |meta| meta.len()) < ROTATE_BYTES {
            return Ok(false);
        }
        let date = Command::new("date").args(["-u", "+%Y%m%d-%H%M%S"]).output()?.stdout;
        let rotated = format!("{}.{}", self.live.display(), String::from_utf8(date)?.trim());
        if Path::new(&rotated).exists() {
            return Ok(false);
        }
        // The runtime is told only now; until then it goes on writing to the renamed file.
        let script = "for f in \"$1\".*; do case $f in *.gz|*'*') ;; *) \
                      gzip -c \"$f\" > \"$f.tmp\" && mv \"$f.tmp\" \"$f.gz\" && rm \"$f\";; \
                      esac; done";
        let status = Command::new("sh").args(["-c", script, "sh"]).arg(&self.live).status()?;
        ensure!(status.success(), "Compressing the rotated log failed.");
        fs::rename(&self.live, rotated)?;
        match cri.reopen_log(&self.container) {
            // It ended a moment ago; its log is complete under the new name.
            Err(_) if cri.has_exited(&self.container)? => Ok(true),
            reopened => reopened.map(|()| true),
        }
    }
}

/// A writer's names, as the oracle expects them of its number.
#[derive(Debug)]
struct Names {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
}

impl Names {
    fn of(writer: u32) -> Self {
        Self {
            namespace: format!("team-{}", writer % 5),
            pod: format!("app-{writer}"),
            uid: format!("5eed0000-0000-4000-8000-{writer:012x}"),
            container: format!("main{}", writer % 3),
        }
    }
}

/// What the containers print: every eighth message goes to standard error.
fn manifest() -> serde_json::Value {
    let writers: Vec<_> = (0..PODS)
        .map(|writer| {
            let names = Names::of(writer);
            json!({
                "writer": writer, "path": "", "namespace": names.namespace, "pod": names.pod,
                "container": names.container, "messages": [LINES - LINES / 8, LINES / 8, 0],
                "untagged": 0, "bytes": 0, "rotations": 0,
            })
        })
        .collect();
    json!({"format": "cri", "seed": 1, "writers": writers})
}
