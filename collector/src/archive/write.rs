//! Write: appends frames to an archive durably, and cuts back what was not committed.
//!
//! A [`Writer`] owns its directory (a lock on it keeps a second one out) and knows nothing of
//! queues or retries; see `sink`. [`Writer::append`] either makes a whole group of frames durable,
//! or leaves the archive as it was.
//!
//! Exactly once: every append returns the archive's [`Position`] after each frame. It is committed
//! in one step with the offsets of the files the frame came from; [`Writer::open`] with the
//! position last committed removes whatever was written after it.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    clock::{Reading, seconds},
    read::{self, Frames, Next, Segment},
    retain::{Kept, Limits},
    segment::{self, Header},
};
use crate::{
    checkpoint::{OwnDirectory, Place},
    config,
    messages::{self, Kind},
    ownership,
};

/// Of the archive's directory and its segments: their group may be let read them.
const DIRECTORY_MODE: u32 = 0o750;
const SEGMENT_MODE: u32 = 0o640;

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

#[derive(Debug)]
struct Closed {
    path: PathBuf,
    kept: Kept,
}

#[derive(Debug)]
struct Open {
    sequence: u64,
    path: PathBuf,
    file: File,
    /// Bytes that are durable.
    length: u64,
    /// When the last line was stored, seconds since the epoch.
    stored: i64,
    created: SystemTime,
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

impl Open {
    fn append(&mut self, frames: &[(Header, Bytes)]) -> io::Result<Vec<u64>> {
        let mut ends = Vec::with_capacity(frames.len());
        let mut end = self.length;
        for (header, payload) in frames {
            let encoded = header.encode(end);
            self.file.write_all_at(&encoded, end)?;
            end += encoded.len() as u64;
            self.file.write_all_at(payload, end)?;
            end += payload.len() as u64;
            ends.push(end);
        }
        fail::fail_point!("archive.written");
        self.file.sync_data()?;
        fail::fail_point!("archive.synced");
        (self.length, self.stored) = (end, seconds(SystemTime::now()));
        Ok(ends)
    }

    fn close(self) -> Closed {
        Closed { path: self.path, kept: Kept { bytes: self.length, stored: self.stored } }
    }
}

/// Recovery, at start.
impl Writer {
    fn recover(&mut self, committed: Option<&str>) -> io::Result<()> {
        let committed = self.believable(committed);
        let mut segments = read::segments(&self.dir)?;
        let found = segments.len();
        if let Some(committed) = &committed {
            // A committed segment that is gone (retention) must not come again under its number:
            // the committed length would say nothing of it.
            self.last = committed.segment.saturating_sub(u64::from(committed.length == 0));
            while let Some(later) = segments.pop_if(|last| last.sequence > committed.segment) {
                self.last = self.last.max(later.sequence);
                let path = later.path.display();
                tracing::info!(%path, "Removing an archive segment that was not committed.");
                std::fs::remove_file(&later.path)?;
            }
        }
        let removed = segments.len() < found;
        let newest = segments.pop_if(|newest| {
            committed.as_ref().is_none_or(|committed| committed.segment == newest.sequence)
        });
        for segment in segments {
            self.last = self.last.max(segment.sequence);
            let (kept, _end) = survey(&segment)?;
            self.closed.push_back(Closed { path: segment.path, kept });
        }
        if let Some(segment) = newest {
            self.last = self.last.max(segment.sequence);
            self.reopen(segment, committed.as_ref(), removed)?;
        }
        self.own.file().sync_all()
    }

    fn believable(&self, committed: Option<&str>) -> Option<Position> {
        let text = committed?;
        match serde_json::from_str::<Position>(text) {
            Ok(position) if position.archive == self.id => Some(position),
            _ => {
                let dir = self.dir.display();
                tracing::warn!(%dir, "The committed position is not of this archive; keeping all that is in it. Lines of the last moments may be in it twice.");
                None
            }
        }
    }

    /// Cuts the newest segment back to what is committed. It is written on only if nothing was cut
    /// off or removed: a follower that has read beyond would take what comes here for what it knows,
    /// in a new segment it misses nothing. And what was added to a segment that is not the committed
    /// one could not be told from what is committed in it.
    fn reopen(
        &mut self,
        segment: Segment,
        committed: Option<&Position>,
        removed: bool,
    ) -> io::Result<()> {
        let file = ownership::open(&segment.path)?;
        let length = file.metadata()?.len();
        let (kept, whole) = survey(&segment)?;
        let wanted = match committed {
            Some(committed) if committed.length <= length => committed.length,
            Some(committed) => {
                let (path, missing) = (segment.path.display(), committed.length - whole);
                tracing::error!(%path, missing, "The archive is shorter than what was committed to it; lines are missing. The filesystem lost synchronised data, or somebody cut the file.");
                whole
            }
            None => whole,
        };
        if wanted < length {
            let (path, bytes) = (segment.path.display(), length - wanted);
            tracing::info!(%path, bytes, "Cutting off the end of an archive segment that was not committed.");
            file.set_len(wanted)?;
            file.sync_all()?;
        }
        if removed || wanted < length || committed.is_some_and(|at| at.length != length) {
            let (kept, _end) = survey(&segment)?;
            self.closed.push_back(Closed { path: segment.path, kept });
            return Ok(());
        }
        let created = file.metadata()?.created().unwrap_or_else(|_| SystemTime::now());
        let Segment { sequence, path } = segment;
        let stored = kept.stored;
        self.open = Some(Open { sequence, path, file, length: wanted, stored, created });
        Ok(())
    }
}

/// What of a directory could not be done.
pub(super) fn refused_action(dir: &Path, error: &io::Error) -> &'static str {
    match ownership::Foreign::of(error) {
        Some(_) => "use",
        None if dir.is_dir() => "write to",
        None => "create",
    }
}

fn lock(dir_file: &File, dir: &Path) -> Result<(), OpenError> {
    // A predecessor in this process that was told to end may still be finishing its last write.
    for _ in 0..20 {
        match dir_file.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(OpenError::Io { action: "lock", path: dir.to_owned(), source });
            }
        }
    }
    Err(OpenError::Locked(dir.to_owned()))
}

/// Whether somebody writes the archive in `dir` now. An archive that does not exist is not written.
///
/// # Errors
/// It cannot be looked at.
pub fn is_written(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Held for an instant only: a writer that begins just now tries again.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The archive's name, given to it when it is created.
fn identity(dir: &Path, dir_file: &File) -> io::Result<String> {
    let path = dir.join("archive.id");
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = format!("{:x}-{:x}", now.as_nanos(), std::process::id());
    ownership::replace(&path, format!("{id}\n").as_bytes())?;
    dir_file.sync_all()?;
    Ok(id)
}

fn create(dir: &Path, dir_file: &File, last: &mut u64) -> io::Result<Open> {
    let created = SystemTime::now();
    loop {
        let path = dir.join(segment::file_name(*last + 1, seconds(created)));
        match ownership::create(&path, SEGMENT_MODE) {
            Ok(file) => {
                *last += 1;
                // The name must be durable before a position in it is committed.
                dir_file.sync_all()?;
                let (sequence, stored) = (*last, seconds(created));
                return Ok(Open { sequence, path, file, length: 0, stored, created });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => *last += 1,
            Err(error) => return Err(error),
        }
    }
}

/// What retention must know of a segment, and where its last whole frame ends.
fn survey(segment: &Segment) -> io::Result<(Kept, u64)> {
    let mut frames = Frames::open(&segment.path)?;
    let mut end = 0;
    while let Some(next) = frames.advance()? {
        if let Next::Frame(frame) = next {
            end = frame.end();
        }
    }
    let metadata = std::fs::metadata(&segment.path)?;
    // A line cannot have been stored in the future: the clock was wrong then. It counts from now on.
    let stored = metadata.modified().map_or(i64::MAX, seconds).min(seconds(SystemTime::now()));
    Ok((Kept { bytes: metadata.len(), stored }, end))
}

#[cfg(test)]
impl Writer {
    /// Swaps the open segment's file, for tests of writes that fail.
    pub(super) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.open.as_mut().expect("a segment is open").file, file)
    }
}
