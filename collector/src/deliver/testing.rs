//! Batches and receipts for tests of sinks: real payloads, made-up files.

use std::{path::PathBuf, sync::Arc, time::Instant};

use crossbeam_channel::{Receiver, Sender};

use super::{Context, payload};
use crate::{
    batch::{Batch, Framing, Range, Receipt, Run, TimeBounds, alive::Alive, troubles::Troubles},
    config::Compression,
    identity::{Identity, InodeKey, guard::Guard},
    ledger::FileAccount,
    metrics::{Metrics, SinkMetrics},
    reason::ByReason,
    source::{Format, Source},
};

/// A context with metrics of its own.
pub(crate) fn context(name: &str, committed: Option<&str>) -> Context {
    let metrics = SinkMetrics::new(Arc::new(Metrics::new()), name);
    let (committed, troubles) = (committed.map(str::to_owned), Troubles::default());
    Context { name: name.into(), committed, metrics, troubles, alive: Alive::new().0 }
}

/// The receiving end of receipts.
pub(crate) struct Receipts {
    sender: Sender<Receipt>,
    receiver: Receiver<Receipt>,
}

impl Receipts {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        Self { sender, receiver }
    }

    /// A file whose batches travel in the lane of the same number.
    pub(crate) fn file(&self, lane: u32) -> TestFile {
        let source =
            Arc::new(Source::anonymous(PathBuf::from(format!("/logs/{lane}.log")), Format::Plain));
        let key = InodeKey { device: 1, inode: u64::from(lane), born_ns: 0 };
        let identity = Identity { key, handle: None };
        let account = Arc::new(FileAccount::new(identity, 0, source.clone(), &source.path, 1));
        TestFile {
            lane,
            account,
            offset: 0,
            sequence: 0,
            framing: Framing::Lines,
            compression: Compression::None,
            pad: 20,
            again: false,
            receipts: self.sender.clone(),
        }
    }

    /// What has arrived by now.
    pub(crate) fn all(&self) -> Vec<Receipt> {
        self.receiver.try_iter().collect()
    }
}

/// Makes a file's batches, one after the other.
pub(crate) struct TestFile {
    pub(crate) lane: u32,
    pub(crate) account: Arc<FileAccount>,
    offset: u64,
    sequence: u64,
    pub(crate) framing: Framing,
    pub(crate) compression: Compression,
    /// Bytes of filler in a message.
    pub(crate) pad: usize,
    /// Whether it is read again, having been parked.
    pub(crate) again: bool,
    receipts: Sender<Receipt>,
}

impl TestFile {
    /// The next `lines` records. A record's message is `LANE:SEQUENCE:` and filler; in the made-up
    /// file it takes 100 bytes.
    pub(crate) fn batch(&mut self, lines: u32) -> Batch {
        let mut ndjson = Vec::new();
        let start = self.offset;
        for _ in 0..lines {
            let record = format!(
                "{{\"timestamp\":\"2026-01-31T10:11:12Z\",\"log.record.uid\":\"{}-{:x}\",\"body\":\"{}:{}:{}\"}}\n",
                self.account.id,
                self.offset,
                self.lane,
                self.sequence,
                "x".repeat(self.pad),
            );
            ndjson.extend_from_slice(record.as_bytes());
            self.offset += 100;
            self.sequence += 1;
        }
        let raw = payload::frame(&ndjson, &payload::records(&ndjson, Framing::Lines), self.framing);
        Batch {
            lane: self.lane,
            raw_len: raw.len(),
            payload: payload::compress(raw, self.compression, 1).unwrap(),
            compression: self.compression,
            framing: self.framing,
            lines,
            times: TimeBounds { from: 0, to: 0 },
            sources: vec![self.account.source.clone()],
            ranges: vec![Range {
                file: self.account.clone(),
                end: self.offset,
                resume: self.offset,
                guard: Guard::NONE,
                bytes: self.offset - start,
                given_up: ByReason::default(),
                lines,
                again: self.again,
            }],
            runs: vec![Run { range: 0, lines }],
            sealed_at: Instant::now(),
            begun: None,
            permit: None,
            sink: 0,
            receipts: self.receipts.clone(),
        }
    }
}

/// Batches of one lane as one: NDJSON, uncompressed.
pub(crate) fn join(batches: Vec<Batch>) -> Batch {
    let mut batches = batches.into_iter();
    let mut joined = batches.next().unwrap();
    let mut payload = joined.payload.to_vec();
    for batch in batches {
        payload.extend_from_slice(&batch.payload);
        for range in batch.ranges {
            let known = joined.ranges.iter_mut().position(|it| Arc::ptr_eq(&it.file, &range.file));
            let lines = range.lines;
            let at = match known {
                Some(at) => {
                    let known = &mut joined.ranges[at];
                    (known.end, known.resume) = (range.end, range.resume);
                    known.bytes += range.bytes;
                    known.lines += lines;
                    at
                }
                None => {
                    joined.ranges.push(range);
                    joined.ranges.len() - 1
                }
            };
            joined.runs.push(Run { range: at as u32, lines });
        }
        joined.lines += batch.lines;
    }
    joined.raw_len = payload.len();
    joined.payload = payload.into();
    joined
}

/// The `(lane, sequence)` of every record in uncompressed NDJSON or an array, in order.
pub(crate) fn sequences(raw: &[u8], framing: Framing) -> Vec<(u32, u64)> {
    payload::records(raw, framing)
        .into_iter()
        .map(|record| {
            let value: serde_json::Value = serde_json::from_slice(&raw[record]).unwrap();
            let body = value["body"].as_str().unwrap();
            let mut parts = body.split(':');
            (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap())
        })
        .collect()
}
