//! `everyline audit`: proves that every byte is accounted for, or says where not.
//!
//! Checks the agent's sums file by file and sink by sink, and the sizes it claims against what
//! `stat` says now: the disk is the witness that the agent cannot talk to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Write as _,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use serde::Serialize;

use super::{
    agent, host_paths, json, print, say,
    status::Output,
    table::{Layout, bytes, table},
};
use crate::{
    config::Config,
    ledger::report::{Account, GivenUp, Report},
    reason::{Reason, Unknown},
    shown,
};

/// A file can be truncated between the agent's answer and our look; the agent notices soon.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// Findings shown to people; JSON has all.
const SHOWN: usize = 20;
/// Files with losses that are named in either.
const FILES_NAMED: usize = 100;

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    agent: agent::Agent,
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What the audit says, and the exit status that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// Every byte is accounted for and none was lost: 0.
    Balanced,
    /// Every byte is accounted for, and some as lost: 1.
    Lost,
    /// The sums do not add up, or the disk says otherwise: 1.
    Unbalanced,
    /// The agent still looks for what it knows, or files wait to be known: 2.
    Incomplete,
}

/// What the audit found.
#[derive(Debug, PartialEq, Serialize)]
struct Verdict {
    /// All in a word.
    answer: Answer,
    /// Whether the answer is that one.
    balanced: bool,
    /// Whether the agent has found or given up whatever it knew when it started.
    complete: bool,
    /// Files and directories that wait to be known.
    waiting: u64,
    /// Files looked at; finished ones are in the sums.
    files: usize,
    /// Per sink, living and finished files together.
    sinks: BTreeMap<String, Sums>,
    /// Bytes dropped, by reason: the sum over all sinks.
    dropped: BTreeMap<String, u64>,
    /// Bytes lost, by reason: likewise.
    lost: BTreeMap<String, u64>,
    /// Bytes lost under all reasons.
    lost_bytes: u64,
    /// Whether more may have been lost, because something could not be known.
    at_least: bool,
    /// Why, by how many times.
    unknown: BTreeMap<String, u64>,
    /// The same by sink.
    by_sink: BTreeMap<String, GivenUp>,
    /// What is wrong, and what was lost, in sentences.
    findings: Vec<String>,
}

/// One sink's sums.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Sums {
    /// Files, living and finished.
    files: u64,
    seen: u64,
    #[serde(flatten)]
    account: Account,
}

impl Answer {
    fn exit_code(self) -> u8 {
        match self {
            Self::Balanced => 0,
            Self::Lost | Self::Unbalanced => 1,
            Self::Incomplete => 2,
        }
    }
}

/// Audits, prints the verdict and makes it the exit status.
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let (mut report, mut note) = agent::report(&args.agent, config)?;
    let mut disk = on_disk(&report, &config.host_root);
    if !disk.is_empty() && !report.started.is_empty() {
        thread::sleep(SECOND_LOOK);
        (report, note) = agent::report(&args.agent, config)?;
        disk = on_disk(&report, &config.host_root);
    }
    host_paths::tell(&mut report, &config.host_root);
    if let Some(note) = note {
        say(&note);
    }
    let verdict = judge(&report, disk);
    print(&match args.output {
        Output::Text => show(&verdict),
        Output::Json => json(&verdict)?,
    })?;
    Ok(ExitCode::from(verdict.answer.exit_code()))
}

/// Each sink's sums, and what does not add up.
#[cfg(test)]
pub(crate) fn sums(report: &Report) -> (BTreeMap<String, Account>, Vec<String>) {
    let verdict = judge(report, Vec::new());
    let unbalanced = verdict.answer == Answer::Unbalanced;
    let sinks = verdict.sinks.into_iter().map(|(name, sums)| (name, sums.account)).collect();
    (sinks, if unbalanced { verdict.findings } else { Vec::new() })
}

fn judge(report: &Report, disk: Vec<String>) -> Verdict {
    let totals = &report.totals;
    let mut sinks: BTreeMap<String, Sums> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in &report.files {
        for (name, sink) in &file.sinks {
            add(sinks.entry(name.clone()).or_default(), (1, file.seen), sink.account);
            let (seen, sum) = (file.seen, sink.account.sum());
            if sum != seen {
                let path = shown::text(&file.path);
                wrong.push(format!(
                    "{path}, sink {name}: {seen} bytes seen, but {sum} accounted for."
                ));
            }
        }
    }
    for (name, finished) in &totals.finished {
        let account = Account {
            acknowledged: finished.acknowledged,
            dropped: finished.dropped,
            lost: finished.lost,
            ..Account::default()
        };
        let sums = sinks.entry(name.clone()).or_default();
        add(sums, (finished.files, finished.seen), account);
        if !finished.balances() {
            wrong.push(format!(
                "Finished files, sink {name}: {} bytes seen, but {} accounted for.",
                finished.seen,
                account.sum(),
            ));
        }
    }
    wrong.extend(disk);
    let losses = losses(report, &sinks);
    let answer = match (wrong.is_empty(), is_complete(report), losses.is_empty()) {
        (false, _, _) => Answer::Unbalanced,
        (true, false, _) => Answer::Incomplete,
        (true, true, false) => Answer::Lost,
        (true, true, true) => Answer::Balanced,
    };
    let by_reason = totals.lost.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    let by_sink = sinks.values().fold(0, |sum: u64, sink| sum.saturating_add(sink.account.lost));
    Verdict {
        answer,
        balanced: answer == Answer::Balanced,
        complete: is_complete(report),
        waiting: report.waits(),
        files: report.files.len(),
        sinks,
        dropped: totals.dropped.clone(),
        lost: totals.lost.clone(),
        // They are the same but for what a former version booked.
        lost_bytes: by_reason.max(by_sink),
        at_least: !totals.unknown.is_empty(),
        unknown: totals.unknown.clone(),
        by_sink: totals.by_sink.clone(),
        findings: wrong.into_iter().chain(losses).collect(),
    }
}

/// Whether whatever lies on disk is in the sums.
fn is_complete(report: &Report) -> bool {
    !report.looking && report.waits() == 0
}

/// What was lost, by sink and reason, then by file as far as files are known.
fn losses(report: &Report, sinks: &BTreeMap<String, Sums>) -> Vec<String> {
    let mut losses = Vec::new();
    let mut of_no_sink = report.totals.lost.clone();
    for (name, sums) in sinks.iter().filter(|(_, sums)| sums.account.lost > 0) {
        let mut rest = sums.account.lost;
        let reasons = report.totals.by_sink.get(name).map(|by_sink| &by_sink.lost);
        for (reason, bytes) in reasons.into_iter().flatten().filter(|(_, bytes)| **bytes > 0) {
            let meaning = Reason::named(reason).map_or("", Reason::meaning);
            losses.push(format!("Sink {name}: {bytes} bytes lost: {reason} ({meaning})."));
            rest = rest.saturating_sub(*bytes);
            let known = of_no_sink.entry(reason.clone()).or_default();
            *known = known.saturating_sub(*bytes);
        }
        if rest > 0 {
            losses
                .push(format!("Sink {name}: {rest} bytes lost, by a version that kept no reason."));
        }
    }
    let of_no_sink = of_no_sink.into_iter().filter(|(_, bytes)| *bytes > 0);
    losses
        .extend(of_no_sink.map(|(reason, bytes)| format!("{bytes} bytes lost in all: {reason}.")));
    losses.extend(lost_files(report));
    // What waited and is gone was lost, though nobody knows how much.
    let deleted = Unknown::DeletedWaiting;
    if report.totals.unknown.contains_key(deleted.name()) {
        losses.push(deleted.meaning().to_owned());
    }
    losses
}

/// Files of which something was lost, each once, the latest first, no more than [`FILES_NAMED`].
fn lost_files(report: &Report) -> Vec<String> {
    /// A loss, and the sinks that have it.
    type Losses<'a> = Vec<(u64, &'a str, BTreeSet<&'a str>)>;
    let mut order: Vec<&str> = Vec::new();
    let mut files: HashMap<&str, Losses<'_>> = HashMap::new();
    let mut known: HashSet<(&str, &str)> = HashSet::new();
    let mut note = |path, sink, bytes: u64, reason| {
        let losses = files.entry(path).or_insert_with(|| {
            order.push(path);
            Losses::new()
        });
        match losses.iter_mut().find(|(other, why, _)| (*other, *why) == (bytes, reason)) {
            Some((_, _, sinks)) => _ = sinks.insert(sink),
            None => losses.push((bytes, reason, [sink].into())),
        }
    };
    for lost in report.lost_files.iter().rev() {
        known.insert((&lost.path, &lost.sink));
        note(lost.path.as_str(), lost.sink.as_str(), lost.bytes, lost.reason.as_str());
    }
    for file in &report.files {
        for (name, sink) in file.sinks.iter().filter(|(_, sink)| sink.account.lost > 0) {
            if !known.contains(&(file.path.as_str(), name.as_str())) {
                note(file.path.as_str(), name.as_str(), sink.account.lost, "");
            }
        }
    }
    let named = order.iter().take(FILES_NAMED).map(|path| {
        let losses = files.get(path).into_iter().flatten().map(|(bytes, reason, sinks)| {
            let s = if sinks.len() == 1 { "" } else { "s" };
            let sinks = sinks.iter().copied().collect::<Vec<_>>().join(", ");
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("sink{s} {sinks}: {bytes} bytes lost{why}")
        });
        format!("{}, {}.", shown::text(path), losses.collect::<Vec<_>>().join("; "))
    });
    let mut named: Vec<String> = named.collect();
    if order.len() > FILES_NAMED {
        let more = order.len() - FILES_NAMED;
        named.push(format!("Bytes of {more} more files were lost."));
    }
    named
}

/// What the agent claims to have seen of files that can still grow must be there.
fn on_disk(report: &Report, root: &Path) -> Vec<String> {
    let living = report.files.iter().filter(|file| !file.ended && !file.path.ends_with(".gz"));
    living
        .filter_map(|file| {
            let metadata = fs::symlink_metadata(&file.path).ok()?;
            let same =
                file.inode == 0 || (metadata.dev(), metadata.ino()) == (file.device, file.inode);
            (same && metadata.is_file() && metadata.len() < file.seen).then(|| {
                format!(
                    "{}: the agent has seen {} bytes, but the file has {}.",
                    shown::text(&host_paths::of(&file.path, root)),
                    file.seen,
                    metadata.len(),
                )
            })
        })
        .collect()
}

fn add(sums: &mut Sums, (files, seen): (u64, u64), account: Account) {
    let total = &mut sums.account;
    for (sum, part) in [
        (&mut sums.files, files),
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
        .map(|(name, Sums { files: _, seen, account })| {
            let Account { unread, in_flight, acknowledged, dropped, lost } = *account;
            let parts = [*seen, acknowledged, in_flight, unread, dropped, lost];
            std::iter::once(name.clone()).chain(parts.map(|part| part.to_string())).collect()
        })
        .collect();
    let head = ["SINK", "SEEN", "ACKNOWLEDGED", "IN FLIGHT", "UNREAD", "DROPPED", "LOST"];
    let layout = Layout { head: &head, right: &head[1..], width: None };
    let mut text = table(layout, &rows);
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
    let files = verdict.sinks.values().map(|sums| sums.files).max().unwrap_or(0);
    let least = if verdict.at_least { "at least " } else { "" };
    text += &match verdict.answer {
        Answer::Balanced => format!("Balanced: every byte of {files} files is accounted for.\n"),
        Answer::Lost => {
            let lost = verdict.lost_bytes;
            format!("Accounted for, but {least}{lost} bytes were lost.\n")
        }
        Answer::Unbalanced => match verdict.findings.len() {
            1 => "NOT BALANCED: 1 finding.\n".to_owned(),
            count => format!("NOT BALANCED: {count} findings.\n"),
        },
        Answer::Incomplete if verdict.waiting > 0 => format!(
            "Not complete yet: {} files or directories wait to be collected, because their tenant has as \
             many as it may have (read.known_files). everyline status tells whose they are.\n",
            verdict.waiting
        ),
        Answer::Incomplete => {
            "Not complete yet: the agent still looks for files that it knows. Ask again in some \
             seconds; one that cannot be opened is named in its log.\n"
                .to_owned()
        }
    };
    if verdict.at_least && verdict.answer == Answer::Balanced {
        let why = Unknown::ALL.into_iter().filter(|why| verdict.unknown.contains_key(why.name()));
        for why in why {
            let _infallible = writeln!(text, "{}", why.meaning());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::report::{FileReport, Finished, LostFile, SinkFileReport, Totals};

    fn report(account: Account) -> Report {
        let sink = SinkFileReport { read: 0, settled: 0, account };
        let mut totals = Totals {
            finished: [(
                "out".into(),
                Finished { files: 2, seen: 50, acknowledged: 45, dropped: 5, lost: 0 },
            )]
            .into(),
            ..Default::default()
        };
        totals.give_up("out", Reason::Rejected, 5);
        Report {
            files: vec![FileReport {
                path: "/a.log".into(),
                seen: 100,
                sinks: [("out".into(), sink)].into(),
                ..Default::default()
            }],
            totals,
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

        Balanced: every byte of 3 files is accounted for.
        ");
        assert_eq!((verdict.balanced, verdict.answer.exit_code()), (true, 0));
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        let verdict = judge(&report(Account { acknowledged: 99, ..Account::default() }), vec![]);
        assert_eq!(verdict.findings, ["/a.log, sink out: 100 bytes seen, but 99 accounted for."]);
        assert_eq!((verdict.answer, verdict.answer.exit_code()), (Answer::Unbalanced, 1));
        let ahead = judge(&report(Account::new(100, 90, 95, 0, 0)), vec![]);
        assert_eq!(ahead.answer, Answer::Unbalanced, "{ahead:?}");
        let mut finished = report(Account::new(100, 100, 100, 0, 0));
        finished.totals.finished.get_mut("out").unwrap().acknowledged = 44;
        let verdict = judge(&finished, vec![]);
        assert_eq!(
            verdict.findings,
            ["Finished files, sink out: 50 bytes seen, but 49 accounted for."]
        );
        assert_eq!(verdict.answer, Answer::Unbalanced);
        // Also while files are missing: more of them mend no sum.
        finished.looking = true;
        assert_eq!(judge(&finished, vec![]).answer, Answer::Unbalanced);
    }

    #[test]
    fn a_loss_is_accounted_for_and_never_balanced() {
        let mut lossy = report(Account::new(100, 100, 100, 0, 10));
        lossy.totals.give_up("out", Reason::Truncated, 10);
        lossy.lost_files.push(LostFile {
            path: "/a.log".into(),
            sink: "out".into(),
            reason: "truncated".into(),
            bytes: 10,
        });
        let verdict = judge(&lossy, vec![]);
        assert_eq!((verdict.answer, verdict.answer.exit_code()), (Answer::Lost, 1));
        assert!(!verdict.balanced);
        insta::assert_snapshot!(show(&verdict), @r"
        SINK  SEEN  ACKNOWLEDGED  IN FLIGHT  UNREAD  DROPPED  LOST
        out    150           135          0       0        5    10
        Dropped, rejected: 5 B
        Lost, truncated: 10 B

        Sink out: 10 bytes lost: truncated (truncated under the reader, or while no agent ran).
        /a.log, sink out: 10 bytes lost: truncated.
        Accounted for, but 10 bytes were lost.
        ");
        lossy.totals.unknown.insert("no_tally".into(), 1);
        assert!(show(&judge(&lossy, vec![])).ends_with("but at least 10 bytes were lost.\n"));
        let json = serde_json::to_value(judge(&lossy, vec![])).unwrap();
        assert_eq!(json["answer"], "lost");
        assert_eq!(json["at_least"], true);
        assert_eq!(json["lost_bytes"], 10);
        assert_eq!(json["by_sink"]["out"]["lost"]["truncated"], 10);
    }

    #[test]
    fn a_file_with_losses_is_named_once_and_no_more_files_than_fit() {
        let mut lossy = report(Account::new(100, 100, 100, 0, 0));
        let lost = |path: &str, sink: &str, reason: &str, bytes| LostFile {
            path: path.into(),
            sink: sink.into(),
            reason: reason.into(),
            bytes,
        };
        lossy.lost_files = vec![
            lost("/old.log", "a", "truncated", 3),
            lost("/new.log", "a", "deleted", 10),
            lost("/new.log", "b", "deleted", 10),
            lost("/new.log", "c", "deleted", 4),
        ];
        assert_eq!(
            lost_files(&lossy),
            [
                "/new.log, sink c: 4 bytes lost: deleted; sinks a, b: 10 bytes lost: deleted.",
                "/old.log, sink a: 3 bytes lost: truncated.",
            ]
        );
        let sinks = ["a", "b", "c", "d"].map(|name| {
            let account = Account::new(9, 9, 9, 0, 9);
            (name.to_owned(), SinkFileReport { read: 9, settled: 9, account })
        });
        lossy.files = (0..5000)
            .map(|number| FileReport {
                path: format!("/many/{number}.log"),
                seen: 9,
                sinks: sinks.clone().into(),
                ..Default::default()
            })
            .collect();
        let named = lost_files(&lossy);
        assert_eq!(
            (named.len(), named[100].as_str()),
            (101, "Bytes of 4902 more files were lost.")
        );
        assert_eq!(named[2], "/many/0.log, sinks a, b, c, d: 9 bytes lost.");
        assert!(serde_json::to_string(&judge(&lossy, vec![])).unwrap().len() < 20_000);
        assert!(show(&judge(&lossy, vec![])).len() < 5_000);
    }

    #[test]
    fn a_loss_of_a_former_version_is_a_loss() {
        let mut lossy = report(Account::new(100, 100, 100, 0, 10));
        let verdict = judge(&lossy, vec![]);
        assert_eq!(
            verdict.findings,
            [
                "Sink out: 10 bytes lost, by a version that kept no reason.",
                "/a.log, sink out: 10 bytes lost."
            ]
        );
        assert_eq!((verdict.answer, verdict.lost_bytes), (Answer::Lost, 10));
        lossy.files.clear();
        lossy.totals.lost.insert("deleted".into(), 3);
        let verdict = judge(&lossy, vec![]);
        assert_eq!(verdict.findings, ["3 bytes lost in all: deleted."]);
        assert_eq!((verdict.answer, verdict.lost_bytes), (Answer::Lost, 3));
    }

    #[test]
    fn an_agent_that_has_not_looked_is_not_complete() {
        let fresh = Report { looking: true, ..Report::default() };
        let verdict = judge(&fresh, vec![]);
        assert_eq!((verdict.answer, verdict.answer.exit_code()), (Answer::Incomplete, 2));
        assert!(!verdict.balanced);
        assert!(show(&verdict).contains("Not complete yet"), "{}", show(&verdict));
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!((&json["answer"], &json["complete"]), (&"incomplete".into(), &false.into()));
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
        assert_eq!(on_disk(&report, Path::new("/")), [""; 0]);
        report.files[0].seen = 6;
        assert_eq!(on_disk(&report, Path::new("/")).len(), 1);
        report.files[0].inode += 1;
        assert_eq!(on_disk(&report, Path::new("/")).len(), 0, "another file lies there now");
    }
}
