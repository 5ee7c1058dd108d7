//! When each directory and file is looked at again.

use std::time::{Duration, Instant};

use super::entries::{Look, Pace};
use crate::{
    config::Watch,
    watch::{
        Mode,
        poll::{self, Schedule},
    },
};

/// What the kernel watches is swept this many times more seldom than what inotify does: files for
/// the sake of writers that pass by its hooks (mmap), directories, which nothing passes by, only in
/// case. Where mounts are not told, directories are swept as those that inotify covers.
const KERNEL_SWEEPS: u32 = 6;
const KERNEL_DIRECTORY_SWEEPS: u32 = 24;

/// One schedule of all, and how long each mode waits.
pub(super) struct Timetable {
    poll_interval: Duration,
    sweep_interval: Duration,
    /// Whether it is told when something was mounted.
    mounts_told: bool,
    schedule: Schedule<Look>,
    looks: u32,
    begun: Instant,
}

impl Timetable {
    /// With nothing in it.
    pub(super) fn new(config: &Watch, mounts_told: bool) -> Self {
        let poll_interval = config.poll_interval.0.max(Duration::from_millis(1));
        Self {
            poll_interval,
            sweep_interval: config.sweep_interval.0.max(poll_interval),
            mounts_told,
            schedule: Schedule::new(poll_interval / 5),
            looks: 0,
            begun: Instant::now(),
        }
    }

    /// How often what inotify covers is looked at.
    pub(super) fn sweep_interval(&self) -> Duration {
        self.sweep_interval
    }

    /// The pace of something that changed now.
    pub(super) fn pace(&mut self) -> Pace {
        self.looks = self.looks.wrapping_add(1);
        Pace { look: self.looks, changed: self.millis(Instant::now()) }
    }

    /// Milliseconds since the beginning. After seven weeks they begin anew; what did not change since
    /// then is looked at a little sooner once.
    pub(super) fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.begun).as_millis() as u32
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// What is due, some of it at a time.
    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<Look>> {
        self.schedule.due(now)
    }

    /// Enters something new, which is watched in this mode.
    pub(super) fn admit(&mut self, look: Look, now: Instant, mode: Mode) {
        let interval = self.interval(look, mode, Duration::ZERO);
        self.schedule.admit(look, now, interval);
    }

    /// Enters again what was looked at; `quiet`: how long it has not changed.
    pub(super) fn again(&mut self, look: Look, now: Instant, mode: Mode, quiet: Duration) {
        let interval = self.interval(look, mode, quiet);
        self.schedule.again(look, now, interval);
    }

    /// Enters what went from its path, so that its return is noticed.
    pub(super) fn again_soon(&mut self, look: Look, now: Instant) {
        self.schedule.again(look, now, self.poll_interval);
    }

    fn interval(&self, look: Look, mode: Mode, quiet: Duration) -> Duration {
        match (mode, look) {
            (Mode::Kernel, Look::File(..)) => self.sweep_interval * KERNEL_SWEEPS,
            (Mode::Kernel, Look::Directory(..)) if self.mounts_told => {
                self.sweep_interval * KERNEL_DIRECTORY_SWEEPS
            }
            (Mode::Kernel | Mode::Inotify, _) => self.sweep_interval,
            (Mode::Poll, _) => poll::pause(quiet, self.poll_interval),
        }
    }
}
