//! What the oracle has to say.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

/// The account of everything received, against the manifest if there is one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// True if nothing is lost, reordered, damaged, invented or mislabelled, and every double is
    /// explained and carries its first uid.
    pub ok: bool,
    /// Messages the manifest says were written; without one, up to the highest number seen.
    pub expected: u64,
    /// Different messages received.
    pub received: u64,
    /// Messages never received.
    pub lost: u64,
    /// Messages received again.
    pub doubled: u64,
    /// Of those, the ones that neither a lost reply nor a kill explains.
    pub doubled_unexplained: u64,
    /// Messages first received after a later one of their stream.
    pub reordered: u64,
    /// Messages whose bytes are not what was sealed.
    pub damaged: u64,
    /// Records whose namespace, pod, container, stream or marks are not their writer's.
    pub wrong_metadata: u64,
    /// Messages or records that nobody wrote: numbers beyond the manifest, unknown writers.
    pub invented: u64,
    /// Doubles with another uid than the first time.
    pub uid_changed: u64,
    /// First receptions whose offset does not follow their stream's last one in the same file.
    pub uid_disorder: u64,
    /// Different uids, all records; none if there were more than could be remembered. Equals
    /// `records_distinct` if uids are unique.
    pub distinct_uids: Option<u64>,
    /// Records received, doubles left out.
    pub records_distinct: u64,
    /// Records received.
    pub records: u64,
    /// Records that are not the JSON they should be.
    pub unreadable: u64,
    /// Records marked as not parsed.
    pub unparsed: u64,
    /// Records marked as an unfinished message.
    pub partial: u64,
    /// Records that are a piece of a longer message.
    pub split: u64,
    /// Records whose end was cut off.
    pub cut: u64,
    /// Bytes received, decompressed.
    pub bytes: u64,
    /// Requests answered, by what was done to them.
    pub requests: BTreeMap<String, u64>,
    /// How often the agent was said to have been killed.
    pub kills: u64,
    /// The first few things found wrong.
    pub examples: Vec<String>,
    /// Writer by writer, if asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writers: Vec<WriterReport>,
}

/// The account of one writer's messages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WriterReport {
    /// Its number.
    pub writer: u32,
    /// Numbers that never arrived, per stream.
    pub missing: [Vec<Range<u64>>; 3],
    /// Messages received again.
    pub doubled: u64,
    /// Of these, the ones that bore the uid of the first time.
    pub doubled_same_uid: u64,
}

impl Report {
    /// One line for people.
    pub fn summary(&self) -> String {
        format!(
            "{} written, {} received, lost {}, doubled {} (unexplained {}), reordered {}, \
             damaged {}, wrong metadata {}, invented {}: {}",
            self.expected,
            self.received,
            self.lost,
            self.doubled,
            self.doubled_unexplained,
            self.reordered,
            self.damaged,
            self.wrong_metadata,
            self.invented,
            if self.ok { "ok" } else { "NOT OK" },
        )
    }

    pub(super) fn judge(&mut self) {
        let wrong = [
            self.lost,
            self.doubled_unexplained,
            self.reordered,
            self.damaged,
            self.wrong_metadata,
            self.invented,
            self.uid_changed,
            self.uid_disorder,
            self.unreadable,
        ];
        let uids_unique = self.distinct_uids.is_none_or(|uids| uids == self.records_distinct);
        self.ok = wrong.iter().all(|&count| count == 0) && uids_unique;
    }
}
