//! The host's paths, seen from a process that has the host's root mounted somewhere.
//!
//! Symbolic links are followed as the host would follow them: an absolute target begins at the
//! host's root, and `..` never leaves it. Only walks; what lies at the end is others' business. What is on the way
//! may be exchanged meanwhile: the real path that a walk ends at is opened as it is (`identity::beneath`), without
//! any link, and whether it may be collected is decided by that path.

use std::{
    cell::RefCell,
    collections::{HashSet, VecDeque},
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::{config::FollowLinks, identity::beneath};

/// As the kernel: more links than this are a loop.
const MOST_LINKS: usize = 40;

/// Where the host's root is.
#[derive(Debug)]
pub(super) struct HostRoot {
    root: PathBuf,
    /// Configured directories that were found without any link on the way.
    straight: RefCell<HashSet<PathBuf>>,
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
    /// Where it would be, if all but that is there.
    pub(super) missing: Option<PathBuf>,
    /// The link that it ended at because that may not be followed.
    pub(super) refused: Option<PathBuf>,
}

impl Walk {
    fn begin() -> Self {
        Self {
            passed: vec![PathBuf::from("/")],
            links: Vec::new(),
            end: Err(io::Error::from(io::ErrorKind::NotFound)),
            missing: None,
            refused: None,
        }
    }

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
        beneath::trust(root);
        Self { root: root.to_owned(), straight: RefCell::default() }
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
        let mut walk = Walk::begin();
        walk.end = self.follow(path, &mut walk);
        walk
    }

    /// What was a directory for this one must not become a link for that one, which takes its place.
    pub(super) fn go_on_from(&self, former: &Self) {
        if self.root == former.root {
            self.straight.borrow_mut().extend(former.straight.borrow().iter().cloned());
        }
    }

    /// Follows the path of a configured directory. Links on it are the operator's, except one that takes the place
    /// of what was a directory while the agent ran: whoever may write there would choose what is collected.
    pub(super) fn walk_to_base(&self, base: &Path, links: FollowLinks) -> Walk {
        let walk = self.walk(base);
        let straight = match links {
            FollowLinks::Anywhere => false,
            FollowLinks::Never => true,
            FollowLinks::Beneath => self.straight.borrow().contains(base),
        };
        let Some(link) = walk.links.first() else {
            if walk.end.is_ok() && !straight {
                self.straight.borrow_mut().insert(base.to_owned());
            }
            return walk;
        };
        if !straight {
            return walk;
        }
        let mut refused = Walk { refused: Some(link.clone()), ..Walk::begin() };
        let before = link.parent().unwrap_or(link);
        // As far as the link, which lies in a real directory.
        let _as_before = self.follow(before, &mut refused);
        refused.end =
            Err(io::Error::other("there is a link on the way, which may not be followed"));
        refused
    }

    /// The real path of a path of the host, if there is something.
    pub(super) fn real(&self, path: &Path) -> Option<PathBuf> {
        self.walk(path).end.ok()
    }

    /// The real path of a configured directory, if it is there.
    pub(super) fn real_base(&self, base: &Path, links: FollowLinks) -> Option<PathBuf> {
        self.walk_to_base(base, links).end.ok()
    }

    fn follow(&self, path: &Path, walk: &mut Walk) -> io::Result<PathBuf> {
        let Walk { passed, links, missing, .. } = walk;
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
            let about = match fs::symlink_metadata(self.inside(&next)) {
                Ok(about) => about,
                Err(error) => {
                    let is_last = ahead.is_empty() && error.kind() == io::ErrorKind::NotFound;
                    *missing = is_last.then_some(next);
                    return Err(error);
                }
            };
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
    fn a_link_in_the_place_of_a_configured_directory_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["srv/logs", "other/logs"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        symlink("logs", dir.path().join("srv/link")).unwrap();
        let ends = |host: &HostRoot, path: &str, links| {
            let walk = host.walk_to_base(Path::new(path), links);
            (walk.end.ok(), walk.refused)
        };
        let (logs, other) = (PathBuf::from("/srv/logs"), PathBuf::from("/other/logs"));
        let host = HostRoot::new(dir.path());
        assert_eq!(ends(&host, "/srv/logs", FollowLinks::Beneath), (Some(logs.clone()), None));
        // One that was a link from the beginning is the operator's.
        assert_eq!(ends(&host, "/srv/link", FollowLinks::Beneath), (Some(logs), None));
        let refused = (None, Some(PathBuf::from("/srv/link")));
        assert_eq!(ends(&host, "/srv/link", FollowLinks::Never), refused);
        fs::rename(dir.path().join("srv"), dir.path().join("former")).unwrap();
        symlink("other", dir.path().join("srv")).unwrap();
        let refused = (None, Some(PathBuf::from("/srv")));
        assert_eq!(ends(&host, "/srv/logs", FollowLinks::Beneath), refused);
        assert_eq!(
            host.walk_to_base(Path::new("/srv/logs"), FollowLinks::Beneath).deepest(),
            Path::new("/")
        );
        assert_eq!(ends(&host, "/srv/logs", FollowLinks::Anywhere), (Some(other.clone()), None));
        // After a reload too; who begins now takes it as it is.
        let anew = HostRoot::new(dir.path());
        anew.go_on_from(&host);
        assert_eq!(ends(&anew, "/srv/logs", FollowLinks::Beneath).0, None);
        let anew = HostRoot::new(dir.path());
        assert_eq!(ends(&anew, "/srv/logs", FollowLinks::Beneath), (Some(other), None));
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
