//! The trial: what happens to the node, its pods and the agent, in order.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Args,
    manifest::manifest,
    node::Node,
    settings,
    workload::{self, Kind, Pod, RESUME, STOP, pods},
};
use crate::e2e::{number, step};

/// The DaemonSet's namespace, its name, and its one pod's label.
pub(super) const NAMESPACE: &str = "everyline";
const DAEMONSET: &str = "daemonset/everyline";
const ROLLED: Duration = Duration::from_secs(120);
pub(super) const CAUGHT_UP: Duration = Duration::from_secs(60);

/// A node with pods and the agent.
pub(super) struct Trial<'a> {
    pub(super) node: Node<'a>,
    pub(super) begun: Instant,
}

impl Trial<'_> {
    /// Everything that happens, in order.
    pub(super) fn happens(&mut self, args: &Args) -> Result<()> {
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
    pub(super) fn rolled(&mut self) -> Result<()> {
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
    pub(super) fn caught_up(&mut self) -> Result<(Value, bool)> {
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
    pub(super) fn remove(&mut self) -> Result<()> {
        self.node.kubectl(&["delete", "-n", NAMESPACE, DAEMONSET, "--wait=false"])?;
        self.node.wait_for("the agent's end", ROLLED, |node| {
            let pods = node.kubectl(&["get", "pods", "-n", NAMESPACE, "--no-headers"])?;
            ensure!(pods.trim().is_empty(), "{pods}");
            Ok(())
        })
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
