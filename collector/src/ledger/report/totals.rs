//! Totals: what no longer hangs on a file, and how the checkpoint names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reason::{Kind, Reason};

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
}
