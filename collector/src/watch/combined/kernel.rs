//! The kernel watch among the others: entering what it covers, heeding what it tells, and falling
//! back where it refuses.

use std::{
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Combined, push};
use crate::{
    identity,
    watch::{
        DirToken, Event, FileToken, Mode,
        kernel::{Refusal, Told},
    },
};

/// Files that a program entered are given this long to be claimed.
pub(super) const CLAIM: Duration = Duration::from_secs(60);

impl Combined {
    /// Has the kernel watch a directory; false if it does not.
    pub(super) fn attach_to_kernel(&mut self, token: DirToken) -> bool {
        let Some(kernel) = &mut self.kernel else { return false };
        let Some(directory) = self.directories.get_mut(token) else { return false };
        if directory.way {
            // The programs would enter every file that is born there.
            return false;
        }
        // Which directory the path leads to is asked first: one that takes its place while it is
        // entered looks like another one at its first change.
        let Some(identity) = identity(&directory.path) else { return false };
        match kernel.add_directory(token, &directory.path) {
            Ok(()) => {
                directory.kernel = Some(identity);
                true
            }
            Err(refusal) => {
                let path = directory.path.clone();
                self.falls.say_kernel(refusal, &path);
                false
            }
        }
    }

    pub(super) fn detach_from_kernel(&mut self, token: DirToken) {
        let Some(directory) = self.directories.get_mut(token) else { return };
        if directory.kernel.take().is_some()
            && let Some(kernel) = &mut self.kernel
        {
            kernel.remove_directory(token);
        }
    }

    /// Enters the files that were registered since the last time.
    pub(super) fn enter_pending(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        if self.tidied.elapsed() >= CLAIM {
            self.tidied = Instant::now();
            kernel.forget_unclaimed();
        }
        let (entered, refused) = kernel.enter_pending();
        // Whatever was written before is not told: somebody has to look.
        self.queued.extend(entered.into_iter().map(Event::Written));
        for (token, refusal) in refused {
            self.fall_back(token, refusal);
        }
    }

    /// A file that the kernel does not watch after all.
    fn fall_back(&mut self, token: FileToken, refusal: Refusal) {
        let Some(file) = self.files.get_mut(token) else { return };
        file.bell = None;
        let directory = file.place.as_ref().map(|(directory, _)| *directory);
        let path = directory.and_then(|token| self.directories.get(token));
        let path = path.map(|directory| Arc::clone(&directory.path));
        self.falls.say_kernel(refusal, path.as_deref().unwrap_or(Path::new("")));
        self.set_mode(token, Mode::Poll);
        if let Some(directory) = directory {
            self.ask_for_writes(directory);
            let mode = self.lesser_mode(directory);
            self.set_mode(token, mode);
        }
        self.queued.push(Event::Written(token));
    }

    /// Heeds the programs.
    pub(super) fn take_told(&mut self) {
        let Some(mut kernel) = self.kernel.take() else { return };
        let mut changed = Vec::new();
        let (mut overflow, mut written) = (false, 0);
        kernel.drain(|told| match told {
            Told::Written(token) => {
                written += 1;
                push(&mut self.queued, Event::Written(token));
            }
            Told::Changed(token) => changed.push(token),
            Told::Overflow => overflow = true,
            Told::Departed => push(&mut self.queued, Event::Departed),
        });
        self.kernel = Some(kernel);
        self.count_wakeups(Mode::Kernel, written);
        changed.dedup();
        for token in changed {
            self.heed_change(token);
        }
        if overflow {
            push(&mut self.queued, Event::Overflow);
            self.falls.say_overflow(Mode::Kernel);
        }
    }

    /// A directory changed: perhaps it is no longer the one that its path leads to.
    fn heed_change(&mut self, token: DirToken) {
        let Some(directory) = self.directories.get(token) else { return };
        if directory.kernel != identity(&directory.path) {
            self.lose(token);
        }
        push(&mut self.queued, Event::Directory(token));
    }
}

/// Which directory a path leads to, now.
fn identity(path: &Path) -> Option<(u32, NonZeroU64)> {
    let key = identity::look_at(path).ok()?.key;
    // Linux' own device numbers have 32 bits.
    Some((key.device as u32, NonZeroU64::new(key.inode)?))
}
