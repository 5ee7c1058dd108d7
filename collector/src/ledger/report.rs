//! The ledger as `/status` serves it and `everyline status` and `audit` show it.
//!
//! Every number is bytes of an (uncompressed) log file. For each file and sink
//! `seen = acknowledged + in_flight + unread + dropped + lost` must hold; [`Account::new`] derives
//! the parts from the offsets that the agent keeps, so an offset that ran ahead of another shows as
//! a sum that does not balance. Decides nothing: the verdict is `cli::audit`'s.

mod stored;
mod totals;

use std::{collections::BTreeMap, fmt, fs, io, os::unix::fs::MetadataExt, path::Path};

use serde::{Deserialize, Serialize};

use crate::{checkpoint::Offset, source::Source};

pub use stored::from_checkpoint;
pub use totals::{Finished, GivenUp, Totals};

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
    /// How many files are known, and what waits. None: no agent runs, or it is of a version that does not say.
    #[serde(default)]
    pub known_files: Option<KnownFiles>,
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

impl Report {
    /// Files and directories that are not collected yet, because they wait for a place.
    pub fn waits(&self) -> u64 {
        self.known_files.as_ref().map_or(0, |it| it.waiting_files + it.waiting_directories)
    }
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

/// How many files are known, and what waits because its tenant has its share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KnownFiles {
    /// How many there may be (`read.known_files`).
    pub most: u64,
    /// How many of them one tenant may have.
    pub share: u64,
    /// How many there are.
    pub known: u64,
    /// Files that wait.
    pub waiting_files: u64,
    /// Directories that wait to be looked through.
    pub waiting_directories: u64,
    /// Whose they are, those with most first.
    pub waiting: Vec<Waiting>,
}

/// What waits of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waiting {
    /// A namespace, or a directory.
    pub tenant: String,
    /// Files that were seen and are not collected yet.
    pub files: u64,
    /// What they held at least.
    pub bytes: u64,
    /// Directories that are not looked through.
    pub directories: u64,
}

/// Somebody who reached a bound of something that all share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldBack {
    /// What that is.
    pub resource: String,
    /// Who: a path, an address.
    pub who: String,
    /// How often that happened.
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
