//! What a well-formed configuration must also be: possible.
//!
//! Looks at values only, never at the machine: the same file is right or wrong everywhere. The
//! values of one key are always judged; how keys go together only where each of them is right, as
//! one wrong value would raise false alarms about others.

mod fit;
mod paths;
mod sinks;
mod sources;
mod variables;

use std::{ops::RangeInclusive, time::Duration};

use super::{ByteSize, Config, Span, problem::Problem, tree::Node};

const MAX_THREADS: usize = 256;
/// Files that the kernel watches at most: 64 MiB of them.
const SLOTS: RangeInclusive<u32> = 64..=1_048_576;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Adds what is wrong with `config`, read from `root`, to `problems`.
pub(super) fn check(config: &Config, root: &Node, problems: &mut Vec<Problem>) {
    let mut checker = Checker { root, problems };
    checker.general(config);
    checker.sources(config);
    checker.sinks(config);
    if checker.problems.is_empty() {
        checker.fit(config);
    }
}

/// Adds values that only a template would fill in, and takes back what is said about the same places.
pub(super) fn check_variables(root: &Node, problems: &mut Vec<Problem>) {
    let mut found = Vec::new();
    variables::refuse(root, &mut found);
    problems.retain(|problem| found.iter().all(|variable| variable.at != problem.at));
    problems.append(&mut found);
}

/// Finds the places for what is wrong.
struct Checker<'a> {
    root: &'a Node,
    problems: &'a mut Vec<Problem>,
}

/// A path into the configuration: keys and list indices.
macro_rules! steps {
    ($($step:expr),+) => { &[$($step.to_string()),+] as &[String] };
}
use steps;

impl Checker<'_> {
    /// Refuses the value at `path`, or the nearest place that the text has for it.
    fn refuse(&mut self, path: &[String], what: impl Into<String>, todo: impl Into<String>) {
        let problem = Problem { at: self.root.locate(path, false), ..Problem::new(what, todo) };
        self.problems.push(problem);
    }

    /// Refuses the key at `path`.
    fn refuse_key(&mut self, path: &[String], what: impl Into<String>, todo: impl Into<String>) {
        let problem = Problem { at: self.root.locate(path, true), ..Problem::new(what, todo) };
        self.problems.push(problem);
    }

    fn general(&mut self, config: &Config) {
        if config.node_name.len() > 253 || config.node_name.chars().any(char::is_control) {
            let todo = "use at most 253 printable characters";
            self.refuse(steps!["node_name"], "this is no name for a node", todo);
        }
        self.own_directory(steps!["state_dir"], &config.state_dir);
        self.absolute(steps!["host_root"], &config.host_root);
        self.size(steps!["memory_budget"], config.memory_budget, 1..=1024 * GIB);
        let interval = Duration::from_millis(10)..=HOUR;
        self.span(steps!["checkpoint_interval"], config.checkpoint_interval, interval);
        self.span(steps!["drain_timeout"], config.drain_timeout, Duration::ZERO..=DAY);
        let read = &config.read;
        self.size(steps!["read", "max_line_bytes"], read.max_line_bytes, 64..=GIB);
        self.size(steps!["read", "quantum"], read.quantum, KIB..=GIB);
        self.size(steps!["read", "max_unpacked_bytes"], read.max_unpacked_bytes, 1..=u64::MAX);
        self.size(steps!["read", "unpacking_bytes"], read.unpacking_bytes, 4 * MIB..=1024 * GIB);
        if !(64..=10_000_000).contains(&read.known_files) {
            let todo = "use a number from 64 to 10000000";
            self.refuse(steps!["read", "known_files"], "too few or too many known files", todo);
        }
        // Less would cut lines that are being written: one is often written in two halves.
        let patience = Duration::from_millis(100)..=DAY;
        self.span(steps!["read", "unfinished_after"], read.unfinished_after, patience);
        if read.threads > MAX_THREADS {
            let todo = "use 0 (one a core, at most 4) or a small number";
            self.refuse(steps!["read", "threads"], "too many reader threads", todo);
        }
        self.watch(config);
        self.size(steps!["batch", "max_bytes"], config.batch.max_bytes, KIB..=GIB);
        self.at_least_one(steps!["batch", "max_lines"], config.batch.max_lines);
        self.span(steps!["batch", "max_age"], config.batch.max_age, Duration::ZERO..=HOUR);
    }

    fn watch(&mut self, config: &Config) {
        let watch = &config.watch;
        self.span(steps!["watch", "poll_interval"], watch.poll_interval, MILLISECOND..=HOUR);
        self.span(steps!["watch", "sweep_interval"], watch.sweep_interval, MILLISECOND..=DAY);
        self.absolute(steps!["watch", "kernel", "pin_dir"], &watch.kernel.pin_dir);
        if !SLOTS.contains(&watch.kernel.max_files) {
            let todo = format!("use {} to {}", SLOTS.start(), SLOTS.end());
            let what = "so many files cannot be watched by the kernel";
            self.refuse(steps!["watch", "kernel", "max_files"], what, todo);
        }
    }

    fn size(&mut self, path: &[String], size: ByteSize, range: RangeInclusive<u64>) {
        let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
        if size.0 == 0 {
            self.refuse(path, "this cannot be 0 bytes", "give a size, like 1MiB");
        } else if size < least {
            self.refuse(path, format!("{size} are too few"), format!("give at least {least}"));
        } else if size > most {
            self.refuse(path, format!("{size} are too many"), format!("give at most {most}"));
        }
    }

    fn span(&mut self, path: &[String], span: Span, range: RangeInclusive<Duration>) {
        let (least, most) = (Span(*range.start()), Span(*range.end()));
        if span.0.is_zero() && !least.0.is_zero() {
            self.refuse(path, "this cannot be 0", "give a duration, like 250ms or 1s");
        } else if span < least {
            self.refuse(path, format!("{span} is too short"), format!("give at least {least}"));
        } else if span > most {
            self.refuse(path, format!("{span} is too long"), format!("give at most {most}"));
        }
    }

    fn at_least_one(&mut self, path: &[String], number: u32) {
        if number == 0 {
            self.refuse(path, "this cannot be 0", "use 1 or more");
        }
    }
}
