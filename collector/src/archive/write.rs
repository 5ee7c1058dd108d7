//! Write: appends frames to an archive durably, and cuts back what was not committed.
//!
//! A [`Writer`] owns its directory (a lock on it keeps a second one out) and knows nothing of
//! queues or retries; see `sink`. [`Writer::append`] either makes a whole group of frames durable,
//! or leaves the archive as it was.
//!
//! Exactly once: every append returns the archive's [`Position`] after each frame. It is committed
//! in one step with the offsets of the files the frame came from; [`Writer::open`] with the
//! position last committed removes whatever was written after it.

mod directory;
mod recover;
mod segments;

use std::{
    collections::VecDeque,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{clock::Reading, retain::Limits, segment::Header};
use crate::{
    checkpoint::{OwnDirectory, Place},
    config,
    messages::{self, Kind},
    ownership,
};
pub use directory::is_written;
pub(super) use directory::refused_action;
use directory::{identity, lock};
use segments::{Closed, Open, create};

/// Of the archive's directory: its group may be let read it.
const DIRECTORY_MODE: u32 = 0o750;

/// A place in an archive: everything before it is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which archive, so that a position never cuts a stranger's.
    pub archive: String,
    /// The segment being written; 0: none yet.
    pub segment: u64,
    /// Its length, bytes.
    pub length: u64,
}

/// Why an archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something could not be done with a file or directory.
    #[error(
        "could not {action} {path}: {source}; give the agent write access to the archive's directory, or choose another with `dir`"
    )]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else writes it.
    #[error("another process writes to the archive {0}; stop it, or give this agent another `dir`")]
    Locked(PathBuf),
}

/// Appends to one archive.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    /// Holds the lock, and makes new names durable.
    own: OwnDirectory,
    id: String,
    limits: Limits,
    segment_bytes: u64,
    segment_age: Duration,
    closed: VecDeque<Closed>,
    open: Option<Open>,
    /// The highest sequence number ever used.
    last: u64,
}

/// Where the archive in `dir` ends now; commit it before a sink writes there for the first time, so
/// that what it writes before the first checkpoint can be told from what was there before.
pub fn position(dir: &Path) -> Result<String, OpenError> {
    let writer = Writer::open(dir, &config::Archive::default(), None)?;
    Ok(writer.position().encode())
}

impl Position {
    /// As text, for the checkpoint.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Writer {
    /// Takes over the archive in `dir` (creating it) and removes what lies after `committed`, the
    /// [`Position`] last committed. Without one everything whole is kept, and only a torn end goes.
    pub fn open(
        dir: &Path,
        config: &config::Archive,
        committed: Option<&str>,
    ) -> Result<Self, OpenError> {
        let failed = |action| move |source| OpenError::Io { action, path: dir.to_owned(), source };
        let remark = ownership::make_directory(dir, DIRECTORY_MODE)
            .map_err(|error| failed(refused_action(dir, &error))(error))?;
        if let Some(remark) = remark {
            tracing::warn!("{remark}");
        }
        let own = OwnDirectory::open(dir).map_err(failed("open"))?;
        lock(own.file(), dir)?;
        let id = identity(dir, own.file()).map_err(failed("name"))?;
        // At least four segments, or retention would have nothing to remove between all and none.
        let segment_bytes = config.segment_bytes.0.min(config.max_bytes.0 / 4).max(1);
        let day = Duration::from_secs(86_400);
        let mut writer = Self {
            dir: dir.to_owned(),
            own,
            id,
            limits: Limits::new(config.max_bytes.0, config.max_age.0, Reading::now()),
            segment_bytes,
            segment_age: (config.max_age.0 / 4).clamp(Duration::from_secs(60), day),
            closed: VecDeque::new(),
            open: None,
            last: 0,
        };
        writer.recover(committed).map_err(failed("recover"))?;
        Ok(writer)
    }

    /// Where the archive ends.
    pub fn position(&self) -> Position {
        // With no open segment the next one does not exist yet; whatever will be in it is beyond.
        let (segment, length) =
            self.open.as_ref().map_or((self.last + 1, 0), |open| (open.sequence, open.length));
        Position { archive: self.id.clone(), segment, length }
    }

    /// Makes `frames` durable, all in one segment, and returns the position after each. On an
    /// error the archive is as it was before and the same frames can be given again.
    pub fn append(&mut self, frames: &[(Header, Bytes)]) -> io::Result<Vec<Position>> {
        self.roll_if_due();
        // Somebody removed the file under our hands: what is written to it nobody could read.
        self.open.take_if(|open| open.file.metadata().is_ok_and(|found| found.nlink() == 0));
        self.make_room(frames)?;
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(create(&self.dir, self.own.file(), &mut self.last)?),
        };
        let (archive, segment) = (&self.id, open.sequence);
        match open.append(frames) {
            Ok(ends) => {
                let at = |length| Position { archive: archive.clone(), segment, length };
                Ok(ends.into_iter().map(at).collect())
            }
            Err(error) => {
                // If even this fails, the next append overwrites: it writes at `length`.
                let _torn = open.file.set_len(open.length);
                Err(error)
            }
        }
    }

    /// Closes an open segment that has lived its time and removes segments beyond the limits.
    /// Returns how many were removed. Call it every minute or so.
    pub fn maintain(&mut self) -> usize {
        self.maintain_at(Reading::now())
    }

    pub(super) fn maintain_at(&mut self, now: Reading) -> usize {
        self.roll_if_due();
        let open = self.open.as_ref().map_or(0, |open| open.length);
        let beyond = self.limits.beyond_bytes(self.closed.iter().map(|closed| closed.kept), open);
        let removed = self.remove_oldest(beyond);
        let old = self.limits.beyond_age(self.closed.iter().map(|closed| closed.kept), now);
        removed + self.remove_oldest(old)
    }

    /// Removes what has to go before `frames` may be written: the bound holds at every moment.
    fn make_room(&mut self, frames: &[(Header, Bytes)]) -> io::Result<()> {
        let size = |(header, payload): &(Header, Bytes)| header.encode(0).len() + payload.len();
        let needed: u64 = frames.iter().map(|frame| size(frame) as u64).sum();
        if needed > self.limits.bytes() {
            let limit = self.limits.bytes();
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!(
                    "a batch of {needed} bytes is larger than the archive's max_bytes, {limit}"
                ),
            ));
        }
        let open = self.open.as_ref().map_or(0, |open| open.length);
        if open.saturating_add(needed) > self.limits.bytes() {
            // Nothing else is left to go than what was written last.
            self.closed.extend(self.open.take().map(Open::close));
        }
        let open = self.open.as_ref().map_or(0, |open| open.length);
        let kept = self.closed.iter().map(|closed| closed.kept);
        let beyond = self.limits.beyond_bytes(kept, open.saturating_add(needed));
        self.remove_oldest(beyond);
        Ok(())
    }

    fn remove_oldest(&mut self, count: usize) -> usize {
        let mut removed = 0;
        for closed in self.closed.drain(..count) {
            match std::fs::remove_file(&closed.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    if let Some(unsaid) = messages::admit(Kind::Removed, &closed.path) {
                        let path = closed.path.display();
                        tracing::warn!(%path, %error, "Could not remove an archive segment that is due.{unsaid}");
                    }
                }
                _ => removed += 1,
            }
        }
        if removed > 0 {
            let left = self.closed.len();
            if let Some(unsaid) = messages::admit(Kind::Removed, &self.dir) {
                tracing::info!(
                    removed,
                    left,
                    "Removed archive segments beyond the limits.{unsaid}"
                );
            }
        }
        removed
    }

    /// Whether the directory still is where it was opened.
    pub fn place(&self) -> Place {
        self.own.look()
    }

    fn roll_if_due(&mut self) {
        let due = |open: &mut Open| {
            let age = open.created.elapsed().unwrap_or_default();
            open.length >= self.segment_bytes || (open.length > 0 && age >= self.segment_age)
        };
        if let Some(open) = self.open.take_if(due) {
            self.closed.push_back(open.close());
        }
    }
}

#[cfg(test)]
impl Writer {
    /// Swaps the open segment's file, for tests of writes that fail.
    pub(super) fn replace_file(&mut self, file: std::fs::File) -> std::fs::File {
        std::mem::replace(&mut self.open.as_mut().expect("a segment is open").file, file)
    }
}
