//! Extents: an archive cut into pieces of bounded size, with bounds for the times in each.
//!
//! An extent is a stretch of frames of one segment. Its bounds come from the frames' headers, so
//! they are known before anything is decompressed: no line in it is older than `low`, and none is
//! younger than `high`. What cannot match, as the headers say, is in no extent.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Error, query::Query, summary::Summary};
use crate::archive::read::{self, Frames, Next, Segment};

/// Decompressed bytes that make an extent: small frames go together, or handing them over would
/// cost more than scanning them.
const EXTENT_BYTES: usize = 512 << 10;
/// Segments that are kept open, so that what retention removes meanwhile can still be read.
const MAX_OPEN: usize = 128;
const SECOND: i64 = 1_000_000_000;

/// A stretch of frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    segment: u32,
    /// Where it begins in its segment.
    pub at: u64,
    /// Where it ends.
    pub end: u64,
    /// No line is older, nanoseconds since the epoch.
    pub low: i64,
    /// No line is younger.
    pub high: i64,
    /// Which sources are in it, each a bit of its hash; all bits until that is known.
    pub sources: u128,
    /// It was scanned, and what there was is counted.
    pub counted: bool,
    /// The last scan found lines below the window that was asked for.
    pub left: bool,
}

/// An archive's extents, in its order.
#[derive(Debug, Default)]
pub(super) struct Extents {
    segments: Vec<Known>,
    list: Vec<Extent>,
    open: Option<Frames>,
    /// Frames that are passed over, places that are damaged, and segments.
    pub counts: Summary,
}

#[derive(Debug)]
struct Known {
    sequence: u64,
    path: PathBuf,
    file: Option<Arc<File>>,
}

impl Extents {
    /// Takes in what the archive has that is not known yet. A directory that is not there is an
    /// error unless it is `awaited`.
    pub(super) fn extend(&mut self, dir: &Path, query: &Query, awaited: bool) -> Result<(), Error> {
        // The list first, then the open segment to its end: if the list has a later one, the open
        // one was complete before.
        let segments = match read::segments(dir) {
            Err(error) if awaited && error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(|source| Error::Read { path: dir.to_owned(), source })?,
        };
        let from = self.segments.last().map(|segment| segment.sequence);
        let listed = |segment: &Segment| Some(segment.sequence) == from;
        if let Some(mut removed) = self.open.take_if(|_| !segments.iter().any(listed)) {
            // Its file is still there for whoever holds it open.
            let path = dir.to_owned();
            self.walk(&mut removed, query).map_err(|source| Error::Read { path, source })?;
        }
        for Segment { sequence, path } in segments {
            if from.is_some_and(|from| sequence < from) {
                continue;
            }
            let mut frames = match self.open.take() {
                Some(frames) if from == Some(sequence) => frames,
                _ if from == Some(sequence) => continue,
                _ => match Frames::open(&path) {
                    Ok(frames) => {
                        let file = (self.segments.len() < MAX_OPEN).then(|| frames.file());
                        self.segments.push(Known { sequence, path: path.clone(), file });
                        self.counts.segments += 1;
                        frames
                    }
                    // Retention removed it meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(Error::Read { path, source }),
                },
            };
            let walked = self.walk(&mut frames, query);
            walked.map_err(|source| Error::Read { path, source })?;
            self.open = Some(frames);
        }
        Ok(())
    }

    fn walk(&mut self, frames: &mut Frames, query: &Query) -> io::Result<()> {
        let segment = u32::try_from(self.segments.len() - 1).unwrap_or(u32::MAX);
        let mut bytes = usize::MAX;
        loop {
            let at = frames.position();
            let frame = match frames.advance()? {
                None => return Ok(()),
                Some(Next::Damaged(_bytes)) => {
                    self.counts.damaged += 1;
                    continue;
                }
                Some(Next::Frame(frame)) => frame,
            };
            if query.frame(&frame.header).is_none() {
                self.counts.skipped += 1;
                continue;
            }
            let times = frame.header.times;
            let low = times.from.saturating_mul(SECOND);
            // The second `to` may be full. What is later than can be counted has the greatest key there is.
            let high = times.to.saturating_mul(SECOND).saturating_add(SECOND - 1);
            match self.list.last_mut() {
                Some(last) if bytes < EXTENT_BYTES => {
                    last.end = frame.end();
                    last.low = last.low.min(low);
                    last.high = last.high.max(high);
                }
                _ => {
                    bytes = 0;
                    self.list.push(Extent {
                        segment,
                        at,
                        end: frame.end(),
                        low,
                        high,
                        sources: u128::MAX,
                        counted: false,
                        left: false,
                    });
                }
            }
            bytes += frame.header.raw_len;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    /// One of them.
    pub(super) fn get(&self, number: u32) -> Option<&Extent> {
        self.list.get(number as usize)
    }

    /// One of them, to note something.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Extent> {
        self.list.get_mut(number as usize)
    }

    /// The segment of an extent. `None`: retention removed it meanwhile.
    pub(super) fn file(&self, extent: &Extent) -> Result<Option<Arc<File>>, Error> {
        let Some(known) = self.segments.get(extent.segment as usize) else { return Ok(None) };
        if let Some(file) = &known.file {
            return Ok(Some(Arc::clone(file)));
        }
        match File::open(&known.path) {
            Ok(file) => Ok(Some(Arc::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path: known.path.clone(), source }),
        }
    }

    /// For each extent the latest time in it and all before it.
    pub(super) fn reach(&self) -> Vec<i64> {
        let latest = self.list.iter().scan(i64::MIN, |latest, extent| {
            *latest = (*latest).max(extent.high);
            Some(*latest)
        });
        latest.collect()
    }

    /// Forgets the oldest `count`; the numbers of the others become smaller by as much.
    pub(super) fn forget(&mut self, count: u32) {
        self.list.drain(..count as usize);
        let first = self.list.first().map_or(u32::MAX, |extent| extent.segment);
        for known in self.segments.iter_mut().take(first as usize) {
            known.file = None;
        }
    }
}
