//! The segments of an archive that is written: the one that is appended to, and those that are closed.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;

use crate::{
    archive::{
        clock::seconds,
        read::{Frames, Next, Segment},
        retain::Kept,
        segment::{self, Header},
    },
    ownership,
};

/// Of segments: their group may be let read them.
const SEGMENT_MODE: u32 = 0o640;

#[derive(Debug)]
pub(super) struct Closed {
    pub(super) path: PathBuf,
    pub(super) kept: Kept,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Bytes that are durable.
    pub(super) length: u64,
    /// When the last line was stored, seconds since the epoch.
    pub(super) stored: i64,
    pub(super) created: SystemTime,
}

impl Open {
    pub(super) fn append(&mut self, frames: &[(Header, Bytes)]) -> io::Result<Vec<u64>> {
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

    pub(super) fn close(self) -> Closed {
        Closed { path: self.path, kept: Kept { bytes: self.length, stored: self.stored } }
    }
}

/// Begins the next segment; `last` is the highest sequence number used.
pub(super) fn create(dir: &Path, dir_file: &File, last: &mut u64) -> io::Result<Open> {
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
pub(super) fn survey(segment: &Segment) -> io::Result<(Kept, u64)> {
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
