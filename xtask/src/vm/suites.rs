//! Which test binaries run in a guest, and which of their tests; builds them for this machine, whose
//! libraries go into the guest with them.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{bpf, workspace};

/// A test binary of the collector, and the tests of it that depend on the kernel.
#[derive(Debug)]
pub(super) struct Suite {
    /// The cargo target.
    pub name: &'static str,
    /// Cargo's option that picks it.
    option: &'static str,
    /// Names, or parts of names, of the tests to run.
    pub filters: &'static [&'static str],
    /// Parts of names of tests not to run.
    pub skip: &'static [&'static str],
    /// Tests at a time. Those that measure silence want the machine for themselves.
    pub threads: u32,
}

/// What runs. An emulated processor has to finish it in some minutes.
pub(super) const SUITES: [Suite; 2] = [
    Suite {
        name: "collector",
        option: "--lib",
        filters: &["watch::", "read::"],
        skip: &[],
        threads: 1,
    },
    Suite {
        name: "behaviour",
        option: "--test=behaviour",
        filters: &["rotation::", "crash::", "kernel::", "doctor::"],
        skip: &[],
        threads: 2,
    },
];

/// What the build has made.
#[derive(Debug)]
pub(super) struct Built {
    /// The behaviour tests start it from where cargo has put it.
    pub agent: PathBuf,
    pub suites: Vec<BuiltSuite>,
}

/// A suite's binary.
#[derive(Debug)]
pub(super) struct BuiltSuite {
    pub suite: &'static Suite,
    pub executable: PathBuf,
}

/// Where tests are started, as by cargo.
pub(super) fn package_dir() -> PathBuf {
    workspace::root().join("collector")
}

/// Builds all of them, and the agent with them.
pub(super) fn build() -> Result<Built> {
    bpf::build()?;
    let mut command = workspace::cargo();
    command.args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics"]);
    command.args(["--package", "collector"]).args(SUITES.each_ref().map(|suite| suite.option));
    let output = command.stderr(Stdio::inherit()).output().context("Starting cargo")?;
    ensure!(output.status.success(), "Building the tests failed; cargo says why above.");
    let messages = String::from_utf8(output.stdout).context("Reading what cargo has built")?;
    let find = |suite: &'static Suite| {
        Ok(BuiltSuite { suite, executable: executable(&messages, suite.name, true)? })
    };
    Ok(Built {
        agent: executable(&messages, "everyline", false)?,
        suites: SUITES.iter().map(find).collect::<Result<_>>()?,
    })
}

/// The executable of a target, built as a test or not, in cargo's messages.
fn executable(messages: &str, name: &str, test: bool) -> Result<PathBuf> {
    let found = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let wanted = message["profile"]["test"] == test && message["target"]["name"] == name;
        if wanted { message["executable"].as_str().map(PathBuf::from) } else { None }
    });
    found.with_context(|| format!("Cargo does not say where it has put {name}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn executables_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"build-script-executed"}
{"target":{"name":"collector"},"profile":{"test":false},"executable":null}
{"target":{"name":"collector"},"profile":{"test":true},"executable":"/t/collector-1"}
{"target":{"name":"everyline"},"profile":{"test":false},"executable":"/t/everyline"}
"#;
        assert_eq!(executable(messages, "collector", true).unwrap(), Path::new("/t/collector-1"));
        assert_eq!(executable(messages, "everyline", false).unwrap(), Path::new("/t/everyline"));
        assert!(executable(messages, "everyline", true).is_err());
    }
}
