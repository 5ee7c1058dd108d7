//! The pods whose logs are collected, and what they say of how much they printed.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::settings::WRITER_IMAGE;

/// Bytes of a message.
pub(super) const LENGTH: u64 = 200;
/// What the runtime puts around one at most: `2026-01-31T10:11:12.123456789Z stdout F ` and the newline.
/// It leaves out a time's trailing zeros.
pub(super) const FRAME: u64 = 30 + 8 + 2 + 1;
/// Messages that long-lived writers print in the end.
const RESUMED: u64 = 500;
/// Ends the long-lived writers.
pub(super) const STOP: &str = "stop";
/// Lets them print a few messages more.
pub(super) const RESUME: &str = "resume";

/// What a pod is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Prints all the time, then is quiet.
    Steady,
    /// Lives for a moment.
    Job,
    /// Ends badly and is started again, again and again.
    CrashLoop,
    /// Is deleted while it prints.
    Deleted,
    /// Its last line has no newline.
    Unfinished,
    /// Is born and deleted while no agent runs.
    Meanwhile,
}

/// One pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod {
    pub(super) writer: u32,
    pub(super) kind: Kind,
}

/// What a pod printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Printed {
    /// Messages per stream that it was about to print …
    pub(super) intended: [u64; 2],
    /// … and that it had printed.
    pub(super) printed: [u64; 2],
}

/// All pods, by kind and in the order of their numbers.
pub(super) fn pods() -> Vec<Pod> {
    let counts = [
        (Kind::Steady, 5),
        (Kind::Job, 20),
        (Kind::CrashLoop, 1),
        (Kind::Deleted, 1),
        (Kind::Unfinished, 1),
        (Kind::Meanwhile, 4),
    ];
    let kinds = counts.into_iter().flat_map(|(kind, count)| (0..count).map(move |_| kind));
    kinds.zip(0..).map(|(kind, writer)| Pod { writer, kind }).collect()
}

impl Pod {
    /// Names follow from the number as the oracle expects them.
    pub(super) fn namespace(self) -> String {
        format!("team-{}", self.writer % 5)
    }

    pub(super) fn name(self) -> String {
        format!("app-{}", self.writer)
    }

    fn container(self) -> String {
        format!("main{}", self.writer % 3)
    }

    /// Its manifest. `rate`: messages a second of a steady one.
    pub(super) fn manifest(self, rate: u64) -> Value {
        let resumed = RESUMED.to_string();
        let rate = rate.to_string();
        let mut arguments = match self.kind {
            Kind::Steady => vec![
                "--rate",
                &rate,
                "--until",
                STOP,
                "--resume",
                RESUME,
                "--resume-lines",
                &resumed,
                "--stay",
            ],
            Kind::Job => vec!["--lines", "25", "--rate", "500"],
            Kind::CrashLoop => vec!["--lines", "300", "--rate", "1000", "--status", "1"],
            Kind::Deleted => vec!["--rate", "1500"],
            Kind::Unfinished => vec!["--lines", "50", "--unfinished"],
            Kind::Meanwhile => vec!["--lines", "3000", "--rate", "6000"],
        };
        let writer = self.writer.to_string();
        let command = ["/podlog", "write", "--writer", &writer, "--truth", "/truth"];
        arguments.splice(0..0, command);
        let restart = if self.kind == Kind::CrashLoop { "Always" } else { "Never" };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name(), "namespace": self.namespace()},
            "spec": {
                "restartPolicy": restart,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": self.container(),
                    "image": WRITER_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": arguments,
                    "volumeMounts": [{"name": "truth", "mountPath": "/truth"}],
                }],
                "volumes": [{"name": "truth", "hostPath": {"path": "/var/lib/truth"}}],
            },
        })
    }

    /// What it has printed, as it noted under `truth`. Nothing: it never came to it.
    pub(super) fn printed(self, truth: &Path) -> Result<Printed> {
        let path = truth.join(self.writer.to_string());
        if !path.exists() {
            return Ok(Printed { intended: [0; 2], printed: [0; 2] });
        }
        let bytes = fs::read(&path).with_context(|| format!("Reading {}", path.display()))?;
        Printed::parse(&bytes).with_context(|| format!("{} is too short", path.display()))
    }

    /// Its entry in the oracle's manifest.
    pub(super) fn expected(self, printed: &Printed) -> Value {
        json!({
            "writer": self.writer,
            "path": "",
            "namespace": self.namespace(),
            "pod": self.name(),
            "container": self.container(),
            "messages": [printed.intended[0], printed.intended[1], 0],
            "untagged": 0,
            "bytes": 0,
            "rotations": 0,
        })
    }
}

impl Printed {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map_while(|number| number.try_into().ok());
        let mut next = || numbers.next().map(u64::from_le_bytes);
        let intended = [next()?, next()?];
        Some(Self { intended, printed: [next()?, next()?] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_numbers_of_their_own_and_all_kinds_are_there() {
        let pods = pods();
        assert!(pods.iter().enumerate().all(|(index, pod)| pod.writer as usize == index));
        assert_eq!(pods.iter().filter(|pod| pod.kind == Kind::Job).count(), 20);
        let manifest = pods[0].manifest(1_000).to_string();
        assert!(manifest.contains("\"1000\"") && manifest.contains("\"Never\""), "{manifest}");
    }

    #[test]
    fn what_was_noted_is_read() {
        let bytes: Vec<_> = [9_u64, 2, 8, 1].into_iter().flat_map(u64::to_le_bytes).collect();
        let expected = Printed { intended: [9, 2], printed: [8, 1] };
        assert_eq!(Printed::parse(&bytes), Some(expected));
        assert_eq!(Printed::parse(&bytes[..31]), None);
    }
}
