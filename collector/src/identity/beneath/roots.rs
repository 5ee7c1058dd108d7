//! The directories that paths are opened below: each is opened once, and links that lead to it are the operator's.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::LOOK;

/// A directory that the operator named and everything else lies below.
struct Root {
    path: PathBuf,
    fd: Option<Arc<OwnedFd>>,
}

/// Roots that are reached through links, besides `/`.
static ROOTS: RwLock<Vec<Root>> = RwLock::new(Vec::new());

/// Takes the operator's word for a directory, the host's root: links that lead to it are followed, once.
pub fn trust(root: &Path) {
    if root.canonicalize().is_ok_and(|real| real == *root) {
        // Reached without a link.
        return;
    }
    let mut roots = ROOTS.write().unwrap_or_else(PoisonError::into_inner);
    roots.retain(|known| known.path != *root);
    roots.push(Root { path: root.to_owned(), fd: None });
}

/// The root that a path lies below, and what of the path is below it.
pub(super) fn place(path: &Path) -> Result<(Arc<OwnedFd>, &Path), Errno> {
    static SLASH: OnceLock<Arc<OwnedFd>> = OnceLock::new();
    let below = path.strip_prefix("/").map_err(|_relative| Errno::INVAL)?;
    let known = |root: &Root| path.starts_with(&root.path);
    let roots = ROOTS.read().unwrap_or_else(PoisonError::into_inner);
    let Some(at) = roots.iter().rposition(known) else {
        drop(roots);
        if let Some(slash) = SLASH.get() {
            return Ok((Arc::clone(slash), below));
        }
        let slash = openat(CWD, "/", LOOK | OFlags::DIRECTORY, Mode::empty())?;
        return Ok((Arc::clone(SLASH.get_or_init(|| Arc::new(slash))), below));
    };
    let root = roots[at].path.clone();
    let below = path.strip_prefix(&root).map_err(|_other| Errno::INVAL)?;
    if let Some(fd) = &roots[at].fd {
        return Ok((Arc::clone(fd), below));
    }
    drop(roots);
    let fd = Arc::new(openat(CWD, &root, LOOK | OFlags::DIRECTORY, Mode::empty())?);
    let mut roots = ROOTS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = roots.iter_mut().find(|known| known.path == root) {
        known.fd = Some(Arc::clone(&fd));
    }
    Ok((fd, below))
}
