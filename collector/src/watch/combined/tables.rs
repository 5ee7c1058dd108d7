//! Keeping the watcher's tables, the kernel's watches and the gauges in step.

use std::{collections::hash_map::Entry, time::Instant};

use super::{
    Combined,
    entries::{Directory, Look},
};
use crate::{
    metrics::ModeLabel,
    watch::{DirToken, Event, FileToken, Mode, inotify::Refusal},
};

impl Combined {
    /// Tries to have a directory watched better than by looking.
    pub(super) fn attach(&mut self, token: DirToken) -> Result<(), Refusal> {
        let Some(directory) = self.directories.get(token) else { return Ok(()) };
        if directory.unseen_writers {
            return Ok(());
        }
        let own_writes =
            |token: FileToken| self.files.get(token).is_some_and(|file| file.mode != Mode::Kernel);
        let writes = directory.names.tokens().any(own_writes);
        if self.attach_to_kernel(token) && !writes {
            return Ok(());
        }
        self.attach_to_inotify(token, writes)
    }

    pub(super) fn attach_to_inotify(
        &mut self,
        token: DirToken,
        writes: bool,
    ) -> Result<(), Refusal> {
        let Some(inotify) = &mut self.inotify else { return Ok(()) };
        let Some(directory) = self.directories.get_mut(token) else { return Ok(()) };
        directory.writes = writes;
        let wd = inotify.add(&directory.path, writes)?;
        directory.watch = Some(wd);
        self.watches.entry(wd).or_default().push(token);
        self.set_modes_in(token);
        Ok(())
    }

    /// Ends the watch of a directory, if there is one; it is polled from then on.
    pub(super) fn detach(&mut self, token: DirToken) {
        self.detach_from_kernel(token);
        let Some(directory) = self.directories.get_mut(token) else { return };
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
        let pace = self.times.pace();
        let Some(directory) = self.directories.get_mut(token) else { return };
        let look = Look::Directory(token, pace.look);
        directory.pace = pace;
        self.times.again_soon(look, Instant::now());
    }

    /// A directory's first file was registered that the kernel does not watch: from now on its
    /// writes count. A directory without files (an ancestor, say `/var/log`) wakes nobody when
    /// something in it is written.
    pub(super) fn ask_for_writes(&mut self, token: DirToken) {
        if let Some(directory) = self.directories.get(token)
            && directory.kernel.is_some()
            && directory.watch.is_none()
        {
            let path = directory.path.clone();
            if let Err(refusal) = self.attach_to_inotify(token, true) {
                self.falls.say_inotify(refusal, &path);
            }
            return;
        }
        let Some(inotify) = &mut self.inotify else { return };
        let Some(directory) = self.directories.get_mut(token) else { return };
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

    /// How files in a directory are watched that the kernel does not watch.
    pub(super) fn lesser_mode(&self, token: DirToken) -> Mode {
        self.directories.get(token).map_or(Mode::Poll, Directory::lesser_mode)
    }

    /// Brings the files of a directory into its mode, but for those that the kernel watches.
    pub(super) fn set_modes_in(&mut self, token: DirToken) {
        let Some(directory) = self.directories.get(token) else { return };
        let mode = directory.lesser_mode();
        let files = directory.names.tokens().filter(|file| self.is_named_only(*file));
        let files: Vec<_> = files.collect();
        for file in files {
            self.set_mode(file, mode);
        }
    }

    pub(super) fn set_mode(&mut self, token: FileToken, mode: Mode) {
        let pace = self.times.pace();
        let Some(file) = self.files.get_mut(token) else { return };
        let former = std::mem::replace(&mut file.mode, mode);
        if former == mode {
            return;
        }
        let look = Look::File(token, pace.look);
        file.pace = pace;
        self.count(former, -1);
        self.count(mode, 1);
        self.times.admit(look, Instant::now(), mode);
    }

    /// Takes the name away from a file that no longer bears it.
    pub(super) fn set_adrift(&mut self, token: FileToken) {
        self.take_name(token);
        if self.is_named_only(token) {
            self.set_mode(token, Mode::Poll);
        }
    }

    /// Whether a file is known to its watch by its name.
    fn is_named_only(&self, token: FileToken) -> bool {
        self.files.get(token).is_some_and(|file| file.mode != Mode::Kernel)
    }

    pub(super) fn take_name(&mut self, token: FileToken) {
        let Some((directory, name)) = self.files.get_mut(token).and_then(|file| file.place.take())
        else {
            return;
        };
        let Some(directory) = self.directories.get_mut(directory) else { return };
        if directory.names.get(&name) == Some(token) {
            directory.names.remove(&name);
        }
    }

    pub(super) fn remove_file(&mut self, token: FileToken) {
        self.forget_file(token, true);
    }

    /// Forgets a file; the kernel watches it on if not `entirely`.
    pub(super) fn forget_file(&mut self, token: FileToken, entirely: bool) {
        self.take_name(token);
        if let Some(kernel) = self.kernel.as_mut().filter(|_| entirely) {
            kernel.remove_file(token);
        }
        if let Some(file) = self.files.remove(token) {
            self.count(file.mode, -1);
        }
    }

    pub(super) fn count(&self, mode: Mode, difference: i64) {
        let label = ModeLabel { mode: mode.name() };
        self.metrics.watch_mode.get_or_create(&label).inc_by(difference);
    }

    /// `count` times a file was noticed as written.
    pub(super) fn count_wakeups(&self, mode: Mode, count: u64) {
        if count > 0 {
            let label = ModeLabel { mode: mode.name() };
            self.metrics.watch_wakeups.get_or_create(&label).inc_by(count);
        }
    }
}
