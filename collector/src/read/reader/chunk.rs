//! One chunk of a file, as a reader thread works on it: into its buffer, and out of it into a lane.

use std::io;

use super::{GUARD_BYTES, LINE_OVERHEAD, LogFile, Reader, Tail, lane_of};
use crate::{
    batch::encode::SourceEncoding,
    identity::guard::AtHand,
    read::{
        cursor::Cursor,
        piece::Piece,
        pump::{self, Pumped},
        tail::TailId,
    },
};

impl Reader {
    /// Reads from the guard bytes on into the buffer.
    pub(super) fn read(&mut self, cursor: &Cursor, file: &LogFile) -> io::Result<Piece> {
        self.setup.metrics.reads.inc();
        file.content.read_at(&mut self.buffer, cursor.offset - cursor.guard_len() as u64)
    }

    pub(super) fn pump(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        piece: Piece,
    ) -> Pumped {
        let (target, encoding, buffer) = self.target(id, tail, sink);
        let cursor = &mut tail.cursors[sink];
        let read = &buffer[..piece.bytes];
        let (from, guard) = (cursor.offset, cursor.guard_len());
        let pumped = pump::pump(target, cursor, encoding, &file.account, read);
        cursor.consume(read, pumped.consumed);
        let read = &self.buffer[..piece.bytes];
        self.rests.skipped += pumped.zeros;
        if pumped.consumed > 0 && file.marked().is_some() {
            let end = from + (read.len() - guard) as u64;
            let read_now = (from, from + pumped.consumed as u64);
            let bytes = AtHand::before(read, end);
            self.setup.accounts.prefixes.note(file.account.id, read_now, bytes);
        }
        self.setup.metrics.read_bytes.inc_by(pumped.consumed as u64);
        pumped
    }

    /// For a line that is longer than the buffer.
    pub(super) fn enlarge_buffer(&mut self) {
        // The longest line with its frame fits: see `Decoder::next`.
        let longest = self.setup.max_line_bytes + LINE_OVERHEAD + GUARD_BYTES;
        let larger = (self.buffer.len() * 2).min(longest.max(self.buffer.len() + 1));
        self.buffer.resize(larger, 0);
    }

    /// Where a tail's records go for one sink, its metadata, and the bytes that were read.
    pub(super) fn target(
        &mut self,
        id: TailId,
        tail: &Tail,
        sink: usize,
    ) -> (pump::Target<'_>, &SourceEncoding, &[u8]) {
        let Self { sinks, encodings, buffer, setup, .. } = self;
        let lanes = &mut sinks[sink];
        let lane = lane_of(id.0, lanes.lanes.len() as u32);
        let encoding = encodings.of(id, &tail.source, lanes.outlet.encoding.framing);
        (pump::Target { lanes, lane, metrics: &setup.metrics }, encoding, buffer)
    }
}
