//! Waiting: until something was told, something is due, or somebody wakes the watcher, and no more often
//! than is good for whoever is told.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Combined;
use crate::watch::{Event, kernel::Kernel, mounts::Mounts};

/// Two turns are at least so far apart while inotify's events pour in, so that a busy writer's many
/// events become one.
const TURN: Duration = Duration::from_millis(2);

/// The same for the kernel's wake-ups, of which a busy writer makes one a look: half of the time that
/// a batch is given to fill anyway, at most this.
pub(super) const KERNEL_TURN: Duration = Duration::from_millis(500);

/// Within that time it is heard so often what else was told: a log that is new may be gone before the
/// turn is over, so directories wait no longer.
const HEAR: Duration = Duration::from_millis(20);

impl Combined {
    /// Until an event, a due look, `end` or a wake; true if woken.
    pub(super) fn sleep(&mut self, end: Option<Instant>) -> io::Result<bool> {
        let mounts = self.mounts.as_ref().and_then(Mounts::due);
        let until = [self.times.next(), mounts, end].into_iter().flatten().min();
        let [woken, inotify, kernel, mounts] = self.listen(until, true)?;
        if let Some(table) = self.mounts.as_mut().filter(|_| mounts) {
            table.note();
        }
        if woken {
            return Ok(self.waker.drain());
        }
        // Whoever told something is heard at the end of its turn, the shortest of them.
        if inotify {
            let woken = self.listen_to_waker(self.turned + TURN)?;
            return Ok(woken && self.waker.drain());
        }
        let rest = self.turned + self.kernel_turn;
        while kernel && Instant::now() < rest {
            self.take_told();
            if !self.queued.iter().all(|event| matches!(event, Event::Written(_))) {
                break;
            }
            // inotify tells of directories that the kernel does not watch.
            let until = Some(rest.min(Instant::now() + HEAR));
            let [woken, inotify, ..] = self.listen(until, false)?;
            if woken {
                return Ok(self.waker.drain());
            }
            if inotify {
                break;
            }
        }
        Ok(self.waker.drain())
    }

    /// Waits until then for the waker, inotify, and if asked the kernel's programs and mounts; which
    /// of them it was.
    fn listen(&self, until: Option<Instant>, all: bool) -> io::Result<[bool; 4]> {
        let inotify = self.inotify.as_ref().map(|inotify| inotify.fd().as_fd());
        let kernel = self.kernel.as_ref().filter(|_| all).map(Kernel::fd);
        let mounts = self.mounts.as_ref().filter(|_| all).map(Mounts::fd);
        let asked = [
            Some((self.waker.0.as_fd(), PollFlags::IN)),
            inotify.map(|fd| (fd, PollFlags::IN)),
            kernel.map(|fd| (fd, PollFlags::IN)),
            mounts.map(|fd| (fd, PollFlags::PRI)),
        ];
        let of = |(fd, flags)| PollFd::from_borrowed_fd(fd, flags);
        let mut fds: Vec<_> = asked.into_iter().flatten().map(of).collect();
        poll(&mut fds, until)?;
        let mut told = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(asked.map(|asked| asked.is_some() && told.next().unwrap_or(false)))
    }

    fn listen_to_waker(&self, until: Instant) -> io::Result<bool> {
        if Instant::now() >= until {
            return Ok(false);
        }
        let mut fds = [PollFd::new(&self.waker.0, PollFlags::IN)];
        poll(&mut fds, Some(until))?;
        Ok(!fds[0].revents().is_empty())
    }
}

/// Waits for any of the descriptors until a moment; a signal ends the wait early.
fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    let timeout = until.map(|until| {
        let rest = until.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: rest.subsec_nanos().into(),
        }
    });
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
