//! Per pod: what was printed, lost and doubled, and beside it what the agent said of it in its log. The
//! statement, which is judged, is the audit's sum: the log says some losses a minute, and counts the others.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use serde_json::Value;

use super::workload::{FRAME, LENGTH, Pod, Printed};

/// One pod's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) pod: String,
    pub(super) kind: String,
    pub(super) printed: u64,
    /// Messages that were certainly printed and never arrived.
    pub(super) lost: u64,
    /// Messages that arrived again.
    pub(super) doubled: u64,
    /// Of these, the ones with the uid of the first time.
    pub(super) same_uid: u64,
    /// Bytes that the agent's log says were lost of this pod: those of the sink that lost most. Only the
    /// audit tells sinks apart, and it tells no pods apart after a restart.
    pub(super) said: u64,
}

impl Line {
    /// Of `pod`, from the oracle's account of its writer (none: nothing arrived).
    pub(super) fn of(
        pod: Pod,
        printed: &Printed,
        arrived: Option<&Value>,
        said: u64,
    ) -> Result<Self> {
        let number = |field: &str| arrived.map_or(Some(0), |writer| writer[field].as_u64());
        let missing = arrived.map(|writer| &writer["missing"]);
        let mut lost = 0;
        for (stream, &certain) in printed.printed.iter().enumerate() {
            lost += match missing {
                None => certain,
                Some(missing) => below(&missing[stream], certain).context("No list of ranges")?,
            };
        }
        Ok(Self {
            pod: pod.name(),
            kind: format!("{:?}", pod.kind),
            printed: printed.printed.iter().sum(),
            lost,
            doubled: number("doubled").context("The oracle does not count doubles")?,
            same_uid: number("doubled_same_uid").context("The oracle does not compare uids")?,
            said,
        })
    }

    /// The most bytes that the lost messages were, and the least that is likely: the runtime leaves out
    /// a time's trailing zeros, of which there are 0.11 on average.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let most = self.lost * (LENGTH + FRAME);
        let mean = self.lost as f64 / 9.0;
        let least = most.saturating_sub((mean + 6.0 * (mean + 1.0).sqrt()) as u64);
        (least, most)
    }

    /// Whether what was said is what was lost, more (the dead sink of a while lost more), or a part.
    fn judged(&self) -> &'static str {
        let (least, most) = self.bytes();
        match self.said {
            0 if self.lost == 0 => "",
            said if said < least => "not each was said",
            said if said <= most => "equal",
            _ => "more of another sink",
        }
    }
}

/// Numbers below `bound` in a list of ranges.
fn below(ranges: &Value, bound: u64) -> Option<u64> {
    let mut count = 0;
    for range in ranges.as_array()? {
        let (from, to) = (range["start"].as_u64()?, range["end"].as_u64()?);
        count += to.min(bound).saturating_sub(from);
    }
    Some(count)
}

/// All pods' lines, and their sums.
#[derive(Debug)]
pub(super) struct Table(pub(super) Vec<Line>);

impl Table {
    /// What the oracle's report has of one writer.
    pub(super) fn by_writer(report: &Value) -> BTreeMap<u64, &Value> {
        let writers = report["writers"].as_array().into_iter().flatten();
        writers.filter_map(|writer| Some((writer["writer"].as_u64()?, writer))).collect()
    }

    /// The least bytes that were lost in all.
    pub(super) fn least_lost(&self) -> u64 {
        self.0.iter().map(|line| line.bytes().0).sum()
    }

    /// The most bytes that the lost messages can have been.
    pub(super) fn most_lost(&self) -> u64 {
        self.0.iter().map(|line| line.bytes().1).sum()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "    {:8} {:11} {:>9} {:>8} {:>12} {:>8} {:>9} {:>12}",
            "POD", "KIND", "PRINTED", "LOST", "LOST BYTES", "DOUBLED", "SAME UID", "IN ITS LOG"
        )?;
        for line in &self.0 {
            let (_, most) = line.bytes();
            writeln!(
                f,
                "    {:8} {:11} {:>9} {:>8} {most:>12} {:>8} {:>9} {:>12} {}",
                line.pod,
                line.kind,
                line.printed,
                line.lost,
                line.doubled,
                line.same_uid,
                line.said,
                line.judged(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::workload::Kind, *};

    const POD: Pod = Pod { writer: 3, kind: Kind::Deleted };
    const PRINTED: Printed = Printed { intended: [100, 20], printed: [90, 20] };

    fn range(start: u64, end: u64) -> Value {
        json!({"start": start, "end": end})
    }

    fn line(missing: Value, stated: u64) -> Line {
        let writer = json!({"writer": 3, "missing": missing, "doubled": 2, "doubled_same_uid": 1});
        Line::of(POD, &PRINTED, Some(&writer), stated).unwrap()
    }

    #[test]
    fn what_was_only_about_to_be_printed_is_not_lost() {
        let line = line(json!([[range(10, 12), range(88, 100)], [], []]), 0);
        assert_eq!((line.printed, line.lost, line.doubled, line.same_uid), (110, 4, 2, 1));
        assert_eq!(line.bytes().1, 4 * 241);
        assert_eq!(line.judged(), "not each was said");
    }

    #[test]
    fn what_is_stated_may_lack_trailing_zeros_and_no_more() {
        let missing = json!([[range(0, 90)], [], []]);
        let most = 90 * 241;
        assert_eq!(line(missing.clone(), most).judged(), "equal");
        assert_eq!(line(missing.clone(), most - 10).judged(), "equal");
        assert_eq!(line(missing.clone(), most - 100).judged(), "not each was said");
        assert_eq!(line(missing, most + 1).judged(), "more of another sink");
        assert_eq!(line(json!([[], [], []]), 0).judged(), "");
    }

    #[test]
    fn a_pod_of_which_nothing_arrived_is_lost_whole() {
        assert_eq!(Line::of(POD, &PRINTED, None, 0).unwrap().lost, 110);
    }
}
