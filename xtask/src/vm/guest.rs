//! The program that a guest runs, and the understanding of what it says: a shell script as `init`,
//! and the marks it prints around each test binary's own lines. What the tests' lines mean is
//! for [`Summary`].

use std::fmt::Write;

use super::suites::{self, BuiltSuite};
use crate::summary::{SHOW_OUTPUT, Summary};

/// Where the scratch disk is mounted.
const SCRATCH: &str = "/scratch";

/// How many times as long as usual a test waits: the processor is emulated.
const PATIENCE: u32 = 5;

/// What a line of the script's own begins with.
const MARK: &str = "@@everyline-vm ";

/// Up to where tests can run. What fails is said and gone on from: the tests will say what it cost.
/// The tests' lines have the second serial port to themselves; the kernel's go to the first.
const PREPARE: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TMPDIR=/scratch
mount -t devtmpfs none /dev
exec </dev/null >/dev/ttyS1 2>&1
stty -onlcr </dev/ttyS1
problem() { echo "@@everyline-vm problem $*"; }
try() { "$@" || problem "$* failed"; }
mkdir -p /dev/pts /dev/shm
try mount -t proc none /proc
try mount -t sysfs none /sys
try mount -t devpts none /dev/pts
try mount -t tmpfs none /dev/shm
try mount -t tmpfs none /run
try mount -t bpf none /sys/fs/bpf
try mount -t tracefs none /sys/kernel/tracing
try mount -t debugfs none /sys/kernel/debug
try mount -t securityfs none /sys/kernel/security
ip link set lo up
while read -r module; do try insmod "/modules/$module"; done </modules/order
try mount -t ext4 /dev/vda /scratch
echo "Linux $(uname -r) is up after $(cut -d' ' -f1 /proc/uptime) s"
"#;

/// The script: prepares, runs each binary with its filters (or with `filters` instead), powers off.
pub(super) fn init(built: &[BuiltSuite], filters: &[String]) -> String {
    let mut script = PREPARE.to_owned();
    let mut line = |text: String| {
        script.push_str(&text);
        script.push('\n');
    };
    line(format!("export EVERYLINE_TEST_PATIENCE={PATIENCE}"));
    let package = quoted(&suites::package_dir().display().to_string());
    line(format!("export CARGO_MANIFEST_DIR={package}; cd {package}"));
    for BuiltSuite { suite, executable } in built {
        let mut command = quoted(&executable.display().to_string());
        let usual = suite.filters.iter().copied().filter(|_| filters.is_empty());
        for filter in usual.chain(filters.iter().map(String::as_str)) {
            command.push(' ');
            command.push_str(&quoted(filter));
        }
        for skip in suite.skip.iter().filter(|_| filters.is_empty()) {
            command.push_str(" --skip ");
            command.push_str(&quoted(skip));
        }
        line(format!("echo '{MARK}begin {}'", suite.name));
        line(format!("{command} {SHOW_OUTPUT} --test-threads={}", suite.threads));
        // A binary that died may have left a line unfinished.
        line(format!("printf '\\n{MARK}end {} %s\\n' $?", suite.name));
    }
    line(format!("umount {SCRATCH}"));
    line(format!("echo '{MARK}done'"));
    // The line has to leave the port before the machine is off.
    line("sleep 1; poweroff -f".to_owned());
    script
}

/// A word of the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What came of the tests in one guest.
#[derive(Debug)]
pub(super) struct Report {
    pub summary: Summary,
    /// Binaries that have not ended well so far.
    outstanding: Vec<&'static str>,
    /// Whether a binary that ran no test is a problem.
    each_must_run: bool,
    ran_before: u64,
    problems: Vec<String>,
    done: bool,
}

impl Report {
    /// A report that is good when each binary has ended well (and has run some tests).
    pub(super) fn expecting(built: &[BuiltSuite], each_must_run: bool) -> Self {
        Self {
            summary: Summary::default(),
            outstanding: built.iter().map(|built| built.suite.name).collect(),
            each_must_run,
            ran_before: 0,
            problems: Vec::new(),
            done: false,
        }
    }

    /// Takes a line that the guest said; whether it is worth showing.
    pub(super) fn take(&mut self, line: &str) -> bool {
        let Some(said) = line.strip_prefix(MARK) else { return self.summary.take(line) };
        let (what, rest) = said.split_once(' ').unwrap_or((said, ""));
        match what {
            "end" => self.end(rest),
            "problem" => self.problem(rest.to_owned()),
            "done" => self.done = true,
            _ => {}
        }
        true
    }

    /// Something that makes the report bad.
    pub(super) fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Whether the guest came to its end, well or not.
    pub(super) fn done(&self) -> bool {
        self.done
    }

    /// Whether everything that was to run has run and nothing failed.
    pub(super) fn good(&self) -> bool {
        let summary = &self.summary;
        self.done && self.outstanding.is_empty() && self.problems.is_empty() && summary.failed == 0
    }

    /// Line by line: what failed, what was skipped, what else went wrong.
    pub(super) fn details(&self) -> String {
        let mut text = String::new();
        let outstanding = self.outstanding.iter().map(|name| (*name).to_owned()).collect();
        for (what, names) in [
            ("failed", &self.summary.failures),
            ("skipped", &self.summary.skips),
            ("did not end well", &outstanding),
            ("problem", &self.problems),
        ] {
            for name in names {
                // Writing to a string does not fail.
                write!(text, "\n    {what}: {name}").ok();
            }
        }
        text
    }

    fn end(&mut self, rest: &str) {
        let (name, status) = rest.split_once(' ').unwrap_or((rest, "?"));
        match status {
            "0" => self.outstanding.retain(|outstanding| *outstanding != name),
            // The harness says so by itself.
            "101" if self.summary.failed > 0 => self.outstanding.retain(|other| *other != name),
            _ => self.problem(format!("{name} ended with {status}")),
        }
        if self.each_must_run && self.summary.ran() == self.ran_before {
            self.problem(format!("{name} ran no test: its filters fit none"));
        }
        self.ran_before = self.summary.ran();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::suites::SUITES;

    fn built() -> Vec<BuiltSuite> {
        let built = |suite| BuiltSuite { suite, executable: "/t/it's".into() };
        SUITES.iter().map(built).collect()
    }

    fn report(lines: &str) -> Report {
        let mut report = Report::expecting(&built(), true);
        for line in lines.lines() {
            report.take(line);
        }
        report
    }

    const FIRST: &str = "\
@@everyline-vm begin collector
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s

@@everyline-vm end collector 0
@@everyline-vm begin behaviour
";
    const OK: &str = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";

    #[test]
    fn a_guest_that_ran_everything_is_good() {
        let report =
            report(&format!("{FIRST}{OK}@@everyline-vm end behaviour 0\n@@everyline-vm done"));
        assert!(report.good(), "{report:?}");
        assert_eq!(report.summary.to_string(), "5 passed, 0 failed, 0 skipped");
        assert_eq!(report.details(), "");
    }

    #[test]
    fn a_guest_that_stopped_half_way_is_not() {
        let report = report(FIRST);
        assert!(!report.good());
        assert_eq!(report.details(), "\n    did not end well: behaviour");
    }

    #[test]
    fn failures_deaths_and_problems_are_named() {
        let failed = "test a ... FAILED\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n\
                      @@everyline-vm end behaviour 101\n@@everyline-vm done";
        assert_eq!(report(&format!("{FIRST}{failed}")).details(), "\n    failed: a");
        let died = "test a ... \n@@everyline-vm end behaviour 134\n@@everyline-vm done";
        let died = report(&format!("{FIRST}{died}"));
        assert!(!died.good());
        assert!(died.details().contains("behaviour ended with 134"));
        let empty = "test result: ok. 0 passed; 0 failed; 0 ignored; 9 filtered out\n\
                     @@everyline-vm end behaviour 0\n@@everyline-vm done";
        let empty = report(&format!("{FIRST}{empty}"));
        assert!(!empty.good() && empty.details().contains("behaviour ran no test"));
        let mount = format!("@@everyline-vm problem mount -t bpf failed\n{FIRST}");
        assert!(report(&mount).details().contains("problem: mount -t bpf failed"));
    }

    #[test]
    fn the_script_quotes_and_takes_other_filters_instead() {
        let usual = init(&built(), &[]);
        assert!(usual.contains(r"'/t/it'\''s' 'watch::' "), "{usual}");
        assert!(usual.contains("--show-output --test-threads=1\n"), "{usual}");
        let other = init(&built(), &["one".into(), "two".into()]);
        assert!(other.contains("'one' 'two' --show-output") && !other.contains("watch::"));
    }
}
