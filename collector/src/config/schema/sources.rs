//! Where logs are: Kubernetes, Docker, and files by pattern.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::{Charset, FollowLinks, Span};

/// Where logs are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    /// Kubernetes: the kubelet's pod log directory.
    pub kubernetes: Kubernetes,
    /// Docker's json-file logs.
    pub docker: Docker,
    /// Other files, by pattern.
    pub files: Vec<Files>,
}

/// Kubernetes container logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Whether to look at all.
    pub enabled: bool,
    /// `NAMESPACE_POD_UID/CONTAINER/N.log` lie here.
    pub pods_dir: PathBuf,
    /// `*.log` links to the same files (older layouts); resolved, never counted twice.
    pub containers_dir: PathBuf,
    /// How long a new container's first lines wait for its link there, which tells `container.id`.
    pub wait_for_id: Span,
    /// A new log with more names (hard links) than this is refused. 0: any number.
    pub max_links: u32,
    /// Only what matches (empty: everything).
    pub include: Filter,
    /// Nothing that matches; wins over include.
    pub exclude: Filter,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: true,
            pods_dir: "/var/log/pods".into(),
            containers_dir: "/var/log/containers".into(),
            wait_for_id: Span(Duration::from_secs(2)),
            max_links: 0,
            include: Filter::default(),
            exclude: Filter::default(),
        }
    }
}

/// Docker's json-file logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// Whether to look at all.
    pub enabled: bool,
    /// `ID/ID-json.log` lie here. Pods' links to logs are followed to here and nowhere else.
    pub containers_dir: PathBuf,
    /// A new log with more names (hard links) than this is refused. 0: any number.
    pub max_links: u32,
    /// Only what matches (empty: everything). `container` matches the name and the id.
    pub include: Filter,
    /// Nothing that matches; wins over include.
    pub exclude: Filter,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            enabled: true,
            containers_dir: "/var/lib/docker/containers".into(),
            max_links: 0,
            include: Filter::default(),
            exclude: Filter::default(),
        }
    }
}

/// Which logs. Each list holds globs; a log matches the filter if it matches any glob of any list
/// that is not empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Kubernetes namespaces.
    pub namespaces: Vec<String>,
    /// Pod names.
    pub pods: Vec<String>,
    /// Container names.
    pub containers: Vec<String>,
    /// Paths of log files.
    pub paths: Vec<String>,
}

/// Files named by pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Globs of absolute paths; `**` spans directories.
    pub paths: Vec<String>,
    /// Globs of paths to leave out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How lines are laid out.
    #[serde(default)]
    pub format: FileFormat,
    /// How the characters of plain files are encoded that do not say so by a byte-order mark.
    #[serde(default)]
    pub encoding: Charset,
    /// Where matching links may lead.
    #[serde(default)]
    pub follow_links: FollowLinks,
    /// A new file with more names (hard links) than this is refused. 0: any number.
    #[serde(default)]
    pub max_links: u32,
    /// Attributes added to every record.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// How lines of a statically configured file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// One message a line.
    #[default]
    Plain,
    /// The CRI log format.
    Cri,
    /// Docker's json-file.
    DockerJson,
}
