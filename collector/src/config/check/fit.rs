//! How keys go together: bounds that hold each other, outputs that do not end up as inputs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{Checker, steps};
use crate::config::{Auth, ByteSize, Config, Http, Sink, glob};

impl Checker<'_> {
    pub(super) fn fit(&mut self, config: &Config) {
        self.line_in_batch(config);
        self.batch_in_archive(config);
        self.budget(config);
        self.headers(config);
        self.places(config);
    }

    fn line_in_batch(&mut self, config: &Config) {
        let (line, batch) = (config.read.max_line_bytes, config.batch.max_bytes);
        if line > batch && batch.0 > 0 {
            let what = format!("a line of {line} does not fit into a batch of {batch}");
            let todo = "lower it, or raise batch.max_bytes (and memory_budget with it)";
            let paths = [steps!["read", "max_line_bytes"], steps!["batch", "max_bytes"]];
            self.refuse_first(&paths, what, todo);
        }
    }

    fn batch_in_archive(&mut self, config: &Config) {
        let batch = config.batch.max_bytes;
        for (name, sink) in &config.sinks {
            let Sink::Archive(archive) = sink else { continue };
            if archive.max_bytes < batch && archive.max_bytes.0 > 0 {
                let what = format!(
                    "a batch of {batch} does not fit into an archive of {}",
                    archive.max_bytes
                );
                let paths = [steps!["sinks", name, "max_bytes"], steps!["batch", "max_bytes"]];
                self.refuse_first(&paths, what, "raise it, or lower batch.max_bytes");
            }
        }
    }

    /// Every sink has its own share, so that a dead one holds up none. A share must let each
    /// reader thread fill one batch while another is on its way.
    fn budget(&mut self, config: &Config) {
        let sinks = config.sinks.len().max(1) as u64;
        let batches = config.read.threads as u64 + 1;
        let batches = batches.max(2);
        let batch = config.batch.max_bytes;
        let needed = batch.0.saturating_mul(batches).saturating_mul(sinks);
        if config.memory_budget.0 > 0 && config.memory_budget.0 < needed {
            let what = format!(
                "a memory budget of {} is too small for {sinks} {} of {batches} batches of {}",
                config.memory_budget,
                if sinks == 1 { "sink" } else { "sinks" },
                batch,
            );
            let todo = format!(
                "raise memory_budget to at least {}, or lower batch.max_bytes{}",
                ByteSize(needed),
                if config.read.threads > 1 { " or read.threads" } else { "" },
            );
            let paths = [
                steps!["memory_budget"],
                steps!["batch", "max_bytes"],
                steps!["read", "threads"],
                steps!["sinks"],
            ];
            self.refuse_first(&paths, what, todo);
        }
    }

    /// A header whose value comes from a file is not given twice.
    fn headers(&mut self, config: &Config) {
        for (name, sink) in &config.sinks {
            if let Sink::Http(Http { headers, auth: Auth::Header { name: header, .. }, .. }) = sink
                && headers.contains(header)
            {
                let what = format!("the header `{header}` is under headers too");
                let path = steps!["sinks", name, "auth", "header_name"];
                self.refuse(path, what, "keep one of them");
            }
        }
    }

    /// Refuses the first of the values that the text has.
    fn refuse_first(&mut self, paths: &[&[String]], what: String, todo: impl Into<String>) {
        let path = paths.iter().find(|path| self.root.contains(path)).unwrap_or(&paths[0]);
        self.refuse(path, what, todo);
    }

    fn places(&mut self, config: &Config) {
        let mut taken: HashMap<PathBuf, &str> = HashMap::new();
        for (name, sink) in &config.sinks {
            let (key, place) = match sink {
                Sink::File(sink) => ("path", sink.written()),
                Sink::Archive(sink) => ("dir", sink.directory(&config.state_dir)),
                _ => continue,
            };
            if let Some(other) = taken.insert(place.clone(), name) {
                let what =
                    format!("the sinks `{other}` and `{name}` both write {}", place.display());
                self.refuse(steps!["sinks", name, key], what, "give each a place of its own");
            }
            match sink {
                Sink::File(_) => self.file_place(config, name, &place),
                _ if config.state_dir.starts_with(&place) => {
                    let what = format!(
                        "the state directory {} lies in it, or is it",
                        config.state_dir.display()
                    );
                    let todo = "choose a directory of its own, like archive under state_dir";
                    self.refuse(steps!["sinks", name, key], what, todo);
                }
                _ => {}
            }
        }
    }

    fn file_place(&mut self, config: &Config, name: &str, place: &Path) {
        let path = steps!["sinks", name, "path"];
        if place.starts_with(&config.state_dir) || config.state_dir.starts_with(place) {
            let what =
                format!("the state directory {} is the agent's own", config.state_dir.display());
            self.refuse(path, what, "choose another directory");
        }
        for files in &config.sources.files {
            let matches = |text: &String| {
                glob::compile(text).is_ok_and(|glob| glob.compile_matcher().is_match(place))
            };
            if let Some(glob) = files.paths.iter().find(|glob| matches(glob))
                && !files.exclude.iter().any(matches)
            {
                let what = format!("`{glob}` under sources.files would collect this sink's output");
                self.refuse(path, what, "write elsewhere, or exclude the path there");
            }
        }
    }
}
