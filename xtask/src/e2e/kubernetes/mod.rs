//! `cargo xtask e2e kubernetes`: the manifest as it is delivered, on a node with a real kubelet and a real
//! container runtime, without a registry.
//!
//! Pods print numbered lines faster than kubelet keeps them for long; meanwhile the DaemonSet is rolled, killed,
//! deleted by force, taken away and brought back. In the end every line is in the archive once, or was
//! lost and stated. What was printed is known from the writers themselves, not from their logs.

mod inside;
mod node;
mod parts;
mod settings;
mod told;
mod verdict;
mod workload;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

pub use self::inside::Args as Inside;
use self::{
    node::Node,
    parts::Parts,
    told::Told,
    verdict::{Line, Table},
    workload::{Kind, Pod, RESUME, STOP, pods},
};
use super::{
    image::{self, Image},
    number, step,
};
use crate::{process::Scratch, workspace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Five seconds of quiet before the last roll instead of five minutes
    #[arg(long)]
    quick: bool,
    /// Megabytes a second that the pods print together
    #[arg(long, default_value_t = 5.0)]
    rate: f64,
}

/// The DaemonSet's namespace, its name, and its one pod's label.
const NAMESPACE: &str = "everyline";
const DAEMONSET: &str = "daemonset/everyline";
/// As the manifest calls it, and as the runtime does.
const IMAGE: &str = "docker.io/library/everyline:0.1.0";
const ROLLED: Duration = Duration::from_secs(120);
const CAUGHT_UP: Duration = Duration::from_secs(60);

/// Does it; an error if a line was lost that is not stated, or doubled.
pub fn run(args: &Args) -> Result<()> {
    let root = rustix::process::getuid().is_root();
    ensure!(root, "A node needs namespaces and control groups: run this as root.");
    step("Building a node (Kubernetes from source the first time), the agent and the writers.");
    let parts = Parts::get()?;
    let scratch = Scratch::new("e2e-kubernetes")?;
    let begun = Instant::now();
    let done = show(args, &parts, &scratch);
    println!("    {:.0} s in all", begun.elapsed().as_secs_f64());
    done
}

/// Is the node, in namespaces of its own.
pub fn inside(args: &Inside) -> Result<()> {
    inside::enter(args)
}

fn show(args: &Args, parts: &Parts, scratch: &Scratch) -> Result<()> {
    step("Starting the node.");
    let mut node = Node::start(scratch, parts)?;
    import(&mut node, scratch, parts)?;
    node.ready()?;
    let told = Told::follow(&node.settings.path("varlog/pods"), NAMESPACE);
    let mut trial = Trial { node, begun: Instant::now() };
    step("kubectl apply: the manifest; only the archive's bound is another.");
    trial.node.apply(&manifest("")?)?;
    trial.rolled()?;
    trial.happens(args)?;
    let (audit, settled) = trial.caught_up()?;
    trial.remove()?;
    let lines = trial.lines(parts, &told)?;
    let table = Table(lines.0);
    judge(&table, &lines.1, &audit).with_context(|| {
        let said = told.said();
        said[said.len().saturating_sub(30)..].join("\n")
    })?;
    ensure!(settled, "After {CAUGHT_UP:?} there were still bytes unread or in flight.");
    Ok(())
}

fn import(node: &mut Node<'_>, scratch: &Scratch, parts: &Parts) -> Result<()> {
    let writer = Image {
        tag: settings::WRITER_IMAGE,
        programs: &[(&parts.podlog, "podlog")],
        applets: &[],
        entrypoint: &[],
        command: &["/podlog", "pause"],
    };
    let agent = Image {
        tag: IMAGE,
        programs: &[(&parts.everyline, "everyline")],
        applets: &[],
        entrypoint: &["/everyline"],
        command: &["run"],
    };
    for (dir, image) in [("image-writer", writer), ("image-agent", agent)] {
        let archive = image::build(&scratch.directory(dir)?, &image)?;
        node.import(&archive)?;
    }
    Ok(())
}

/// The manifest as it is delivered, but with room for all that is printed here, and with further `sinks`.
fn manifest(sinks: &str) -> Result<String> {
    let path = workspace::root().join("deploy/kubernetes/everyline.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
    let bound = "        max_bytes: 1GiB\n";
    ensure!(
        text.contains(bound),
        "The manifest's archive has another bound than is expected here."
    );
    let text = text.replace(bound, "        max_bytes: 256GiB\n");
    let after = "        max_age: 7d\n";
    Ok(text.replace(after, &format!("{after}{sinks}")))
}

/// A node with pods and the agent.
struct Trial<'a> {
    node: Node<'a>,
    begun: Instant,
}

impl Trial<'_> {
    /// Everything that happens, in order.
    fn happens(&mut self, args: &Args) -> Result<()> {
        let all = pods();
        let of = |kind| all.iter().copied().filter(move |pod| pod.kind == kind).collect::<Vec<_>>();
        self.namespaces()?;
        let steady = of(Kind::Steady);
        let size = (workload::LENGTH + workload::FRAME) as f64;
        let rate = (args.rate * 1e6 / size / steady.len() as f64) as u64;
        self.say(&format!("{} pods print {:.1} MB/s", steady.len(), args.rate));
        self.create(&steady, rate)?;
        let first_jobs = of(Kind::Job);
        self.create(
            &[of(Kind::CrashLoop), of(Kind::Unfinished), of(Kind::Deleted)].concat(),
            rate,
        )?;
        self.create(&first_jobs[..10], rate)?;
        self.pause(12)?;
        self.say("first roll");
        self.roll()?;
        self.create(&first_jobs[10..], rate)?;
        self.pause(6)?;
        self.say("a pod is deleted while it prints");
        for pod in of(Kind::Deleted) {
            self.delete(pod)?;
        }
        for pod in &first_jobs[..5] {
            self.delete(*pod)?;
        }
        self.say("second roll");
        self.roll()?;
        self.pause(6)?;
        self.say("the agent's pod is deleted by force");
        let forced = ["delete", "pod", "-n", NAMESPACE, "--all", "--force", "--grace-period=0"];
        self.node.kubectl(&forced)?;
        self.rolled()?;
        self.pause(6)?;
        self.say("kubelet is killed and started again");
        self.node.kill(&["kubelet", "--hostname-override"])?;
        self.pause(8)?;
        self.say("kill -9 of the agent");
        self.node.kill(&["/everyline run"])?;
        self.pause(8)?;
        self.rolled()?;
        self.off(&of(Kind::Meanwhile), rate)?;
        self.pause(6)?;
        self.dead_sink()?;
        self.seccomp("Unconfined")?;
        self.pause(6)?;
        self.seccomp("RuntimeDefault")?;
        self.pause(6)?;
        self.quiet(args.quick)
    }

    /// No agent for 25 seconds; pods are born and deleted meanwhile.
    fn off(&mut self, pods: &[Pod], rate: u64) -> Result<()> {
        self.say("the agent is taken away for 25 s; pods are born and deleted meanwhile");
        self.patch(&json!({"nodeSelector": {"everyline.invalid/off": "true"}}))?;
        self.node.wait_for("the agent's end", ROLLED, |node| {
            let pods = node.kubectl(&["get", "pods", "-n", NAMESPACE, "--no-headers"])?;
            ensure!(pods.trim().is_empty(), "{pods}");
            Ok(())
        })?;
        let gone = Instant::now();
        self.create(pods, rate)?;
        self.pause(8)?;
        for &pod in pods {
            self.delete(pod)?;
        }
        while gone.elapsed() < Duration::from_secs(25) {
            self.pause(1)?;
        }
        self.patch(&json!({"nodeSelector": {"everyline.invalid/off": null}}))?;
        self.rolled()
    }

    /// A sink beside the archive whose server is not there, while the DaemonSet is rolled.
    fn dead_sink(&mut self) -> Result<()> {
        self.say("a dead http sink comes, is there at a roll, and goes");
        let dead = format!(
            "      dead:\n        type: http\n        url: http://{}:9/\n",
            settings::ADDRESS
        );
        self.node.apply(&manifest(&dead)?)?;
        self.roll()?;
        self.pause(8)?;
        self.roll()?;
        self.pause(4)?;
        self.node.apply(&manifest("")?)?;
        self.roll()?;
        self.pause(4)
    }

    fn seccomp(&mut self, profile: &str) -> Result<()> {
        self.say(&format!("the agent's seccomp profile becomes {profile}"));
        self.patch(&json!({"securityContext": {"seccompProfile": {"type": profile}}}))?;
        self.rolled()
    }

    /// The writers are quiet; then a roll, and a few lines more.
    fn quiet(&mut self, quick: bool) -> Result<()> {
        let seconds = if quick { 5 } else { 300 };
        fs::write(self.truth(STOP), "")?;
        self.say(&format!("{seconds} quiet seconds before another roll"));
        self.pause(seconds)?;
        self.roll()?;
        self.pause(3)?;
        self.say("the writers print a few lines more");
        fs::write(self.truth(RESUME), "")?;
        self.pause(5)
    }

    fn namespaces(&mut self) -> Result<()> {
        for number in 0..5 {
            let name = format!("team-{number}");
            self.node.kubectl(&["create", "namespace", &name])?;
        }
        self.node.wait_for("the namespaces", ROLLED, |node| {
            (0..5).try_for_each(|number| {
                let name = format!("team-{number}");
                node.kubectl(&["get", "serviceaccount", "default", "-n", &name]).map(drop)
            })
        })
    }

    fn create(&mut self, pods: &[Pod], rate: u64) -> Result<()> {
        let items: Vec<_> = pods.iter().map(|pod| pod.manifest(rate)).collect();
        self.node.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
    }

    fn delete(&mut self, pod: Pod) -> Result<()> {
        let (namespace, name) = (pod.namespace(), pod.name());
        self.node.kubectl(&["delete", "pod", "-n", &namespace, &name, "--wait=false"]).map(drop)
    }

    fn patch(&mut self, pod: &Value) -> Result<()> {
        let patch = json!({"spec": {"template": {"spec": pod}}}).to_string();
        self.node.kubectl(&["patch", "-n", NAMESPACE, DAEMONSET, "-p", &patch]).map(drop)
    }

    fn roll(&mut self) -> Result<()> {
        self.node.kubectl(&["rollout", "restart", "-n", NAMESPACE, DAEMONSET])?;
        self.rolled()
    }

    /// Waits until the newest agent is ready and no other is there.
    fn rolled(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.node.wait_for("the DaemonSet", ROLLED, |node| {
            node.kubectl(&["rollout", "status", "-n", NAMESPACE, DAEMONSET, "--timeout=2s"])?;
            let pods = node.kubectl(&["get", "pods", "-n", NAMESPACE, "--no-headers"])?;
            let ready = pods.lines().count() == 1 && pods.contains(" 1/1 ");
            ensure!(ready, "{pods}");
            Ok(())
        })?;
        self.say(&format!("    the agent is ready after {:.0} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Waits until everything is settled; the agent's audit, and whether it ever said so.
    fn caught_up(&mut self) -> Result<(Value, bool)> {
        step("Waiting until everything is settled. everyline audit, in the pod:");
        let mut audit = Value::Null;
        let mut last = Value::Null;
        let what = "everything to be settled";
        let settled = self.node.wait_for(what, CAUGHT_UP, |node| {
            let arguments =
                ["exec", "-n", NAMESPACE, DAEMONSET, "--", "/everyline", "audit", "-o", "json"];
            let config = ["--config", "/etc/everyline/everyline.yaml"];
            let output = node.kubectl_output(&[&arguments[..], &config].concat())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let said = || String::from_utf8_lossy(&output.stderr).into_owned();
            audit = serde_json::from_str(text.trim()).with_context(said)?;
            let sums = &audit["sinks"]["local"];
            let settled = number(sums, "unread") == 0 && number(sums, "in_flight") == 0;
            let same = last == *sums;
            last = sums.clone();
            std::thread::sleep(Duration::from_secs(3));
            ensure!(settled && same, "{audit}");
            Ok(())
        });
        match settled {
            Ok(()) => Ok((audit, true)),
            // What arrived is told all the same.
            Err(_) if audit.is_object() => Ok((audit, false)),
            Err(error) => Err(error),
        }
    }

    /// The agent ends in order: everything is in the archive.
    fn remove(&mut self) -> Result<()> {
        self.node.kubectl(&["delete", "-n", NAMESPACE, DAEMONSET, "--wait=false"])?;
        self.node.wait_for("the agent's end", ROLLED, |node| {
            let pods = node.kubectl(&["get", "pods", "-n", NAMESPACE, "--no-headers"])?;
            ensure!(pods.trim().is_empty(), "{pods}");
            Ok(())
        })
    }

    /// What came of every pod, and the oracle's whole report.
    fn lines(&self, parts: &Parts, told: &Told) -> Result<(Vec<Line>, Value)> {
        let truth = self.node.settings.path("varlib/truth");
        let pods = pods();
        let printed = pods.iter().map(|pod| pod.printed(&truth)).collect::<Result<Vec<_>>>()?;
        let writers: Vec<_> = pods.iter().zip(&printed).map(|(pod, p)| pod.expected(p)).collect();
        let manifest = self.node.settings.path("conf/manifest.json");
        let text = json!({"format": "cri", "seed": 0, "writers": writers}).to_string();
        fs::write(&manifest, text)?;
        let archive = self.node.settings.path("varlib/everyline/archive");
        let mut search = Command::new(&parts.everyline);
        search.args(["search", "-o", "json", "--pod", "app-*", "--archive-dir"]).arg(archive);
        let mut search = search.stdout(Stdio::piped()).spawn().context("Starting everyline")?;
        let records = search.stdout.take().context("everyline search has no output")?;
        let mut oracle = Command::new(&parts.oracle);
        oracle.args(["verify", "--each", "--ndjson", "/dev/stdin", "--manifest"]).arg(&manifest);
        let output = oracle.stdin(records).output().context("Starting the oracle")?;
        let status = search.wait()?;
        ensure!(status.success(), "everyline search failed ({status}).");
        let errors = || String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).with_context(errors)?;
        let (arrived, said) = (Table::by_writer(&report), told.lost());
        let lines = pods.iter().zip(&printed).map(|(pod, printed)| {
            let arrived = arrived.get(&u64::from(pod.writer)).copied();
            Line::of(*pod, printed, arrived, said.get(&pod.name()).copied().unwrap_or(0))
        });
        let lines = lines.collect::<Result<_>>()?;
        Ok((lines, report))
    }

    fn truth(&self, name: &str) -> std::path::PathBuf {
        self.node.settings.path("varlib/truth").join(name)
    }

    fn pause(&mut self, seconds: u64) -> Result<()> {
        std::thread::sleep(Duration::from_secs(seconds));
        self.node.wait_for("the node", Duration::ZERO, |_| Ok(()))
    }

    fn say(&self, text: &str) {
        println!("    {:6.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }
}

/// Prints everything; an error if something is not as it has to be.
fn judge(table: &Table, report: &Value, audit: &Value) -> Result<()> {
    print!("{table}");
    let stated = stated(audit);
    let (least, most) = (table.least_lost(), table.most_lost());
    let at_least = audit["at_least"] == true;
    let or_more = if at_least { "at least " } else { "" };
    println!("    lost: {least} to {most} bytes; the audit states {or_more}{stated}");
    println!("    audit: {audit}");
    println!(
        "    {} records, doubled {} by number, {} with another uid; out of order {}, damaged {}, \
         with wrong metadata {}",
        report["records"],
        report["doubled"],
        report["uid_changed"],
        report["reordered"],
        report["damaged"],
        report["wrong_metadata"],
    );
    let unstated = least.saturating_sub(stated);
    ensure!(
        unstated == 0 || at_least,
        "At least {unstated} bytes were lost that the audit does not state."
    );
    for field in ["doubled", "damaged", "wrong_metadata", "unreadable"] {
        let count = number(report, field);
        ensure!(count == 0, "{count} records are {field}.\n{:#}", report["examples"]);
    }
    Ok(())
}

/// Bytes that an audit states as lost to the archive.
fn stated(audit: &Value) -> u64 {
    audit["sinks"]["local"]["lost"].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_gets_a_sink_more_and_stays_one() {
        let plain = manifest("").unwrap();
        let more = manifest("      dead:\n        type: null\n").unwrap();
        assert_eq!(more.lines().count(), plain.lines().count() + 2);
        assert!(plain.contains("max_bytes: 256GiB"));
    }
}
