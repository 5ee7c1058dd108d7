//! Whether something was mounted or unmounted: then paths may lead to other directories, and no
//! directory's own entries changed.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};

/// Where the kernel shows what is mounted as this process sees it.
const TABLE: &str = "/proc/self/mountinfo";

/// Looking at every directory takes at most one part in so many of the time, however often something is
/// mounted.
const PART: u32 = 50;

/// The table of mounts, watched.
#[derive(Debug)]
pub(super) struct Mounts {
    table: File,
    changed: bool,
    /// When everything was looked at for the last time, and how long not to look again.
    looked: (Instant, Duration),
}

impl Mounts {
    /// None: there is no such table here.
    pub(super) fn new() -> Option<Self> {
        let table = File::open(TABLE).ok()?;
        Some(Self { table, changed: false, looked: (Instant::now(), Duration::ZERO) })
    }

    /// What to wait for `PRI` of. Each change is told once, so whoever hears it calls
    /// [`Mounts::note`].
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }

    /// The table changed.
    pub(super) fn note(&mut self) {
        self.changed = true;
    }

    /// When everything is to be looked at because of a change, if it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.changed.then(|| self.looked.0 + self.looked.1)
    }

    /// Everything is looked at now; what changes from here on is another change.
    pub(super) fn begin(&mut self) -> Instant {
        self.hear();
        self.changed = false;
        Instant::now()
    }

    /// Everything was looked at since `begun`.
    pub(super) fn end(&mut self, begun: Instant) {
        self.looked = (Instant::now(), begun.elapsed() * PART);
    }

    /// Notes a change that nobody has waited for.
    pub(super) fn hear(&mut self) {
        let mut fds = [PollFd::new(&self.table, PollFlags::PRI)];
        let told = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        self.changed |= told.is_ok_and(|count| count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_once_and_looked_at_in_good_time() {
        let dir = tempfile::tempdir().unwrap();
        let mount = |arguments: &[&str]| {
            let command = std::process::Command::new(arguments[0])
                .args(&arguments[1..])
                .arg(dir.path())
                .output();
            command.is_ok_and(|output| output.status.success())
        };
        let mut mounts = Mounts::new().unwrap();
        // Other tests mount too.
        if !mount(&["mount", "-t", "tmpfs", "tmpfs"]) {
            println!("skipped: mounting needs root");
            return;
        }
        mounts.hear();
        assert!(mounts.due().is_some_and(|at| at <= Instant::now()));
        let begun = mounts.begin();
        std::thread::sleep(Duration::from_millis(20));
        mounts.end(begun);
        assert!(mount(&["umount"]));
        mounts.hear();
        let due = mounts.due().unwrap();
        assert!(due >= Instant::now() + Duration::from_millis(500), "a part of the time only");
    }
}
