//! What the agent itself writes, so that it never collects its own output: that would feed on
//! itself for ever.

mod selves;
mod whereabouts;
mod workload;

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use self::{selves::Selves, whereabouts::Whereabouts, workload::Workload};
use crate::{
    config::{Compression, Config, Sink},
    identity,
};

/// What the agent itself writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnOutputs {
    /// Files (with their former ones beside them) and directories (with all below them).
    pub paths: Vec<PathBuf>,
    /// Device and inode of the regular files that standard output and error go to.
    pub streams: Vec<(u64, u64)>,
    /// Namespace and name of the pod that the agent runs in.
    pub pod: Option<(String, String)>,
    /// That pod's uid.
    pub pod_uid: Option<String>,
    /// The id of the container that the agent runs in.
    pub container: Option<String>,
    /// The id of its pod's sandbox, if Docker runs it.
    pub sandbox: Option<String>,
    /// Pods and containers that ran it before.
    pub(super) former: Selves,
}

impl OwnOutputs {
    /// Finds out from the configuration and from what this process is told about itself.
    pub fn detect(config: &Config) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (cgroup, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let Whereabouts { pod_uid, container, sandbox } = Whereabouts::of(&cgroup, &mounts);
        Self {
            paths: written_paths(config),
            streams: streams(),
            pod: own_pod(
                |name| std::env::var(name).ok(),
                || {
                    fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
                        .ok()
                },
            ),
            pod_uid: pod_uid
                .or_else(|| std::env::var("POD_UID").ok().filter(|uid| !uid.is_empty())),
            container,
            sandbox,
            former: Selves::read(&config.state_dir),
        }
    }

    /// Remembers, for the agents to come, who this one is. Called by who holds the state directory.
    ///
    /// # Errors
    /// It cannot be written there.
    pub fn remember(&self, state_dir: &Path) -> std::io::Result<()> {
        let uid = self.pod.as_ref().and(self.pod_uid.as_deref());
        for (kind, id) in [("pod", uid), ("container", self.container.as_deref())] {
            if let Some(id) = id {
                selves::remember(state_dir, kind, id)?;
            }
        }
        Ok(())
    }

    /// Which pods and containers are the agent's own, for people. None: it runs in none.
    pub fn described(&self) -> Option<String> {
        let workload = self.workload();
        let pod = self.pod.as_ref().map(|(namespace, pod)| match workload {
            Some(workload) => format!("pods {workload}"),
            None => format!("pod {namespace}/{pod}"),
        });
        let container = self.container.as_ref().map(|id| format!("container {id}"));
        let former = self.former.pods.len() + self.former.containers.len();
        let former = (former > 0).then(|| format!("{former} that ran it before"));
        let all: Vec<_> = [pod, container, former].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    fn workload(&self) -> Option<Workload> {
        let (namespace, pod) = self.pod.as_ref()?;
        Workload::of(namespace, pod)
    }

    /// Whether a path (of this process, and as the host calls it) is one of the outputs.
    pub(super) fn holds(&self, path: &Path, outside: Option<&Path>) -> bool {
        let same =
            |own: &PathBuf| is_output(own, path) || outside.is_some_and(|it| is_output(own, it));
        self.paths.iter().any(same)
    }

    /// Whether standard output or error goes to this file.
    pub(super) fn is_stream(&self, path: &Path) -> bool {
        !self.streams.is_empty()
            && identity::look_at(path)
                .is_ok_and(|look| self.streams.contains(&(look.key.device, look.key.inode)))
    }

    /// Whether this is the agent's own pod, or another one of its workload, former or to come.
    pub(super) fn is_pod(&self, namespace: &str, pod: &str, uid: Option<&str>) -> bool {
        self.pod.as_ref().is_some_and(|own| {
            // Another namespace's pod may be called as it likes.
            own.0 == namespace
                && (own.1 == pod || self.workload().is_some_and(|own| own.has(namespace, pod)))
        }) || uid.is_some_and(|uid| {
            self.pod_uid.as_deref() == Some(uid) || self.former.pods.contains(uid)
        })
    }

    /// Whether this is the agent's own container or its sandbox, or a former one.
    pub(super) fn is_container(&self, id: &str) -> bool {
        [&self.container, &self.sandbox].into_iter().any(|own| own.as_deref() == Some(id))
            || self.former.containers.contains(id)
    }
}

/// An output, something below it, or a former file of it.
fn is_output(own: &Path, path: &Path) -> bool {
    if path.starts_with(own) {
        return true;
    }
    let (Some(own_name), Some(name)) = (own.file_name(), path.file_name()) else { return false };
    let (own_name, name) = (own_name.as_encoded_bytes(), name.as_encoded_bytes());
    let rest = name.strip_prefix(own_name);
    path.parent() == own.parent()
        && (rest.is_some_and(|rest| matches!(rest, [b'.' | b'-', ..]))
            || is_former_compressed(own_name, name))
}

/// Whether `name` is `x.7.zst` and the output `x.zst`.
fn is_former_compressed(own: &[u8], name: &[u8]) -> bool {
    [Compression::Zstd, Compression::Gzip].into_iter().any(|compression| {
        let ending = compression.ending().as_bytes();
        let stem = own.strip_suffix(ending);
        let number =
            stem.and_then(|stem| name.strip_suffix(ending)?.strip_prefix(stem)?.strip_prefix(b"."));
        number.is_some_and(|it| !it.is_empty() && it.iter().all(u8::is_ascii_digit))
    })
}

fn written_paths(config: &Config) -> Vec<PathBuf> {
    let sinks = config.sinks.values().filter_map(|sink| match sink {
        Sink::File(file) => Some(&file.path),
        Sink::Archive(archive) => archive.dir.as_ref(),
        Sink::Console(_) | Sink::Http(_) | Sink::Null(_) => None,
    });
    let mut paths = Vec::new();
    for path in sinks.chain([&config.state_dir]) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        // The same through links, as far as it exists.
        if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name())
            && let Ok(parent) = parent.canonicalize()
        {
            paths.push(parent.join(name));
        }
        paths.extend(absolute.canonicalize());
        paths.push(absolute);
    }
    // An output directly under the root would make everything the agent's own.
    paths.retain(|path| path.parent().is_some());
    paths.sort();
    paths.dedup();
    paths
}

fn streams() -> Vec<(u64, u64)> {
    let (out, err) = (std::io::stdout(), std::io::stderr());
    [out.as_fd(), err.as_fd()]
        .into_iter()
        .filter_map(|fd| rustix::fs::fstat(fd).ok())
        .filter(|about| FileType::from_raw_mode(about.st_mode) == FileType::RegularFile)
        .map(|about| (about.st_dev, about.st_ino))
        .collect()
}

/// The downward API's `POD_NAME` and `POD_NAMESPACE`; else, in a pod, the host's name, which is
/// the pod's unless it shares the node's network (and then no pod is called like that).
fn own_pod(
    variable: impl Fn(&str) -> Option<String>,
    account_namespace: impl Fn() -> Option<String>,
) -> Option<(String, String)> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    given("KUBERNETES_SERVICE_HOST").or_else(|| given("POD_NAME"))?;
    let pod = given("POD_NAME").or_else(|| given("HOSTNAME"))?;
    let namespace = given("POD_NAMESPACE").or_else(account_namespace)?;
    Some((namespace.trim().to_owned(), pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_their_former_files_and_what_lies_below() {
        let own = OwnOutputs {
            paths: vec!["/var/lib/everyline".into(), "/out/log.ndjson".into()],
            ..OwnOutputs::default()
        };
        let holds = |path: &str| own.holds(Path::new(path), None);
        assert!(holds("/var/lib/everyline/archive/1.zst"));
        assert!(holds("/out/log.ndjson") && holds("/out/log.ndjson.1.zst"));
        let own_zst = OwnOutputs { paths: vec!["/out/app.zst".into()], ..OwnOutputs::default() };
        let holds_zst = |path: &str| own_zst.holds(Path::new(path), None);
        assert!(holds_zst("/out/app.zst") && holds_zst("/out/app.12.zst"));
        assert!(!holds_zst("/out/app.log") && !holds_zst("/out/app.x.zst"));
        assert!(!holds("/out/log.ndjson2") && !holds("/out/other") && !holds("/var/lib/every"));
        assert!(own.holds(Path::new("/host/out/log.ndjson"), Some(Path::new("/out/log.ndjson"))));
    }

    #[test]
    fn configured_outputs_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let yaml = "sinks: {x: {type: file, path: /out/x.ndjson}}";
        let config = Config::parse(yaml, "test").unwrap();
        let config = Config { state_dir: dir.path().join("state"), ..config };
        let own = OwnOutputs::detect(&config);
        assert!(own.holds(&dir.path().join("state/lock"), None));
        assert!(own.holds(Path::new("/out/x.ndjson.1"), None));
    }

    #[test]
    fn the_own_pod_from_the_environment() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|it| it.0 == name).map(|it| it.1.to_owned())
        };
        let account = || Some("logging\n".to_owned());
        let pod = |namespace: &str, name: &str| Some((namespace.to_owned(), name.to_owned()));
        let told = env(&[("POD_NAME", "a-1"), ("POD_NAMESPACE", "ns"), ("HOSTNAME", "node")]);
        assert_eq!(own_pod(told, account), pod("ns", "a-1"));
        let in_pod = env(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("HOSTNAME", "a-1")]);
        assert_eq!(own_pod(in_pod, account), pod("logging", "a-1"));
        assert_eq!(own_pod(env(&[("HOSTNAME", "a-1")]), account), None, "not in a pod");
        assert_eq!(own_pod(env(&[("POD_NAME", "a-1")]), || None), None, "no namespace: no guess");
    }
}
