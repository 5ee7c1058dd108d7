//! Zeros that are read again before they are believed.
//!
//! A read that overtakes a write sees zeros in one page, which the writer has not come to, and in the next
//! page what it has written. That happens where a file was allocated ahead, where several write to it at
//! offsets of their own, and where it is mapped. Zeros with other bytes behind them that still are there
//! after [`GRACE`] are no writer's: a hole, or part of a text.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    time::{Duration, Instant},
};

use super::LogFile;
use crate::{
    identity::FileId,
    read::{
        cursor::Cursor,
        nul,
        tail::TailId,
        zeros::{self, Zeros},
    },
};

/// So long zeros are doubted after bytes behind them were seen. Two threads may have divided the file
/// between them, and the one that comes first may get its turn on a processor last.
const GRACE: Duration = Duration::from_secs(1);
/// After so long they are read again for the first time, then after four times as long, and so on.
const FIRST: Duration = Duration::from_millis(1);

/// What is in doubt, per source and slot of the sink that it is read for. Empty nearly always.
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<(TailId, u16), Doubt, foldhash::fast::RandomState>);

/// Bytes that were seen behind zeros.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    file: FileId,
    /// Where the furthest of them ends.
    seen: u64,
    since: Instant,
    /// Until the next look.
    wait: Duration,
}

/// Bytes that were just read, before they are decoded.
pub(super) struct Fresh<'a> {
    /// The source.
    pub(super) tail: TailId,
    /// Whose offset they begin at.
    pub(super) cursor: &'a mut Cursor,
    pub(super) file: &'a LogFile,
    pub(super) bytes: &'a [u8],
}

impl Doubt {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.since + GRACE
    }
}

impl Doubts {
    /// Up to where zeros are believed.
    fn believed(&self, key: (TailId, u16), file: FileId, now: Instant) -> u64 {
        let doubt = self.0.get(&key).filter(|doubt| doubt.file == file && doubt.is_over(now));
        doubt.map_or(0, |doubt| doubt.seen)
    }

    /// When to read zeros again that are seen `now`. None: they were seen long enough ago.
    fn next_look(
        &mut self,
        key: (TailId, u16),
        file: FileId,
        zeros: &Range<u64>,
        now: Instant,
    ) -> Option<Instant> {
        let doubt = self.0.get_mut(&key)?;
        if doubt.file != file || zeros.end >= doubt.seen {
            return None;
        }
        doubt.wait = (doubt.wait * 4).min(GRACE);
        Some((now + doubt.wait).min(doubt.since + GRACE))
    }

    /// Whether some will be believed, or will have been filled, within moments.
    pub(super) fn is_any_open(&self) -> bool {
        let now = Instant::now();
        self.0.values().any(|doubt| !doubt.is_over(now))
    }

    /// How many of the new bytes no doubt holds back, and when to read the zeros behind them again. None: all of them.
    /// Those without zeros cost a look for one.
    #[inline]
    pub(super) fn first_in(&mut self, chunk: Fresh<'_>) -> io::Result<Option<(usize, Instant)>> {
        // Nobody writes to a compressed one.
        if chunk.file.content.is_compressed() {
            return Ok(None);
        }
        if !nul::is_any(chunk.bytes) {
            if !self.0.is_empty() {
                self.0.remove(&(chunk.tail, chunk.cursor.sink()));
            }
            return Ok(None);
        }
        self.first_in_zeros(chunk)
    }

    #[cold]
    fn first_in_zeros(&mut self, chunk: Fresh<'_>) -> io::Result<Option<(usize, Instant)>> {
        let Fresh { tail, cursor, file, bytes } = chunk;
        let offset = cursor.offset;
        if offset == 0 && cursor.decoder.heeds_marks() {
            // Half of a character is no zero, and a mark tells that there are halves.
            let _mark = cursor.decoder.begin_file(bytes);
        }
        let unit = cursor.decoder.unit();
        let (key, now) = ((tail, cursor.sink()), Instant::now());
        let believed = self.believed(key, file.account.id, now);
        // What was decoded before was believed before.
        let believed = believed.max(cursor.replay_until).saturating_sub(offset);
        let Some(Zeros { run, data }) = zeros::before_data(bytes, believed, offset, unit) else {
            return Ok(None);
        };
        let before = run.start;
        let run = offset + run.start as u64..offset + run.end as u64;
        let again = self.doubt(key, file, (&run, offset + data as u64), now)?;
        Ok(Some((before, again)))
    }

    /// When a run of zeros that ends where other bytes begin is to be read again. None: it is believed.
    pub(super) fn of_run(
        &mut self,
        tail: TailId,
        cursor: &Cursor,
        file: &LogFile,
        run: &Range<u64>,
    ) -> io::Result<Option<Instant>> {
        let (key, now) = ((tail, cursor.sink()), Instant::now());
        let believed = self.believed(key, file.account.id, now);
        if file.content.is_compressed() || run.end < believed.max(cursor.replay_until) {
            return Ok(None);
        }
        self.doubt(key, file, (run, run.end + 1), now).map(Some)
    }

    fn doubt(
        &mut self,
        key: (TailId, u16),
        file: &LogFile,
        (run, data): (&Range<u64>, u64),
        now: Instant,
    ) -> io::Result<Instant> {
        if let Some(again) = self.next_look(key, file.account.id, run, now) {
            return Ok(again);
        }
        let seen = zeros::data_end(&file.content, data)?;
        let doubt = Doubt { file: file.account.id, seen, since: Instant::now(), wait: FIRST };
        self.0.insert(key, doubt);
        Ok(doubt.since + FIRST)
    }

    /// The source is gone.
    pub(super) fn forget(&mut self, id: TailId) {
        self.0.retain(|(tail, _), _| *tail != id);
    }
}
