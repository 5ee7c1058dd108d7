//! Which container runtimes answer. The agent asks none of them: their logs are found on disk.

use std::{io, path::Path, time::Duration};

use tokio::{net::UnixStream, time::timeout};

use super::Finding;
use crate::discover::Discovery;

/// The runtimes' sockets, as the host calls them.
const SOCKETS: [(&str, &str); 3] = [
    ("runtime.containerd", "/run/containerd/containerd.sock"),
    ("runtime.crio", "/var/run/crio/crio.sock"),
    ("runtime.docker", "/var/run/docker.sock"),
];

const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn findings(discovery: &Discovery) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = |(name, socket): (&'static str, &str)| {
        let path = discovery.host_path(Path::new(socket));
        let answer = runtime.block_on(async { timeout(TIMEOUT, UnixStream::connect(&path)).await });
        let answer = answer.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()));
        judge(name, &path, answer.map(drop))
    };
    Ok(SOCKETS.map(ask).into())
}

fn judge(name: &'static str, path: &Path, answer: io::Result<()>) -> Finding {
    let path = path.display();
    match answer {
        Ok(()) => Finding::ok(name, format!("{path} answers.")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok(name, format!("There is no {path}."))
        }
        Err(error) => Finding::note(
            name,
            format!("{path} does not answer: {error}."),
            "Nothing needs doing: the agent asks no runtime, it finds logs on disk.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;
    use crate::{cli::doctor::Status, config::Config, discover::OwnOutputs};

    #[test]
    fn sockets_are_looked_for_below_the_hosts_root() {
        let host = tempfile::tempdir().unwrap();
        let path = |path: &str| host.path().join(path);
        fs::create_dir_all(path("run/containerd")).unwrap();
        fs::create_dir_all(path("var")).unwrap();
        // As on every host, and absolute: it must not lead out of the root.
        std::os::unix::fs::symlink("/run", path("var/run")).unwrap();
        let _listening = UnixListener::bind(path("run/containerd/containerd.sock")).unwrap();
        // One that nobody listens at any more.
        drop(UnixListener::bind(path("run/docker.sock")).unwrap());
        let config = Config { host_root: host.path().to_owned(), ..Config::default() };
        let discovery = Discovery::new(&config, &OwnOutputs::default()).unwrap();
        let findings = findings(&discovery).unwrap();
        let statuses: Vec<_> = findings.iter().map(|finding| finding.status).collect();
        assert_eq!(statuses, [Status::Ok, Status::Ok, Status::Note], "{findings:?}");
        let docker = path("run/docker.sock").display().to_string();
        assert!(findings[0].found.ends_with("answers."), "{findings:?}");
        assert!(findings[1].found.starts_with("There is no"), "{findings:?}");
        assert!(findings[2].found.starts_with(&docker), "{findings:?}");
    }
}
