//! What a reader does where a run of NULs reaches to the end of what it has read.
//!
//! Skips the run once other bytes are behind it, and lets it be as long as there are none.

use std::{collections::HashMap, io, ops::Range};

use super::{LogFile, Reader, Tail, Turn, pump};
use crate::{
    identity::FileId,
    read::{
        piece::Piece,
        tail::TailId,
        zeros::{self, Behind},
    },
};

/// How far runs that had no end yet were looked through, per tail and sink.
pub(super) type LookedThrough = HashMap<(TailId, usize), Run, foldhash::fast::RandomState>;

/// What finding the end of a run costs at least, as if so many zeros had been looked at.
const READ: u64 = 256 << 10;

/// A run without an end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    file: FileId,
    start: u64,
    to: u64,
}

/// What there is behind the chunk.
pub(super) enum Ahead {
    /// The run is skipped: read on.
    Skipped,
    /// Nothing: so long is the file.
    Nothing(u64),
    /// The turn is over.
    Over(Turn),
}

impl Reader {
    /// The chunk ends in a run of NULs. `pumped` was used up of it, and a part of a line is before
    /// the run.
    pub(super) fn past_zeros(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        (piece, line): (Piece, Range<usize>),
    ) -> io::Result<Ahead> {
        let start = tail.cursors[sink].offset + line.len() as u64;
        let read = start + (piece.bytes - line.end) as u64;
        let known = self.looked_through.remove(&(id, sink));
        let known = known.filter(|run| (run.file, run.start) == (file.account.id, start));
        let from = known.map_or(read, |run| run.to.max(read));
        let found = zeros::behind(&file.content, from)?;
        if let Behind::Data(data) = found {
            // The first and the last of the run may be halves of characters.
            let unit = tail.cursors[sink].decoder.unit();
            let data = data - data % unit as u64;
            let cursor = &tail.cursors[sink];
            if let Some(again) = self.doubts.of_run(id, cursor, file, &(start..data))? {
                return Ok(Ahead::Over(Turn::Later(again)));
            }
            return Ok(self.skip_to(id, tail, sink, file, (line, start, data)));
        }
        let (to, ahead) = match found {
            Behind::Nothing(size) => (size, Ahead::Nothing(size)),
            Behind::Data(to) | Behind::NotYet(to) => (to, Ahead::Over(Turn::More)),
        };
        let run = Run { file: file.account.id, start, to };
        self.looked_through.insert((id, sink), run);
        Ok(ahead)
    }

    /// Ends the line before a run, and goes on behind it.
    pub(super) fn skip_to(
        &mut self,
        id: TailId,
        tail: &mut Tail,
        sink: usize,
        file: &LogFile,
        (line, start, end): (Range<usize>, u64, u64),
    ) -> Ahead {
        let (mut target, encoding, buffer) = self.target(id, tail, sink);
        let cursor = &mut tail.cursors[sink];
        let read = (&buffer[..line.end], line.len());
        if !line.is_empty()
            && !pump::flush(&mut target, cursor, encoding, &file.account, read, false)
        {
            return Ahead::Over(Turn::Stalled);
        }
        file.account.see(end);
        let guard = file.content.guard_behind_zeros(end, end - start);
        pump::skip(&mut target, cursor, &file.account, (start, end - start), guard);
        cursor.move_to(end, guard);
        self.rests.skipped += READ;
        Ahead::Skipped
    }

    /// The file is over: a run of NULs at its end is no text either.
    pub(super) fn skip_last(&mut self, id: TailId, tail: &mut Tail, sink: usize, file: &LogFile) {
        let Some(run) = self.looked_through.remove(&(id, sink)) else { return };
        if run.file == file.account.id && run.start == tail.cursors[sink].offset {
            self.skip_to(id, tail, sink, file, (0..0, run.start, run.to));
        }
    }
}
