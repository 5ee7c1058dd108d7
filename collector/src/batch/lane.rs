//! A lane: the batch being filled for one sink by one reader thread.
//!
//! Every source has one lane per sink, so a file's records travel in order however many batches
//! are on the way. A lane takes its memory from its share of the sink's budget before its first record;
//! refused, the reader leaves the rest in the file.

use std::{collections::HashSet, io, sync::Arc, time::Instant};

use bytes::Bytes;
use crossbeam_channel::Sender;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Batch, Range, Receipt, Run, TimeBounds,
    age::{Ages, Begun},
    alive::Alive,
    budget::{Budget, Permit, Share},
    compress::Compressor,
    encode::{self, SourceEncoding, UidPrefix},
    encoding::Encoding,
    times::TimeTracker,
    troubles::Troubles,
};
use crate::{
    identity::{FileId, guard::Guard},
    ledger::{FileAccount, copies::Copies},
    reason::ByReason,
    record::Record,
    source::Source,
};

/// Where a thread's lanes of one sink get their memory and send their batches.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// The sink's slot.
    pub sink: u16,
    /// How its records are encoded and grouped.
    pub encoding: Encoding,
    /// Its memory.
    pub budget: Budget,
    /// The ages of its batches.
    pub ages: Ages,
    /// What is wrong with it.
    pub troubles: Troubles,
    /// Under which names the records of copies go.
    pub copies: Copies,
    /// Its queue.
    pub queue: UnboundedSender<Batch>,
    /// Where its receipts go.
    pub receipts: Sender<Receipt>,
    /// Whoever may still send is part of the sink.
    pub alive: Alive,
}

/// What the encoder may ask for beyond a record's own bytes.
const ROOM: usize = 32 << 10;

/// Room is kept for so many sources of a batch; the first look at a node puts all it has into a few.
const USUAL_SOURCES: usize = 256;

/// The batch being filled.
pub struct Lane {
    number: u32,
    share: Share,
    payload: Vec<u8>,
    permit: Option<Permit>,
    lines: u32,
    times: TimeTracker,
    uid: UidPrefix,
    ranges: Vec<Range>,
    runs: Vec<Run>,
    sources: Vec<Arc<Source>>,
    /// Addresses of `sources`.
    known_sources: HashSet<usize, foldhash::fast::RandomState>,
    opened: Option<Begun>,
    serial: u32,
    limit: usize,
    /// Bytes that make it full: `limit`, or any at all while one record fills the batch.
    full: usize,
    /// Bytes to make room for when a batch is begun: as many as the last one had.
    expected: usize,
    probe: Probe,
}

/// Where a cursor's range stands in the lane's batch, while that batch is the open one.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeSlot {
    /// The batch's, of few bytes because every cursor has one: that another batch has the same after
    /// going round does no harm, for the file is compared as well.
    serial: u32,
    index: u32,
}

/// What moves an offset.
#[derive(Debug, Clone)]
pub struct Advance {
    /// Everything before this is in the lane.
    pub end: u64,
    /// Where decoding restarts to rebuild the state at `end`.
    pub resume: u64,
    /// The guard of `end`.
    pub guard: Guard,
    /// File bytes added.
    pub bytes: u64,
    /// Bytes that no record carries (see [`Range::given_up`]).
    pub given_up: ByReason,
    /// Records added.
    pub lines: u32,
    /// See [`Range::again`].
    pub again: bool,
}

impl Lane {
    /// An empty lane.
    pub fn new(number: u32, outlet: &Outlet) -> Self {
        let max = outlet.encoding.max_bytes;
        Self {
            number,
            share: outlet.budget.share(number),
            payload: Vec::new(),
            permit: None,
            lines: 0,
            times: TimeTracker::default(),
            uid: UidPrefix::new(outlet.copies.clone()),
            ranges: Vec::new(),
            runs: Vec::new(),
            sources: Vec::new(),
            known_sources: HashSet::default(),
            opened: None,
            serial: 1,
            limit: limit(max),
            full: limit(max),
            expected: 0,
            probe: Probe::default(),
        }
    }

    /// Its number, which no other lane of the sink has.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Batches have the outlet's bounds from now on.
    pub fn regroup(&mut self, outlet: &Outlet) {
        self.limit = limit(outlet.encoding.max_bytes);
        self.full = if self.probe.is_on { 1 } else { self.limit };
    }

    /// A file that is read has another name from some offset on.
    pub fn forget_name(&mut self) {
        self.uid.forget();
    }

    /// Makes sure that records can be appended: takes memory from its share if need be.
    pub fn reserve(&mut self, outlet: &Outlet) -> bool {
        if self.permit.is_none() {
            self.permit = self.share.try_take(outlet.encoding.max_bytes);
        }
        self.permit.is_some()
    }

    /// Appends a record; call only after [`Lane::reserve`]. `observed`: RFC 3339 and seconds.
    pub fn append(
        &mut self,
        outlet: &Outlet,
        source: &SourceEncoding,
        record: &Record<'_>,
        observed: (&[u8], i64),
    ) {
        if self.lines == 0 {
            self.opened.get_or_insert_with(|| outlet.ages.begin());
            // A payload that leaves with its buffer would otherwise grow by doubling every time.
            self.payload.reserve(self.expected);
            encode::begin(&mut self.payload, outlet.encoding.framing);
        }
        self.make_room();
        encode::append(&mut self.payload, source, &mut self.uid, record, observed.0);
        self.times.add(record.timestamp, observed.1);
        self.lines += 1;
    }

    /// Grows the payload by doubling, but not beyond a full batch: what doubling would add to that
    /// is never used, in every lane.
    #[inline]
    fn make_room(&mut self) {
        let (len, capacity) = (self.payload.len(), self.payload.capacity());
        if capacity - len < ROOM && capacity < self.limit + ROOM {
            let wanted = (capacity * 2).clamp(2 * ROOM, self.limit + ROOM);
            self.payload.reserve_exact(wanted - len);
        }
    }

    /// Whether the batch should be sealed before another record.
    pub fn is_full(&self, outlet: &Outlet) -> bool {
        self.payload.len() >= self.full || self.lines >= outlet.encoding.max_lines
    }

    /// From now on, a batch of one record is filled for a parked source, leaving out what `probe` says.
    pub fn begin_probe(&mut self, skip: Vec<(FileId, u32)>) {
        self.probe = Probe { is_on: true, is_sent: false, skip };
        self.full = 1;
    }

    /// What is left to leave out, and whether a record was sent.
    pub fn end_probe(&mut self) -> (Vec<(FileId, u32)>, bool) {
        let probe = std::mem::take(&mut self.probe);
        self.full = self.limit;
        (probe.skip, probe.is_sent)
    }

    /// Whether a batch is filled for a parked source.
    pub fn is_probing(&self) -> bool {
        self.probe.is_on
    }

    /// Whether a parked source has sent its one record.
    pub fn is_probe_sent(&self) -> bool {
        self.probe.is_sent
    }

    /// Whether nothing is left to leave out.
    pub fn has_left_out(&self) -> bool {
        self.probe.skip.is_empty()
    }

    /// Whether the file's next record has been delivered before, and is left out.
    #[inline]
    pub fn leaves_out(&mut self, file: FileId) -> bool {
        !self.probe.skip.is_empty() && self.probe.leaves_out(file)
    }

    /// Notes that the lane now covers a file up to a point.
    pub fn cover(
        &mut self,
        outlet: &Outlet,
        slot: &mut RangeSlot,
        file: &Arc<FileAccount>,
        advance: Advance,
    ) {
        let Advance { end, resume, guard, bytes, given_up, lines, again } = advance;
        if slot.serial == self.serial
            && let Some(range) = self.ranges.get_mut(slot.index as usize)
            && Arc::ptr_eq(&range.file, file)
        {
            range.end = end;
            range.resume = resume;
            range.guard = guard;
            range.bytes += bytes;
            range.given_up.merge(&given_up);
            range.lines += lines;
            self.run(slot.index, lines);
            return;
        }
        self.opened.get_or_insert_with(|| outlet.ages.begin());
        *slot = RangeSlot { serial: self.serial, index: self.ranges.len() as u32 };
        if self.known_sources.insert(Arc::as_ptr(&file.source).addr()) {
            self.sources.push(Arc::clone(&file.source));
        }
        let file = Arc::clone(file);
        self.ranges.push(Range { file, end, resume, guard, bytes, given_up, lines, again });
        self.run(slot.index, lines);
    }

    /// Notes whose the last `lines` records are.
    fn run(&mut self, range: u32, lines: u32) {
        match self.runs.last_mut() {
            _ if lines == 0 => {}
            Some(run) if run.range == range => run.lines += lines,
            _ => self.runs.push(Run { range, lines }),
        }
    }

    /// When the batch must be sealed, if it holds anything.
    pub fn deadline(&self, outlet: &Outlet) -> Option<Instant> {
        self.opened.as_ref().map(|opened| opened.at() + outlet.encoding.max_age)
    }

    /// Gives back memory that was taken for records that did not come.
    pub fn release_if_empty(&mut self) {
        if self.lines == 0 {
            self.permit = None;
        }
    }

    /// Whether there are records to seal.
    pub fn has_lines(&self) -> bool {
        self.lines > 0
    }

    /// Whether there is anything to seal: records, or offsets that moved without any.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.lines == 0
    }

    /// Seals the batch and sends it on its way.
    ///
    /// # Errors
    /// The compressor failed; the batch stays as it was.
    pub fn seal(&mut self, outlet: &Outlet, compressor: &mut Compressor) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        if self.lines > 0 {
            encode::end(&mut self.payload, outlet.encoding.framing);
        }
        let raw_len = self.payload.len();
        self.expected = raw_len.min(self.limit) + ROOM;
        let payload = match self.lines {
            0 => Bytes::new(),
            _ => compressor.compress(&mut self.payload)?,
        };
        if raw_len < self.limit / 2 {
            // A quiet lane keeps no room, least of all what a burst took.
            self.payload = Vec::new();
        }
        // Nor does any keep what a record took that is longer than a batch.
        self.payload.shrink_to(self.limit + ROOM);
        let mut permit = self.permit.take();
        if let Some(permit) = &mut permit {
            permit.resize(payload.len());
        }
        self.probe.is_sent |= self.probe.is_on && self.lines > 0;
        let batch = Batch {
            lane: self.number,
            payload,
            compression: outlet.encoding.compression,
            framing: outlet.encoding.framing,
            raw_len,
            lines: std::mem::take(&mut self.lines),
            times: self.times.take().unwrap_or(TimeBounds { from: 0, to: 0 }),
            sources: std::mem::take(&mut self.sources),
            ranges: std::mem::take(&mut self.ranges),
            runs: std::mem::take(&mut self.runs),
            sealed_at: Instant::now(),
            begun: self.opened.take(),
            permit,
            sink: outlet.sink,
            receipts: outlet.receipts.clone(),
        };
        self.known_sources.clear();
        self.known_sources.shrink_to(USUAL_SOURCES);
        self.serial = self.serial.wrapping_add(1);
        // The sink is gone only when the agent is going down; the lines are read again then.
        let _going_down = outlet.queue.send(batch);
        Ok(())
    }
}

/// When to seal a batch: a little early keeps all but the largest records from exceeding the bound.
fn limit(max_bytes: usize) -> usize {
    max_bytes - (max_bytes / 8).min(32 << 10)
}

/// What a lane does differently while it fills a batch for a source that the sink has parked.
#[derive(Default)]
struct Probe {
    /// One record fills the batch.
    is_on: bool,
    /// It was sealed.
    is_sent: bool,
    /// How many records of which file were delivered before, and are left out.
    skip: Vec<(FileId, u32)>,
}

impl Probe {
    #[cold]
    fn leaves_out(&mut self, file: FileId) -> bool {
        let Some(at) = self.skip.iter().position(|(of, _)| *of == file) else { return false };
        self.skip[at].1 -= 1;
        if self.skip[at].1 == 0 {
            self.skip.remove(at);
        }
        true
    }
}

/// The lane of a source among `lanes`: the same for all its files.
pub fn lane_of(tail: u64, lanes: u32) -> u32 {
    // Tails are numbered in order of discovery and dealt to threads in turn; Fibonacci hashing
    // spreads what is left evenly.
    let hash = tail.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((hash * u64::from(lanes)) >> 32) as u32
}
