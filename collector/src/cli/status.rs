//! `everyline status`: every file, the one furthest behind first.

use std::{fmt::Write as _, io, process::ExitCode, thread, time::Duration};

use clap::ValueEnum;

use super::{
    agent, host_paths, json, print, say,
    table::{Layout, age, bytes, table},
    times::{Times, ZoneArgs},
};
use crate::{
    causes,
    config::Config,
    ledger::report::{Descriptors, FileReport, HeldBack, KnownFiles, Report, SinkReport, Waiting},
    shown, terminal,
    zone::Zone,
};

const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How many are named that were held back.
const HELD_BACK: usize = 10;

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    agent: agent::Agent,
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Show it again every 2 seconds
    #[arg(short, long)]
    watch: bool,
    /// In which zone times are shown
    #[command(flatten)]
    zone: ZoneArgs,
}

/// How reports are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Shows the state of every file.
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut times = Times::new(args.zone);
    for note in times.notes() {
        eprintln!("everyline: {note}.");
    }
    let redraw =
        args.watch && args.output == Output::Text && terminal::understands_sequences(&io::stdout());
    let mut noted = None;
    for round in 0_u64.. {
        let (note, text) = match agent::report(&args.agent, config) {
            Ok((mut report, note)) => {
                host_paths::tell(&mut report, &config.host_root);
                let text = match args.output {
                    Output::Text => show(&report, times.zone, terminal::width(&io::stdout())),
                    Output::Json => json(&report)?,
                };
                (note, text)
            }
            // It was there before, and may be again.
            Err(error) if args.watch && round > 0 => {
                let why = causes::told(error.as_ref());
                (Some(format!("Waiting for an agent: {why}")), String::new())
            }
            Err(error) => return Err(error),
        };
        if redraw {
            // Home and clear, so that a terminal shows one table in place, what is to be noted above it.
            let note = note.map_or_else(String::new, |note| shown::lines(&note) + "\n\n");
            print(&format!("\x1b[H\x1b[2J{note}{text}"))?;
        } else {
            if let Some(note) = note.as_ref().filter(|_| note != noted) {
                say(note);
            }
            noted = note;
            print(&text)?;
        }
        if !args.watch {
            break;
        }
        thread::sleep(WATCH_INTERVAL);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(report: &Report, zone: Zone, width: Option<usize>) -> String {
    let mut text = String::new();
    if !report.started.is_empty() {
        let (version, node, started) = (
            shown::text(&report.version),
            shown::text(&report.node),
            shown::text(&zone.shown(&report.started)),
        );
        let _infallible = writeln!(text, "everyline {version} on {node}, since {started}");
        if let Some(agent) = &report.agent {
            let _infallible = writeln!(text, "It is {}", shown::text(&agent.to_string()));
        }
        if !report.watched.is_empty() {
            let by_mode =
                |(mode, files): (&String, &i64)| format!("{files} by {}", shown::text(mode));
            let watched = report.watched.iter().map(by_mode).collect::<Vec<_>>().join(", ");
            let _infallible = writeln!(text, "Files watched: {watched}");
        }
        if report.own_logs > 0 {
            let own = report.own_logs;
            let _infallible = writeln!(text, "Not collected: {own} of the agent's own logs");
        }
        if let Some(short) = report.descriptors.filter(|it| it.waiting_files > 0) {
            let Descriptors { limit, for_files, waiting_files } = short;
            let _infallible = writeln!(
                text,
                "Descriptors: {limit}, of which log files may have {for_files}; {waiting_files} files found none and take turns"
            );
        }
        text += &report.known_files.as_ref().map(waiting).unwrap_or_default();
        text += &held_back(&report.held_back, zone);
        text.push('\n');
        let rows: Vec<_> = report
            .sinks
            .iter()
            .map(|sink| {
                let oldest = sink.oldest_unacked_seconds.map_or_else(|| "-".to_owned(), age);
                let error = error(sink, zone);
                let lost = report.totals.by_sink.get(&sink.name);
                vec![
                    sink.name.clone(),
                    sink.kind.clone(),
                    bytes(sink.in_flight_bytes),
                    oldest,
                    bytes(lost.map_or(0, |it| it.lost.values().sum())),
                    error,
                ]
            })
            .collect();
        let head = ["SINK", "TYPE", "IN FLIGHT", "OLDEST", "LOST", "ERROR"];
        text += &table(Layout { head: &head, right: &head[2..5], width }, &rows);
        text.push('\n');
    }
    let mut files: Vec<_> = report.files.iter().collect();
    files.sort_by(|a, b| b.unread().cmp(&a.unread()).then_with(|| a.path.cmp(&b.path)));
    let rows: Vec<_> = files.iter().map(|file| row(file, report)).collect();
    let head = ["FILE", "CONTAINER", "RATE", "UNREAD", "OLDEST"];
    text + &table(Layout { head: &head, right: &head[2..], width }, &rows)
}

/// Whose files wait because they have their share; the rest of many is a number.
fn waiting(known: &KnownFiles) -> String {
    let mut text = String::new();
    let KnownFiles { most, share, known: there, waiting_files, .. } = known;
    if known.waiting.is_empty() {
        return text;
    }
    let _infallible = writeln!(
        text,
        "Known files: {there} of {most}, of which a tenant may have {share}; {waiting_files} wait"
    );
    for Waiting { tenant, files, bytes: held, directories } in known.waiting.iter().take(HELD_BACK)
    {
        let tenant = shown::text(tenant);
        let held = bytes(*held);
        let _infallible = write!(text, "Waiting: {files} files of {tenant} ({held} or more)");
        if *directories > 0 {
            let _infallible = write!(text, ", {directories} directories");
        }
        text.push('\n');
    }
    if let Some(more) = known.waiting.len().checked_sub(HELD_BACK + 1) {
        let _infallible = writeln!(text, "Waiting: files of {} others (status -o json)", more + 1);
    }
    text
}

/// Who wanted more than his share lately; the rest of many is a number.
fn held_back(all: &[HeldBack], zone: Zone) -> String {
    let mut text = String::new();
    for HeldBack { resource, who, times, since } in all.iter().take(HELD_BACK) {
        let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
        let (who, since) = (shown::text(who), shown::text(&zone.shown(since)));
        let resource = shown::text(resource);
        let _infallible = writeln!(text, "Held back: {who} at {resource}, {times} since {since}");
    }
    if let Some(more) = all.len().checked_sub(HELD_BACK + 1) {
        let _infallible = writeln!(text, "Held back: {} others (status -o json)", more + 1);
    }
    text
}

/// The last error, how often and since when; how many logs wait for it to be mended.
fn error(sink: &SinkReport, zone: Zone) -> String {
    let Some(error) = &sink.error else { return "-".to_owned() };
    let mut notes = Vec::new();
    if sink.parked_sources > 0 {
        let logs = if sink.parked_sources == 1 { "log waits" } else { "logs wait" };
        notes.push(format!("{} {logs}", sink.parked_sources));
    }
    if let Some(since) = &sink.error_since {
        let times = if sink.error_count == 1 { "time" } else { "times" };
        let since = zone.shown(since);
        notes.push(format!("{} {times} since {since}", sink.error_count));
    }
    if notes.is_empty() { error.clone() } else { format!("{error} ({})", notes.join(", ")) }
}

fn row(file: &FileReport, report: &Report) -> Vec<String> {
    let name = [&file.namespace, &file.pod, &file.container];
    let name: Vec<_> = name.into_iter().flatten().map(String::as_str).collect();
    // A batch holds many files: its age bounds theirs.
    let oldest = report
        .sinks
        .iter()
        .filter(|sink| file.sinks.get(&sink.name).is_some_and(|file| file.account.in_flight > 0))
        .filter_map(|sink| sink.oldest_unacked_seconds)
        .reduce(f64::max);
    vec![
        file.path.clone(),
        if name.is_empty() { "-".to_owned() } else { name.join("/") },
        format!("{}/s", bytes(file.rate_bytes_per_second as u64)),
        bytes(file.unread()),
        oldest.map_or_else(|| "-".to_owned(), age),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::report::{Account, SinkFileReport};

    fn file(path: &str, seen: u64, read: u64) -> FileReport {
        let account = Account::new(seen, read, 1, 0, 0);
        let sink = SinkFileReport { read, settled: 1, account };
        FileReport {
            path: path.into(),
            pod: Some("web-1".into()),
            namespace: Some("shop".into()),
            container: Some("nginx".into()),
            seen,
            rate_bytes_per_second: 2048.0,
            sinks: [("out".into(), sink)].into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_file_furthest_behind_comes_first() {
        let report = Report {
            version: "0.1.0".into(),
            node: "node-1".into(),
            started: "2026-01-31T10:11:12Z".into(),
            descriptors: Some(Descriptors { limit: 200, for_files: 120, waiting_files: 3 }),
            watched: [("inotify".into(), 0), ("kernel".into(), 2), ("poll".into(), 0)].into(),
            sinks: vec![SinkReport {
                name: "out".into(),
                kind: "http".into(),
                in_flight_bytes: 4096,
                oldest_unacked_seconds: Some(12.3),
                error: Some("503 Service\u{1b} Unavailable".into()),
                error_since: Some("2026-01-31T10:12:00Z".into()),
                error_count: 3,
                parked_sources: 1,
            }],
            files: vec![file("/a.log", 10, 10), file("/b.log", 5000, 1)],
            held_back: (0..12)
                .map(|n| HeldBack {
                    resource: "messages".into(),
                    who: format!("/pods/\u{1b}{n}"),
                    times: 12 - n,
                    since: "2026-01-31T10:12:00Z".into(),
                })
                .collect(),
            ..Default::default()
        };
        insta::assert_snapshot!(show(&report, Zone::UTC, None), @r"
        everyline 0.1.0 on node-1, since 2026-01-31T10:11:12.000Z
        Files watched: 0 by inotify, 2 by kernel, 0 by poll
        Descriptors: 200, of which log files may have 120; 3 files found none and take turns
        Held back: /pods/\x1b0 at messages, 12 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b1 at messages, 11 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b2 at messages, 10 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b3 at messages, 9 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b4 at messages, 8 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b5 at messages, 7 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b6 at messages, 6 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b7 at messages, 5 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b8 at messages, 4 times since 2026-01-31T10:12:00.000Z
        Held back: /pods/\x1b9 at messages, 3 times since 2026-01-31T10:12:00.000Z
        Held back: 2 others (status -o json)

        SINK  TYPE  IN FLIGHT  OLDEST  LOST  ERROR
        out   http    4.0 KiB     12s   0 B  503 Service\x1b Unavailable (1 log waits, 3 times since 2026-01-31T10:12:00.000Z)

        FILE    CONTAINER              RATE   UNREAD  OLDEST
        /b.log  shop/web-1/nginx  2.0 KiB/s  4.9 KiB       -
        /a.log  shop/web-1/nginx  2.0 KiB/s      0 B     12s
        ");
    }
}
