//! One agent per state directory: a lock that the kernel lets go of when the process ends, however
//! it ends. The file stays; removing it would let two agents hold two files of one name.
//!
//! Somebody who only wants to know whether it is held holds it himself for an instant. So a lock
//! that is held is tried a few times more before it is refused.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::ownership::{self, Foreign};

/// Holds a state directory until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// How often a lock that is held is tried, and how long after each other.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Why a state directory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error(
        "Cannot use the state directory {}: another everyline ({}) holds it. \
         Stop that one, or give this one its own `state_dir`.",
        .dir.display(), holder(*.pid)
    )]
    Held {
        /// Who, if it could be read.
        pid: Option<u32>,
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be created, or nothing can be created in it.
    #[error("Cannot use the state directory {}: {source}. {}", .dir.display(), advice(.source))]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl LockError {
    /// What the process should end with: 75 (`EX_TEMPFAIL`) if the directory is held, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Held { .. } => 75,
            Self::Io { .. } => 1,
        }
    }

    /// What to do about a state directory that cannot be used because of this.
    pub fn advice(source: &io::Error) -> &'static str {
        advice(source)
    }
}

impl StateLock {
    /// Takes the lock; waits no longer than for somebody who looks at it. Creates the directory (mode 0700) where it is missing.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        let made = ownership::make_directory(dir, ownership::PRIVATE_DIRECTORY).map_err(failed)?;
        if let Some(remark) = made {
            tracing::warn!("{remark}");
        }
        let mut file = ownership::open_or_create(&dir.join("lock")).map_err(failed)?;
        let mut tries = 0;
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(errno.into()));
            }
            tries += 1;
            if tries == TRIES {
                return Err(LockError::Held { pid: read_pid(&mut file), dir: dir.to_owned() });
            }
            thread::sleep(PAUSE);
        }
        // Only for the message above: the lock holds whether or not this can be written.
        if let Err(error) = write_pid(&mut file) {
            tracing::debug!(%error, "Cannot write the process id into the lock file.");
        }
        Ok(Self { _file: file })
    }

    /// Whether somebody holds a state directory, without taking it, creating it or writing to it:
    /// None if nobody does, else who, if that could be read.
    ///
    /// # Errors
    /// The lock file is there but cannot be opened.
    pub fn holder(dir: &Path) -> io::Result<Option<Option<u32>>> {
        let mut file = match File::open(dir.join("lock")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(read_pid(&mut file))),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "its process id could not be read".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn advice(error: &io::Error) -> &'static str {
    if let Some(foreign) = Foreign::of(error) {
        return foreign.advice();
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "Run it as a user who may write there, or set `state_dir` to a directory of yours."
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "Mount it writable, or set `state_dir` to a directory that is."
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "Something that is not a directory stands there: remove it, or set `state_dir`."
        }
        io::ErrorKind::StorageFull => "Free some space, or set `state_dir` to another disk.",
        _ => "Set `state_dir` to a directory on a local disk.",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn second_agent_is_refused_and_told_who_holds_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("new/state");
        let first = StateLock::acquire(&dir).unwrap();
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);

        // flock belongs to the open file, so a second open in this process conflicts as another
        // process's would.
        let refused = StateLock::acquire(&dir).unwrap_err();
        assert!(
            matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == std::process::id())
        );
        assert_eq!(refused.exit_code(), 75);
        let text = refused.to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains("`state_dir`"), "{text}");

        drop(first);
        StateLock::acquire(&dir).unwrap();
    }

    #[test]
    fn looking_tells_who_holds_it_and_leaves_no_trace() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("state");
        assert_eq!(StateLock::holder(&dir).unwrap(), None);
        assert!(!dir.exists());
        let held = StateLock::acquire(&dir).unwrap();
        assert_eq!(StateLock::holder(&dir).unwrap(), Some(Some(std::process::id())));
        drop(held);
        assert_eq!(StateLock::holder(&dir).unwrap(), None);
        StateLock::acquire(&dir).unwrap();
    }

    #[test]
    fn somebody_who_only_looks_keeps_no_agent_from_starting() {
        let temp = tempfile::tempdir().unwrap();
        drop(StateLock::acquire(temp.path()).unwrap());
        let looking = File::open(temp.path().join("lock")).unwrap();
        flock(&looking, FlockOperation::LockShared).unwrap();
        let looker = thread::spawn(move || {
            thread::sleep(PAUSE / 2);
            drop(looking);
        });
        StateLock::acquire(temp.path()).unwrap();
        looker.join().unwrap();
    }

    #[test]
    fn lock_survives_garbage_in_its_file() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("lock"), b"\xff\xfe not a pid").unwrap();
        let held = StateLock::acquire(temp.path()).unwrap();
        drop(held);
    }

    #[test]
    fn file_in_the_directorys_place_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        std::fs::write(&path, "").unwrap();
        let error = StateLock::acquire(&path).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
}
