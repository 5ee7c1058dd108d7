//! What test binaries say, summed up: passed, failed, skipped, ignored, and by name what failed and
//! what was skipped. Understands the lines of the standard test harness and nothing else; whether
//! a binary ran to its end is for its exit status to say.
//!
//! A test that cannot do its work where it runs prints a line that begins with `skipped:` and
//! returns. The harness counts it as passed and keeps its words to itself unless told
//! [`SHOW_OUTPUT`]; here it is skipped, and not passed.

use std::fmt;

/// The harness's option that shows what passing tests print.
pub(crate) const SHOW_OUTPUT: &str = "--show-output";

/// The sum over all lines taken.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub ignored: u64,
    /// The tests that failed.
    pub failures: Vec<String>,
    /// The tests that were skipped, and why.
    pub skips: Vec<String>,
    binary: Binary,
}

/// Of the binary whose lines are being taken.
#[derive(Debug, Default)]
struct Binary {
    skipped: u64,
    section: Section,
    /// The test whose words follow.
    test: Option<String>,
    /// Whether it is running tests.
    runs: bool,
    /// The tests that have been running for long.
    slow: Vec<String>,
}

#[derive(Debug, Default, PartialEq)]
enum Section {
    #[default]
    Results,
    Successes,
    Failures,
}

impl Summary {
    /// Takes a line; whether it is worth showing: what tests print that passed is not.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.binary.section = Section::Successes,
            "failures:" => self.binary.section = Section::Failures,
            _ => {}
        }
        if let Some(test) = line.strip_prefix("test ") {
            match test.split_once(" has been running for over ") {
                Some((test, _)) => self.binary.slow.push(test.to_owned()),
                None => self.binary.slow.retain(|slow| !is_of(test, slow)),
            }
        }
        if let Some(test) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----"))
        {
            self.binary.test = Some(test.to_owned());
        } else if let Some(test) =
            line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            self.failures.push(test.to_owned());
        } else if line.starts_with("running ") && line.trim_end_matches('s').ends_with(" test") {
            self.binary.runs = true;
        } else if let Some(why) = line.strip_prefix("skipped:") {
            self.skip(why.trim());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.result(counts);
        }
        self.binary.section != Section::Successes
    }

    /// Tests that ran, whatever came of them.
    pub(crate) fn ran(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }

    /// Another command's lines follow: a binary that ended without a result runs no more.
    pub(crate) fn begin(&mut self) {
        self.binary = Binary::default();
    }

    /// Whether a binary runs tests at the moment.
    pub(crate) fn is_running(&self) -> bool {
        self.binary.runs
    }

    /// The binary is killed: what it had not finished has failed. Its tests, or that it named none.
    pub(crate) fn give_up(&mut self) -> Vec<String> {
        let mut stuck = std::mem::take(&mut self.binary).slow;
        if stuck.is_empty() {
            stuck.push("a test binary that names no test".to_owned());
        }
        self.failed += stuck.len() as u64;
        self.failures.extend(stuck.iter().cloned());
        stuck
    }

    /// A test counts once, however often it says so, and not at all when it failed.
    fn skip(&mut self, why: &str) {
        match self.binary.section {
            Section::Failures => return,
            Section::Successes => match self.binary.test.take() {
                Some(test) => self.skips.push(format!("{test}: {why}")),
                None => return,
            },
            Section::Results => self.skips.push(why.to_owned()),
        }
        self.binary.skipped += 1;
    }

    fn result(&mut self, counts: &str) {
        let Binary { skipped, .. } = std::mem::take(&mut self.binary);
        self.skipped += skipped;
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += count.saturating_sub(skipped),
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// Whether this is the result of that test: `NAME ... ok`.
fn is_of(result: &str, test: &str) -> bool {
    result.strip_prefix(test).is_some_and(|rest| rest.starts_with(" ... "))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, ignored, .. } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")?;
        if *ignored > 0 {
            write!(f, ", {ignored} ignored")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
running 6 tests
test a::b ... FAILED
test c ... ok

successes:

---- c stdout ----
skipped: mounting needs root
skipped: and another filesystem too
that is all

---- d stdout ----
not skipped: only said

successes:
    c
    d

failures:

---- a::b stdout ----
skipped: half of it
thread panicked

failures:
    a::b

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
";

    #[test]
    fn results_are_summed_up() {
        let mut sum = Summary::default();
        let shown: Vec<_> = SAID.lines().filter(|line| sum.take(line)).collect();
        assert_eq!(sum.to_string(), "5 passed, 1 failed, 1 skipped, 2 ignored");
        assert_eq!(sum.failures, ["a::b"]);
        assert_eq!(sum.skips, ["c: mounting needs root"]);
        assert_eq!(sum.ran(), 7);
        assert!(shown.contains(&"thread panicked") && !shown.contains(&"that is all"));
    }

    #[test]
    fn a_skip_that_was_not_captured_counts_too() {
        let mut sum = Summary::default();
        sum.take("skipped: here");
        sum.take("test result: ok. 1 passed; 0 failed; 0 ignored");
        assert_eq!(sum.to_string(), "0 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn tests_that_never_end_are_named_and_counted_as_failed() {
        let mut sum = Summary::default();
        assert!(!sum.is_running());
        sum.take("running 4 tests");
        assert!(sum.is_running());
        for test in ["a::b", "a", "c"] {
            sum.take(&format!("test {test} has been running for over 60 seconds"));
        }
        sum.take("test a ... ok");
        assert_eq!(sum.give_up(), ["a::b", "c"]);
        assert!(!sum.is_running());
        assert_eq!((sum.failed, sum.failures.join(" ")), (2, "a::b c".to_owned()));
    }

    #[test]
    fn a_binary_that_ended_runs_no_more() {
        let mut sum = Summary::default();
        sum.take("running 1 test");
        sum.take("test result: ok. 1 passed; 0 failed; 0 ignored");
        assert!(!sum.is_running());
    }
}
