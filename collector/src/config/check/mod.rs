//! What a well-formed configuration must also be: possible.
//!
//! Looks at values only, never at the machine: the same file is right or wrong everywhere. The
//! values of one key are always judged; how keys go together only where each of them is right, as
//! one wrong value would raise false alarms about others.

mod fit;
mod sinks;

use std::{net::SocketAddr, path::Path, time::Duration};

use globset::Glob;

use super::{ByteSize, Charset, Config, FileFormat, Filter, Span, problem::Problem, tree::Node};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const MAX_THREADS: usize = 256;

/// `read.unfinished_after` below this would cut lines that are being written.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);
/// A container's first lines are not held up longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Files that the kernel watches at most: 64 MiB of them.
const SLOTS: std::ops::RangeInclusive<u32> = 64..=1_048_576;

/// Adds what is wrong with `config`, read from `root`, to `problems`.
pub fn check(config: &Config, root: &Node, problems: &mut Vec<Problem>) {
    let mut checker = Checker { root, problems };
    checker.general(config);
    checker.sources(config);
    checker.sinks(config);
    if checker.problems.is_empty() {
        checker.fit(config);
    }
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
        self.absolute(steps!["state_dir"], &config.state_dir);
        self.absolute(steps!["host_root"], &config.host_root);
        self.size(steps!["memory_budget"], config.memory_budget);
        self.span(steps!["checkpoint_interval"], config.checkpoint_interval);
        self.size(steps!["read", "max_line_bytes"], config.read.max_line_bytes);
        self.size(steps!["read", "quantum"], config.read.quantum);
        self.size(steps!["read", "max_unpacked_bytes"], config.read.max_unpacked_bytes);
        if config.read.unfinished_after.0 < LEAST_PATIENCE {
            let todo = "give at least 100ms, like 5s; a line is often written in two halves";
            let what = "too short to wait for the rest of a message";
            self.refuse(steps!["read", "unfinished_after"], what, todo);
        }
        if config.read.threads > MAX_THREADS {
            let todo = "use 0 (one a core, at most 4) or a small number";
            self.refuse(steps!["read", "threads"], "too many reader threads", todo);
        }
        self.span(steps!["watch", "poll_interval"], config.watch.poll_interval);
        self.span(steps!["watch", "sweep_interval"], config.watch.sweep_interval);
        let kernel = &config.watch.kernel;
        self.absolute(steps!["watch", "kernel", "pin_dir"], &kernel.pin_dir);
        if !SLOTS.contains(&kernel.max_files) {
            let todo = format!("use {} to {}", SLOTS.start(), SLOTS.end());
            let what = "so many files cannot be watched by the kernel";
            self.refuse(steps!["watch", "kernel", "max_files"], what, todo);
        }
        self.size(steps!["batch", "max_bytes"], config.batch.max_bytes);
        self.at_least_one(steps!["batch", "max_lines"], config.batch.max_lines);
        if config.admin.listen.parse::<SocketAddr>().is_err() {
            let what = format!("`{}` is not an address to listen on", config.admin.listen);
            let todo = "write IP:PORT, like 127.0.0.1:9477, 0.0.0.0:9477 or [::]:9477";
            self.refuse(steps!["admin", "listen"], what, todo);
        }
        if !LEVELS.contains(&config.log.level.as_str()) {
            let what = format!("unknown log level `{}`", config.log.level);
            self.refuse(steps!["log", "level"], what, format!("use one of {}", LEVELS.join(", ")));
        }
    }

    fn sources(&mut self, config: &Config) {
        let sources = &config.sources;
        if sources.kubernetes.wait_for_id.0 > LONGEST_WAIT {
            let todo = "give at most 1m, or 0 to wait for none";
            let what = "too long to hold up a container's first lines";
            self.refuse(steps!["sources", "kubernetes", "wait_for_id"], what, todo);
        }
        if !sources.kubernetes.enabled && !sources.docker.enabled && sources.files.is_empty() {
            let todo = "enable kubernetes or docker, or list files";
            self.refuse_key(
                steps!["sources"],
                "no source is left, nothing would be collected",
                todo,
            );
        }
        let kubernetes = &sources.kubernetes;
        self.absolute(steps!["sources", "kubernetes", "pods_dir"], &kubernetes.pods_dir);
        self.absolute(
            steps!["sources", "kubernetes", "containers_dir"],
            &kubernetes.containers_dir,
        );
        self.filter("kubernetes", "include", &kubernetes.include);
        self.filter("kubernetes", "exclude", &kubernetes.exclude);
        let docker = &sources.docker;
        self.absolute(steps!["sources", "docker", "containers_dir"], &docker.containers_dir);
        self.filter("docker", "include", &docker.include);
        self.filter("docker", "exclude", &docker.exclude);
        for (index, files) in sources.files.iter().enumerate() {
            if files.paths.is_empty() {
                let todo = "add at least one glob, like /var/log/nginx/*.log";
                self.refuse_key(
                    steps!["sources", "files", index, "paths"],
                    "`paths` is empty",
                    todo,
                );
            }
            for (at, glob) in files.paths.iter().enumerate() {
                let path = steps!["sources", "files", index, "paths", at];
                if self.glob(path, glob) && !glob.starts_with('/') {
                    let todo = "begin it with `/`";
                    self.refuse(path, format!("`{glob}` is not absolute"), todo);
                }
            }
            for (at, glob) in files.exclude.iter().enumerate() {
                self.glob(steps!["sources", "files", index, "exclude", at], glob);
            }
            if files.format != FileFormat::Plain && files.encoding != Charset::UTF_8 {
                let what = "`encoding` is for plain files only";
                let todo = "remove it; container runtimes write UTF-8";
                self.refuse(steps!["sources", "files", index, "encoding"], what, todo);
            }
            for name in files.attributes.keys() {
                if name.is_empty() || name.chars().any(char::is_control) {
                    let path = steps!["sources", "files", index, "attributes", name];
                    let what = "this is no name for an attribute";
                    self.refuse_key(path, what, "use printable characters, like service.name");
                }
            }
        }
    }

    fn filter(&mut self, source: &str, list: &str, filter: &Filter) {
        let Filter { namespaces, pods, containers, paths } = filter;
        let lists = [
            ("namespaces", namespaces),
            ("pods", pods),
            ("containers", containers),
            ("paths", paths),
        ];
        for (key, globs) in lists {
            for (index, glob) in globs.iter().enumerate() {
                self.glob(steps!["sources", source, list, key, index], glob);
            }
        }
    }

    fn glob(&mut self, path: &[String], glob: &str) -> bool {
        let problem = match Glob::new(glob) {
            Ok(_) if !glob.is_empty() => return true,
            Ok(_) => "it is empty".to_owned(),
            Err(error) => error.kind().to_string(),
        };
        let todo = r"correct it, or put `\` before a character meant as itself";
        self.refuse(path, format!("`{glob}` is not a glob: {problem}"), todo);
        false
    }

    fn absolute(&mut self, path: &[String], value: &Path) -> bool {
        if value.is_absolute() {
            return true;
        }
        let what = format!("the path `{}` is not absolute", value.display());
        self.refuse(path, what, "begin it with `/`");
        false
    }

    fn size(&mut self, path: &[String], size: ByteSize) {
        if size.0 == 0 {
            self.refuse(path, "this cannot be 0 bytes", "give a size, like 1MiB");
        }
    }

    fn span(&mut self, path: &[String], span: Span) {
        if span.0.is_zero() {
            self.refuse(path, "this cannot be 0", "give a duration, like 250ms or 1s");
        }
    }

    fn at_least_one(&mut self, path: &[String], number: u32) {
        if number == 0 {
            self.refuse(path, "this cannot be 0", "use 1 or more");
        }
    }
}
