//! A source: one log as its writer sees it, how its lines are laid out, and whose they are.

mod attributes;

use std::{
    hash::{BuildHasher, Hash, Hasher},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
};

pub use attributes::{Attributes, Schema};

use crate::config::Charset;

/// How the lines of a source are laid out on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The CRI log format: `RFC3339Nano SP stdout|stderr SP P|F[:tags] SP message`.
    Cri,
    /// Docker's json-file: `{"log":"…\n","stream":"stdout","time":"…"}`, one object a line.
    DockerJson,
    /// One message a line, nothing else.
    Plain,
    /// The same in another encoding than UTF-8.
    Encoded(Charset),
}

/// One log as its writer sees it: a live path whose file is replaced at every rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The live file's path as this process opens it (host root included). Identifies the source.
    pub path: Arc<Path>,
    /// How its lines are laid out.
    pub format: Format,
    /// What every record of the source carries, OpenTelemetry names, in output order: whose it is,
    /// `k8s.node.name`/`host.name`, `log.file.path` and configured fields.
    pub attributes: Attributes,
    /// Whether that is all.
    pub known: Known,
    /// So many bytes of the path lead to the directory whose owner decides how many such logs there are. 0: the one that
    /// it lies in.
    pub owned: u16,
}

/// Whether all is known of a source that can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// All.
    All,
    /// Something could not be looked up: what was known of it before is more.
    Part,
    /// More is told within moments, as a rule.
    Soon,
}

impl Source {
    /// A file of which nothing is known but where it lies and how it is laid out.
    pub fn anonymous(path: impl AsRef<Path>, format: Format) -> Self {
        let (path, attributes) = (path.as_ref().into(), Attributes::default());
        Self { path, format, attributes, known: Known::All, owned: 0 }
    }

    /// Names and values of its attributes, in output order.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter(&self.path)
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes().find(|attribute| attribute.0 == name).map(|(_, value)| value)
    }

    /// A hash of its format and attributes: the same in this process if they are.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = foldhash::fast::FixedState::with_seed(0).build_hasher();
        self.format.hash(&mut hash);
        self.attributes().for_each(|attribute| attribute.hash(&mut hash));
        hash.finish()
    }

    /// Whose share it uses of what all have in common: its namespace's, else its directory's. However many
    /// directories somebody makes below one of his, he has one share.
    pub fn tenant(&self) -> Arc<str> {
        let directory = || {
            let path = self.path.as_os_str().as_bytes();
            match path.get(..usize::from(self.owned)).filter(|owned| !owned.is_empty()) {
                Some(owned) => String::from_utf8_lossy(owned),
                None => self.path.parent().unwrap_or(&self.path).to_string_lossy(),
            }
        };
        self.namespace().map_or_else(|| Arc::from(&*directory()), Arc::from)
    }

    /// Kubernetes namespace, if known.
    pub fn namespace(&self) -> Option<&str> {
        self.attribute("k8s.namespace.name")
    }

    /// Pod name, if known.
    pub fn pod(&self) -> Option<&str> {
        self.attribute("k8s.pod.name")
    }

    /// Container name, if known: Kubernetes', or else the runtime's.
    pub fn container(&self) -> Option<&str> {
        self.attribute("k8s.container.name").or_else(|| self.attribute("container.name"))
    }
}
