//! Batch: records encoded for one sink, compressed, stamped with the byte ranges they came from.
//!
//! A [`Batch`] carries its own receipt: whoever delivers it calls [`Batch::delivered`] (or
//! [`Batch::dropped`], if the operator allowed that), and only then do the files' offsets move.

pub mod age;
pub mod alive;
pub mod budget;
pub mod compress;
pub mod encode;
pub mod encoding;
pub mod escape;
pub mod lane;
pub mod times;
pub mod troubles;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use crossbeam_channel::Sender;

use crate::{
    config::Compression,
    identity::guard::Guard,
    ledger::FileAccount,
    reason::{ByReason, Reason},
    source::Source,
};

/// How records are laid side by side in a payload. Either way every record ends with a newline and
/// no newline stands inside one, so a payload can be split at newlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// NDJSON: `{…}\n{…}\n`.
    Lines,
    /// A JSON array: `[\n{…},\n{…}\n]\n` (the first and the last line are the brackets).
    Array,
}

/// Seconds since the epoch, both inclusive, that contain every timestamp in the batch. Bounds, not
/// extremes: they may be up to a minute wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBounds {
    /// Not later than the earliest record.
    pub from: i64,
    /// Not earlier than the latest record.
    pub to: i64,
}

/// The part of one file that a batch carries.
#[derive(Debug, Clone)]
pub struct Range {
    /// The file.
    pub file: Arc<FileAccount>,
    /// Everything before this offset is in this batch or an earlier one of the same lane.
    pub end: u64,
    /// Where to start decoding again, after a crash, to rebuild the state at `end`
    /// (`resume <= end`; smaller only inside a joined or split message).
    pub resume: u64,
    /// The guard of `end`, which is made durable together with it.
    pub guard: Guard,
    /// File bytes that this batch adds to the prefix.
    pub bytes: u64,
    /// Of those, and of bytes before them that waited for their message's end, bytes that no record
    /// carries: the rest of cut lines, what could no longer be read.
    pub given_up: ByReason,
    /// Records that it carries from the file.
    pub lines: u32,
    /// The sink had parked the source: this was read again since, from the refused record on.
    pub again: bool,
}

/// Records of a batch that follow each other and come from one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of the file's range in the batch.
    pub range: u32,
    /// How many.
    pub lines: u32,
}

/// An encoded, compressed group of records on its way to one sink.
#[derive(Debug)]
pub struct Batch {
    /// Batches of one lane hold the same files in order: deliver a lane strictly in order, one at a
    /// time; different lanes in any order or at once.
    pub lane: u32,
    /// What to send.
    pub payload: Bytes,
    /// How `payload` is compressed.
    pub compression: Compression,
    /// How its records are laid out.
    pub framing: Framing,
    /// Bytes before compression.
    pub raw_len: usize,
    /// Records. 0: the batch only moves offsets; it is not sent, but settled in its turn.
    pub lines: u32,
    /// Contains every record's time (records without one count with the time they were read).
    pub times: TimeBounds,
    /// The sources in it, each once.
    pub sources: Vec<Arc<Source>>,
    /// The files in it, each once.
    pub ranges: Vec<Range>,
    /// Which records are whose, in the payload's order.
    pub runs: Vec<Run>,
    /// When it was sealed.
    pub sealed_at: Instant,
    /// Tells the batch's age until it is settled.
    pub begun: Option<age::Begun>,
    /// Returns the batch's bytes to the sink's memory budget when dropped.
    pub permit: Option<budget::Permit>,
    /// The sink's slot.
    pub sink: u16,
    /// Where receipts go.
    pub receipts: Sender<Receipt>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Receipt {
    /// The sink's slot.
    pub sink: u16,
    /// The files that it carried.
    pub ranges: Vec<Range>,
    /// How many records it holds.
    pub lines: u32,
    /// Delivered, or dropped with the operator's leave.
    pub outcome: Outcome,
    /// Where a sink that can truncate itself back stands after this batch (opaque to all others),
    /// committed in one step with the offsets. Receipts of such a sink must be in write order.
    pub position: Option<String>,
}

/// Whether a batch arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The sink holds it durably.
    Delivered,
    /// Given up, counted under this reason.
    Dropped(Reason),
    /// Neither: the sink parks the source (one, all ranges are its own) behind a record that is
    /// refused. It is to be read again from its settled offsets on, but not before this instant, and
    /// without the first `lines` records of each range, which were delivered.
    Parked(Instant),
}

impl Batch {
    /// The sink holds the batch durably: its files' offsets may move.
    pub fn delivered(self, position: Option<String>) {
        self.settle(Outcome::Delivered, position);
    }

    /// The batch is given up, as the operator allowed; counted as dropped.
    pub fn dropped(self, reason: Reason) {
        self.settle(Outcome::Dropped(reason), None);
    }

    fn settle(self, outcome: Outcome, position: Option<String>) {
        let Self { ranges, lines, sink, receipts, permit, begun, .. } = self;
        drop((permit, begun));
        // The receiver is gone only when the agent is going down; the batch is then sent again.
        let _gone = receipts.send(Receipt { sink, ranges, lines, outcome, position });
    }
}
