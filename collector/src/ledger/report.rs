//! The ledger as `/status` serves it and `everyline status` and `audit` show it.
//!
//! Every number is bytes of an (uncompressed) log file. For each file and sink
//! `seen = acknowledged + in_flight + unread + dropped + lost` must hold; [`Account::new`] derives
//! the parts from the offsets that the agent keeps, so an offset that ran ahead of another shows as
//! a sum that does not balance. Decides nothing: the verdict is `cli::audit`'s.

mod stored;

use std::{collections::BTreeMap, fmt, fs, io, os::unix::fs::MetadataExt, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::Offset,
    reason::{Kind, Reason},
    source::Source,
};

pub use stored::from_checkpoint;

/// What became of everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The agent's version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// Which agent this is. None: no agent runs, or it is of a version that does not say.
    #[serde(default)]
    pub agent: Option<AgentIdentity>,
    /// When the agent started, RFC 3339. Empty: no agent runs, this is what its checkpoint holds.
    pub started: String,
    /// How many files are watched how (`kernel`, `inotify`, `poll`). Empty: no agent runs.
    #[serde(default)]
    pub watched: BTreeMap<String, i64>,
    /// How many of the agent's own logs are left out.
    #[serde(default)]
    pub own_logs: i64,
    /// How descriptors are shared out. None: no agent runs, or nothing limits them.
    #[serde(default)]
    pub descriptors: Option<Descriptors>,
    /// Where records go.
    pub sinks: Vec<SinkReport>,
    /// The files known: those being read, and those let go of but not yet settled.
    pub files: Vec<FileReport>,
    /// What no longer hangs on a file.
    pub totals: Totals,
    /// True while the agent still looks for what its checkpoint knows: files and losses are missing.
    #[serde(default)]
    pub looking: bool,
    /// Who reached a bound of something that all share, lately.
    #[serde(default)]
    pub held_back: Vec<HeldBack>,
    /// The latest losses since the agent's start, file by file.
    #[serde(default)]
    pub lost_files: Vec<LostFile>,
}

/// Which agent a report is of: the one that has this state directory, for only one can.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentIdentity {
    /// Its state directory, as it calls it.
    pub state_dir: String,
    /// That directory's device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// The agent's process, as it calls itself.
    pub pid: u32,
}

/// How an agent's descriptors are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Descriptors {
    /// How many the process may have.
    pub limit: u64,
    /// How many of them log files may have; the rest is kept back for the agent itself.
    pub for_files: u64,
    /// Log files that found none and are opened in turn.
    pub waiting_files: u64,
}

/// Somebody who reached a bound of something that all share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldBack {
    /// What that is.
    pub resource: String,
    /// Who: a path, an address.
    pub who: String,
    /// How often.
    pub times: u64,
    /// Since when, RFC 3339.
    pub since: String,
}

/// One sink.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SinkReport {
    /// Its name in the configuration.
    pub name: String,
    /// Its type in the configuration.
    pub kind: String,
    /// Bytes of memory held between reader and acknowledgement.
    pub in_flight_bytes: u64,
    /// Age of the oldest batch not acknowledged; None: there is none.
    pub oldest_unacked_seconds: Option<f64>,
    /// Why deliveries fail: the last error, until they go through again.
    pub error: Option<String>,
    /// Since when, RFC 3339.
    #[serde(default)]
    pub error_since: Option<String>,
    /// How often since.
    #[serde(default)]
    pub error_count: u64,
    /// Sources that wait behind a record that the sink refuses.
    #[serde(default)]
    pub parked_sources: u64,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FileReport {
    /// Where it lies now, or lay last.
    pub path: String,
    /// The live path of the source that it belongs to.
    pub source: String,
    /// Kubernetes namespace, if known.
    pub namespace: Option<String>,
    /// Pod name, if known.
    pub pod: Option<String>,
    /// Container name, if known.
    pub container: Option<String>,
    /// Device number, as `stat` gives it; 0: unknown.
    pub device: u64,
    /// Inode number; 0: unknown.
    pub inode: u64,
    /// True once it can grow no more.
    pub ended: bool,
    /// The size last seen.
    pub seen: u64,
    /// How fast it grows.
    pub rate_bytes_per_second: f64,
    /// By sink name.
    pub sinks: BTreeMap<String, SinkFileReport>,
}

/// One sink's side of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SinkFileReport {
    /// Bytes before this offset were handed to batches or skipped with a count.
    pub read: u64,
    /// Bytes before this offset are acknowledged, dropped or lost.
    pub settled: u64,
    /// What those and the others are.
    #[serde(flatten)]
    pub account: Account,
}

/// What became of `seen` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Not read yet.
    pub unread: u64,
    /// Read, not settled.
    pub in_flight: u64,
    /// Held by the sink.
    pub acknowledged: u64,
    /// Given up with the operator's leave.
    pub dropped: u64,
    /// Written, and gone before they could be read.
    pub lost: u64,
}

/// What no longer hangs on a file. Totals only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Files of which nothing more will come: sums per sink.
    pub finished: BTreeMap<String, Finished>,
    /// Bytes dropped since the state directory was made, by reason: all files, the sum over all
    /// sinks.
    pub dropped: BTreeMap<String, u64>,
    /// Bytes lost since the state directory was made, by reason: likewise.
    pub lost: BTreeMap<String, u64>,
    /// The same by sink.
    #[serde(default)]
    pub by_sink: BTreeMap<String, GivenUp>,
    /// What could not be known, by why, and how often: where there is any, what is said to be lost is
    /// the least that was lost.
    #[serde(default)]
    pub unknown: BTreeMap<String, u64>,
}

/// A file of which bytes were lost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LostFile {
    /// Where it lay.
    pub path: String,
    /// The sink that did not get them.
    pub sink: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub bytes: u64,
}

/// What one sink did not get, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GivenUp {
    /// Bytes dropped.
    pub dropped: BTreeMap<String, u64>,
    /// Bytes lost.
    pub lost: BTreeMap<String, u64>,
}

/// Sums over a sink's finished files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Finished {
    /// How many.
    pub files: u64,
    /// Bytes they had.
    pub seen: u64,
    /// Of these, held by the sink.
    pub acknowledged: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Of these, lost.
    pub lost: u64,
}

impl AgentIdentity {
    /// This process, with the state directory `dir`.
    ///
    /// # Errors
    /// The directory cannot be looked at.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(dir)?;
        Ok(Self {
            state_dir: std::path::absolute(dir)?.to_string_lossy().into_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            pid: std::process::id(),
        })
    }

    /// Whether both have the same state directory, whatever they call it.
    pub fn shares_state_with(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl fmt::Display for AgentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may come from somebody else's reply.
        write!(f, "process {} with the state directory {:?}", self.pid, self.state_dir)
    }
}

impl FileReport {
    /// The report of a file of `source`, as yet without sizes and sinks.
    pub fn new(path: &Path, source: &Source) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            source: source.path.to_string_lossy().into_owned(),
            namespace: source.namespace().map(str::to_owned),
            pod: source.pod().map(str::to_owned),
            container: source.container().map(str::to_owned),
            ..Self::default()
        }
    }

    /// Bytes that the sink furthest behind has not read.
    pub fn unread(&self) -> u64 {
        self.sinks.values().map(|sink| sink.account.unread).max().unwrap_or(self.seen)
    }
}

impl SinkFileReport {
    /// One sink's side of a file of `seen` bytes. All three only grow: load `offset` before `read`
    /// and `read` before `seen`, or a writer in between makes the sum look wrong.
    pub fn new(seen: u64, read: u64, offset: Offset) -> Self {
        let Offset { settled, resume, dropped, lost, guard: _ } = offset;
        let account = Account::new(seen, read, settled, dropped, lost);
        Self { read, settled, account: account.with_unfinished(settled.saturating_sub(resume)) }
    }
}

impl Account {
    /// Splits `seen` bytes. `settled` counts acknowledged, dropped and lost bytes.
    pub fn new(seen: u64, read: u64, settled: u64, dropped: u64, lost: u64) -> Self {
        Self {
            unread: seen.saturating_sub(read),
            in_flight: read.saturating_sub(settled),
            acknowledged: settled.saturating_sub(dropped).saturating_sub(lost),
            dropped,
            lost,
        }
    }

    /// The last `bytes` settled ones belong to a message whose end is not there yet: it waits in the
    /// agent, whatever was sent around it, and no sink holds it.
    fn with_unfinished(mut self, bytes: u64) -> Self {
        let waiting = bytes.min(self.acknowledged);
        self.acknowledged -= waiting;
        self.in_flight += waiting;
        self
    }

    /// The agent stopped: what was on the way is read again.
    fn stopped(mut self) -> Self {
        self.unread += std::mem::take(&mut self.in_flight);
        self
    }

    /// The parts' sum; equals the bytes seen where the account balances.
    pub fn sum(&self) -> u64 {
        let Self { unread, in_flight, acknowledged, dropped, lost } = *self;
        [unread, in_flight, acknowledged, dropped, lost].iter().fold(0, |a, b| a.saturating_add(*b))
    }
}

impl Totals {
    /// Bytes under a reason, the sum over all sinks.
    pub fn of(&self, reason: Reason) -> u64 {
        let sums = match reason.kind() {
            Kind::Dropped => &self.dropped,
            Kind::Lost => &self.lost,
        };
        sums.get(reason.name()).copied().unwrap_or(0)
    }

    /// Books bytes that a sink did not get.
    pub fn give_up(&mut self, sink: &str, reason: Reason, bytes: u64) {
        self.give_up_named(sink, reason.kind(), reason.name(), bytes);
    }

    fn give_up_named(&mut self, sink: &str, kind: Kind, reason: &str, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let by_sink = self.by_sink.entry(sink.to_owned()).or_default();
        let sums = match kind {
            Kind::Dropped => [&mut self.dropped, &mut by_sink.dropped],
            Kind::Lost => [&mut self.lost, &mut by_sink.lost],
        };
        for sums in sums {
            add_to(sums, reason, bytes);
        }
    }

    /// Adds other totals.
    pub fn add(&mut self, other: &Self) {
        for (name, sums) in &other.finished {
            self.finished.entry(name.clone()).or_default().add(*sums);
        }
        for (ours, theirs) in [
            (&mut self.dropped, &other.dropped),
            (&mut self.lost, &other.lost),
            (&mut self.unknown, &other.unknown),
        ] {
            theirs.iter().for_each(|(name, bytes)| add_to(ours, name, *bytes));
        }
        for (name, theirs) in &other.by_sink {
            let ours = self.by_sink.entry(name.clone()).or_default();
            theirs.dropped.iter().for_each(|(name, bytes)| add_to(&mut ours.dropped, name, *bytes));
            theirs.lost.iter().for_each(|(name, bytes)| add_to(&mut ours.lost, name, *bytes));
        }
    }

    /// Reads totals as the checkpoint names them ([`Totals::named`]); other names are left alone.
    pub fn from_named(totals: &BTreeMap<String, u64>) -> Self {
        let mut read = Self::default();
        for (name, value) in totals {
            match name.split('.').collect::<Vec<_>>().as_slice() {
                // As the first version kept them: of no sink.
                ["dropped", reason] => add_to(&mut read.dropped, reason, *value),
                ["lost", reason] => add_to(&mut read.lost, reason, *value),
                ["dropped", sink, reason] => {
                    read.give_up_named(sink, Kind::Dropped, reason, *value);
                }
                ["lost", sink, reason] => read.give_up_named(sink, Kind::Lost, reason, *value),
                ["unknown", why] => add_to(&mut read.unknown, why, *value),
                ["finished", sink, part] => {
                    let finished = read.finished.entry((*sink).to_owned()).or_default();
                    match *part {
                        "files" => finished.files = *value,
                        "seen" => finished.seen = *value,
                        "acknowledged" => finished.acknowledged = *value,
                        "dropped" => finished.dropped = *value,
                        "lost" => finished.lost = *value,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        read
    }

    /// The totals as the checkpoint names them: `dropped.SINK.REASON`, `lost.SINK.REASON`,
    /// `unknown.WHY` and `finished.SINK.PART` (a sink's name holds no dot).
    pub fn named(&self) -> BTreeMap<String, u64> {
        let mut named = BTreeMap::new();
        let mut of_no_sink = [("dropped", self.dropped.clone()), ("lost", self.lost.clone())];
        for (sink, sums) in &self.by_sink {
            for ((kind, rest), sums) in of_no_sink.iter_mut().zip([&sums.dropped, &sums.lost]) {
                for (reason, bytes) in sums {
                    named.insert(format!("{kind}.{sink}.{reason}"), *bytes);
                    let rest = rest.entry(reason.clone()).or_default();
                    *rest = rest.saturating_sub(*bytes);
                }
            }
        }
        for (kind, rest) in of_no_sink {
            let rest = rest.into_iter().filter(|(_, bytes)| *bytes > 0);
            named.extend(rest.map(|(reason, bytes)| (format!("{kind}.{reason}"), bytes)));
        }
        named.extend(self.unknown.iter().map(|(why, count)| (format!("unknown.{why}"), *count)));
        for (sink, finished) in &self.finished {
            let Finished { files, seen, acknowledged, dropped, lost } = *finished;
            let parts = [
                ("files", files),
                ("seen", seen),
                ("acknowledged", acknowledged),
                ("dropped", dropped),
                ("lost", lost),
            ];
            named.extend(parts.map(|(part, value)| (format!("finished.{sink}.{part}"), value)));
        }
        named
    }
}

fn add_to(sums: &mut BTreeMap<String, u64>, name: &str, bytes: u64) {
    match sums.get_mut(name) {
        Some(sum) => *sum = sum.saturating_add(bytes),
        None => _ = sums.insert(name.to_owned(), bytes),
    }
}

impl Finished {
    fn add(&mut self, other: Self) {
        for (sum, part) in [
            (&mut self.files, other.files),
            (&mut self.seen, other.seen),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.dropped, other.dropped),
            (&mut self.lost, other.lost),
        ] {
            *sum = sum.saturating_add(part);
        }
    }

    /// Whether every byte is accounted for.
    pub fn balances(&self) -> bool {
        let Self { files: _, seen, acknowledged, dropped, lost } = *self;
        acknowledged.checked_add(dropped).and_then(|sum| sum.checked_add(lost)) == Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_account_balances_exactly_if_its_offsets_are_in_order(
            [seen, read, settled, dropped, lost] in [0u64..50, 0u64..50, 0u64..50, 0u64..50, 0u64..50],
        ) {
            let account = Account::new(seen, read, settled, dropped, lost);
            let in_order = read <= seen && settled <= read && dropped + lost <= settled;
            if in_order {
                proptest::prop_assert_eq!(account.sum(), seen);
            } else {
                proptest::prop_assert!(account.sum() > seen);
            }
        }

        #[test]
        fn bytes_of_an_unfinished_message_are_acknowledged_nowhere(
            seen in 40u64..50, settled in 0u64..40, back in 0u64..40, dropped in 0u64..9,
        ) {
            let (resume, dropped) = (settled.saturating_sub(back), dropped.min(settled));
            let offset = Offset { settled, resume, dropped, lost: 0, ..Offset::default() };
            let account = SinkFileReport::new(seen, settled, offset).account;
            proptest::prop_assert_eq!(account.sum(), seen);
            proptest::prop_assert!(account.acknowledged <= resume);
            let stopped = account.stopped();
            proptest::prop_assert_eq!((stopped.sum(), stopped.in_flight), (seen, 0));
        }

        #[test]
        fn totals_survive_the_checkpoint(
            bookings in proptest::collection::vec((0..3_u8, 0..Reason::ALL.len(), 0u64..9), 0..9),
            finished in proptest::collection::btree_map("[a-z0-9_-]{1,5}", 0u64..9, 0..3),
            unknown in 0u64..2,
        ) {
            let mut totals = Totals {
                unknown: [("no_tally".to_owned(), unknown)].into(),
                finished: finished
                    .into_iter()
                    .map(|(name, seen)| (name, Finished { seen, files: 3, ..Finished::default() }))
                    .collect(),
                ..Totals::default()
            };
            for (sink, reason, bytes) in bookings {
                totals.give_up(&format!("sink-{sink}"), Reason::ALL[reason], bytes);
            }
            proptest::prop_assert_eq!(Totals::from_named(&totals.named()), totals);
        }
    }

    #[test]
    fn totals_of_the_version_before_are_kept_and_added_to() {
        let before =
            [("lost.deleted_while_down".to_owned(), 7), ("dropped.rejected".to_owned(), 2)];
        let mut totals = Totals::from_named(&before.clone().into());
        assert_eq!(totals.named(), before.into());
        totals.give_up("a", Reason::DeletedWhileDown, 3);
        totals.give_up("b", Reason::DeletedWhileDown, 3);
        assert_eq!(totals.lost["deleted_while_down"], 13);
        assert_eq!(totals.by_sink["a"].lost["deleted_while_down"], 3);
        assert_eq!(Totals::from_named(&totals.named()), totals);
        let mut twice = totals.clone();
        twice.add(&totals);
        assert_eq!(twice.lost["deleted_while_down"], 26);
        assert_eq!(twice.by_sink["b"].lost["deleted_while_down"], 6);
    }

    #[test]
    fn a_report_survives_json() {
        let report = Report {
            files: vec![FileReport {
                sinks: [("a".into(), SinkFileReport::default())].into(),
                ..Default::default()
            }],
            sinks: vec![SinkReport::default()],
            ..Default::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
