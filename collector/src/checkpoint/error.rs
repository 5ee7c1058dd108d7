//! Why a checkpoint cannot be opened, read or written, and what the operator can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::ownership::Foreign;

/// Why a checkpoint could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {action} {}: {source}. {}", .path.display(), advice(.source))]
pub struct StoreError {
    /// What was being done.
    pub action: &'static str,
    /// The file or directory that it was done to.
    pub path: PathBuf,
    /// What went wrong.
    pub source: io::Error,
}

/// The error of doing something with a path.
pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError { action, path: path.to_owned(), source }
}

fn advice(error: &io::Error) -> &'static str {
    if let Some(foreign) = Foreign::of(error) {
        return foreign.advice();
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Free some space there; until then acknowledged lines would be sent again after a \
             restart."
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "Mount it writable, or set `state_dir` to a directory that is."
        }
        io::ErrorKind::PermissionDenied => {
            "Run everyline as the user that owns it, or set `state_dir` to a directory of its own."
        }
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            "Something else stands there: remove it, or set `state_dir` to another directory."
        }
        _ => "If the disk is failing, set `state_dir` to another one.",
    }
}
