//! The process's descriptors: how many numbers log files may take, and which are kept back for the
//! agent itself (checkpoint, sinks, admin port, listings, watchers).
//!
//! The kernel gives a new descriptor the lowest free number. So a log file whose number is below the
//! bound found room, and one whose number is not shows that all below are taken: nothing has to be
//! counted, whoever opens what. A file that found no room is open for a visit, and then closed.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Numbers kept back for the agent itself, and for each sink.
const KEPT_BACK: u64 = 64;
const KEPT_BACK_PER_SINK: u64 = 16;

/// Numbers from here on are not for log files.
static BOUND: AtomicU64 = AtomicU64::new(u64::MAX);
/// The limit when it was last asked for; 0: there is none.
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// Log files that are known, have unread bytes or may get some, and are not held open.
static CLOSED: AtomicI64 = AtomicI64::new(0);

/// How the process's descriptors are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// How many the process may have.
    pub limit: u64,
    /// How many of them log files may have.
    pub files: u64,
    /// Log files that found no room and are opened in turn.
    pub waiting: u64,
}

/// How many of `limit` descriptors are kept back for the agent itself.
pub fn kept_back(limit: u64, sinks: usize) -> u64 {
    (KEPT_BACK + KEPT_BACK_PER_SINK * sinks as u64).min(limit / 2)
}

/// Raises the limit as far as the system allows, and shares it out. To be called again now and then:
/// somebody may raise it while the agent runs.
///
/// # Errors
/// It could not be raised; it is shared out as it is.
pub fn share_out(sinks: usize) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = match limit.current == limit.maximum {
        true => Ok(()),
        false => {
            let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
            setrlimit(Resource::Nofile, wanted).map_err(io::Error::from)
        }
    };
    let current = getrlimit(Resource::Nofile).current;
    LIMIT.store(current.unwrap_or(0), Ordering::Relaxed);
    let bound = current.map_or(u64::MAX, |limit| limit - kept_back(limit, sinks));
    BOUND.store(bound, Ordering::Relaxed);
    raised
}

/// Whether an open log file found room.
pub fn admits(file: &impl AsRawFd) -> bool {
    (file.as_raw_fd() as u64) < BOUND.load(Ordering::Relaxed)
}

/// Whether a deleted log file that is not read to its end may stay open all the same: nobody could
/// open it again, and a part of what is kept back is left to such files.
pub fn admits_deleted(file: &impl AsRawFd) -> bool {
    let bound = BOUND.load(Ordering::Relaxed);
    let kept_back = LIMIT.load(Ordering::Relaxed).saturating_sub(bound);
    (file.as_raw_fd() as u64) < bound.saturating_add(kept_back / 4)
}

/// Whether a log file that has a permit may stay open: numbers below the bound may be the agent's own by now, so
/// a tenant within its share has half of what is kept back as well.
pub fn admits_permitted(file: &impl AsRawFd) -> bool {
    (file.as_raw_fd() as u64) < for_permitted()
}

/// Numbers below this a tenant within its share may have.
pub fn for_permitted() -> u64 {
    let bound = BOUND.load(Ordering::Relaxed);
    let kept_back = LIMIT.load(Ordering::Relaxed).saturating_sub(bound);
    bound.saturating_add(kept_back / 2)
}

/// How many descriptors log files may have.
pub fn for_files() -> u64 {
    BOUND.load(Ordering::Relaxed)
}

/// The same open file under a number that is beyond those for log files.
///
/// # Errors
/// As `fcntl(2)`.
pub fn move_beyond(file: &File) -> io::Result<File> {
    let bound = i32::try_from(for_files()).unwrap_or(i32::MAX);
    Ok(rustix::io::fcntl_dupfd_cloexec(file, bound)?.into())
}

/// The shares; None: nothing limits descriptors, or nobody has asked yet.
pub fn shares() -> Option<Shares> {
    let limit = LIMIT.load(Ordering::Relaxed);
    let waiting = u64::try_from(CLOSED.load(Ordering::Relaxed)).unwrap_or(0);
    (limit > 0).then(|| Shares { limit, files: BOUND.load(Ordering::Relaxed), waiting })
}

/// Whether an error says that the process or the machine has no descriptor left.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Stands for a log file that is not held open, as long as it lives.
#[derive(Debug)]
pub(super) struct Waiting(());

impl Waiting {
    pub(super) fn new() -> Self {
        CLOSED.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        CLOSED.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_keeps_some_back_and_files_get_the_rest() {
        assert_eq!(kept_back(1 << 20, 1), 80);
        assert_eq!(kept_back(1 << 20, 4), 128);
        assert_eq!(kept_back(200, 1), 80);
        assert_eq!(kept_back(100, 1), 50, "files get half of few");
    }

    #[test]
    fn a_shortage_is_not_a_question_of_permissions() {
        for (errno, short) in [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::ACCESS, false)] {
            assert_eq!(is_shortage(&errno.into()), short);
        }
    }
}
