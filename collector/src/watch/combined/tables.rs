//! Keeping the watcher's tables, the kernel's watches and the gauges in step.

use std::{
    collections::hash_map::Entry,
    path::Path,
    time::{Duration, Instant},
};

use super::{Combined, Directory, Look, Pace, SAY_AGAIN, count_fallback, push};
use crate::{
    metrics::ModeLabel,
    watch::{DirToken, Event, FileToken, Mode, inotify::Refusal, poll},
};

impl Combined {
    /// Tries to have inotify watch a directory.
    pub(super) fn attach(&mut self, token: DirToken) -> Result<(), Refusal> {
        let Some(inotify) = &mut self.inotify else { return Ok(()) };
        let Some(directory) = self.directories.get_mut(&token) else { return Ok(()) };
        if directory.unseen_writers {
            return Ok(());
        }
        directory.writes = !directory.names.is_empty();
        let wd = inotify.add(&directory.path, directory.writes)?;
        directory.watch = Some(wd);
        self.watches.entry(wd).or_default().push(token);
        self.set_modes_in(token);
        Ok(())
    }

    /// Ends inotify's watch of a directory, if there is one; it is polled from then on.
    pub(super) fn detach(&mut self, token: DirToken) {
        let Some(directory) = self.directories.get_mut(&token) else { return };
        let Some(wd) = directory.watch.take() else { return };
        self.give_back(wd, token);
        self.set_modes_in(token);
    }

    /// A directory has no more use for a watch; the last one gives it back to the kernel.
    pub(super) fn give_back(&mut self, wd: i32, token: DirToken) {
        let Entry::Occupied(mut tokens) = self.watches.entry(wd) else { return };
        tokens.get_mut().retain(|other| *other != token);
        if tokens.get().is_empty() {
            tokens.remove();
            match &mut self.inotify {
                Some(inotify) => inotify.remove(wd),
                // Its events are just being taken.
                None => self.given_back.push(wd),
            }
        }
    }

    /// The directory went from its path. Polled by path, so that its return is noticed.
    pub(super) fn lose(&mut self, token: DirToken) {
        self.detach(token);
        let pace = self.pace();
        let Some(directory) = self.directories.get_mut(&token) else { return };
        let look = Look::Directory(token, pace.look);
        directory.pace = pace;
        self.schedule.again(look, Instant::now(), self.poll_interval);
    }

    /// A directory's first file was registered: from now on its writes count. A directory without
    /// files (an ancestor, say `/var/log`) wakes nobody when something in it is written.
    pub(super) fn ask_for_writes(&mut self, token: DirToken) {
        let Some(inotify) = &mut self.inotify else { return };
        let Some(directory) = self.directories.get_mut(&token) else { return };
        let Some(wd) = directory.watch else { return };
        if std::mem::replace(&mut directory.writes, true) {
            return;
        }
        match inotify.add_writes(&directory.path) {
            Ok(same) if same == wd => {}
            // Another directory by now: begin again with that one.
            Ok(other) => {
                directory.watch = Some(other);
                self.watches.entry(other).or_default().push(token);
                self.give_back(wd, token);
                self.queued.push(Event::Directory(token));
            }
            Err(_) => {
                self.lose(token);
                self.queued.push(Event::Directory(token));
            }
        }
    }

    pub(super) fn directory_mode(&self, token: DirToken) -> Mode {
        self.directories.get(&token).map_or(Mode::Poll, Directory::mode)
    }

    /// Brings the files of a directory into its mode.
    pub(super) fn set_modes_in(&mut self, token: DirToken) {
        let Some(directory) = self.directories.get(&token) else { return };
        let mode = directory.mode();
        let files: Vec<_> = directory.names.values().copied().collect();
        for file in files {
            self.set_mode(file, mode);
        }
    }

    pub(super) fn set_mode(&mut self, token: FileToken, mode: Mode) {
        let pace = self.pace();
        let Some(file) = self.files.get_mut(&token) else { return };
        let former = std::mem::replace(&mut file.mode, mode);
        if former == mode {
            return;
        }
        let look = Look::File(token, pace.look);
        file.pace = pace;
        self.count(former, -1);
        self.count(mode, 1);
        self.schedule.admit(look, Instant::now(), self.interval(mode));
    }

    /// Takes the name away from a file that no longer bears it.
    pub(super) fn set_adrift(&mut self, token: FileToken) {
        self.take_name(token);
        self.set_mode(token, Mode::Poll);
    }

    pub(super) fn take_name(&mut self, token: FileToken) {
        let Some((directory, name)) = self.files.get_mut(&token).and_then(|file| file.place.take())
        else {
            return;
        };
        let Some(directory) = self.directories.get_mut(&directory) else { return };
        if directory.names.get(&name) == Some(&token) {
            directory.names.remove(&name);
        }
    }

    pub(super) fn remove_file(&mut self, token: FileToken) {
        self.take_name(token);
        if let Some(file) = self.files.remove(&token) {
            self.count(file.mode, -1);
        }
    }

    pub(super) fn pace(&mut self) -> Pace {
        self.looks += 1;
        Pace { look: self.looks, changed: Instant::now() }
    }

    pub(super) fn interval(&self, mode: Mode) -> Duration {
        self.interval_after(mode, Duration::ZERO)
    }

    pub(super) fn interval_after(&self, mode: Mode, quiet: Duration) -> Duration {
        match mode {
            Mode::Inotify => self.sweep_interval,
            Mode::Poll => poll::pause(quiet, self.poll_interval),
        }
    }

    pub(super) fn count(&self, mode: Mode, difference: i64) {
        let label = ModeLabel { mode: mode.name() };
        self.metrics.watch_mode.get_or_create(&label).inc_by(difference);
    }

    pub(super) fn say_fallback(&mut self, refusal: Refusal, path: &Path) {
        count_fallback(&self.metrics, refusal.reason());
        if self.said.insert(refusal) {
            tracing::warn!(
                directory = ?path,
                reason = refusal.reason(),
                "inotify cannot watch a directory; it and others like it are polled instead, at \
                 the cost of some CPU. To mend it: {}.",
                refusal.advice()
            );
        }
    }

    pub(super) fn say_overflow(&mut self) {
        count_fallback(&self.metrics, "overflow");
        push(&mut self.queued, Event::Overflow);
        if self.overflow_said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.overflow_said = Some(Instant::now());
            tracing::warn!(
                "The kernel's inotify queue overflowed; every file is looked at instead, nothing \
                 is lost. If it recurs, raise the sysctl fs.inotify.max_queued_events."
            );
        }
    }
}
