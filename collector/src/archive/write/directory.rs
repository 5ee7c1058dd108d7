//! An archive's directory: who writes there, and what the archive is called.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::OpenError;
use crate::ownership;

/// What of a directory could not be done.
pub(in crate::archive) fn refused_action(dir: &Path, error: &io::Error) -> &'static str {
    match ownership::Foreign::of(error) {
        Some(_) => "use",
        None if dir.is_dir() => "write to",
        None => "create",
    }
}

/// Keeps other writers out.
pub(super) fn lock(dir_file: &File, dir: &Path) -> Result<(), OpenError> {
    // A predecessor in this process that was told to end may still be finishing its last write.
    for _ in 0..20 {
        match dir_file.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(OpenError::Io { action: "lock", path: dir.to_owned(), source });
            }
        }
    }
    Err(OpenError::Locked(dir.to_owned()))
}

/// Whether somebody writes the archive in `dir` now. An archive that does not exist is not written.
///
/// # Errors
/// It cannot be looked at.
pub fn is_written(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Held for an instant only: a writer that begins just now tries again.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The archive's name, given to it when it is created.
pub(super) fn identity(dir: &Path, dir_file: &File) -> io::Result<String> {
    let path = dir.join("archive.id");
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = format!("{:x}-{:x}", now.as_nanos(), std::process::id());
    ownership::replace(&path, format!("{id}\n").as_bytes())?;
    dir_file.sync_all()?;
    Ok(id)
}
