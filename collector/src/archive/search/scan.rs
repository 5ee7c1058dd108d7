//! Scan: the wanted lines of an extent, shown, with what is needed to put them in order. One thread.
//!
//! A line's *key* is its time, or that of an earlier line of the same log if that is later: so a
//! log's lines stay in the file's order where its clock went back. Here only the extent's own lines
//! are known; what earlier extents add are [`Found::raise`]'s floors.

use std::{
    cmp,
    collections::HashMap,
    fs::File,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use zstd::zstd_safe::DParameter;

use super::{
    extents::Extent,
    query::{Checks, Query},
    record::{Record, Text},
    show::Show,
};
use crate::{
    archive::read::{Frames, Next},
    record::timestamp,
};

/// Sources in one extent whose clock went back since an earlier one that are remembered one by one.
const MAX_FLOORS: usize = 32;
/// What a unit takes beside its text.
const UNIT_BYTES: usize = size_of::<Unit>();

/// What was found in one extent.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The found lines, by key.
    pub units: Vec<Unit>,
    /// Whose they are.
    pub sources: Vec<Source>,
    /// What they look like.
    text: Vec<u8>,
    /// How many were found.
    pub count: u64,
    /// Frames that were scanned.
    pub frames: u64,
    /// Frames that are damaged.
    pub damaged: u64,
    /// Which sources have lines here, found or not; all bits if nobody asked.
    pub mask: u128,
}

/// A found line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// Where it stands in time, nanoseconds since the epoch.
    pub key: i64,
    /// Where it stands in the extent: bytes before it, decompressed.
    pub at: u32,
    /// Which of the sources.
    pub source: u32,
    start: usize,
    end: usize,
}

/// A log that has lines in an extent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// Tells it from others.
    pub hash: u64,
    /// The first key of its lines.
    pub first: i64,
    /// The last and latest.
    pub last: i64,
}

/// Keys that lines have at least, because of earlier lines of their logs.
#[derive(Debug)]
pub(super) struct Floors {
    /// Every line's.
    pub all: i64,
    /// Those of single sources, by hash.
    pub each: Vec<(u64, i64)>,
}

impl Default for Floors {
    fn default() -> Self {
        Self { all: i64::MIN, each: Vec::new() }
    }
}

impl Floors {
    /// Those of single sources, in no order. The latest are remembered one by one; every other line is
    /// taken to be as late as the latest of the rest. So which keys reach a given time depends only on
    /// the floors that do, and a search from the end that does not know the earlier ones yet agrees
    /// with one that does.
    pub(super) fn new(mut each: Vec<(u64, i64)>) -> Self {
        let mut all = i64::MIN;
        if each.len() > MAX_FLOORS {
            let latest_first = |floor: &(u64, i64)| cmp::Reverse(floor.1);
            let (_, rest, _) = each.select_nth_unstable_by_key(MAX_FLOORS, latest_first);
            all = rest.1;
            each.truncate(MAX_FLOORS);
            each.shrink_to_fit();
        }
        Self { all, each }
    }

    /// That of a single source, if it is remembered.
    pub(super) fn of(&self, hash: u64) -> Option<i64> {
        self.each.iter().find(|floor| floor.0 == hash).map(|floor| floor.1)
    }

    /// Whether they lift nothing.
    pub(super) fn are_none(&self) -> bool {
        self.all == i64::MIN && self.each.is_empty()
    }
}

/// What is asked of a scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    /// What is wanted.
    pub query: &'a Query,
    /// How it is shown.
    pub show: &'a Show,
    /// Only how many lines there are.
    pub count: bool,
    /// Every line's source is noted, too.
    pub mask: bool,
}

/// What a thread needs to decompress frames.
pub(super) struct Unpack {
    decompressor: zstd::bulk::Decompressor<'static>,
    payload: Vec<u8>,
}

impl Unpack {
    /// `None`: there is no memory.
    pub(super) fn new() -> Option<Self> {
        let mut decompressor = zstd::bulk::Decompressor::new().ok()?;
        // zstd's checksum is for its own tools. What a frame's bytes must be its header says, and
        // that is compared before they are decompressed; this one would cost a sixth of a search.
        decompressor.set_parameter(DParameter::ForceIgnoreChecksum(true)).ok()?;
        Some(Self { decompressor, payload: Vec::new() })
    }

    /// Gives every wanted frame of an extent to `take`, decompressed into `raw`; how many were
    /// whole, and how many were not.
    pub(super) fn frames(
        &mut self,
        file: Arc<File>,
        extent: &Extent,
        query: &Query,
        raw: &mut Vec<u8>,
        mut take: impl FnMut(Checks, &mut Vec<u8>),
    ) -> (u64, u64) {
        let mut frames = Frames::at(file, extent.at);
        let (mut whole, mut damaged) = (0, 0);
        while frames.position() < extent.end
            && let Ok(Some(next)) = frames.advance()
        {
            // Damage between frames was counted when the headers were walked.
            let Next::Frame(frame) = next else { continue };
            let Some(checks) = query.frame(&frame.header) else { continue };
            let read = frame.payload(&mut self.payload).unwrap_or(false);
            raw.clear();
            raw.reserve(frame.header.raw_len);
            if read
                && self.decompressor.decompress_to_buffer(&self.payload, raw).is_ok()
                && raw.len() == frame.header.raw_len
            {
                whole += 1;
                take(checks, raw);
            } else {
                damaged += 1;
            }
        }
        (whole, damaged)
    }
}

impl Scan<'_> {
    /// Scans an extent; `raw` is room to work in.
    pub(super) fn extent(
        &self,
        unpack: &mut Unpack,
        raw: &mut Vec<u8>,
        file: Arc<File>,
        extent: &Extent,
    ) -> Found {
        let mut gather = Gather {
            scan: *self,
            low: extent.low,
            known: HashMap::default(),
            last: (Vec::new(), 0),
            found: Found { mask: if self.mask { 0 } else { u128::MAX }, ..Found::default() },
        };
        let mut base = 0;
        let (frames, damaged) = unpack.frames(file, extent, self.query, raw, |checks, block| {
            gather.block(checks, block, base);
            base = base.saturating_add(block.len());
        });
        let mut found = gather.found;
        (found.frames, found.damaged) = (frames, damaged);
        found.sort();
        found
    }
}

/// Collects what is found.
struct Gather<'a> {
    scan: Scan<'a>,
    low: i64,
    known: HashMap<u64, u32, BuildHasherDefault<DefaultHasher>>,
    /// The source of the line before, as it stands there: runs of one log are long.
    last: (Vec<u8>, u32),
    found: Found,
}

impl Gather<'_> {
    fn block(&mut self, checks: Checks, block: &[u8], base: usize) {
        let query = self.scan.query;
        let pattern = query.pattern.as_ref().filter(|_| !query.invert && !self.scan.mask);
        let Some(mut candidates) = pattern.and_then(|pattern| pattern.candidates(block)) else {
            let mut at = 0;
            while at < block.len() {
                let end = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |len| at + len);
                self.line(checks, &block[at..end], base + at);
                at = end + 1;
            }
            return;
        };
        let mut from = 0;
        while let Some(hit) = candidates.next_from(from) {
            let start = memchr::memrchr(b'\n', &block[from..hit]).map_or(from, |at| from + at + 1);
            let end = memchr::memchr(b'\n', &block[hit..]).map_or(block.len(), |at| hit + at);
            self.line(checks, &block[start..end], base + start);
            from = end + 1;
            if from >= block.len() {
                break;
            }
        }
    }

    fn line(&mut self, checks: Checks, line: &[u8], at: usize) {
        if self.scan.mask && !line.is_empty() {
            self.found.mask |= bit(hash(Record::head(line).source(line)));
        }
        let query = self.scan.query;
        let Some((record, body)) = wanted(query, checks, line, Lines::Matching) else { return };
        self.found.count += 1;
        if self.scan.count {
            return;
        }
        let key = record.time.and_then(|time| timestamp::parse_nanos(time.raw));
        let key = key.unwrap_or(i64::MIN).max(self.low);
        let source = self.source(record.source(line), key);
        let key = self.found.sources[source as usize].last;
        let start = self.found.text.len();
        self.scan.show.line(line, record, body, query, &mut self.found.text);
        let end = self.found.text.len();
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        self.found.units.push(Unit { key, at, source, start, end });
    }

    /// Notes a line of a source.
    fn source(&mut self, name: &[u8], key: i64) -> u32 {
        if self.last.0 != name || self.found.sources.is_empty() {
            let hash = hash(name);
            let next = u32::try_from(self.found.sources.len()).unwrap_or(u32::MAX);
            self.last.1 = *self.known.entry(hash).or_insert(next);
            self.last.0.clear();
            self.last.0.extend_from_slice(name);
            if self.last.1 == next {
                self.found.sources.push(Source { hash, first: key, last: key });
            }
        }
        let source = &mut self.found.sources[self.last.1 as usize];
        source.last = source.last.max(key);
        self.last.1
    }
}

impl Found {
    /// Lifts the keys of sources that had a later time before this extent.
    pub(super) fn raise(&mut self, floors: &Floors) {
        if floors.are_none() {
            return;
        }
        let floor = |source: &Source| floors.of(source.hash).unwrap_or(floors.all);
        let lifted: Vec<i64> = self.sources.iter().map(floor).collect();
        for (source, floor) in self.sources.iter_mut().zip(&lifted) {
            (source.first, source.last) = (source.first.max(*floor), source.last.max(*floor));
        }
        for unit in &mut self.units {
            unit.key = unit.key.max(lifted[unit.source as usize]);
        }
        self.sort();
    }

    fn sort(&mut self) {
        // Lines of one time stay in the archive's order.
        let place = |unit: &Unit| (unit.key, unit.at);
        if !self.units.is_sorted_by_key(place) {
            self.units.sort_unstable_by_key(place);
        }
    }

    /// A unit as it is shown.
    pub(super) fn text(&self, unit: &Unit) -> &[u8] {
        self.text.get(unit.start..unit.end).unwrap_or_default()
    }

    /// What a unit takes of memory.
    pub(super) fn weight(unit: &Unit) -> usize {
        unit.end - unit.start + UNIT_BYTES
    }

    /// What it all takes of memory.
    pub(super) fn size(&self) -> usize {
        self.text.capacity() + self.units.capacity() * UNIT_BYTES
    }

    /// Lets go of all units but those from `from` to `to`, and of their text.
    pub(super) fn trim(&mut self, from: usize, to: usize) {
        let kept = self.units.get(from..to).unwrap_or_default();
        let mut text = Vec::with_capacity(kept.iter().map(|unit| unit.end - unit.start).sum());
        let mut units = Vec::with_capacity(kept.len());
        for unit in kept {
            let start = text.len();
            text.extend_from_slice(self.text(unit));
            units.push(Unit { start, end: text.len(), ..*unit });
        }
        (self.units, self.text) = (units, text);
    }
}

/// Which lines are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Those that match the pattern.
    Matching,
    /// All that the other filters let through.
    All,
}

/// A line's fields and its body, if it is wanted. A line that has no body is one.
pub(super) fn wanted<'a>(
    query: &Query,
    checks: Checks,
    line: &'a [u8],
    lines: Lines,
) -> Option<(Record<'a>, Text<'a>)> {
    if line.is_empty() {
        return None;
    }
    let mut record = Record::head(line);
    let body = record.body.unwrap_or(Text { raw: line, escaped: false });
    // The body first: nearly every line that is not wanted fails here.
    if lines == Lines::Matching && !query.matches(&body.value()) {
        return None;
    }
    if query.needs_attributes(checks) {
        record = record.complete(line);
    }
    query.line(&record, checks).then_some((record, body))
}

/// Tells sources from each other.
pub(super) fn hash(source: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(source)
}

/// A source's bit in an extent's mask.
pub(super) fn bit(hash: u64) -> u128 {
    1 << (hash % 128)
}
