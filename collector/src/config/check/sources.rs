//! Where logs are: directories, globs that can match, attributes that records do not have already.

use std::{path::Path, time::Duration};

use super::{Checker, paths::of_the_kernel, steps};
use crate::config::{Charset, Config, FileFormat, Files, Filter, glob};

/// Names that a record of a statically configured file may have already; a second one of the same name
/// would make it ambiguous.
const TAKEN: [&str; 7] = [
    "body",
    "host.name",
    "log.file.path",
    "log.iostream",
    "log.record.uid",
    "observed_timestamp",
    "timestamp",
];
/// And all that begin with this.
const OWN_PREFIX: &str = "everyline.";
/// What the attributes of one source may have, names and values: they are part of every record.
const MOST_ATTRIBUTE_BYTES: usize = 16 << 10;

/// A container's first lines are not held up longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Checker<'_> {
    pub(super) fn sources(&mut self, config: &Config) {
        let sources = &config.sources;
        if !sources.kubernetes.enabled && !sources.docker.enabled && sources.files.is_empty() {
            let todo = "enable kubernetes or docker, or list files";
            self.refuse_key(
                steps!["sources"],
                "no source is left, nothing would be collected",
                todo,
            );
        }
        let kubernetes = &sources.kubernetes;
        let wait = steps!["sources", "kubernetes", "wait_for_id"];
        self.span(wait, kubernetes.wait_for_id, Duration::ZERO..=LONGEST_WAIT);
        self.place(steps!["sources", "kubernetes", "pods_dir"], &kubernetes.pods_dir);
        self.place(steps!["sources", "kubernetes", "containers_dir"], &kubernetes.containers_dir);
        self.filter("kubernetes", "include", &kubernetes.include);
        self.filter("kubernetes", "exclude", &kubernetes.exclude);
        let docker = &sources.docker;
        self.place(steps!["sources", "docker", "containers_dir"], &docker.containers_dir);
        self.filter("docker", "include", &docker.include);
        self.filter("docker", "exclude", &docker.exclude);
        for (index, files) in sources.files.iter().enumerate() {
            self.files(index, files);
        }
    }

    fn files(&mut self, index: usize, files: &Files) {
        if files.paths.is_empty() {
            let todo = "add at least one glob, like /var/log/nginx/*.log";
            self.refuse_key(steps!["sources", "files", index, "paths"], "`paths` is empty", todo);
        }
        for (at, glob) in files.paths.iter().enumerate() {
            let path = steps!["sources", "files", index, "paths", at];
            if !glob.starts_with('/') {
                if self.glob(path, glob) {
                    let todo = "begin it with `/`";
                    self.refuse(path, format!("`{glob}` is not absolute"), todo);
                }
            } else if self.path_glob(path, glob)
                && let Some(kernels) = of_the_kernel(literal(glob))
            {
                let what = format!("`{glob}` leads into {kernels}, where the kernel has no logs");
                self.refuse(path, what, "name files on a disk");
            }
        }
        for (at, glob) in files.exclude.iter().enumerate() {
            self.path_glob(steps!["sources", "files", index, "exclude", at], glob);
        }
        if files.format != FileFormat::Plain && files.encoding != Charset::UTF_8 {
            let what = "`encoding` is for plain files only";
            let todo = "remove it; container runtimes write UTF-8";
            self.refuse(steps!["sources", "files", index, "encoding"], what, todo);
        }
        self.attributes(index, files);
    }

    fn attributes(&mut self, index: usize, files: &Files) {
        let mut bytes = 0;
        for (name, value) in &files.attributes {
            bytes += name.len() + value.len();
            let path = steps!["sources", "files", index, "attributes", name];
            if name.is_empty() || name.chars().any(char::is_control) {
                let what = "this is no name for an attribute";
                self.refuse_key(path, what, "use printable characters, like service.name");
            } else if TAKEN.contains(&name.as_str()) || name.starts_with(OWN_PREFIX) {
                let what = format!("every record may have a `{name}` of its own");
                self.refuse_key(path, what, "choose another name, like service.name");
            }
        }
        if bytes > MOST_ATTRIBUTE_BYTES {
            let what =
                format!("{bytes} bytes of attributes are too many: every record carries them");
            let path = steps!["sources", "files", index, "attributes"];
            self.refuse_key(path, what, format!("use at most {MOST_ATTRIBUTE_BYTES}"));
        }
    }

    fn filter(&mut self, source: &str, list: &str, filter: &Filter) {
        let Filter { namespaces, pods, containers, paths } = filter;
        for (key, globs) in [("namespaces", namespaces), ("pods", pods), ("containers", containers)]
        {
            for (index, glob) in globs.iter().enumerate() {
                let path = steps!["sources", source, list, key, index];
                if self.glob(path, glob) && glob.contains('/') {
                    let what = format!("`{glob}` can match no name: names have no `/`");
                    self.refuse(
                        path,
                        what,
                        format!("name one of {key}, without what it is part of"),
                    );
                }
            }
        }
        for (index, glob) in paths.iter().enumerate() {
            self.path_glob(steps!["sources", source, list, "paths", index], glob);
        }
    }

    /// A glob of paths, which are absolute.
    fn path_glob(&mut self, path: &[String], glob: &str) -> bool {
        if !self.glob(path, glob) {
            return false;
        }
        let Some(why) = glob::never_matches(glob) else { return true };
        let todo = "write whole paths, like /var/log/*.log or /var/log/**/*.log";
        self.refuse(path, format!("`{glob}` can match nothing: {why}"), todo);
        false
    }

    fn glob(&mut self, path: &[String], glob: &str) -> bool {
        let Err(problem) = glob::compile(glob) else { return true };
        let shown: String = glob.chars().take(60).collect();
        let todo = r"correct it, or put `\` before a character meant as itself";
        self.refuse(path, format!("`{}` is not a glob: {problem}", shown.escape_debug()), todo);
        false
    }
}

/// The directories that a glob names without wildcards.
fn literal(glob: &str) -> &Path {
    let end = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
    Path::new(&glob[..end])
}
