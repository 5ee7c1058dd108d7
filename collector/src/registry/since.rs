//! Since when a directory is looked at, by its file system's clock: what is made in it later is made under the
//! agent's eyes.
//!
//! A former file that no pattern names may be one that a log left long ago, or one whose log was rotated before
//! the first look at it. Its birth tells them apart. Where the agent's clock is behind the file system's, the
//! directory's last change says what was there; where it is ahead, the moment is taken too late, and a file is left alone.
//! After a restart it is the moment when the former agent wrote its checkpoint last.

use std::{io, path::Path, sync::Arc, time::SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::Registry;
use crate::{
    discover::Listing,
    identity::{self, InodeKey},
};

/// A moment of a file system. What is born later was not there at the first look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since {
    device: u64,
    ns: i64,
}

impl Since {
    /// This moment, and which directory it is. Whatever is in it was made before its last change. What is moved into
    /// it later may have been made elsewhere since then: so the agent's clock is asked too.
    fn now(directory: &Path) -> io::Result<(InodeKey, Self)> {
        let (key, changed) = identity::changed_at(directory)?;
        // The clock that file systems take births from: its steps are milliseconds long.
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let now = now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec);
        Ok((key, Self { device: key.device, ns: changed.max(now) }))
    }

    /// Whether a file or directory was made later.
    pub(super) fn precedes(self, key: &InodeKey) -> bool {
        key.device == self.device && key.born_ns > self.ns
    }

    /// This file was there at the first look.
    fn shows(&mut self, key: &InodeKey) {
        if self.precedes(key) {
            self.ns = key.born_ns;
        }
    }
}

impl Registry {
    /// Since when a directory is looked at that is about to be looked at. One that was made under the agent's eyes
    /// has nothing older in it.
    pub(super) fn looked_at_since(&self, path: &Path) -> Option<Since> {
        let (key, now) = Since::now(path).ok()?;
        if let Some(ns) = self.looked_before() {
            return Some(Since { device: key.device, ns });
        }
        let above = path.parent().and_then(|above| self.since_at(above));
        // What is born in this step of the clock may be born after the look, which shows what was there.
        let now = Since { ns: now.ns - 1, ..now };
        Some(above.filter(|above| above.precedes(&key)).unwrap_or(now))
    }

    /// When an agent before this one was at work last, while this one takes up where it stopped: what was made since
    /// then would have been made under its eyes.
    fn looked_before(&self) -> Option<i64> {
        let at = self.while_down.since.filter(|_| self.scanning)?;
        i64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos()).ok()
    }

    /// Takes in what the first look at a directory shows. Where the clock was set back, files seem to be made
    /// later.
    pub(super) fn saw_first(&mut self, path: &Arc<Path>, listing: &Listing) {
        let above = path.parent().and_then(|above| self.since_at(above));
        let own = self.since_at(path).filter(|since| above != Some(*since));
        let Some(mut since) = own.filter(|_| self.looked_before().is_none()) else { return };
        for found in listing.files.iter().filter(|found| found.only_if_known) {
            if let Ok(look) = identity::look_at(&found.path) {
                since.shows(&look.key);
            }
        }
        self.set_since(path, Some(since));
    }

    /// Logs are looked for otherwise from now on: what lies there now nobody may have asked for.
    pub(super) fn look_anew(&mut self) {
        let paths: Vec<Arc<Path>> = self.directories.all().map(|(_, path)| path.into()).collect();
        for path in paths {
            let since = Since::now(&path).ok().map(|(_, now)| now);
            self.set_since(&path, since);
        }
    }

    /// Whether a file was made under the agent's eyes, in a directory where it looks for logs.
    pub(super) fn saw_it_made(&self, path: &Path, key: &InodeKey) -> bool {
        let since = path.parent().and_then(|directory| self.since_at(directory));
        since.is_some_and(|since| since.precedes(key))
    }

    fn since_at(&self, path: &Path) -> Option<Since> {
        let directory = self.directories.get(self.directories.find(path)?)?;
        directory.since.filter(|_| directory.listed)
    }

    fn set_since(&mut self, path: &Path, since: Option<Since>) {
        let token = self.directories.find(path);
        if let Some(directory) = token.and_then(|token| self.directories.get_mut(token)) {
            directory.since = since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(device: u64, born_ns: i64) -> InodeKey {
        InodeKey { device, inode: 1, born_ns }
    }

    #[test]
    fn what_is_made_later_was_not_there() {
        let mut since = Since { device: 1, ns: 10 };
        assert!(since.precedes(&key(1, 11)));
        assert!(!since.precedes(&key(1, 10)), "a clock has steps");
        assert!(!since.precedes(&key(1, 0)), "no birth time");
        assert!(!since.precedes(&key(2, 11)), "another file system has another clock");
        for there in [key(1, 20), key(1, 5), key(2, 30)] {
            since.shows(&there);
        }
        assert_eq!(since, Since { device: 1, ns: 20 }, "the clock was set back before");
    }
}
