//! A batch in smaller pieces, for a server that takes less at once, and the account of a batch of
//! which a part was dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    batch::{self, Batch, Framing, Outcome, Receipt},
    config::Compression,
    deliver::payload,
    reason::{ByReason, Reason},
};

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

    /// These records by themselves, encoded as the batch is.
    pub(super) fn piece(&self, records: &[u32]) -> io::Result<Bytes> {
        let chosen: Vec<_> =
            records.iter().map(|&record| self.records[record as usize].clone()).collect();
        let raw = payload::frame(&self.raw, &chosen, self.framing);
        payload::compress(raw, self.compression, self.level)
    }

    /// Moves the `dropped` records' lines and bytes from the batch's ranges to receipts of their own,
    /// which are sent. Together with the batch's they carry every line and byte once; both carry the
    /// files' final offsets, which is right, for all of it is settled by now.
    pub(super) fn settle_dropped(&self, batch: &mut Batch, dropped: &[(u32, Reason)]) {
        let owners = owners(batch);
        let starts: Vec<u64> =
            batch.ranges.iter().map(|range| range.end.saturating_sub(range.bytes)).collect();
        let begins: BTreeSet<(u64, u64)> =
            (0..self.records.len()).filter_map(|record| self.uid(record)).collect();
        let mut by_reason: BTreeMap<Reason, Vec<batch::Range>> = BTreeMap::new();
        for &(record, reason) in dropped {
            let Some(&at) = owners.get(record as usize) else { continue };
            let bytes = self.bytes(record as usize, &batch.ranges[at], starts[at], &begins);
            take_out(&mut batch.ranges[at], bytes, by_reason.entry(reason).or_default());
        }
        for (reason, ranges) in by_reason {
            let lines = ranges.iter().map(|range| range.lines).sum();
            batch.lines = batch.lines.saturating_sub(lines);
            let outcome = Outcome::Dropped(reason);
            let receipt = Receipt { sink: batch.sink, ranges, lines, outcome, position: None };
            // The receiver is gone only when the agent is going down; all of it is then sent again.
            let _gone = batch.receipts.send(receipt);
        }
    }

    /// How many bytes of its file a record takes, from `start` on: up to where the next one begins.
    /// `begins`: where each does.
    fn bytes(
        &self,
        record: usize,
        range: &batch::Range,
        start: u64,
        begins: &BTreeSet<(u64, u64)>,
    ) -> u64 {
        let Some((file, offset)) = self.uid(record) else { return 0 };
        // What a message has in an earlier file, or in an earlier batch, is settled long since.
        let from = if file == range.file.id.0 { offset.max(start) } else { start };
        let id = range.file.id.0;
        let next = begins.range((id, from.saturating_add(1))..=(id, u64::MAX)).next();
        let all = next.map_or(range.end, |&(_, at)| at).saturating_sub(from);
        // What was cut off it, or skipped behind it, is given up already, under a reason of its own.
        let left = range.bytes.saturating_sub(range.given_up.sum());
        all.saturating_sub(self.cut(record)).min(left)
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

/// Each record's range in the batch.
pub(super) fn owners(batch: &Batch) -> Vec<usize> {
    batch
        .runs
        .iter()
        .flat_map(|run| std::iter::repeat_n(run.range as usize, run.lines as usize))
        .collect()
}

/// Moves one line and some bytes from a range to the same file's among `dropped`.
fn take_out(range: &mut batch::Range, bytes: u64, dropped: &mut Vec<batch::Range>) {
    range.bytes -= bytes;
    range.lines = range.lines.saturating_sub(1);
    match dropped.iter_mut().find(|other| Arc::ptr_eq(&other.file, &range.file)) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::testing::{Receipts, sequences};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_are_what_was_chosen_in_order(
            lines in 1_u32..40, array: bool, picks in proptest::collection::btree_set(0_u32..40, 1..20),
        ) {
            let receipts = Receipts::new();
            let mut file = receipts.file(3);
            file.framing = if array { Framing::Array } else { Framing::Lines };
            file.compression = Compression::Zstd;
            let batch = file.batch(lines);
            let split = Split::open(&batch, 1).unwrap();
            let chosen: Vec<u32> = picks.into_iter().filter(|&n| n < lines).collect();
            let piece = split.piece(&chosen).unwrap();
            let raw = payload::decompress(&piece, Compression::Zstd).unwrap();
            if array {
                serde_json::from_slice::<Vec<serde_json::Value>>(&raw).unwrap();
            }
            let expected: Vec<_> = chosen.into_iter().map(|n| (3, u64::from(n))).collect();
            prop_assert_eq!(sequences(&raw, batch.framing), expected);
        }

        #[test]
        fn a_partly_dropped_batch_is_settled_to_the_last_line_and_byte(
            lines in 2_u32..30, picks in proptest::collection::btree_set(0_u32..30, 1..6),
        ) {
            let receipts = Receipts::new();
            let mut batch = receipts.file(0).batch(lines);
            let dropped: Vec<_> = picks
                .into_iter()
                .filter(|&n| n < lines)
                .map(|n| (n, if n % 2 == 0 { Reason::TooLarge } else { Reason::Rejected }))
                .collect();
            let count = dropped.len() as u32;
            Split::open(&batch, 1).unwrap().settle_dropped(&mut batch, &dropped);
            batch.delivered(None);
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
