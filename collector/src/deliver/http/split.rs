//! A batch in smaller pieces, for a server that takes less at once, and the account of a batch of
//! which a part was dropped.

use std::{collections::BTreeMap, io, ops::Range};

use bytes::Bytes;

use crate::{
    batch::{self, Batch, Compression, Framing, Outcome, Receipt},
    deliver::payload,
    reason::{ByReason, Reason},
};

/// Consecutive records of a batch, encoded as the batch is.
pub(super) struct Piece {
    pub(super) payload: Bytes,
    /// Which, counted from the batch's first.
    pub(super) records: Range<usize>,
}

/// A batch, opened.
pub(super) struct Split {
    raw: Vec<u8>,
    records: Vec<Range<usize>>,
    framing: Framing,
    compression: Compression,
    level: i32,
}

impl Split {
    pub(super) fn open(batch: &Batch, level: i32) -> io::Result<Self> {
        let raw = payload::decompress(&batch.payload, batch.compression)?.into_owned();
        let records = payload::records(&raw, batch.framing);
        if records.len() != batch.lines as usize {
            let error = format!("{} records where {} were counted", records.len(), batch.lines);
            return Err(io::Error::other(error));
        }
        Ok(Self { raw, records, framing: batch.framing, compression: batch.compression, level })
    }

    /// Two pieces with half of the records each.
    pub(super) fn halve(&self, piece: &Piece) -> io::Result<(Piece, Piece)> {
        let Range { start, end } = piece.records;
        let middle = start + (end - start) / 2;
        Ok((self.piece(start..middle)?, self.piece(middle..end)?))
    }

    fn piece(&self, records: Range<usize>) -> io::Result<Piece> {
        let raw = payload::frame(&self.raw, &self.records[records.clone()], self.framing);
        let payload = payload::compress(raw, self.compression, self.level)?;
        Ok(Piece { payload, records })
    }

    /// Settles a batch of which `dropped` records were given up and all others delivered: a receipt
    /// for what was dropped, then one for the rest. Together they carry every line and byte once;
    /// both carry the files' final offsets, which is right, for all of it is settled by now.
    pub(super) fn settle_in_part(&self, mut batch: Batch, dropped: &[(Range<usize>, Reason)]) {
        let mut by_reason: BTreeMap<Reason, Vec<batch::Range>> = BTreeMap::new();
        for (records, reason) in dropped {
            let ranges = by_reason.entry(*reason).or_default();
            for record in records.clone() {
                self.take_out(record, &mut batch.ranges, ranges);
            }
        }
        for (reason, ranges) in by_reason {
            let lines = ranges.iter().map(|range| range.lines).sum();
            batch.lines = batch.lines.saturating_sub(lines);
            let outcome = Outcome::Dropped(reason);
            let receipt = Receipt { sink: batch.sink, ranges, lines, outcome, position: None };
            // The receiver is gone only when the agent is going down; all of it is then sent again.
            let _gone = batch.receipts.send(receipt);
        }
        batch.delivered(None);
    }

    /// Moves one record's line and bytes from the batch's ranges to the dropped ones.
    fn take_out(&self, record: usize, kept: &mut [batch::Range], dropped: &mut Vec<batch::Range>) {
        let uid = self.uid(record);
        let at = uid.and_then(|(file, _)| kept.iter().position(|range| range.file.id.0 == file));
        let bytes = match (uid, at) {
            (Some((file, offset)), Some(at)) => {
                let next = (0..self.records.len())
                    .filter_map(|other| self.uid(other))
                    .filter(|&(other, from)| other == file && from > offset)
                    .map(|(_, from)| from)
                    .min();
                let all = next.unwrap_or(kept[at].end).saturating_sub(offset);
                // What was cut off it is given up already, under a reason of its own.
                all.saturating_sub(self.cut(record)).min(kept[at].bytes)
            }
            // It begins in an earlier file of the source: its bytes there are settled long since.
            _ => 0,
        };
        let Some(range) = kept.get_mut(at.unwrap_or(0)) else { return };
        range.bytes -= bytes;
        range.lines = range.lines.saturating_sub(1);
        match dropped.iter_mut().find(|other| other.file.id == range.file.id) {
            Some(other) => {
                other.bytes += bytes;
                other.lines += 1;
            }
            None => {
                let given_up = ByReason::default();
                dropped.push(batch::Range { bytes, given_up, lines: 1, ..range.clone() });
            }
        }
    }

    /// How many bytes were cut off a record. No tenant can write the mark: in what he writes, a quote
    /// is escaped.
    fn cut(&self, record: usize) -> u64 {
        const KEY: &[u8] = b",\"everyline.cut_bytes\":";
        let record = &self.raw[self.records[record].clone()];
        let Some(at) = memchr::memmem::rfind(record, KEY) else { return 0 };
        let digits = record[at + KEY.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |cut: u64, digit| {
            cut.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        })
    }

    /// The file and offset in a record's `log.record.uid`, which stands before anything a tenant
    /// wrote.
    fn uid(&self, record: usize) -> Option<(u64, u64)> {
        const KEY: &[u8] = b"\"log.record.uid\":\"";
        let record = &self.raw[self.records[record].clone()];
        let start = memchr::memmem::find(record, KEY)? + KEY.len();
        let length = memchr::memchr(b'"', &record[start..])?;
        let uid = std::str::from_utf8(&record[start..start + length]).ok()?;
        let (file, offset) = uid.split_once('-')?;
        Some((u64::from_str_radix(file, 16).ok()?, u64::from_str_radix(offset, 16).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::testing::{Receipts, sequences};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn halves_of_halves_are_all_records_in_order(
            lines in 1_u32..40, array: bool, limit in 1_usize..8,
        ) {
            let receipts = Receipts::new();
            let mut file = receipts.file(3);
            file.framing = if array { Framing::Array } else { Framing::Lines };
            file.compression = Compression::Zstd;
            let batch = file.batch(lines);
            let split = Split::open(&batch, 1).unwrap();
            let whole = Piece { payload: batch.payload.clone(), records: 0..lines as usize };
            let mut stack = vec![whole];
            let mut seen = Vec::new();
            while let Some(piece) = stack.pop() {
                if piece.records.len() > limit {
                    let (first, second) = split.halve(&piece).unwrap();
                    stack.extend([second, first]);
                    continue;
                }
                let raw = payload::decompress(&piece.payload, Compression::Zstd).unwrap();
                if array {
                    serde_json::from_slice::<Vec<serde_json::Value>>(&raw).unwrap();
                }
                seen.extend(sequences(&raw, batch.framing));
            }
            prop_assert_eq!(seen, (0..u64::from(lines)).map(|n| (3, n)).collect::<Vec<_>>());
        }

        #[test]
        fn a_partly_dropped_batch_is_settled_to_the_last_line_and_byte(
            lines in 2_u32..30, picks in proptest::collection::btree_set(0_usize..30, 1..6),
        ) {
            let receipts = Receipts::new();
            let batch = receipts.file(0).batch(lines);
            let dropped: Vec<_> = picks
                .into_iter()
                .filter(|&n| n < lines as usize)
                .map(|n| (n..n + 1, if n % 2 == 0 { Reason::TooLarge } else { Reason::Rejected }))
                .collect();
            let count = dropped.len() as u32;
            Split::open(&batch, 1).unwrap().settle_in_part(batch, &dropped);
            let receipts = receipts.all();
            let (last, first) = receipts.split_last().unwrap();
            prop_assert_eq!(last.outcome, Outcome::Delivered);
            prop_assert_eq!(last.lines, lines - count);
            prop_assert_eq!(last.ranges[0].bytes, u64::from(lines - count) * 100);
            prop_assert_eq!(first.iter().map(|receipt| receipt.lines).sum::<u32>(), count);
            for receipt in first {
                prop_assert!(matches!(receipt.outcome, Outcome::Dropped(_)));
                prop_assert_eq!(receipt.ranges[0].bytes, u64::from(receipt.lines) * 100);
                prop_assert_eq!(receipt.ranges[0].end, last.ranges[0].end);
            }
        }
    }
}
