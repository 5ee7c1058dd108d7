//! Discover: which files hold container logs, and whose they are.
//!
//! Turns directory listings into [`Found`] files: a path, the [`Source`] it belongs to and the
//! [`Role`] its name gives it (live, rotated, compressed). Opens no log file and remembers nothing:
//! identity is `read`'s business, noticing changes is `watch`'s.

use std::{path::PathBuf, sync::Arc};

/// How the lines of a source are laid out on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The CRI log format: `RFC3339Nano SP stdout|stderr SP P|F[:tags] SP message`.
    Cri,
    /// Docker's json-file: `{"log":"…\n","stream":"stdout","time":"…"}`, one object a line.
    DockerJson,
    /// One message a line, nothing else.
    Plain,
}

/// One log as its writer sees it: a live path whose file is replaced at every rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The live file's path as this process opens it (host root included). Identifies the source.
    pub path: PathBuf,
    /// How its lines are laid out.
    pub format: Format,
    /// Kubernetes namespace, if known.
    pub namespace: Option<String>,
    /// Pod name, if known.
    pub pod: Option<String>,
    /// Container name, if known.
    pub container: Option<String>,
    /// Attributes every record of the source carries, OpenTelemetry names, in output order.
    /// Includes the three above, `k8s.node.name`/`host.name`, `log.file.path` and configured fields.
    pub attributes: Vec<(String, String)>,
}

/// What a file's name says about its place in the life of its source.
///
/// Orders as written: everything rotated or compressed comes before the live file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A former live file. The key orders former files of one source, oldest first.
    Rotated(AgeKey),
    /// The file being written now.
    Live,
}

/// Orders the former files of one source, oldest first, from their names alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgeKey {
    /// `name.3`: the larger the number, the older (so it is stored negated).
    Number(i64),
    /// `name.20260131-101112`, `name-20260131`: compares as text.
    Date(String),
}

/// A file that may hold unread lines.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it lies now.
    pub path: PathBuf,
    /// Whose it is.
    pub source: Arc<Source>,
    /// Which of the source's files it is.
    pub role: Role,
    /// Whether it is gzip-compressed (kubelet's and logrotate's `….gz`).
    pub gzip: bool,
    /// True where a former file is followed only if the checkpoint knows it: rotated siblings of a
    /// statically configured file whose own path no pattern names.
    pub only_if_known: bool,
}

/// What one directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Directories below it that can hold logs and want watching and listing too.
    pub directories: Vec<PathBuf>,
    /// Files in it (or linked from it) that can hold lines.
    pub files: Vec<Found>,
    /// What could not be looked at, said in full (what, where, why, what to do).
    pub problems: Vec<String>,
}
