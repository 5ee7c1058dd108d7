//! Looking at intervals: what is due now, and when it is due again.

use std::time::{Duration, Instant};

use super::{
    Combined,
    entries::{Look, Pace},
};
use crate::watch::{
    Event, FileToken, Mode,
    poll::{self, FileState},
};

/// What the kernel watches is swept this many times more seldom than what inotify does: files for
/// the sake of writers that pass by its hooks (mmap), directories, which nothing passes by, only in
/// case. Where mounts are not told, directories are swept as those that inotify covers.
const KERNEL_SWEEPS: u32 = 6;
const KERNEL_DIRECTORY_SWEEPS: u32 = 24;

impl Combined {
    pub(super) fn look_at_due(&mut self) {
        let now = Instant::now();
        let before = self.queued.len();
        self.look_at_all_due(now);
        let written = |event: &&Event| matches!(event, Event::Written(_));
        let seen = self.queued[before..].iter().filter(written).count();
        self.count_wakeups(Mode::Poll, seen as u64);
    }

    fn look_at_all_due(&mut self, now: Instant) {
        while let Some(due) = self.schedule.due(now) {
            for look in due {
                match look {
                    Look::Directory(token, look) => self.look_at_directory(token, look, now),
                    Look::File(token, look) => self.look_at_file(token, look, now),
                }
            }
        }
    }

    fn look_at_file(&mut self, token: FileToken, look: u32, now: Instant) {
        let at = self.millis(now);
        let Some(file) = self.files.get_mut(token) else { return };
        if file.pace.look != look {
            return;
        }
        let state = match (file.file.upgrade(), &file.place) {
            (Some(open), _) => FileState::of(&open),
            (None, Some((directory, name))) => {
                let directory = self.directories.get(*directory);
                directory.and_then(|directory| FileState::at(&directory.path.join(&**name)))
            }
            (None, None) => file.state,
        };
        if state.zip(file.state).is_some_and(|(now, before)| !now.is_same_file(before)) {
            // Another file bears its name now: its own state stays, until it is found again.
            self.queued.push(Event::Written(token));
        } else if state != file.state {
            file.state = state;
            file.pace.changed = at;
            self.queued.push(Event::Written(token));
        }
        let (mode, quiet) = (file.mode, file.pace.quiet(at));
        self.schedule.again(Look::File(token, look), now, self.interval_after(mode, quiet));
    }

    pub(super) fn pace(&mut self) -> Pace {
        self.looks = self.looks.wrapping_add(1);
        Pace { look: self.looks, changed: self.millis(Instant::now()) }
    }

    /// Milliseconds since the beginning. After seven weeks they begin anew; what did not change since
    /// then is looked at a little sooner once.
    pub(super) fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.begun).as_millis() as u32
    }

    pub(super) fn interval(&self, mode: Mode) -> Duration {
        self.interval_after(mode, Duration::ZERO)
    }

    pub(super) fn interval_after(&self, mode: Mode, quiet: Duration) -> Duration {
        match mode {
            Mode::Kernel => self.sweep_interval * KERNEL_SWEEPS,
            Mode::Inotify => self.sweep_interval,
            Mode::Poll => poll::pause(quiet, self.poll_interval),
        }
    }

    pub(super) fn directory_interval(&self, mode: Mode, quiet: Duration) -> Duration {
        match mode {
            Mode::Kernel if self.mounts.is_some() => self.sweep_interval * KERNEL_DIRECTORY_SWEEPS,
            Mode::Kernel => self.sweep_interval,
            Mode::Inotify | Mode::Poll => self.interval_after(mode, quiet),
        }
    }
}
