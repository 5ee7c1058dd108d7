//! `everyline audit`: proves that every byte is accounted for, or says where not.
//!
//! Checks the agent's sums file by file and sink by sink, and the sizes it claims against what
//! `stat` says now: the disk is the witness that the agent cannot talk to.

use std::{
    collections::BTreeMap, fmt::Write as _, fs, os::unix::fs::MetadataExt, process::ExitCode,
    thread, time::Duration,
};

use serde::Serialize;

use super::{
    agent, print,
    status::Output,
    table::{bytes, escaped, table},
};
use crate::{
    config::Config,
    ledger::report::{Account, FileReport, Report},
};

/// A file can be truncated between the agent's answer and our look; the agent notices soon.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// Findings shown to people; JSON has all.
const SHOWN: usize = 20;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    agent: agent::Agent,
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What the audit found.
#[derive(Debug, PartialEq, Serialize)]
struct Verdict {
    /// Every byte is accounted for and none was lost.
    balanced: bool,
    /// Files looked at; finished ones are in the sums.
    files: usize,
    /// Per sink, living and finished files together.
    sinks: BTreeMap<String, Sums>,
    /// Bytes dropped, by reason.
    dropped: BTreeMap<String, u64>,
    /// Bytes lost, by reason.
    lost: BTreeMap<String, u64>,
    /// What is wrong, in sentences.
    findings: Vec<String>,
}

/// One sink's sums.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Sums {
    seen: u64,
    #[serde(flatten)]
    account: Account,
}

/// Audits, prints the verdict and makes it the exit status.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let (mut report, mut note) = agent::report(&args.agent, config)?;
    let mut disk = on_disk(&report);
    if !disk.is_empty() && !report.started.is_empty() {
        thread::sleep(SECOND_LOOK);
        (report, note) = agent::report(&args.agent, config)?;
        disk = on_disk(&report);
    }
    if let Some(note) = note {
        eprintln!("{note}");
    }
    let verdict = judge(&report, disk);
    print(&match args.output {
        Output::Text => show(&verdict),
        Output::Json => serde_json::to_string(&verdict)? + "\n",
    })?;
    Ok(ExitCode::from(u8::from(!verdict.balanced)))
}

fn judge(report: &Report, disk: Vec<String>) -> Verdict {
    let mut sinks: BTreeMap<String, Sums> = BTreeMap::new();
    let mut findings = Vec::new();
    for file in &report.files {
        for (name, sink) in &file.sinks {
            add(sinks.entry(name.clone()).or_default(), file.seen, sink.account);
            judge_file(file, name, sink.account, &mut findings);
        }
    }
    for (name, finished) in &report.totals.finished {
        let account = Account {
            acknowledged: finished.acknowledged,
            dropped: finished.dropped,
            lost: finished.lost,
            ..Account::default()
        };
        add(sinks.entry(name.clone()).or_default(), finished.seen, account);
        if !finished.balances() {
            findings.push(format!(
                "Finished files, sink {name}: {} bytes seen, but {} accounted for.",
                finished.seen,
                account.sum(),
            ));
        }
        if finished.lost > 0 {
            findings.push(format!("Finished files, sink {name}: {} bytes lost.", finished.lost));
        }
    }
    for (reason, lost) in report.totals.lost.iter().filter(|(_, lost)| **lost > 0) {
        findings.push(format!("{lost} bytes lost in all: {reason}."));
    }
    findings.extend(disk);
    Verdict {
        balanced: findings.is_empty(),
        files: report.files.len(),
        sinks,
        dropped: report.totals.dropped.clone(),
        lost: report.totals.lost.clone(),
        findings,
    }
}

fn judge_file(file: &FileReport, sink: &str, account: Account, findings: &mut Vec<String>) {
    let path = escaped(&file.path);
    if account.sum() != file.seen {
        findings.push(format!(
            "{path}, sink {sink}: {} bytes seen, but {} accounted for.",
            file.seen,
            account.sum(),
        ));
    }
    if account.lost > 0 {
        findings.push(format!("{path}, sink {sink}: {} bytes lost.", account.lost));
    }
}

/// What the agent claims to have seen of files that can still grow must be there.
fn on_disk(report: &Report) -> Vec<String> {
    let living = report.files.iter().filter(|file| !file.ended && !file.path.ends_with(".gz"));
    living
        .filter_map(|file| {
            let metadata = fs::symlink_metadata(&file.path).ok()?;
            let same =
                file.inode == 0 || (metadata.dev(), metadata.ino()) == (file.device, file.inode);
            (same && metadata.is_file() && metadata.len() < file.seen).then(|| {
                format!(
                    "{}: the agent has seen {} bytes, but the file has {}.",
                    escaped(&file.path),
                    file.seen,
                    metadata.len(),
                )
            })
        })
        .collect()
}

fn add(sums: &mut Sums, seen: u64, account: Account) {
    let total = &mut sums.account;
    for (sum, part) in [
        (&mut sums.seen, seen),
        (&mut total.unread, account.unread),
        (&mut total.in_flight, account.in_flight),
        (&mut total.acknowledged, account.acknowledged),
        (&mut total.dropped, account.dropped),
        (&mut total.lost, account.lost),
    ] {
        *sum = sum.saturating_add(part);
    }
}

fn show(verdict: &Verdict) -> String {
    let rows: Vec<_> = verdict
        .sinks
        .iter()
        .map(|(name, Sums { seen, account })| {
            let Account { unread, in_flight, acknowledged, dropped, lost } = *account;
            let parts = [*seen, acknowledged, in_flight, unread, dropped, lost];
            std::iter::once(name.clone()).chain(parts.map(|part| part.to_string())).collect()
        })
        .collect();
    let head = ["SINK", "SEEN", "ACKNOWLEDGED", "IN FLIGHT", "UNREAD", "DROPPED", "LOST"];
    let mut text = table(&head, &head[1..], &rows);
    for (what, reasons) in [("Dropped", &verdict.dropped), ("Lost", &verdict.lost)] {
        for (reason, count) in reasons.iter().filter(|(_, count)| **count > 0) {
            let _infallible = writeln!(text, "{what}, {reason}: {}", bytes(*count));
        }
    }
    text.push('\n');
    for finding in verdict.findings.iter().take(SHOWN) {
        let _infallible = writeln!(text, "{finding}");
    }
    if verdict.findings.len() > SHOWN {
        let more = verdict.findings.len() - SHOWN;
        let _infallible = writeln!(text, "… and {more} more (-o json lists all).");
    }
    text += &match verdict.findings.len() {
        0 => format!("Balanced: every byte of {} files is accounted for.\n", verdict.files),
        1 => "NOT BALANCED: 1 finding.\n".to_owned(),
        count => format!("NOT BALANCED: {count} findings.\n"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::report::{Finished, SinkFileReport, Totals};

    fn report(account: Account) -> Report {
        let sink = SinkFileReport { read: 0, settled: 0, account };
        Report {
            files: vec![FileReport {
                path: "/a.log".into(),
                seen: 100,
                sinks: [("out".into(), sink)].into(),
                ..Default::default()
            }],
            totals: Totals {
                finished: [(
                    "out".into(),
                    Finished { files: 2, seen: 50, acknowledged: 45, dropped: 5, lost: 0 },
                )]
                .into(),
                dropped: [("rejected".into(), 5)].into(),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn what_adds_up_is_balanced() {
        let verdict = judge(&report(Account::new(100, 90, 60, 0, 0)), Vec::new());
        insta::assert_snapshot!(show(&verdict), @r"
        SINK  SEEN  ACKNOWLEDGED  IN FLIGHT  UNREAD  DROPPED  LOST
        out    150           105         30      10        5     0
        Dropped, rejected: 5 B

        Balanced: every byte of 1 files is accounted for.
        ");
        assert!(verdict.balanced);
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        let verdict = judge(&report(Account { acknowledged: 99, ..Account::default() }), vec![]);
        assert_eq!(verdict.findings, ["/a.log, sink out: 100 bytes seen, but 99 accounted for."]);
        assert!(!verdict.balanced);
        let ahead = judge(&report(Account::new(100, 90, 95, 0, 0)), vec![]);
        assert!(!ahead.balanced, "{ahead:?}");
    }

    #[test]
    fn a_loss_is_never_balanced() {
        let mut lossy = report(Account::new(100, 100, 100, 0, 10));
        assert_eq!(judge(&lossy, vec![]).findings, ["/a.log, sink out: 10 bytes lost."]);
        lossy.files.clear();
        lossy.totals.lost.insert("deleted".into(), 3);
        assert_eq!(judge(&lossy, vec![]).findings, ["3 bytes lost in all: deleted."]);
        lossy.totals.lost.clear();
        lossy.totals.finished.get_mut("out").unwrap().acknowledged = 44;
        assert_eq!(
            judge(&lossy, vec![]).findings,
            ["Finished files, sink out: 50 bytes seen, but 49 accounted for."]
        );
    }

    #[test]
    fn the_disk_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, "12345").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let mut report = report(Account::new(100, 90, 60, 0, 0));
        let file = &mut report.files[0];
        file.path = path.to_string_lossy().into_owned();
        (file.device, file.inode) = (metadata.dev(), metadata.ino());
        file.seen = 5;
        assert_eq!(on_disk(&report), [""; 0]);
        report.files[0].seen = 6;
        assert_eq!(on_disk(&report).len(), 1);
        report.files[0].inode += 1;
        assert_eq!(on_disk(&report).len(), 0, "another file lies there now");
    }
}
