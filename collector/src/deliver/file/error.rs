//! What can go wrong with the output file, said with what to do. Every one of these is retried.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A failed step.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {doing} {}: {source}. {} Trying again until it works; nothing is lost, other sinks go on.",
    path.display(), advice(source))]
pub(super) struct Failure {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Adds what was being done, on what, to an error.
pub(super) trait During<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| Failure { doing, path: path.to_owned(), source: error.into() })
    }
}

fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            "Make room, or let the sink take less: lower its `keep` and `rotate_size`."
        }
        Kind::PermissionDenied => "Let the agent's user write in that directory.",
        Kind::ReadOnlyFilesystem => "Mount it writable, or choose another path.",
        Kind::NotFound => "Create the directory.",
        Kind::IsADirectory | Kind::NotADirectory => "Choose a path that can be a file.",
        _ => "Check the disk and the kernel's log.",
    }
}
