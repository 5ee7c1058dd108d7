//! The oracle's memory: what has been seen of every stream.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    record::{Record, for_each},
    report::{Report, WriterReport},
    writers::{Account, StreamAccount},
};
use crate::{
    loadgen::Manifest,
    tag::{Finding, Stream, Tag, Writer, open},
};

/// Bounds on what is remembered and excused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What arrived so long before a kill may be sent again after it: acknowledged, but not yet
    /// durably so.
    pub kill_window: Duration,
    /// Different uids remembered; beyond, their number is not told.
    pub distinct_uids: usize,
    /// Uids remembered to compare doubles with; beyond, the oldest of a stream are forgotten.
    pub compared_uids: usize,
    /// Bytes of split messages put together at once.
    pub split_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            kill_window: Duration::from_secs(3),
            distinct_uids: 8 << 20,
            compared_uids: 32 << 20,
            split_bytes: 256 << 20,
        }
    }
}

/// Everything received so far.
#[derive(Debug)]
pub struct Oracle {
    limits: Limits,
    start: Instant,
    writers: BTreeMap<Writer, Account>,
    hasher: RandomState,
    /// None: too many.
    uids: Option<HashSet<u64>>,
    compared: usize,
    splits: HashMap<String, Split>,
    split_bytes: usize,
    /// Uids of pieces and of untagged records: both are rare, and tell doubles.
    rare: HashSet<String>,
    untagged: u64,
    kills: u64,
    counts: Report,
}

/// A message in pieces.
#[derive(Debug, Default)]
struct Split {
    pieces: u32,
    uid: String,
    message: Vec<u8>,
}

impl Oracle {
    /// Nothing received yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            start: Instant::now(),
            writers: BTreeMap::new(),
            hasher: RandomState::new(),
            uids: Some(HashSet::new()),
            compared: 0,
            splits: HashMap::new(),
            split_bytes: 0,
            rare: HashSet::new(),
            untagged: 0,
            kills: 0,
            counts: Report::default(),
        }
    }

    /// Takes in one decompressed request or file. `excuse`: its sender will not learn that it
    /// arrived, so everything in it may come again.
    pub fn accept(&mut self, body: &[u8], excuse: bool) {
        self.counts.bytes += body.len() as u64;
        for_each(body, |record| match record {
            Ok(record) => self.record(&record, excuse),
            Err(error) => {
                self.counts.unreadable += 1;
                self.example(|| format!("a record is not JSON as agreed: {error}"));
            }
        });
    }

    /// Counts a request by what was done to it.
    pub fn request(&mut self, kind: &str) {
        *self.counts.requests.entry(kind.to_owned()).or_default() += 1;
    }

    /// The agent has been killed: what arrived just before may come again.
    pub fn killed(&mut self) {
        self.kills += 1;
        self.excuse_since(self.limits.kill_window);
    }

    /// What arrived within `window`, at most the kill window, may come again: its sender was stopped
    /// before it could note that it had arrived.
    pub fn excuse_since(&mut self, window: Duration) {
        let since = self.start.elapsed().saturating_sub(window).as_secs();
        let streams = self.writers.values_mut().flat_map(|account| &mut account.streams);
        streams.for_each(|stream| stream.excuse_since(since));
    }

    /// How often the agent has been killed.
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// The numbers below `count` that were never received of one stream, as ranges.
    pub fn missing(&self, writer: Writer, stream: Stream, count: u64) -> Vec<Range<u64>> {
        let Some(account) = self.writers.get(&writer) else {
            return (count > 0).then_some(0..count).into_iter().collect();
        };
        account.streams[stream.index()].missing(count)
    }

    /// How many messages of one writer came after later ones.
    pub fn reordered(&self, writer: Writer) -> u64 {
        self.writers.get(&writer).map_or(0, |account| account.reordered)
    }

    /// The account so far, against what was written.
    pub fn report(&self, manifest: Option<&Manifest>) -> Report {
        let mut report = self.counts.clone();
        report.kills = self.kills;
        report.distinct_uids = self.uids.as_ref().map(|uids| uids.len() as u64);
        report.received = self.untagged;
        for stream in self.writers.values().flat_map(|account| &account.streams) {
            report.received += stream.count();
        }
        match manifest {
            Some(manifest) => self.compare(manifest, &mut report),
            None => {
                let highest = |stream: &StreamAccount| stream.highest().map_or(0, |n| n + 1);
                let streams = self.writers.values().flat_map(|account| &account.streams);
                report.expected = streams.map(highest).sum::<u64>() + self.untagged;
                report.lost = report.expected - report.received;
            }
        }
        report.judge();
        report
    }

    /// What became of each writer's messages.
    pub fn each(&self, manifest: &Manifest) -> Vec<WriterReport> {
        let each = manifest.writers.iter().map(|written| {
            let writer = Writer(written.writer);
            let account = self.writers.get(&writer);
            WriterReport {
                writer: writer.0,
                missing: Stream::ALL
                    .map(|stream| self.missing(writer, stream, written.messages[stream.index()])),
                doubled: account.map_or(0, |account| account.doubled),
                doubled_same_uid: account.map_or(0, |account| account.doubled_same_uid),
            }
        });
        each.collect()
    }

    fn compare(&self, manifest: &Manifest, report: &mut Report) {
        report.expected = manifest.messages();
        let mut known = 0;
        for written in &manifest.writers {
            let account = self.writers.get(&Writer(written.writer));
            for stream in Stream::ALL {
                let expected = written.messages[stream.index()];
                let seen = account
                    .map_or(0, |account| account.streams[stream.index()].count_below(expected));
                known += seen;
                if seen < expected {
                    report.lost += expected - seen;
                    let (lost, pod) = (expected - seen, &written.pod);
                    let text = format!("{pod} {}: {lost} of {expected} lost", stream.name());
                    push_example(&mut report.examples, text);
                }
            }
        }
        let untagged: u64 = manifest.writers.iter().map(|written| written.untagged).sum();
        report.lost += untagged.saturating_sub(self.untagged);
        // Whatever was received beyond the manifest, nobody wrote.
        report.invented += report.received - known - self.untagged.min(untagged);
    }

    fn record(&mut self, record: &Record<'_>, excuse: bool) {
        self.counts.records += 1;
        self.counts.unparsed += u64::from(record.unparsed);
        self.counts.partial += u64::from(record.partial);
        self.counts.cut += u64::from(record.cut > 0);
        if record.uid.is_empty() {
            self.counts.wrong_metadata += 1;
            self.example(|| format!("a record of {} has no uid", record.source()));
        }
        self.remember_uid(&record.uid);
        if record.split > 0 {
            self.piece(record, excuse);
            return;
        }
        let message = record.message();
        self.message(record, &record.uid, &message, excuse);
    }

    fn message(&mut self, record: &Record<'_>, uid: &str, message: &[u8], excuse: bool) {
        let tag = match open(message) {
            Finding::Intact(tag) => tag,
            Finding::Damaged(tag) => {
                self.counts.damaged += 1;
                self.example(|| format!("{tag:?} is damaged, uid {uid}"));
                tag
            }
            Finding::None => {
                if self.rare.insert(uid.to_owned()) {
                    self.untagged += 1;
                    self.counts.records_distinct += u64::from(record.split == 0);
                } else {
                    self.counts.doubled += 1;
                }
                return;
            }
        };
        let account = self.writers.entry(tag.writer).or_insert_with(|| Account::of(tag.writer));
        let labelled = account.labels(record, tag.stream);
        if !labelled {
            self.counts.wrong_metadata += 1;
            let source = record.source();
            push_example(&mut self.counts.examples, format!("{tag:?} came as {source}"));
        }
        self.number(tag, uid, record.split == 0, excuse);
    }

    /// Enters a message's number in its stream's account.
    fn number(&mut self, tag: Tag, uid: &str, whole: bool, excuse: bool) {
        let second = self.start.elapsed().as_secs();
        let hash = (self.hasher.hash_one(uid) as u32).max(1);
        let Some(account) = self.writers.get_mut(&tag.writer) else { return };
        let stream = &mut account.streams[tag.stream.index()];
        if stream.has(tag.number) {
            self.counts.doubled += 1;
            account.doubled += 1;
            account.doubled_same_uid += u64::from(stream.uid(tag.number) == Some(hash));
            if !stream.is_excused(tag.number) {
                self.counts.doubled_unexplained += 1;
                let text = format!("{tag:?} came again, unexplained, uid {uid}");
                push_example(&mut self.counts.examples, text);
            }
            if stream.uid(tag.number).is_some_and(|known| known != hash) {
                self.counts.uid_changed += 1;
                let text = format!("{tag:?} came again with another uid, {uid}");
                push_example(&mut self.counts.examples, text);
            }
        } else {
            self.counts.records_distinct += u64::from(whole);
            if stream.highest().is_some_and(|highest| tag.number < highest) {
                self.counts.reordered += 1;
                account.reordered += 1;
                let text = format!("{tag:?} came late, uid {uid}");
                push_example(&mut self.counts.examples, text);
            } else if !stream.follows(uid) {
                self.counts.uid_disorder += 1;
                let text = format!("{tag:?} has uid {uid}, not after its predecessor's");
                push_example(&mut self.counts.examples, text);
            }
            stream.add(tag.number, second, self.limits.kill_window.as_secs() + 2);
            self.compared += stream.keep_uid(tag.number, hash);
            if self.compared > self.limits.compared_uids {
                self.compared -= stream.forget_half();
            }
        }
        if excuse {
            stream.excuse(tag.number);
        }
    }

    /// Puts a split message together; its last piece makes it a message.
    fn piece(&mut self, record: &Record<'_>, excuse: bool) {
        self.counts.split += 1;
        if !self.rare.insert(record.uid.clone().into_owned()) {
            self.counts.doubled += 1;
            return;
        }
        self.counts.records_distinct += 1;
        let source = record.source();
        let split = self.splits.entry(source.clone()).or_default();
        if record.split != split.pieces + 1 {
            self.counts.reordered += 1;
            let (got, want) = (record.split, split.pieces + 1);
            let text = format!("piece {got} of a message of {source} came where {want} was due");
            push_example(&mut self.counts.examples, text);
        }
        if split.pieces == 0 {
            split.uid = record.uid.clone().into_owned();
        }
        split.pieces = record.split;
        let piece = record.message();
        if self.split_bytes + piece.len() <= self.limits.split_bytes {
            split.message.extend_from_slice(&piece);
            self.split_bytes += piece.len();
        }
        if record.split_last
            && let Some(split) = self.splits.remove(&source)
        {
            self.split_bytes -= split.message.len();
            self.message(record, &split.uid, &split.message, excuse);
        }
    }

    fn remember_uid(&mut self, uid: &str) {
        let hash = self.hasher.hash_one(uid);
        if let Some(uids) = &mut self.uids {
            uids.insert(hash);
            if uids.len() > self.limits.distinct_uids {
                self.uids = None;
            }
        }
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        push_example(&mut self.counts.examples, text());
    }
}

fn push_example(examples: &mut Vec<String>, text: String) {
    const EXAMPLES: usize = 20;
    if examples.len() < EXAMPLES {
        examples.push(text);
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
