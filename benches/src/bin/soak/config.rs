//! The agent's configuration, and how reloads change it.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::schedule::Change;

/// The configuration as it stands.
#[derive(Debug)]
pub(crate) struct Config {
    path: PathBuf,
    /// Where logs are.
    logs: PathBuf,
    /// State directory and output lie here.
    disk: PathBuf,
    /// A directory in a bpffs.
    pins: PathBuf,
    admin: SocketAddr,
    receiver: SocketAddr,
    /// Accepts connections and never answers.
    silent: SocketAddr,
    watch: String,
    extra_sink: bool,
    dead_sink: bool,
    other_http: bool,
    other_file: bool,
    other_batches: bool,
    wrong: bool,
}

impl Config {
    /// At its beginning; nothing is written yet.
    pub(crate) fn new(
        dir: &Path,
        disk: &Path,
        watch: &str,
        [admin, receiver, silent]: [SocketAddr; 3],
    ) -> Self {
        Self {
            admin,
            path: dir.join("everyline.yaml"),
            logs: dir.join("logs"),
            disk: disk.to_owned(),
            pins: dir.join("bpf/everyline"),
            receiver,
            silent,
            watch: watch.to_owned(),
            extra_sink: false,
            dead_sink: false,
            other_http: false,
            other_file: false,
            other_batches: false,
            wrong: false,
        }
    }

    /// The configuration file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file sink's live file.
    pub(crate) fn output(&self) -> PathBuf {
        self.disk.join("out/all.ndjson.zst")
    }

    /// The archive's directory.
    pub(crate) fn archive(&self) -> PathBuf {
        self.disk.join("state/archive")
    }

    /// Changes it.
    pub(crate) fn change(&mut self, change: Change) {
        let what = match change {
            Change::ExtraSink => &mut self.extra_sink,
            Change::DeadSink => &mut self.dead_sink,
            Change::HttpSink => &mut self.other_http,
            Change::FileSink => &mut self.other_file,
            Change::Batches => &mut self.other_batches,
            Change::Wrong => &mut self.wrong,
        };
        *what = !*what;
    }

    /// Makes it right again.
    pub(crate) fn mend(&mut self) {
        self.wrong = false;
    }

    /// As it is in the end: without sinks that are not judged.
    pub(crate) fn settle(&mut self) {
        (self.extra_sink, self.dead_sink) = (false, false);
    }

    /// Puts it into its place, in one step.
    pub(crate) fn write(&self) -> Result<()> {
        let temporary = self.path.with_extension("new");
        fs::write(&temporary, self.text())?;
        fs::rename(&temporary, &self.path).context("Writing the configuration")
    }

    fn text(&self) -> String {
        let Self { admin, receiver, silent, watch, .. } = self;
        let (logs, disk, pins) = (self.logs.display(), self.disk.display(), self.pins.display());
        let age = if self.other_batches { "200ms" } else { "1s" };
        let rotate = if self.other_file { "5MiB" } else { "32MiB" };
        let http = if self.other_http {
            "/other\", concurrency: 2, timeout: 5s"
        } else {
            "/\", concurrency: 8, timeout: 4s"
        };
        let mut text = format!(
            "node_name: soak\n\
             state_dir: {disk}/state\n\
             drain_timeout: 5s\n\
             admin: {{listen: \"{admin}\"}}\n\
             sources:\n  \
               kubernetes: {{pods_dir: {logs}/pods, containers_dir: {logs}/containers}}\n  \
               docker: {{containers_dir: {logs}/docker}}\n  \
               files: [{{paths: [\"{logs}/plain/*/app.log\"]}}]\n\
             watch: {{mode: {watch}, kernel: {{pin_dir: {pins}, max_files: 4096}}}}\n\
             batch: {{max_age: {age}}}\n\
             sinks:\n  \
               archive: {{type: archive, max_bytes: 64GiB, max_age: 3650d}}\n  \
               file: {{type: file, path: {disk}/out/all.ndjson, rotate_size: {rotate}, keep: 0, compression: zstd}}\n  \
               http: {{type: http, url: \"http://{receiver}{http}, backoff_max: 1s}}\n"
        );
        if self.extra_sink {
            text += "  extra: {type: null}\n";
        }
        if self.dead_sink {
            let _infallible = writeln!(text, "  dead: {{type: http, url: \"http://{silent}/\"}}");
        }
        if self.wrong {
            text += "no_such_key: true\n";
        }
        text
    }
}
