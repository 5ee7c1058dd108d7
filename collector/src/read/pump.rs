//! The hot loop: one chunk of one file through the decoder into one sink's lane.

use std::sync::Arc;

use super::{
    cursor::Cursor,
    sink_lanes::SinkLanes,
    zeros::{self, Then},
};
use crate::{
    batch::{
        compress::Compressor,
        encode::SourceEncoding,
        lane::{Lane, Outlet},
    },
    decode::Step,
    identity::guard::{AtHand, Guard},
    ledger::FileAccount,
    metrics::{Metrics, ReasonLabel},
    reason::Reason,
    record::Record,
};

/// Where records go.
pub(super) struct Target<'a> {
    pub(super) lanes: &'a mut SinkLanes,
    pub(super) lane: u32,
    pub(super) metrics: &'a Metrics,
}

/// How far a chunk got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pumped {
    /// Bytes used up.
    pub(super) consumed: usize,
    /// Why it stopped before the last whole line, if it did.
    pub(super) stop: Option<Stop>,
    /// Bytes of an unfinished line behind those.
    pub(super) rest: usize,
    /// Of those used up, zeros that were skipped.
    pub(super) zeros: u64,
}

/// Why a chunk was not used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The sink's memory budget has no room; its release wakes the tail.
    Budget,
    /// A batch could not be sealed.
    Failed,
    /// A run of NULs follows the rest, and where it ends is not to be seen here.
    Zeros,
    /// A parked source's one record is on its way; what becomes of it is to be heard.
    Probed,
}

/// Counts of one call, added to the metrics at its end: not an atomic per line.
#[derive(Default)]
struct Tally {
    /// Since the last cover.
    lines: u32,
    covered_lines: u32,
    unparsed: u64,
    split: u64,
    cut: u64,
}

/// Decodes and encodes every whole line of `read`, which begins with the cursor's guard. A run of NULs
/// ends the line before it, and is skipped.
pub(super) fn pump(
    mut target: Target<'_>,
    cursor: &mut Cursor,
    encoding: &SourceEncoding,
    account: &Arc<FileAccount>,
    read: &[u8],
) -> Pumped {
    let base = cursor.offset;
    let input = &read[cursor.guard_len()..];
    let at_hand = AtHand::before(read, base + input.len() as u64);
    let mut done = 0;
    if base == 0 && cursor.decoder.heeds_marks() {
        match begin_file(&mut target, cursor, account, input, at_hand) {
            Some(mark) => done = mark,
            None => return Pumped { consumed: 0, stop: None, rest: input.len(), zeros: 0 },
        }
    }
    let unit = cursor.decoder.unit() as u64;
    let mut skipped = 0;
    loop {
        let segment =
            zeros::segment(&input[done..]).in_units(base + done as u64, unit, input.len() - done);
        let text = &input[done..done + segment.text];
        let lines = (base + done as u64, text, at_hand);
        let (consumed, stop) = pump_lines(&mut target, cursor, encoding, account, lines);
        let rest = &text[consumed..];
        done += consumed;
        let pumped = |stop| Pumped { consumed: done, stop, rest: rest.len(), zeros: skipped };
        match segment.then {
            _ if stop.is_some() => return pumped(stop),
            Then::End => return Pumped { rest: input.len() - done, ..pumped(None) },
            Then::Open => return pumped(Some(Stop::Zeros)),
            Then::Run(zeros) => {
                let from = base + done as u64;
                let run = (from + rest.len() as u64, zeros as u64);
                let line = (from, rest, at_hand);
                if end_lines(&mut target, cursor, encoding, account, line, false).is_none() {
                    return pumped(Some(Stop::Budget));
                }
                skip(&mut target, cursor, account, run, at_hand.guard(run.0 + run.1));
                done += rest.len() + zeros;
                skipped += zeros as u64;
            }
        }
    }
}

/// Looks whether a file begins with a byte-order mark, which is no part of its text. Its length; None:
/// there may come one. Out of line, so that what is rare takes no register from the loop.
#[cold]
#[inline(never)]
fn begin_file(
    target: &mut Target<'_>,
    cursor: &mut Cursor,
    account: &Arc<FileAccount>,
    input: &[u8],
    at_hand: AtHand<'_>,
) -> Option<usize> {
    let mark = cursor.decoder.begin_file(input)?;
    if mark as u64 > cursor.replay_until {
        let SinkLanes { outlet, lanes, .. } = &mut *target.lanes;
        let lane = &mut lanes[target.lane as usize];
        let end = mark as u64;
        cursor.cover((outlet, lane), account, (end, at_hand.guard(end)), 0);
    }
    Some(mark)
}

/// Steps over a run of NULs: where it begins, and how long it is. `guard` is its end's.
pub(super) fn skip(
    target: &mut Target<'_>,
    cursor: &mut Cursor,
    account: &Arc<FileAccount>,
    (start, len): (u64, u64),
    guard: Guard,
) {
    let SinkLanes { outlet, lanes, .. } = &mut *target.lanes;
    let lane = &mut lanes[target.lane as usize];
    cursor.skip(start, start + len);
    if start + len > cursor.replay_until {
        cursor.cover((outlet, lane), account, (start + len, guard), 0);
    }
}

/// Decodes and encodes every whole line of `input`, which begins at `base`. How much of it is used
/// up, and why not all whole lines are.
fn pump_lines(
    target: &mut Target<'_>,
    cursor: &mut Cursor,
    encoding: &SourceEncoding,
    account: &Arc<FileAccount>,
    (base, input, at_hand): (u64, &[u8], AtHand<'_>),
) -> (usize, Option<Stop>) {
    let Target { lanes, lane, metrics } = target;
    let SinkLanes { outlet, lanes, compressor, .. } = &mut **lanes;
    let lane = &mut lanes[*lane as usize];
    let observed = Observed::now();
    let mut tally = Tally::default();
    let mut at = 0;
    let mut stop = None;
    while at < input.len() {
        if !lane.reserve(outlet) {
            stop = Some(Stop::Budget);
            break;
        }
        match cursor.decoder.next(account.id, base + at as u64, &input[at..]) {
            Step::NeedMore => break,
            Step::Consumed(consumed) => at += consumed,
            Step::Skipped(consumed) => {
                let start = base + at as u64;
                at += consumed;
                cursor.skip(start, base + at as u64);
            }
            Step::Record { record, consumed } => {
                at += consumed;
                let end = base + at as u64;
                if end <= cursor.replay_until {
                    continue;
                }
                if lane.leaves_out(account.id) {
                    let cut = record.marks.cut;
                    cursor.give_up(Reason::LineTooLong, cut);
                    if lane.has_left_out() {
                        let end = (end, at_hand);
                        seal_left_out((outlet, lane, compressor), cursor, account, end);
                    }
                    continue;
                }
                lane.append(outlet, encoding, &record, observed.get());
                let cut = tally.count(&record);
                if cut > 0 {
                    cursor.give_up(Reason::LineTooLong, cut);
                }
                if lane.is_full(outlet) {
                    let end = (end, at_hand);
                    let lines = tally.take_lines();
                    stop = seal_full((outlet, lane, compressor), cursor, account, end, lines);
                    if stop.is_some() {
                        break;
                    }
                }
            }
        }
    }
    if at > 0 && base + at as u64 > cursor.replay_until {
        let end = base + at as u64;
        cursor.cover((outlet, lane), account, (end, at_hand.guard(end)), tally.take_lines());
    }
    lane.release_if_empty();
    tally.publish(metrics);
    (at, stop)
}

/// Seals a batch that is full. Why reading stops then, if it does. Out of line, as it happens once in
/// thousands of lines.
#[cold]
fn seal_full(
    (outlet, lane, compressor): (&Outlet, &mut Lane, &mut Compressor),
    cursor: &mut Cursor,
    account: &Arc<FileAccount>,
    (end, at_hand): (u64, AtHand<'_>),
    lines: u32,
) -> Option<Stop> {
    cursor.cover((outlet, lane), account, (end, at_hand.guard(end)), lines);
    if let Err(error) = lane.seal(outlet, compressor) {
        tracing::error!(%error, "Compressing a batch failed; it is tried again.");
        return Some(Stop::Failed);
    }
    lane.is_probe_sent().then_some(Stop::Probed)
}

/// Seals, once a parked source's last record to be left out is left out, a batch without records: so
/// that those are settled whatever follows.
#[cold]
fn seal_left_out(
    (outlet, lane, compressor): (&Outlet, &mut Lane, &mut Compressor),
    cursor: &mut Cursor,
    account: &Arc<FileAccount>,
    (end, at_hand): (u64, AtHand<'_>),
) {
    cursor.cover((outlet, lane), account, (end, at_hand.guard(end)), 0);
    if let Err(error) = lane.seal(outlet, compressor) {
        tracing::debug!(%error, "Offsets stay in the batch of the next record.");
    }
}

/// Delivers what stands behind the last newline of a file that has ended (`rest` bytes, the last of
/// `read`); `last`: and the messages that wait for a part that will not come. False: no room.
pub(super) fn flush(
    target: &mut Target<'_>,
    cursor: &mut Cursor,
    encoding: &SourceEncoding,
    account: &Arc<FileAccount>,
    (read, rest): (&[u8], usize),
    last: bool,
) -> bool {
    let from = cursor.offset;
    let at_hand = AtHand::before(read, from + rest as u64);
    let line = (from, &read[read.len() - rest..], at_hand);
    let Some(end) = end_lines(target, cursor, encoding, account, line, last) else {
        return false;
    };
    if end > from {
        cursor.move_to(end, at_hand.guard(end));
    }
    true
}

/// As [`flush`], of bytes at an offset, and leaving the cursor where it is. Where they end; None: no
/// room.
fn end_lines(
    target: &mut Target<'_>,
    cursor: &mut Cursor,
    encoding: &SourceEncoding,
    account: &Arc<FileAccount>,
    (base, rest, at_hand): (u64, &[u8], AtHand<'_>),
    last: bool,
) -> Option<u64> {
    let Target { lanes, lane, metrics } = target;
    let SinkLanes { outlet, lanes, compressor, .. } = &mut **lanes;
    let lane: &mut Lane = &mut lanes[*lane as usize];
    if !lane.reserve(outlet) {
        return None;
    }
    let observed = Observed::now();
    let mut tally = Tally::default();
    let mut at = 0;
    loop {
        let (from, input) = (base + at as u64, &rest[at..]);
        let step = if last {
            cursor.decoder.finish(account.id, from, input)
        } else {
            cursor.decoder.end_file(account.id, from, input)
        };
        match step {
            None | Some(Step::NeedMore) => break,
            Some(Step::Consumed(consumed)) => at += consumed,
            Some(Step::Skipped(consumed)) => {
                let start = base + at as u64;
                at += consumed;
                cursor.skip(start, base + at as u64);
            }
            Some(Step::Record { record, consumed }) => {
                at += consumed;
                // A message that waited for more ends with the bytes that are there: it was not
                // settled before, however far the bytes around it were.
                if base + at as u64 <= cursor.replay_until && consumed > 0 {
                    continue;
                }
                if lane.leaves_out(account.id) {
                    let cut = record.marks.cut;
                    cursor.give_up(Reason::LineTooLong, cut);
                    continue;
                }
                lane.append(outlet, encoding, &record, observed.get());
                let cut = tally.count(&record);
                cursor.give_up(Reason::LineTooLong, cut);
            }
        }
    }
    let end = base + at as u64;
    if end >= cursor.replay_until {
        let guard = if end == cursor.offset { cursor.guard() } else { at_hand.guard(end) };
        cursor.cover((outlet, lane), account, (end, guard), tally.take_lines());
        // Many sources of this lane may end at once, and each adds its messages to this batch, so it is
        // sealed here when it is full. All messages of one source are in it by now: they end at one
        // offset, and must be settled together. A parked source's batch is sealed by whoever fills it.
        if lane.is_full(outlet)
            && !lane.is_probing()
            && let Err(error) = lane.seal(outlet, compressor)
        {
            tracing::error!(%error, "Compressing a batch failed; it is tried again.");
        }
    }
    lane.release_if_empty();
    tally.publish(metrics);
    Some(end)
}

impl Tally {
    /// Counts a record; returns the bytes that were cut off it.
    #[inline]
    fn count(&mut self, record: &Record<'_>) -> u64 {
        self.lines += 1;
        let marks = &record.marks;
        if marks.unparsed || marks.split > 0 || marks.cut > 0 {
            self.unparsed += u64::from(marks.unparsed);
            self.split += u64::from(marks.split == 1);
            self.cut += u64::from(marks.cut > 0);
        }
        marks.cut
    }

    fn take_lines(&mut self) -> u32 {
        self.covered_lines += self.lines;
        std::mem::take(&mut self.lines)
    }

    fn publish(self, metrics: &Metrics) {
        metrics.lines.inc_by(u64::from(self.covered_lines + self.lines));
        if self.unparsed > 0 {
            metrics.unparsed_lines.inc_by(self.unparsed);
        }
        if self.split > 0 {
            metrics.long_lines.get_or_create(&ReasonLabel { reason: "split" }).inc_by(self.split);
        }
        if self.cut > 0 {
            metrics.long_lines.get_or_create(&ReasonLabel { reason: "cut" }).inc_by(self.cut);
            metrics.dropped_lines(Reason::LineTooLong, self.cut);
        }
    }
}

/// When a chunk was read, for records that bear no time of their own.
struct Observed {
    text: String,
    seconds: i64,
}

impl Observed {
    fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self { text: format!("{now:.9}"), seconds: now.as_second() }
    }

    fn get(&self) -> (&[u8], i64) {
        (self.text.as_bytes(), self.seconds)
    }
}
