//! A lane: batches in order, one at a time, each until it is settled: attempts with back-off, and in
//! pieces where the server wants less at once or refuses a record.
//!
//! A refused record concerns its source alone. With `on_reject: drop` it is dropped. Else its source is
//! parked: the reader goes back to what is settled of it and sends that record by itself until it is
//! taken. Meanwhile all other sources of the lane go on, and nothing of the parked one is held here:
//! what it has in later batches was read too early, and is left out.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::{
    Sink,
    attempts::Attempts,
    backoff::Backoff,
    narrow::{Narrowing, Refusal},
    split::{Split, owners},
};
use crate::{
    batch::{self, Batch, Outcome, Receipt},
    config::OnReject,
    reason::Reason,
    shown,
};

/// Characters of a path that a message has room for.
const SHOWN: usize = 200;

/// One lane of the sink.
pub(super) struct Lane {
    sink: Arc<Sink>,
    /// Sources that wait behind a refused record, and how long they are to wait next time.
    parked: HashMap<Arc<Path>, Backoff>,
}

/// A batch on its way.
struct Underway {
    batch: Batch,
    /// Each record's range.
    owners: Vec<usize>,
    split: Option<Split>,
    dropped: Vec<(u32, Reason)>,
    /// The refused records of sources that were parked, one each.
    parked: Vec<(Arc<Path>, u32)>,
}

impl Lane {
    pub(super) fn new(sink: Arc<Sink>) -> Self {
        Self { sink, parked: HashMap::new() }
    }

    /// Delivers the batch, however long that takes, and settles what of it is dealt with.
    pub(super) async fn deliver(&mut self, batch: Batch) {
        let stale: Vec<bool> = batch.ranges.iter().map(|range| self.is_stale(range)).collect();
        let id = batch_id(&batch);
        let sink = Arc::clone(&self.sink);
        let mut attempts = Attempts::new(&sink, batch.compression);
        let mut first = None;
        if !stale.contains(&true) {
            // Progress without records is not sent.
            if batch.lines > 0 {
                let whole = header(id, &[], batch.lines);
                first = attempts.send(batch.payload.clone(), whole).await;
            }
            if first.is_none() {
                attempts.settled();
                self.unpark(&batch, &[]);
                fail::fail_point!("deliver.acknowledged");
                return batch.delivered(None);
            }
        }
        let owners = owners(&batch);
        let is_fresh = |record: &u32| owners.get(*record as usize).is_none_or(|&at| !stale[at]);
        let mut narrowing = Narrowing::new((0..batch.lines).filter(is_fresh).collect());
        let (dropped, parked) = (Vec::new(), Vec::new());
        let mut underway = Underway { batch, owners, split: None, dropped, parked };
        while let Some(records) = narrowing.next() {
            let refusal = match first.take() {
                Some(refusal) => Some(refusal),
                None => match underway.payload(&sink, records) {
                    Some(payload) => {
                        let header = header(id, records, underway.batch.lines);
                        attempts.send(payload, header).await
                    }
                    None => {
                        attempts.wait().await;
                        continue;
                    }
                },
            };
            match refusal {
                None => narrowing.taken(),
                Some((reason, said)) => {
                    if !self.refused(&mut underway, &mut narrowing, (reason, &said)) {
                        attempts.wait().await;
                    }
                }
            }
        }
        attempts.settled();
        fail::fail_point!("deliver.acknowledged");
        self.settle(underway, &stale);
    }

    /// Whether this was read before its source went back to a refused record.
    fn is_stale(&self, range: &batch::Range) -> bool {
        !range.again && self.parked.contains_key(&range.file.source.path)
    }

    /// Narrows what was refused. False: everything is, so that it is best to wait.
    fn refused(
        &mut self,
        underway: &mut Underway,
        narrowing: &mut Narrowing,
        (reason, said): (Reason, &str),
    ) -> bool {
        let found = match narrowing.refused(reason == Reason::Rejected) {
            Refusal::Narrowed => return true,
            Refusal::Found(record) => record,
            Refusal::Everything(records) => {
                return self.refused_everything(underway, narrowing, &records, (reason, said));
            }
        };
        let source = underway.source(found);
        let rest = narrowing.put_off(|record| underway.source(record) == source);
        match self.sink.on_reject {
            OnReject::Drop => {
                self.sink.report.dropped(1, reason, said);
                underway.dropped.push((found, reason));
                narrowing.push_last(rest);
            }
            OnReject::Retry => {
                let path = shown::excerpt(source.as_os_str().as_encoded_bytes(), SHOWN);
                self.sink.report.failure(&format!(
                    "{said} That is a record of {path}. It is tried again until it is taken; the \
                     rest of this log waits for it, all others go on (`on_reject: drop` would give \
                     the record up)."
                ));
                self.sink.report.park(&source);
                underway.parked.push((source, found));
            }
        }
        true
    }

    /// Not one of many pieces was taken: the server may be refusing whatever it is sent.
    fn refused_everything(
        &self,
        underway: &mut Underway,
        narrowing: &mut Narrowing,
        records: &[u32],
        (reason, said): (Reason, &str),
    ) -> bool {
        let first = underway.source(records[0]);
        let of_one = records.iter().all(|&record| underway.source(record) == first);
        if self.sink.on_reject == OnReject::Drop && of_one {
            // The other sources' records were sent before, and all that is left of this one was refused
            // in one piece: it is the source's own fault.
            let rest = narrowing.put_off(|record| underway.source(record) == first);
            let lines = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            self.sink.report.dropped(lines, reason, said);
            underway.dropped.extend(rest.into_iter().map(|record| (record, reason)));
            return true;
        }
        self.sink.report.failure(&format!("{said} Every record is refused. Trying again."));
        false
    }

    /// Sends the receipts, and parks what has to wait.
    fn settle(&mut self, underway: Underway, stale: &[bool]) {
        let Underway { mut batch, owners, split, dropped, parked } = underway;
        self.unpark(&batch, &parked);
        for (source, record) in &parked {
            self.park(&batch, &owners, source, *record);
        }
        if !dropped.is_empty() {
            match split.map_or_else(|| Split::open(&batch, self.sink.level), Ok) {
                Ok(split) => split.settle_dropped(&mut batch, &dropped),
                // It is sent again after a restart.
                Err(error) => {
                    tracing::error!(sink = self.sink.name, %error, "Cannot split a batch.");
                    return;
                }
            }
        }
        let is_parked = |range: &batch::Range| {
            parked.iter().any(|(source, _)| *source == range.file.source.path)
        };
        let mut stale = stale.iter();
        batch.ranges.retain(|range| stale.next() != Some(&true) && !is_parked(range));
        batch.lines = batch.ranges.iter().map(|range| range.lines).sum();
        if !batch.ranges.is_empty() {
            batch.delivered(None);
        }
    }

    /// Sources whose refused record was waited for go on: it is dealt with, unless it is among
    /// `parked`.
    fn unpark(&mut self, batch: &Batch, parked: &[(Arc<Path>, u32)]) {
        for range in batch.ranges.iter().filter(|range| range.again && range.lines > 0) {
            let path = &range.file.source.path;
            if parked.iter().all(|(source, _)| source != path) && self.parked.remove(path).is_some()
            {
                self.sink.report.unpark(path);
            }
        }
    }

    /// Has the source's reader go back to the refused record. What of the batch came before it was
    /// delivered, and is counted in the receipt.
    fn park(&mut self, batch: &Batch, owners: &[usize], source: &Arc<Path>, record: u32) {
        let sink = &self.sink;
        let backoff = self
            .parked
            .entry(Arc::clone(source))
            .or_insert_with(|| Backoff::new(sink.backoff_base, sink.backoff_max));
        let until = Instant::now() + backoff.next();
        let numbered = batch.ranges.iter().enumerate();
        let its = numbered.filter(|(_, range)| range.file.source.path == *source);
        let ranges = its.map(|(at, range)| {
            let before = owners.iter().take(record as usize).filter(|&&owner| owner == at);
            batch::Range { lines: before.count() as u32, ..range.clone() }
        });
        let (ranges, outcome) = (ranges.collect(), Outcome::Parked(until));
        let receipt = Receipt { sink: batch.sink, ranges, lines: 0, outcome, position: None };
        // The receiver is gone only when the agent is going down.
        let _gone = batch.receipts.send(receipt);
    }
}

impl Underway {
    /// The path of a record's source.
    fn source(&self, record: u32) -> Arc<Path> {
        let at = self.owners.get(record as usize).copied().unwrap_or(0);
        Arc::clone(&self.batch.ranges[at].file.source.path)
    }

    /// These records as they are sent. None: they cannot be taken out of the batch.
    fn payload(&mut self, sink: &Sink, records: &[u32]) -> Option<Bytes> {
        if records.len() == self.batch.lines as usize {
            return Some(self.batch.payload.clone());
        }
        let opened = match self.split.take() {
            Some(split) => Ok(split),
            None => Split::open(&self.batch, sink.level),
        };
        let piece = opened.and_then(|opened| self.split.insert(opened).piece(records));
        piece
            .inspect_err(|error| {
                // Of our own making, so only a fault of ours gets here.
                tracing::error!(sink = sink.name, %error, "Cannot split a batch.");
            })
            .ok()
    }
}

/// Which bytes of which files it carries, as a number: the same for the same records, whenever and
/// however they are encoded.
fn batch_id(batch: &Batch) -> u128 {
    let mut hash = Fnv::default();
    for range in &batch.ranges {
        for number in [range.file.id.0, range.end, range.bytes, u64::from(range.lines)] {
            hash.add(number);
        }
    }
    hash.0
}

/// The batch's id, and for a piece of it which of its `lines` records: `ID`, `ID.FIRST+COUNT`, or where
/// some between these are left out `ID.FIRST+COUNT.HASH`.
fn header(id: u128, records: &[u32], lines: u32) -> HeaderValue {
    let count = records.len();
    let text = match (records.first(), records.last()) {
        (Some(first), Some(last)) if count < lines as usize => {
            if (last - first) as usize + 1 == count {
                format!("{id:032x}.{first}+{count}")
            } else {
                let mut hash = Fnv::default();
                records.iter().for_each(|&record| hash.add(u64::from(record)));
                format!("{id:032x}.{first}+{count}.{:016x}", hash.0 as u64)
            }
        }
        _ => format!("{id:032x}"),
    };
    // Hex digits, dots, a plus.
    HeaderValue::try_from(text).unwrap_or_else(|_impossible| HeaderValue::from_static("0"))
}

/// FNV-1a, 128 bits.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv {
    fn add(&mut self, number: u64) {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
}
