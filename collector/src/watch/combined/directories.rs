//! Directories: entering them, looking at them, and what it means that another one is at their path.

use std::{io, path::Path, sync::Arc, time::Instant};

use super::{
    Combined,
    entries::{Directory, Look},
    names::Names,
};
use crate::{
    identity::beneath,
    watch::{DirToken, Event, Mode, inotify::Refusal, poll::DirectoryState},
};

/// Filesystems on which another machine (or process) may write unseen by this kernel's inotify:
/// NFS, SMB, SMB2, CIFS, FUSE, 9p, Ceph, AFS, Coda (linux/magic.h).
const UNSEEN_WRITERS: [u32; 9] = [
    0x6969,
    0x517B,
    0xFE53_4D42,
    0xFF53_4D42,
    0x6573_5546,
    0x0102_1997,
    0x00C3_6400,
    0x5346_414F,
    0x7375_7245,
];

impl Combined {
    /// Begins to watch a directory; `way`: for its entries' names alone.
    pub(super) fn enter_directory(
        &mut self,
        token: DirToken,
        path: &Arc<Path>,
        way: bool,
    ) -> io::Result<Mode> {
        beneath::stat(path)?;
        if !beneath::is_directory(path) {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        self.leave_directory(token);
        let unseen_writers = has_unseen_writers(path);
        if unseen_writers && self.inotify.is_some() {
            self.falls.count("network_filesystem");
        }
        let pace = self.times.pace();
        let directory = Directory {
            path: Arc::clone(path),
            kernel: None,
            watch: None,
            writes: false,
            way,
            unseen_writers,
            names: Names::default(),
            state: DirectoryState::default(),
            pace,
        };
        self.directories.insert(token, directory);
        if let Err(refusal) = self.attach(token) {
            if refusal == Refusal::Missing {
                self.directories.remove(token);
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            self.falls.say_inotify(refusal, path);
        }
        let now = Instant::now();
        let Some(directory) = self.directories.get_mut(token) else { return Ok(Mode::Poll) };
        directory.state.look(path, true);
        let mode = directory.mode();
        let look = Look::Directory(token, directory.pace.look);
        self.times.admit(look, now, mode);
        Ok(mode)
    }

    /// Watches it no more.
    pub(super) fn leave_directory(&mut self, token: DirToken) {
        self.detach(token);
        let Some(directory) = self.directories.remove(token) else { return };
        for file in directory.names.tokens() {
            self.set_adrift(file);
        }
    }

    /// A directory's turn in the schedule.
    pub(super) fn look_at_directory(&mut self, token: DirToken, look: u32, now: Instant) {
        if self.directories.get(token).is_none_or(|directory| directory.pace.look != look) {
            return;
        }
        self.see_directory(token, now);
        // It may have got another place in the schedule.
        let Some(directory) = self.directories.get(token).filter(|it| it.pace.look == look) else {
            return;
        };
        let (mode, quiet) = (directory.mode(), directory.pace.quiet(self.times.millis(now)));
        self.times.again(Look::Directory(token, look), now, mode, quiet);
    }

    /// After something was mounted or unmounted: any path may lead to another directory.
    pub(super) fn look_behind_mounts(&mut self) {
        let now = Instant::now();
        let Some(mounts) = self.mounts.as_mut().filter(|it| it.due().is_some_and(|at| at <= now))
        else {
            return;
        };
        let begun = mounts.begin();
        let all: Vec<DirToken> = self.directories.keys().collect();
        for token in all {
            self.see_directory(token, now);
        }
        if let Some(mounts) = &mut self.mounts {
            mounts.end(begun);
        }
    }

    fn see_directory(&mut self, token: DirToken, now: Instant) {
        let (wanted, at) =
            (self.inotify.is_some() || self.kernel.is_some(), self.times.millis(now));
        let Some(directory) = self.directories.get_mut(token) else { return };
        let before = directory.state.identity();
        let changed = directory.state.look(&directory.path, directory.unseen_writers);
        let other = before != directory.state.identity();
        if changed {
            directory.pace.changed = at;
            self.queued.push(Event::Directory(token));
        }
        let gone = !directory.state.exists();
        if gone && directory.mode() != Mode::Poll {
            self.lose(token);
        } else if other {
            self.replace(token);
        }
        let Some(directory) = self.directories.get(token) else { return };
        let better = wanted
            && directory.mode() == Mode::Poll
            && !directory.unseen_writers
            && directory.state.exists()
            // Came back, or else a try a sweep: the limit may have been raised.
            && (changed || directory.pace.quiet(at) >= self.times.sweep_interval());
        if better && self.attach(token).is_ok() {
            self.queued.push(Event::Directory(token));
        }
    }

    /// Another directory is at its path: what is watched is not it, and the files that were registered
    /// have no name there.
    fn replace(&mut self, token: DirToken) {
        let Some(directory) = self.directories.get_mut(token) else { return };
        directory.unseen_writers = has_unseen_writers(&directory.path);
        let files: Vec<_> = directory.names.tokens().collect();
        if directory.mode() != Mode::Poll {
            self.lose(token);
        }
        for file in files {
            self.set_adrift(file);
        }
    }
}

fn has_unseen_writers(path: &Path) -> bool {
    // Only the low 32 bits are the magic number, whatever width the field has.
    rustix::fs::statfs(path).is_ok_and(|about| UNSEEN_WRITERS.contains(&(about.f_type as u32)))
}
