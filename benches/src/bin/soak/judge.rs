//! What was lost and doubled into one sink, and whether the audit had stated it.

use std::fmt;

use benches::{
    loadgen::Manifest,
    oracle::{Oracle, Report},
    tag::{Stream, Writer},
};
use serde_json::Value;

use super::logs::{Habits, Style, Written};

/// Lost ranges that are told one by one.
const TOLD: usize = 60;

/// What became of everything in one sink.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub sink: &'static str,
    pub report: Report,
    /// Bytes of the lost messages.
    pub lost_bytes: u64,
    /// Bytes that the audit states as lost.
    pub stated: u64,
    /// Whether it says that it may be more.
    pub at_least: bool,
    /// Lines that came late out of copies which `copytruncate` left: nowhere else were they to be had, and
    /// what follows them was not held back.
    pub late: u64,
    /// Whether doubles are allowed that a kill or a lost reply explains.
    doubles: bool,
    /// Logs whose lines are out of order, or doubled where none may be, and where most is missing.
    pub gaps: Vec<String>,
}

/// Everything written, as the oracle counts it.
pub(crate) fn manifest(written: &[Written]) -> Manifest {
    let counts = written.iter().map(|log| {
        let counts = log.lengths.each_ref().map(|lengths| lengths.len() as u64);
        (log.writer, counts)
    });
    let mut manifest = Manifest::of(benches::framing::Format::Cri, counts);
    manifest.writers.sort_by_key(|entry| entry.writer);
    manifest
}

impl Verdict {
    /// Judges what `sink` received.
    pub(crate) fn of(
        sink: &'static str,
        oracle: &Oracle,
        written: &[Written],
        audit: &Value,
        doubles: bool,
    ) -> Self {
        let report = oracle.report(Some(&manifest(written)));
        let copied = written.iter().filter(|log| log.habits.style == Style::CopyTruncate);
        let late = copied.map(|log| oracle.reordered(log.writer)).sum();
        let (mut lost_bytes, mut gaps) = (0, Vec::new());
        for log in written {
            for stream in Stream::ALL {
                let lengths = &log.lengths[stream.index()];
                for gap in oracle.missing(log.writer, stream, lengths.len() as u64) {
                    let (from, to) = (gap.start as usize, gap.end as usize);
                    let bytes: u64 = lengths[from..to].iter().map(|&n| u64::from(n)).sum();
                    lost_bytes += bytes;
                    gaps.push((bytes, tell(log, stream, from, to, bytes)));
                }
            }
        }
        gaps.sort_by_key(|&(bytes, _)| std::cmp::Reverse(bytes));
        let gaps = gaps.into_iter().take(TOLD).map(|(_, text)| text);
        let ordered = written.iter().filter(|log| log.habits.style != Style::CopyTruncate);
        let disordered = ordered.filter_map(|log| {
            let count = Some(oracle.reordered(log.writer)).filter(|count| *count > 0)?;
            let Habits { layout, style, .. } = log.habits;
            let pod = log.writer.pod();
            Some(format!("{pod} ({layout:?}, {style:?}): {count} lines out of order"))
        });
        let each = if doubles { Vec::new() } else { oracle.each(&manifest(written)) };
        let doubled = each.iter().filter(|log| log.doubled > 0).map(|log| {
            let (pod, count, same) = (Writer(log.writer).pod(), log.doubled, log.doubled_same_uid);
            format!("{pod}: {count} lines doubled, {same} of them with the same uid")
        });
        let gaps = disordered.chain(doubled).chain(gaps).collect();
        let (stated, at_least) = (stated(audit, sink), audit["at_least"] == true);
        Self { sink, report, lost_bytes, stated, at_least, late, doubles, gaps }
    }

    /// What is wrong, in a few words each.
    pub(crate) fn faults(&self) -> Vec<String> {
        let Self { sink, report, .. } = self;
        let mut faults = Vec::new();
        if self.lost_bytes > self.stated && !self.at_least {
            let unstated = self.lost_bytes - self.stated;
            faults.push(format!("{sink}: {unstated} bytes are lost that the audit does not state"));
        }
        let doubled = if self.doubles { report.doubled_unexplained } else { report.doubled };
        for (count, what) in [
            (doubled, "doubled"),
            (report.uid_changed, "doubled with another uid"),
            (report.reordered.saturating_sub(self.late), "out of order"),
            (report.damaged, "damaged"),
            (report.wrong_metadata, "with wrong metadata"),
            (report.invented, "that nobody wrote"),
            (report.unreadable, "unreadable"),
        ] {
            if count > 0 {
                faults.push(format!("{sink}: {count} lines {what}"));
            }
        }
        faults
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sink, report, lost_bytes, stated, at_least, late, .. } = self;
        let least = if *at_least { "at least " } else { "" };
        write!(
            f,
            "into {sink:7}: {} lines written, lost {} ({lost_bytes} bytes; stated {least}{stated}), doubled {} \
             (unexplained {}), out of order {} ({late} late out of copies), damaged {}",
            report.expected,
            report.lost,
            report.doubled,
            report.doubled_unexplained,
            report.reordered.saturating_sub(*late),
            report.damaged,
        )
    }
}

/// Bytes that the audit states as lost to one sink.
fn stated(audit: &Value, sink: &str) -> u64 {
    audit["sinks"][sink]["lost"].as_u64().unwrap_or(0)
}

/// Which messages are missing, and what was done to their log around then.
fn tell(log: &Written, stream: Stream, from: usize, to: usize, bytes: u64) -> String {
    let index = stream.index();
    let (pod, habits) = (log.writer.pod(), log.habits);
    let before = log.marks.iter().rev().find(|mark| mark.2[index] <= from);
    let mut text = format!(
        "{pod} ({:?}, {:?}) {} {from}..{to} of {}, {bytes} bytes",
        habits.layout,
        habits.style,
        stream.name(),
        log.lengths[index].len(),
    );
    let after = log.marks.iter().filter(|mark| mark.2[index] >= from).take(4);
    for (at, what, numbers) in before.into_iter().chain(after) {
        text += &format!("; {what} at {:.2} s before {}", at.as_secs_f64(), numbers[index]);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use benches::{
        loadgen::Messages,
        oracle::Limits,
        tag::{Stream, Writer},
    };
    use serde_json::json;

    use super::*;
    use crate::logs::Layout;

    /// Writer 4 wrote ten messages of 100, 101, … bytes.
    fn written() -> Written {
        let habits = Habits {
            layout: Layout::Kubernetes,
            style: Style::Kubelet,
            rate: 1.0,
            rotate_bytes: 1,
            life: Duration::from_secs(9),
            stays: Duration::ZERO,
            unfinished: false,
        };
        let lengths = [(100..110).collect(), Vec::new(), Vec::new()];
        let marks = vec![(Duration::from_secs(1), "rotating", [3, 0, 0])];
        Written { writer: Writer(4), habits, lengths, marks }
    }

    fn received(numbers: &[usize]) -> Oracle {
        let (mut messages, mut message) = (Messages::new(Writer(4), 1), Vec::new());
        let mut records = Vec::new();
        for number in 0..10 {
            messages.next(Stream::Stdout, &mut message);
            records.push(json!({
                "log.record.uid": format!("1-{number:x}"),
                "body": String::from_utf8_lossy(&message),
                "log.iostream": "stdout",
                "k8s.namespace.name": Writer(4).namespace(),
                "k8s.pod.name": Writer(4).pod(),
                "k8s.container.name": Writer(4).container(),
            }));
        }
        let mut oracle = Oracle::new(Limits::default());
        for &number in numbers {
            oracle.accept(format!("{}\n", records[number]).as_bytes(), false);
        }
        oracle
    }

    fn judge(numbers: &[usize], audit: &Value) -> Verdict {
        Verdict::of("file", &received(numbers), &[written()], audit, false)
    }

    #[test]
    fn lost_bytes_are_those_of_the_missing_messages() {
        let audit = json!({"sinks": {"file": {"lost": 204}}, "lost": {}});
        let verdict = judge(&[0, 1, 2, 4, 5, 6, 7, 8, 9], &audit);
        assert_eq!((verdict.lost_bytes, verdict.report.lost), (103, 1));
        assert!(verdict.faults().is_empty(), "stated: {:?}", verdict.faults());
        assert!(verdict.gaps[0].contains("3..4 of 10, 103 bytes; rotating at 1.00 s before 3"));
        let verdict = judge(&[0, 1, 2, 4, 5, 6, 8, 9], &audit);
        let unstated = ["file: 6 bytes are lost that the audit does not state"];
        assert_eq!(verdict.faults(), unstated, "3 and 7 are 103 and 107 bytes");
    }

    #[test]
    fn at_least_is_an_answer_where_it_cannot_be_known() {
        let audit = json!({"sinks": {"file": {"lost": 3}}, "at_least": true});
        let verdict = judge(&[0, 1, 2, 4, 5, 6, 7, 8, 9], &audit);
        assert!(verdict.faults().is_empty(), "{:?}", verdict.faults());
        assert!(verdict.to_string().contains("stated at least 3"), "{verdict}");
    }

    #[test]
    fn a_double_is_a_fault_where_lines_come_once() {
        let all: Vec<_> = (0..10).chain([5]).collect();
        let audit = json!({"sinks": {}, "lost": {}});
        assert_eq!(judge(&all, &audit).faults(), ["file: 1 lines doubled"]);
    }
}
