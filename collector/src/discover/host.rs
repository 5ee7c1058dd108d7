//! The host's paths, seen from a process that has the host's root mounted somewhere.
//!
//! Symbolic links are followed as the host would follow them: an absolute target begins at the
//! host's root, and `..` never leaves it. Only walks; what lies at the end is others' business.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As the kernel: more links than this are a loop.
const MOST_LINKS: usize = 40;

/// Where the host's root is.
#[derive(Debug)]
pub(super) struct HostRoot {
    root: PathBuf,
}

/// A way through the host's directories, links followed.
#[derive(Debug)]
pub(super) struct Walk {
    /// Every real directory on the way, the root first; those that it came back to more than once.
    passed: Vec<PathBuf>,
    /// The links followed: where each lies.
    pub(super) links: Vec<PathBuf>,
    /// The real path of what was looked for, or why there is none.
    pub(super) end: io::Result<PathBuf>,
}

impl Walk {
    /// The last directory on the way that exists (what was looked for, if it is a directory).
    pub(super) fn deepest(&self) -> &Path {
        self.passed.last().map_or(Path::new("/"), PathBuf::as_path)
    }

    /// Every real directory on the way, the root first.
    pub(super) fn passed(&self) -> impl Iterator<Item = &Path> {
        self.passed.iter().map(PathBuf::as_path)
    }

    /// Whether the way leads through a real directory.
    pub(super) fn passes(&self, directory: &Path) -> bool {
        self.passed.iter().any(|passed| passed == directory)
    }
}

impl HostRoot {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where this process finds a path of the host.
    pub(super) fn inside(&self, host: &Path) -> PathBuf {
        self.root.join(host.strip_prefix("/").unwrap_or(host))
    }

    /// What the host calls a path of this process; `None` if it lies elsewhere.
    pub(super) fn outside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().map(|rest| Path::new("/").join(rest))
    }

    /// Follows a path of the host to its end.
    pub(super) fn walk(&self, path: &Path) -> Walk {
        let mut walk = Walk {
            passed: vec![PathBuf::from("/")],
            links: Vec::new(),
            end: Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        walk.end = self.follow(path, &mut walk.passed, &mut walk.links);
        walk
    }

    /// The real path of a path of the host, if there is something.
    pub(super) fn real(&self, path: &Path) -> Option<PathBuf> {
        self.walk(path).end.ok()
    }

    fn follow(
        &self,
        path: &Path,
        passed: &mut Vec<PathBuf>,
        links: &mut Vec<PathBuf>,
    ) -> io::Result<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut ahead: VecDeque<Step> = steps(path);
        while let Some(step) = ahead.pop_front() {
            let name = match step {
                Step::Root => {
                    at = PathBuf::from("/");
                    passed.push(at.clone());
                    continue;
                }
                Step::Up => {
                    at.pop();
                    passed.push(at.clone());
                    continue;
                }
                Step::Into(name) => name,
            };
            let next = at.join(name);
            let about = fs::symlink_metadata(self.inside(&next))?;
            if about.is_symlink() {
                if links.len() == MOST_LINKS {
                    return Err(io::Error::from(rustix::io::Errno::LOOP));
                }
                let mut target = steps(&fs::read_link(self.inside(&next))?);
                links.push(next);
                target.append(&mut ahead);
                ahead = target;
                continue;
            }
            at = next;
            if about.is_dir() {
                passed.push(at.clone());
            } else if !ahead.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
        }
        Ok(at)
    }
}

enum Step {
    Root,
    Up,
    Into(OsString),
}

fn steps(path: &Path) -> VecDeque<Step> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir => Some(Step::Root),
            Component::ParentDir => Some(Step::Up),
            Component::Normal(name) => Some(Step::Into(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_as_the_host_would() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot::new(dir.path());
        fs::create_dir_all(dir.path().join("data/pods")).unwrap();
        fs::create_dir_all(dir.path().join("var/log")).unwrap();
        fs::write(dir.path().join("data/pods/0.log"), "").unwrap();
        symlink("/data/pods", dir.path().join("var/log/pods")).unwrap();
        symlink("../log/pods/0.log", dir.path().join("var/log/relative")).unwrap();
        symlink("../../../../../../data/pods/0.log", dir.path().join("var/log/escape")).unwrap();
        symlink("loop", dir.path().join("var/log/loop")).unwrap();
        let real = |path: &str| host.real(Path::new(path));
        let log = Some(PathBuf::from("/data/pods/0.log"));
        assert_eq!(real("/var/log/pods/0.log"), log);
        assert_eq!(real("/var/log/relative"), log);
        assert_eq!(real("/var/log/escape"), log, "`..` stays under the root");
        assert_eq!(real("/var/log/loop"), None);
        assert_eq!(real("/var/log/missing"), None);
        assert_eq!(real("/data/pods/0.log/x"), None);
    }

    #[test]
    fn a_walk_ends_at_the_deepest_directory_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot::new(dir.path());
        fs::create_dir_all(dir.path().join("var/log")).unwrap();
        let walk = host.walk(Path::new("/var/log/pods/x"));
        assert_eq!(walk.deepest(), Path::new("/var/log"));
        assert!(walk.passes(Path::new("/var")) && !walk.passes(Path::new("/var/log/pods")));
        assert!(walk.end.is_err());
        // Where a link leads back up, not where it lies.
        fs::create_dir_all(dir.path().join("srv/a/b")).unwrap();
        symlink("../../c/x", dir.path().join("srv/a/b/link")).unwrap();
        assert_eq!(host.walk(Path::new("/srv/a/b/link")).deepest(), Path::new("/srv"));
        symlink("/missing/x", dir.path().join("srv/a/link")).unwrap();
        assert_eq!(host.walk(Path::new("/srv/a/link")).deepest(), Path::new("/"));
    }

    #[test]
    fn paths_are_told_with_and_without_the_root() {
        let host = HostRoot::new(Path::new("/host"));
        let (outside, inside) = (Path::new("/var/log"), Path::new("/host/var/log"));
        assert_eq!(host.inside(outside), inside);
        assert_eq!(host.outside(inside).as_deref(), Some(outside));
        assert_eq!(host.outside(outside), None);
        let same = HostRoot::new(Path::new("/"));
        assert_eq!(same.inside(outside), outside);
        assert_eq!(same.outside(outside).as_deref(), Some(outside));
    }
}
