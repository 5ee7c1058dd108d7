//! The ledger as `/status` serves it and `everyline status` and `audit` show it.
//!
//! Every number is bytes of an (uncompressed) log file. For each file and sink
//! `seen = acknowledged + in_flight + unread + dropped + lost` must hold; [`Account::new`] derives
//! the parts from the offsets that the agent keeps, so an offset that ran ahead of another shows as
//! a sum that does not balance. Decides nothing: the verdict is `cli::audit`'s.

mod stored;

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{checkpoint::Offset, discover::Source};

pub use stored::from_checkpoint;

/// What became of everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The agent's version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// When the agent started, RFC 3339. Empty: no agent runs, this is what its checkpoint holds.
    pub started: String,
    /// How many files are watched how (`kernel`, `inotify`, `poll`). Empty: no agent runs.
    #[serde(default)]
    pub watched: BTreeMap<String, i64>,
    /// Where records go.
    pub sinks: Vec<SinkReport>,
    /// The files known: those being read, and those let go of but not yet settled.
    pub files: Vec<FileReport>,
    /// What no longer hangs on a file.
    pub totals: Totals,
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
    /// Why the last delivery failed, if it did.
    pub error: Option<String>,
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

/// What no longer hangs on a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Files that ended, were settled and forgotten: sums per sink.
    pub finished: BTreeMap<String, Finished>,
    /// Bytes dropped since the state directory was made, by reason, all sinks and files.
    pub dropped: BTreeMap<String, u64>,
    /// Bytes lost since the state directory was made, by reason, all sinks and files.
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

    /// What the checkpoint's totals gain when the file has ended, is settled for every sink and is
    /// forgotten: `finished.SINK.PART` (see [`Totals`]).
    pub fn finished(&self) -> BTreeMap<String, u64> {
        let mut totals = Totals::default();
        for (name, sink) in &self.sinks {
            let Account { acknowledged, dropped, lost, .. } = sink.account;
            let finished = Finished { files: 1, seen: self.seen, acknowledged, dropped, lost };
            totals.finished.insert(name.clone(), finished);
        }
        totals.named()
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
        let Offset { settled, resume: _, dropped, lost } = offset;
        Self { read, settled, account: Account::new(seen, read, settled, dropped, lost) }
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

    /// The parts' sum; equals the bytes seen where the account balances.
    pub fn sum(&self) -> u64 {
        let Self { unread, in_flight, acknowledged, dropped, lost } = *self;
        [unread, in_flight, acknowledged, dropped, lost].iter().fold(0, |a, b| a.saturating_add(*b))
    }
}

impl Totals {
    /// Reads totals as the checkpoint names them ([`Totals::named`]); other names are left alone.
    pub fn from_named(totals: &BTreeMap<String, u64>) -> Self {
        let mut read = Self::default();
        for (name, value) in totals {
            match name.split('.').collect::<Vec<_>>().as_slice() {
                ["dropped", reason] => _ = read.dropped.insert((*reason).to_owned(), *value),
                ["lost", reason] => _ = read.lost.insert((*reason).to_owned(), *value),
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

    /// The totals as the checkpoint names them: `dropped.REASON`, `lost.REASON` and
    /// `finished.SINK.PART` (a sink's name holds no dot).
    pub fn named(&self) -> BTreeMap<String, u64> {
        let mut named = BTreeMap::new();
        named.extend(
            self.dropped.iter().map(|(reason, value)| (format!("dropped.{reason}"), *value)),
        );
        named.extend(self.lost.iter().map(|(reason, value)| (format!("lost.{reason}"), *value)));
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

impl Finished {
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
        fn totals_survive_the_checkpoint(
            lost in 0u64..9,
            finished in proptest::collection::btree_map("[a-z0-9_-]{1,5}", 0u64..9, 0..3),
        ) {
            let totals = Totals {
                lost: [("deleted".to_owned(), lost)].into(),
                dropped: [("rejected".to_owned(), 7)].into(),
                finished: finished
                    .into_iter()
                    .map(|(name, seen)| (name, Finished { seen, files: 3, ..Finished::default() }))
                    .collect(),
            };
            proptest::prop_assert_eq!(Totals::from_named(&totals.named()), totals);
        }
    }

    #[test]
    fn a_finished_file_keeps_the_totals_balanced() {
        let offset = Offset { settled: 9, resume: 9, dropped: 2, lost: 1 };
        let sinks = [("a".to_owned(), SinkFileReport::new(9, 9, offset))].into();
        let file = FileReport { seen: 9, sinks, ..Default::default() };
        let mut named: BTreeMap<String, u64> = BTreeMap::new();
        for (name, amount) in file.finished().into_iter().chain(file.finished()) {
            *named.entry(name).or_default() += amount;
        }
        let a = Totals::from_named(&named).finished["a"];
        assert!(a.balances(), "{a:?}");
        assert_eq!((a.files, a.seen, a.acknowledged), (2, 18, 12));
        assert!(!Finished { acknowledged: 11, ..a }.balances());
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
