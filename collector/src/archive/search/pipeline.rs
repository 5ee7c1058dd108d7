//! Pipeline: walker, workers and writer of one search.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};

use super::{
    query::{Checks, Query},
    scan::scan,
    show::Show,
};
use crate::archive::read::{self, Frame, Frames, Next, Segment};

/// Decompressed bytes that make a job: small frames go together, or handing them over would cost
/// more than scanning them.
const JOB_BYTES: usize = 512 << 10;
/// Jobs on the way at once, a worker.
const JOBS_PER_WORKER: usize = 3;
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A search to be made.
#[derive(Debug, Clone)]
pub struct Search {
    /// What is wanted.
    pub query: Query,
    /// How it is shown.
    pub show: Show,
    /// End after so many lines.
    pub limit: Option<u64>,
    /// Go on with what is added, until nobody reads any more.
    pub follow: bool,
    /// Worker threads; 0: one a core.
    pub threads: usize,
}

/// What a search came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines found.
    pub found: u64,
    /// Segments looked at.
    pub segments: u64,
    /// Frames decompressed and scanned.
    pub frames: u64,
    /// Frames passed over because their header says that nothing in them can match.
    pub skipped: u64,
    /// Places where the archive is damaged; what was there is not searched.
    pub damaged: u64,
}

/// Why a search ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive could not be read.
    #[error("could not read the archive {path}: {source}")]
    Read {
        /// What of it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What was found could not be written.
    #[error("could not write the result: {0}")]
    Write(#[source] io::Error),
}

/// Frames for one worker, one after the other.
struct Job {
    number: u64,
    frames: Vec<(Frame, Checks)>,
}

/// What became of a job.
struct Done {
    number: u64,
    out: Vec<u8>,
    counts: Summary,
}

impl Search {
    /// Searches the archive in `dir` and writes what it finds to `out`.
    pub fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<Summary, Error> {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let workers = if self.threads == 0 { cores() } else { self.threads };
        let in_flight = workers * JOBS_PER_WORKER;
        let (to_workers, jobs) = crossbeam_channel::bounded::<Job>(in_flight);
        let (to_writer, results) = crossbeam_channel::bounded::<Done>(in_flight);
        // A job needs a ticket, given back when its result is written: without it a slow frame at
        // the front would let results of later ones pile up.
        let (give, tickets) = crossbeam_channel::bounded::<Vec<u8>>(in_flight);
        for _ in 0..in_flight {
            let _room = give.try_send(Vec::new());
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..workers {
                let (jobs, to_writer, tickets) = (jobs.clone(), to_writer.clone(), tickets.clone());
                scope.spawn(|| self.work(jobs, tickets, to_writer));
            }
            drop((jobs, to_writer, tickets));
            let walker = scope.spawn(|| self.walk(dir, to_workers, &stop));
            let written = self.write(results, give, out);
            stop.store(true, Ordering::Relaxed);
            let walked = walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let mut summary = written?;
            let walked = walked?;
            summary.segments += walked.segments;
            summary.skipped += walked.skipped;
            summary.damaged += walked.damaged;
            Ok(summary)
        })
    }

    /// Hands out the frames worth scanning. Ends at the archive's end or when nobody wants more.
    fn walk(&self, dir: &Path, jobs: Sender<Job>, stop: &AtomicBool) -> Result<Summary, Error> {
        let query = &self.query;
        let mut walker = Walker {
            query,
            jobs,
            next: 0,
            frames: Vec::new(),
            bytes: 0,
            counts: Summary::default(),
        };
        let mut open: Option<(u64, Frames)> = None;
        let mut from = 0;
        while !stop.load(Ordering::Relaxed) {
            // The list first, then the open segment to its end: if the list has a later one, the
            // open one was complete before.
            let segments = match read::segments(dir) {
                Err(error) if self.follow && error.kind() == io::ErrorKind::NotFound => Vec::new(),
                listed => listed.map_err(|source| Error::Read { path: dir.to_owned(), source })?,
            };
            for Segment { sequence, path } in segments {
                if sequence < from {
                    continue;
                }
                from = sequence;
                let mut frames = match open.take_if(|open| open.0 == sequence) {
                    Some((_, frames)) => frames,
                    None => match Frames::open(&path) {
                        Ok(frames) => frames,
                        // Retention removed it meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(source) => return Err(Error::Read { path, source }),
                    },
                };
                match walker.segment(&mut frames, stop) {
                    Ok(true) => open = Some((sequence, frames)),
                    Ok(false) => return Ok(walker.counts),
                    Err(source) => return Err(Error::Read { path, source }),
                }
            }
            if !walker.hand_over() || !self.follow {
                break;
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(walker.counts)
    }

    fn work(&self, jobs: Receiver<Job>, tickets: Receiver<Vec<u8>>, results: Sender<Done>) {
        // Only out of memory could this fail; the writer then sees its end and says so.
        let Ok(mut decompressor) = zstd::bulk::Decompressor::new() else { return };
        let (mut payload, mut raw) = (Vec::new(), Vec::new());
        // A ticket before a job: the one who has the oldest job must not wait for a ticket.
        while let Ok(mut out) = tickets.recv()
            && let Ok(job) = jobs.recv()
        {
            let mut counts = Summary::default();
            for (frame, checks) in job.frames {
                let read = frame.payload(&mut payload).unwrap_or(false);
                raw.clear();
                raw.reserve(frame.header.raw_len);
                let whole = read
                    && decompressor.decompress_to_buffer(&payload, &mut raw).is_ok()
                    && raw.len() == frame.header.raw_len;
                if whole {
                    counts.frames += 1;
                    counts.found += scan(&self.query, checks, &raw, &self.show, &mut out);
                } else {
                    counts.damaged += 1;
                }
            }
            if results.send(Done { number: job.number, out, counts }).is_err() {
                return;
            }
        }
    }

    fn write(
        &self,
        results: Receiver<Done>,
        give: Sender<Vec<u8>>,
        out: &mut dyn Write,
    ) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let mut early = BTreeMap::new();
        let mut next = 0;
        for done in results {
            early.insert(done.number, done);
            while let Some(Done { out: mut lines, counts, .. }) = early.remove(&next) {
                next += 1;
                let left = self.limit.map(|limit| limit - summary.found);
                summary.frames += counts.frames;
                summary.damaged += counts.damaged;
                if let Some(left) = left.filter(|left| counts.found >= *left) {
                    summary.found += left;
                    out.write_all(first_lines(&lines, left)).map_err(Error::Write)?;
                    out.flush().map_err(Error::Write)?;
                    return Ok(summary);
                }
                summary.found += counts.found;
                out.write_all(&lines).map_err(Error::Write)?;
                lines.clear();
                // Nobody takes it once the walk is over.
                let _over = give.try_send(lines);
            }
            if self.follow && early.is_empty() {
                out.flush().map_err(Error::Write)?;
            }
        }
        out.flush().map_err(Error::Write)?;
        Ok(summary)
    }
}

/// Every shown line is one line, whatever is in it.
fn first_lines(lines: &[u8], count: u64) -> &[u8] {
    let Some(last) = count.checked_sub(1) else { return &[] };
    let nth = usize::try_from(last).unwrap_or(usize::MAX);
    let end = memchr::memchr_iter(b'\n', lines).nth(nth).map_or(lines.len(), |at| at + 1);
    &lines[..end]
}

/// Collects frames to jobs.
struct Walker<'a> {
    query: &'a Query,
    jobs: Sender<Job>,
    next: u64,
    frames: Vec<(Frame, Checks)>,
    bytes: usize,
    counts: Summary,
}

impl Walker<'_> {
    /// Goes through the rest of a segment. False: nobody wants more.
    fn segment(&mut self, frames: &mut Frames, stop: &AtomicBool) -> io::Result<bool> {
        if frames.position() == 0 {
            self.counts.segments += 1;
        }
        while let Some(next) = frames.advance()? {
            let frame = match next {
                Next::Frame(frame) => frame,
                Next::Damaged(_bytes) => {
                    self.counts.damaged += 1;
                    continue;
                }
            };
            let Some(checks) = self.query.frame(&frame.header) else {
                self.counts.skipped += 1;
                continue;
            };
            self.bytes += frame.header.raw_len;
            self.frames.push((frame, checks));
            if self.bytes >= JOB_BYTES && !self.hand_over() || stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// False: nobody wants more.
    fn hand_over(&mut self) -> bool {
        let frames = std::mem::take(&mut self.frames);
        self.bytes = 0;
        if frames.is_empty() {
            return true;
        }
        let job = Job { number: self.next, frames };
        self.next += 1;
        self.jobs.send(job).is_ok()
    }
}
